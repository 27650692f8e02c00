//! Shows a virtual disk to the world: FUSE and NBD.
//!
//! A frontend takes a [`vdisk::Disk`], serves it from threads of its own, and hands back a handle:
//! dropping the handle, or asking it to stop, ends the service, flushes the disk and leaves nothing
//! behind. Everything a client says is judged here before it reaches the disk.
#![deny(unsafe_code)]

mod error;
#[cfg(feature = "fuse")]
pub mod fuse;
#[cfg(feature = "nbd")]
pub mod nbd;
pub mod stats;

pub use error::{Error, Result};
