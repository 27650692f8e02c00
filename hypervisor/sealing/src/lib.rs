//! A machine's state on its way to a file and back: compressed, encrypted and authenticated in chunks,
//! on all cores, with nothing in the clear on disk.
//!
//! [`seal`] reads a stream (a pipe that a hypervisor writes) to its end and leaves a [`Sealed`] file
//! that has no name yet; [`Sealed::publish`] gives it one. In between the caller asks the hypervisor
//! whether the stream was whole: a pipe also ends when its writer dies.
//!
//! [`SealedFile::open`] reads the header and no more: whose key it is, and the *binding* that was given
//! when it was sealed, for the caller to compare with what the state belongs to.
//! [`SealedFile::verify`] then reads everything, and [`SealedFile::unseal`] hands it on. Unsealing
//! hands a chunk on only after that chunk's own tag was right, but whether the *end* of the file is
//! right shows at the end: what was received may be used only after `unseal` returned `Ok`. A machine
//! that loads its state stays paused until then.
//!
//! `docs/saved-state.md` describes the format and what it protects against.
//!
//! ```
//! use medley_sealing::{Cancel, Options, SealedFile, WrappingKey, seal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("office.state");
//! let key = WrappingKey::from_bytes(&[7; 32]);
//! let state: &[u8] = b"what a machine remembers";
//! seal(state, &path, &key, b"overlay generation 12", &Options::default())?.publish()?;
//!
//! let file = SealedFile::open(&path, &key)?;
//! file.expect_binding(b"overlay generation 12")?;
//! let mut back = Vec::new();
//! file.unseal(&mut back, &Cancel::default())?;
//! assert_eq!(back, state);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod cancel;
mod crew;
mod draft;
mod error;
mod frame;
mod fuzz;
mod header;
mod keys;
mod seal;
mod unseal;

pub use cancel::Cancel;
pub use error::{Error, ErrorKind, Result};
#[doc(hidden)]
pub use fuzz::{fuzz_decoding, fuzz_opening, fuzz_sealing};
pub use header::{Identity, MAX_BINDING};
pub use keys::WrappingKey;
pub use seal::{MAX_CHUNK, MIN_CHUNK, Options, Sealed, seal};
pub use unseal::{SealedFile, Store};

/// What went through a sealing, a check or an unsealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes of the stream.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Chunks of the stream.
    pub chunks: u64,
    /// Which file it is.
    pub identity: Identity,
}
