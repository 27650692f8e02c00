//! The `stats` filter: how many requests, how many bytes, how long. What it counts is what passes *here*:
//! above a delay it sees the delay, below it does not.

use std::sync::Arc;

use vdisk::Result;
use vdisk_frontends::stats::{Op, Stats};

use crate::hook::{Hook, Hooked};

/// A device whose requests are counted and timed.
pub type Counted = Hooked<Arc<Stats>>;

impl Hook for Arc<Stats> {
    fn around(&self, op: Op, len: u64, request: impl FnOnce() -> Result<()>) -> Result<()> {
        self.time(op, len, request)
    }
}
