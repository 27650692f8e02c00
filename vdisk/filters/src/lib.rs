//! Filters: devices that stand between a disk and its clients and change what passes.
//!
//! [`Fault`] lets requests fail, [`Delay`] slows them down, [`Counted`] counts and times them,
//! [`ReadOnly`] refuses writes. Each is a [`BlockDevice`] around another one, so they stack in any order;
//! a disk without filters pays nothing for them. [`stack`] puts a list of them in front of a [`Disk`].
#![forbid(unsafe_code)]

mod bottom;
mod chance;
mod counted;
mod delay;
mod fault;
mod hook;
mod readonly;
mod spec;

use std::sync::Arc;

use vdisk::{BlockDevice, Disk};

pub use counted::Counted;
pub use delay::{Delay, DelaySpec};
pub use fault::{Fault, FaultSpec};
pub use readonly::ReadOnly;
pub use spec::SpecError;
pub use vdisk_frontends::stats::{Op, Stats, Summary};

/// A filter that is wanted.
#[derive(Debug, Clone)]
pub enum Filter {
    /// Some requests fail.
    Fault(FaultSpec),
    /// Requests take longer.
    Delay(DelaySpec),
    /// Requests are counted here.
    Stats(Arc<Stats>),
    /// Writes are refused.
    ReadOnly,
}

/// Puts `filters` in front of `disk`; a request walks them from the first to the last.
pub fn stack(disk: Disk, filters: &[Filter]) -> Disk {
    if filters.is_empty() {
        return disk;
    }
    let bottom: Arc<dyn BlockDevice> = Arc::new(bottom::Bottom(disk));
    let top = filters
        .iter()
        .rev()
        .fold(bottom, |inner, filter| match filter {
            Filter::Fault(spec) => Arc::new(Fault::new(inner, spec.clone())),
            Filter::Delay(spec) => Arc::new(Delay::slow(inner, spec.clone())),
            Filter::Stats(stats) => Arc::new(Counted::new(inner, stats.clone())),
            Filter::ReadOnly => Arc::new(ReadOnly::new(inner)),
        });
    Disk::from_arc(top)
}
