//! The encrypted virtual disk: formats map, one engine moves bytes.
//!
//! A request walks one way: a frontend calls a [`Disk`], the [`Disk`] checks bounds and calls a
//! [`BlockDevice`], which is usually a [`Stack`]; the stack asks its [`Layer`]s where bytes live,
//! moves them with positional I/O on their [`Store`]s, and encrypts or decrypts them under the
//! layer's own key. Layers never touch payload; stores never know what they hold.
//!
//! [`Stack`]: stack::Stack
//! [`Layer`]: layer::Layer
//! [`Store`]: store::Store
#![forbid(unsafe_code)]

pub mod chain;
pub mod convert;
pub mod device;
pub mod error;
pub mod flat;
pub mod image;
pub mod keys;
pub mod layer;
pub mod memory;
pub mod overlay;
pub mod progress;
pub mod stack;
pub mod store;
pub mod upkeep;
pub mod vhd;

pub use device::{BlockDevice, DeviceInfo, Disk, Extent, ExtentKind, SECTOR};
pub use error::{Error, ErrorKind, Result};
pub use vdisk_luks as luks;
pub use vdisk_xts as xts;
