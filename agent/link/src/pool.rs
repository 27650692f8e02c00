//! The memory that guest and host share for pixels: a file that both map. Only pixels lie in it; what is in
//! it, and where, is said in the stream and judged there.
//!
//! The guest may write at any time. So a host copies out and never looks in place, and nothing here gives out
//! a reference to the memory.
#![allow(
    unsafe_code,
    reason = "memory of two processes can only be reached by pointer"
)]
use crate::error::{Error, Result};
use medley_wire::{GuestRect, PoolBuffer};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The mapped memory. A host's file (a memfd, or the file of an ivshmem device) must not be shortened while
/// it is mapped; the guest cannot do that.
#[derive(Debug)]
pub struct Pool {
    map: MmapRaw,
    /// The file, on the guest's side, which writes.
    file: Option<File>,
}

impl Pool {
    /// The guest's side of a file: the PCI device's `resource2`, or a plain file.
    ///
    /// # Errors
    /// It cannot be opened or mapped.
    pub fn guest(path: &Path) -> Result<Self> {
        let failed = |source| Error::Open {
            path: path.to_path_buf(),
            doing: "map it as shared memory",
            remedy: "it must be the ivshmem device's resource2, and the agent must run as root to open it",
            source,
        };
        // Other flags than these make a PCI resource slow or refuse to map.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::fcntl::OFlag::O_CLOEXEC.bits())
            .open(path)
            .map_err(failed)?;
        Self::of_guest(&file).map_err(failed)
    }

    /// The guest's side of an open file.
    ///
    /// # Errors
    /// It is empty or cannot be mapped.
    pub fn of_guest(file: &File) -> std::io::Result<Self> {
        let map = MmapOptions::new().len(length(file)?).map_raw(file)?;
        let file = Some(file.try_clone()?);
        Ok(Self { map, file })
    }

    /// The host's side of an open file, which it can only read.
    ///
    /// # Errors
    /// It is empty or cannot be mapped.
    pub fn of_host(file: &File) -> std::io::Result<Self> {
        let map = MmapOptions::new()
            .len(length(file)?)
            .map_raw_read_only(file)?;
        Ok(Self { map, file: None })
    }

    /// The file, for somebody else in the guest to write there; nothing on the host's side.
    #[must_use]
    pub const fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Bytes of the pool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the pool has no bytes: never, for such a file is not mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the pixels of `rect` out of a buffer: its rows, one after the other, without gaps, to the front
    /// of `into`. Of a rectangle that is larger than the buffer, as in a race of resizes, the part inside is
    /// copied. Tells how many bytes that were.
    ///
    /// # Errors
    /// `into` is too short, or the buffer was not measured against this pool.
    pub fn copy_out(&self, buffer: &PoolBuffer, rect: GuestRect, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        for row in buffer.rows(rect) {
            let here = into
                .get_mut(done..done + row.len())
                .ok_or(Error::Misfit(row.len()))?;
            if row.end > self.map.len() {
                return Err(Error::Misfit(row.end));
            }
            done += row.len();
            // SAFETY: `row` lies inside the mapping, as was just asked, and the mapping lives as long as
            // `self`. `here` is ours and cannot overlap it. Another process may write meanwhile: the bytes
            // are then any mixture of old and new, and nothing is assumed about them.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.map.as_ptr().add(row.start),
                    here.as_mut_ptr(),
                    row.len(),
                );
            }
        }
        Ok(done)
    }

    /// Copies `bytes` into the pool, at a place that the guest's own allocator chose.
    ///
    /// # Errors
    /// They do not fit there, or this is a host's side.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len());
        if self.file.is_none() || end.is_none_or(|end| end > self.map.len()) {
            return Err(Error::Misfit(bytes.len()));
        }
        // SAFETY: the target lies inside the mapping, which can be written and lives as long as `self`; no
        // reference to it exists anywhere, and `bytes` is memory of its own. The host only reads it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.map.as_mut_ptr().add(offset),
                bytes.len(),
            );
        }
        Ok(())
    }
}

fn length(file: &File) -> std::io::Result<usize> {
    usize::try_from(file.metadata()?.len())
        .ok()
        .filter(|length| *length > 0)
        .ok_or_else(|| {
            std::io::Error::other("it is empty; nobody made it as large as it should be")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_wire::pixels::{Buffer, Format};
    use medley_wire::{Rect, Size, Untrusted};

    fn shared(bytes: u64) -> (Pool, Pool, File) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        (
            Pool::of_guest(&file).unwrap(),
            Pool::of_host(&file).unwrap(),
            file,
        )
    }

    fn size(width: u32, height: u32) -> Size {
        Size::new(width, height).unwrap()
    }

    #[test]
    fn the_host_reads_what_the_guest_wrote() {
        let (guest, host, _file) = shared(4096);
        let claim = Untrusted::claim(Buffer {
            offset: 64,
            stride: 20,
            size: size(4, 3),
            format: Format::Xrgb,
        });
        let buffer = claim.within(host.len()).unwrap();
        for row in 0..3_u8 {
            guest
                .write(64 + usize::from(row) * 20, &[row + 1; 16])
                .unwrap();
        }
        let whole = Rect::whole(size(4, 3));
        let rect = Untrusted::claim(Rect::new(1, 1, size(2, 2)).unwrap())
            .clip(whole)
            .unwrap();
        let mut out = [9; 20];
        assert_eq!(host.copy_out(&buffer, rect, &mut out).unwrap(), 16);
        assert_eq!(out[..8], [2; 8]);
        assert_eq!(out[8..16], [3; 8]);
        assert_eq!(out[16..], [9; 4]);
        assert!(host.copy_out(&buffer, rect, &mut out[..15]).is_err());
    }

    #[test]
    fn a_buffer_of_a_larger_pool_is_refused() {
        let (_, host, _file) = shared(4096);
        let claim = Untrusted::claim(Buffer {
            offset: 0,
            stride: 400,
            size: size(100, 100),
            format: Format::Xrgb,
        });
        let buffer = claim.within(1 << 20).unwrap();
        let all = Rect::whole(size(100, 100));
        let rect = Untrusted::claim(all).clip(all).unwrap();
        assert!(host.copy_out(&buffer, rect, &mut vec![0; 40_000]).is_err());
    }

    #[test]
    fn nothing_is_written_outside_or_by_a_host() {
        let (guest, host, _file) = shared(4096);
        assert!(guest.write(4090, &[1; 7]).is_err());
        assert!(guest.write(usize::MAX, &[1]).is_err());
        assert!(host.write(0, &[1]).is_err());
        let empty = tempfile::tempfile().unwrap();
        assert!(Pool::of_guest(&empty).is_err());
    }
}
