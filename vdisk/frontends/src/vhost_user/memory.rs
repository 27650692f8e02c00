//! Memory that another process shares with us, through file descriptors that it sends.
//!
//! Lengths are checked against the file when it is mapped, and the file is kept from shrinking where the
//! system can (memfd). A client that shrinks another kind of file afterwards kills us by SIGBUS; it runs
//! as the same user and could as well send a signal.
#![allow(unsafe_code)] // Memory that others change cannot be borrowed; every access to it is here.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::mman::{MmapAdvise, madvise};
use vm_memory::{FileOffset, MmapRegion};

use super::log::DirtyLog;

/// A mapped part of a file, shared with its other users.
#[derive(Debug, Clone)]
pub struct Window {
    /// Keeps the mapping.
    _map: Arc<MmapRegion<()>>,
    start: *mut u8,
    len: usize,
}

// SAFETY: the pointer leads into a mapping that lives as long as the window, wherever that goes; all
// accesses are atomic, or of bytes without meaning to us.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

macro_rules! atomic {
    ($name:ident, $type:ty) => {
        /// The integer at byte `at`, which has to be aligned and within the window.
        pub fn $name(&self, at: usize) -> &$type {
            assert!(at + size_of::<$type>() <= self.len, "outside the window");
            // SAFETY: the bytes are within the mapping, as just checked.
            let place = unsafe { self.start.add(at) };
            assert!(
                place.addr().is_multiple_of(align_of::<$type>()),
                "not aligned"
            );
            // SAFETY: mapped, aligned, and as alive as `self`; what other processes do is atomic to us.
            unsafe { <$type>::from_ptr(place.cast()) }
        }
    };
}

impl Window {
    /// Maps `len` bytes of `file` from `offset`.
    pub fn map(file: File, offset: u64, len: u64) -> io::Result<Self> {
        let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let facts = file.metadata()?;
        if !facts.is_file() {
            return refuse("shared memory has to be a regular file or a memfd");
        }
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > facts.len()) {
            return refuse("shared memory is larger than its file");
        }
        // Sealed already, or not a memfd: both is as good as it gets.
        let _ = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK));
        let Ok(size) = usize::try_from(len) else {
            return refuse("shared memory is larger than the address space");
        };
        let map =
            MmapRegion::from_file(FileOffset::new(file, offset), size).map_err(io::Error::other)?;
        Ok(Self::whole(map))
    }

    /// Memory of this process alone.
    pub fn private(len: usize) -> io::Result<Self> {
        Ok(Self::whole(MmapRegion::new(len).map_err(io::Error::other)?))
    }

    fn whole(map: MmapRegion<()>) -> Self {
        let (start, len) = (map.as_ptr(), map.size());
        if let Some(place) = std::ptr::NonNull::new(start) {
            // SAFETY: the range is our own mapping; keeping it out of core dumps changes nothing else.
            let _ = unsafe { madvise(place.cast(), len, MmapAdvise::MADV_DONTDUMP) };
        }
        Self {
            _map: Arc::new(map),
            start,
            len,
        }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A part of it.
    pub fn part(&self, at: usize, len: usize) -> Option<Self> {
        at.checked_add(len).filter(|end| *end <= self.len)?;
        Some(Self {
            _map: self._map.clone(),
            // SAFETY: within the mapping, as just checked.
            start: unsafe { self.start.add(at) },
            len,
        })
    }

    /// Whether its first byte lies at a multiple of `to`.
    pub fn aligned(&self, to: usize) -> bool {
        self.start.addr().is_multiple_of(to)
    }

    atomic!(u8, AtomicU8);
    atomic!(u16, AtomicU16);
    atomic!(u32, AtomicU32);
    atomic!(u64, AtomicU64);

    /// Lends bytes to be read. `at` and `len` have to be within.
    pub fn bytes<R>(&self, at: usize, len: usize, with: impl FnOnce(&[u8]) -> R) -> R {
        assert!(at <= self.len && len <= self.len - at, "outside the window");
        // SAFETY: mapped for the length of the call. Others may change the bytes meanwhile: they are
        // payload, which nobody here decides by, so the worst is that the other side gets what it mixed.
        with(unsafe { std::slice::from_raw_parts(self.start.add(at), len) })
    }

    /// Lends bytes to be written. `at` and `len` have to be within.
    pub fn bytes_mut<R>(&self, at: usize, len: usize, with: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(at <= self.len && len <= self.len - at, "outside the window");
        // SAFETY: as above; a guest that gives the same bytes to two requests gets a mixture.
        with(unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) })
    }
}

/// A piece of the guest's physical memory.
#[derive(Debug, Clone)]
pub struct Region {
    /// Where the guest sees it.
    pub guest: u64,
    /// Where the client sees it: the addresses in its messages.
    pub client: u64,
    /// The bytes.
    pub window: Window,
}

impl Region {
    fn len(&self) -> u64 {
        self.window.len() as u64
    }
}

/// Regions a client may have.
pub const MAX_REGIONS: usize = 256;

/// The guest's physical memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// In order, without overlaps.
    regions: Vec<Region>,
    /// Where to note what we write.
    log: Option<DirtyLog>,
}

impl Memory {
    /// The same memory, with writes noted in `log` from now on, or nowhere.
    pub fn logged(&self, log: Option<DirtyLog>) -> Self {
        Self {
            regions: self.regions.clone(),
            log,
        }
    }

    /// Notes that bytes were written. It has to be after the fact: the client clears the note and then copies the
    /// page.
    pub fn mark(&self, guest: u64, len: usize) {
        if let Some(log) = &self.log {
            log.mark(guest, len as u64);
        }
    }

    /// Adds a region; refuses one that overlaps another, or one too many.
    pub fn add(&mut self, region: Region) -> Result<(), &'static str> {
        if self.regions.len() >= MAX_REGIONS {
            return Err("too many memory regions");
        }
        let at = self.regions.partition_point(|r| r.guest < region.guest);
        let meets = |low: &Region, high: &Region| high.guest - low.guest < low.len();
        let before = at.checked_sub(1).and_then(|i| self.regions.get(i));
        if before.is_some_and(|low| meets(low, &region))
            || self
                .regions
                .get(at)
                .is_some_and(|high| meets(&region, high))
        {
            return Err("memory regions overlap");
        }
        self.regions.insert(at, region);
        Ok(())
    }

    /// Removes exactly this region.
    pub fn remove(&mut self, guest: u64, client: u64, len: u64) -> Result<(), &'static str> {
        let same = |r: &Region| (r.guest, r.client, r.len()) == (guest, client, len);
        let at = self.regions.iter().position(same);
        at.map(|at| drop(self.regions.remove(at)))
            .ok_or("no such memory region")
    }

    /// Guest address of what the client sees at `client`.
    pub fn guest_address(&self, client: u64) -> Option<u64> {
        self.regions.iter().find_map(|r| {
            let within = client.checked_sub(r.client)?;
            (within < r.len()).then_some(r.guest + within)
        })
    }

    /// The bytes from `guest` on that lie in one region, at most `len`: region, offset, length.
    fn piece(&self, guest: u64, len: usize) -> Option<(&Region, usize, usize)> {
        let at = self.regions.partition_point(|r| r.guest <= guest);
        let region = self.regions.get(at.checked_sub(1)?)?;
        let offset = usize::try_from(guest - region.guest).ok()?;
        let left = region.window.len().checked_sub(offset)?;
        (left > 0).then_some((region, offset, left.min(len)))
    }

    /// Exactly `len` bytes in one region.
    pub fn window(&self, guest: u64, len: usize) -> Option<Window> {
        let (region, offset, found) = self.piece(guest, len)?;
        (found == len).then(|| region.window.part(offset, len))?
    }

    /// Whether all of these bytes exist.
    pub fn holds(&self, guest: u64, len: u64) -> bool {
        let Some(end) = guest.checked_add(len) else {
            return false;
        };
        let mut at = guest;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            match self.piece(at, left) {
                Some((_, _, found)) => at += found as u64,
                None => return false,
            }
        }
        true
    }

    /// Lends the bytes from `guest` on to be read, as far as they lie together and at most `len`. None if there is
    /// no memory.
    pub fn lend<R>(&self, guest: u64, len: usize, with: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (region, offset, found) = self.piece(guest, len)?;
        Some(region.window.bytes(offset, found, with))
    }

    /// Lends the bytes from `guest` on to be written, likewise.
    pub fn lend_mut<R>(
        &self,
        guest: u64,
        len: usize,
        with: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        let (region, offset, found) = self.piece(guest, len)?;
        let result = region.window.bytes_mut(offset, found, with);
        self.mark(guest, found);
        Some(result)
    }

    /// Copies out of guest memory.
    pub fn read(&self, guest: u64, buf: &mut [u8]) -> Option<()> {
        let mut done = 0;
        while done < buf.len() {
            let target = &mut buf[done..];
            done += self.lend(guest.checked_add(done as u64)?, target.len(), |bytes| {
                target[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            })?;
        }
        Some(())
    }

    /// Copies into guest memory.
    pub fn write(&self, guest: u64, buf: &[u8]) -> Option<()> {
        let mut done = 0;
        while done < buf.len() {
            let source = &buf[done..];
            done += self.lend_mut(guest.checked_add(done as u64)?, source.len(), |bytes| {
                bytes.copy_from_slice(&source[..bytes.len()]);
                bytes.len()
            })?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest: u64, len: usize) -> Region {
        Region {
            guest,
            client: guest + 0x7000_0000,
            window: Window::private(len).unwrap(),
        }
    }

    #[test]
    fn regions_neither_overlap_nor_run_out() {
        let mut memory = Memory::default();
        memory.add(region(0x2000, 0x1000)).unwrap();
        memory.add(region(0x1000, 0x1000)).unwrap();
        for (guest, len) in [(0, 0x1001), (0x1fff, 2), (0x2fff, 1), (0x1000, 0x1000)] {
            assert!(memory.add(region(guest, len)).is_err(), "{guest:x}+{len:x}");
        }
        assert!(memory.holds(0x1000, 0x2000) && memory.holds(0x1000, 0));
        assert!(!memory.holds(0x1000, 0x2001) && !memory.holds(0xfff, 1));
        assert!(!memory.holds(u64::MAX, 2));
        assert_eq!(memory.guest_address(0x7000_2fff), Some(0x2fff));
        assert_eq!(memory.guest_address(0x7000_3000), None);

        // Bytes across a seam.
        memory.write(0x1ffe, b"seam").unwrap();
        let mut back = [0; 4];
        memory.read(0x1ffe, &mut back).unwrap();
        assert_eq!(&back, b"seam");
        assert!(memory.read(0x2ffe, &mut back).is_none());
        assert!(memory.window(0x1ffe, 4).is_none() && memory.window(0x1ffc, 4).is_some());

        memory.remove(0x1000, 0x7000_1000, 0x1000).unwrap();
        assert!(memory.remove(0x1000, 0x7000_1000, 0x1000).is_err());
        assert!(!memory.holds(0x1fff, 1));
    }

    #[test]
    fn files_that_are_too_short_are_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let map = |offset, len| Window::map(file.try_clone().unwrap(), offset, len);
        assert!(map(0, 8193).is_err() && map(8192, 1).is_err() && map(0, 0).is_err());
        assert!(map(u64::MAX, 2).is_err());
        assert_eq!(map(4096, 4096).unwrap().len(), 4096);
        assert!(Window::map(File::open("/dev/zero").unwrap(), 0, 4096).is_err());
    }
}
