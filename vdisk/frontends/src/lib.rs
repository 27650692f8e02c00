//! Shows a virtual disk to the world: FUSE, NBD and vhost-user-blk.
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
#[cfg(any(feature = "nbd", feature = "vhost-user"))]
mod socket;
pub mod stats;
#[cfg(feature = "vhost-user")]
pub mod vhost_user;
#[cfg(any(feature = "nbd", feature = "vhost-user"))]
mod zeros;

pub use error::{Error, Result};
