//! LUKS headers as values: bytes in, bytes out, no I/O.
//!
//! A disk's ciphertext lies in one file and the keys to it in another: a *detached* LUKS2 header.
//! [`Header`] makes, reads and edits such headers the way `cryptsetup` does, and tells the caller in
//! which order to write what ([`Header::update_plan`]) so that a power cut at any moment leaves a header
//! that opens. [`Luks1`] is the older twin of the same volume key, for software that reads nothing newer.
//!
//! ```
//! use vdisk_luks::{CreateParams, Header, Kdf, VolumeKey};
//!
//! let key = VolumeKey::random()?;
//! let kdf = Kdf::Argon2id { time: 1, memory_kib: 64, lanes: 1 }; // real use: `Kdf::default_for`
//! let header = Header::create(&CreateParams { label: "office".into(), kdf, ..CreateParams::default() }, &key, b"secret")?;
//!
//! let read_back = Header::parse(&header.bytes())?;
//! assert!(read_back.unlock(b"secret")? == key);
//! # Ok::<(), vdisk_luks::Error>(())
//! ```
#![forbid(unsafe_code)]

mod af;
mod binary;
mod create;
mod digest;
mod edit;
mod error;
mod hash;
mod header;
mod kdf;
mod luks1;
mod material;
mod metadata;
mod node;
mod plan;
mod secret;
mod tokens;
mod twin;

pub use create::CreateParams;
pub use error::{Error, ErrorKind, Result};
pub use hash::Hash;
pub use header::{Header, Health, SlotInfo};
pub use kdf::{Kdf, Limits};
pub use luks1::{Luks1, Luks1Slot};
pub use metadata::{Priority, Segment, SlotId, TokenId};
pub use plan::Step;
pub use secret::VolumeKey;
pub use serde_json::Value as Json;
pub use twin::Twin;

/// Which version of LUKS `bytes` begins with (1 or 2), if any. Looks at the first eight bytes only, so a
/// LUKS2 header whose primary copy is destroyed is not recognised here but still by [`Header::parse`].
pub fn version(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(binary::PRIMARY_MAGIC)?;
    let version = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    matches!(version, 1 | 2).then_some(version)
}
