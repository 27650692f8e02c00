//! The memory that client and server share: a memfd, seen by the "guest" from [`Memory::GUEST`] on.

use std::fs::File;
use std::io;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Shared memory. Clones are handles on the same. Offsets are from its beginning; accesses beyond its end
/// panic.
#[derive(Clone, Debug)]
pub struct Memory {
    map: Arc<MmapRegion<()>>,
}

impl Memory {
    /// Guest address of the first byte.
    pub const GUEST: u64 = 0x4000_0000;

    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let file = File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(len as u64)?;
        Self::of(file, len)
    }

    pub(crate) fn of(file: File, len: usize) -> io::Result<Self> {
        let map = MmapRegion::from_file(FileOffset::new(file, 0), len).map_err(io::Error::other)?;
        Ok(Self { map: Arc::new(map) })
    }

    pub(crate) fn map(&self) -> &MmapRegion<()> {
        &self.map
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.map.size()
    }

    /// Whether there is none; there always is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `at`.
    pub fn slice(&self, at: usize, len: usize) -> VolatileSlice<'_> {
        match self.map.get_slice(at, len) {
            Ok(slice) => slice,
            Err(error) => panic!("{len} bytes at {at}: {error}"),
        }
    }

    /// Copies `bytes` to offset `at`.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        self.slice(at, bytes.len()).copy_from(bytes);
    }

    /// Copies from offset `at`.
    pub fn read(&self, at: usize, buf: &mut [u8]) {
        self.slice(at, buf.len()).copy_to(buf);
    }

    pub(crate) fn load_u16(&self, at: usize) -> u16 {
        let order = std::sync::atomic::Ordering::Acquire;
        u16::from_le(self.slice(at, 2).load(0, order).unwrap_or_default())
    }

    pub(crate) fn store_u16(&self, at: usize, value: u16) {
        let order = std::sync::atomic::Ordering::Release;
        // Two aligned bytes, just found to be there.
        let _ = self.slice(at, 2).store(value.to_le(), 0, order);
    }
}
