//! One end of a channel between host and guest: wire messages over a descriptor, and the memory that both
//! share for pixels. The host's programs and the guest's agent use the same code.
//!
//! - [`Door`] waits until the other side is there, without spinning, and gives a descriptor.
//! - [`End`] owns the descriptor: it greets, reads and judges messages, queues and writes them.
//! - [`Pool`] is the shared memory: a guest writes into it, a host copies out of it.
//!
//! Nothing here starts a thread or waits: whoever owns an end polls its descriptor.
#![deny(unsafe_code)]

mod door;
mod end;
mod error;
mod greet;
mod outgoing;
mod pool;
pub mod ports;

pub use door::Door;
pub use end::{End, Progress};
pub use error::{Error, Result};
pub use greet::Greets;
pub use outgoing::Outgoing;
pub use pool::Pool;
