//! Drives a vhost-user-blk server from the host, without a guest: for tests and benches.
//!
//! The client plays both the hypervisor (it negotiates, shares memory, keeps what a server needs to
//! recover) and the guest's driver (it fills rings). It works with any server; what it does wrong, it
//! does because a test asked for it.
#![forbid(unsafe_code)]

mod bench;
mod client;
mod memory;
mod queue;

pub use bench::{Figures, Load, Pattern, bench};
pub use client::{Client, DirtyLog, Options};
pub use memory::Memory;
pub use queue::{Done, Queue, Segment, flag, status};
