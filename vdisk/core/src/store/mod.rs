//! Where bytes finally lie: a file or something that behaves like one, addressed by position only.

mod draft;
mod file;
mod memory;

pub use draft::Draft;
pub(crate) use draft::{directory, sync_directory};
pub use file::{FileStore, Sharing};
pub use memory::MemoryStore;

use std::path::Path;

use crate::error::Result;

/// Positional storage. Every call may come from any thread at any time; nothing has a position that
/// could be moved under another's feet.
pub trait Store: Send + Sync {
    /// Fills `buf` from `offset`; running into the end of the store is an error.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Writes all of `buf` at `offset`, growing the store where needed.
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()>;

    /// Length in bytes.
    fn len(&self) -> Result<u64>;

    /// Whether the store holds no byte.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the store, or grows it with zeros.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Makes a range read as zeros and gives its space back where the system can. Never changes the
    /// length; the part of the range past the end is ignored.
    fn punch(&self, offset: u64, len: u64) -> Result<()>;

    /// Whether the bytes at `offset` may hold something else than zeros, and for how many bytes (at
    /// least 1, at most `len`) that answer holds. Asking costs little; `true` is always a safe answer.
    fn allocated(&self, _offset: u64, len: u64) -> Result<(bool, u64)> {
        Ok((true, len))
    }

    /// Makes everything written before the call durable. Code that orders metadata after data uses
    /// [`sync_after`], which proves that it did.
    fn sync(&self) -> Result<()>;

    /// The file's name, for errors.
    fn path(&self) -> Option<&Path> {
        None
    }
}

/// Proof that whatever was written to a store before `T` was frozen is durable. Only [`sync_after`]
/// makes one, so metadata that describes unsynced data cannot be written by mistake: what persists
/// metadata asks for the proof.
#[derive(Debug)]
pub struct Synced<T>(T);

impl<T> Synced<T> {
    /// What was frozen before the sync.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Syncs `store` and seals `frozen`, which the caller took *before* this call.
pub fn sync_after<T>(store: &dyn Store, frozen: T) -> Result<Synced<T>> {
    store.sync()?;
    Ok(Synced(frozen))
}
