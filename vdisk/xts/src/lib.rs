//! AES-256-XTS for disk sectors, several at a time, on whatever the processor offers.
//!
//! Sectors are enciphered as dm-crypt, cryptsetup and QEMU do with `aes-xts-plain64` and a
//! 512-bit key: the tweak is the sector's number, counted in 512-byte sectors.
//!
//! ```
//! use vdisk_xts::{DataUnit, Xts, XtsKey};
//!
//! # fn main() -> Result<(), vdisk_xts::Error> {
//! let key = XtsKey::new(core::array::from_fn(|i| i as u8))?;
//! let xts = Xts::new(&key);
//! let mut sectors = vec![0; 8 * 512];
//! xts.encrypt(DataUnit::B512, 63, &mut sectors);
//! xts.decrypt(DataUnit::B512, 63, &mut sectors);
//! assert!(sectors.iter().all(|&byte| byte == 0));
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod error;
mod kernel;
mod key;
#[allow(unsafe_code)]
mod locked;
mod portable;
mod selftest;
#[allow(unsafe_code)]
mod simd;
pub mod speed;
mod unit;
mod vectors;
mod xts;

pub use error::Error;
pub use kernel::Kernel;
pub use key::{KEY_LEN, XtsKey};
pub use selftest::self_test;
pub use unit::DataUnit;
pub use xts::Xts;
