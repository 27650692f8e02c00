//! Work that takes a while says how far it is, and may be stopped.

use std::ops::ControlFlow;

use crate::error::{Error, ErrorKind, Result};

/// Told how many bytes of the disk are done; its answer may stop the work. What is stopped, or cut off,
/// leaves a sound disk, and may be started again.
pub type Progress<'a> = &'a (dyn Fn(u64) -> ControlFlow<()> + Sync);

/// Tells progress; an error if the work shall stop.
pub(crate) fn tell(progress: Progress<'_>, done: u64) -> Result<()> {
    match progress(done) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(ErrorKind::Io, "stopped before the end")
            .remedy("the disk is sound; start again when you like")),
    }
}
