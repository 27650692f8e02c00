//! Descriptors that whoever started us left open, taken over by their number.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use nix::libc;

/// The descriptor with this number, while arguments are parsed: later a number that was closed at the
/// start could belong to a file of ours.
pub fn inherited(number: &str) -> Result<Arc<OwnedFd>, String> {
    let number: i32 = number
        .parse()
        .ok()
        .filter(|n| *n >= 0)
        .ok_or("not the number of a file descriptor")?;
    // SAFETY: duplicating takes any number; one that is not open is an error.
    let own = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if own < 0 {
        return Err("this file descriptor is not open".into());
    }
    if number > 2 {
        // SAFETY: only sets a flag: programs that we start have no business with it.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(Arc::new(unsafe { OwnedFd::from_raw_fd(own) }))
}
