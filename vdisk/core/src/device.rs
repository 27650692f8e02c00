//! What a frontend sees: a [`Disk`], which checks every request once and hands it to a
//! [`BlockDevice`].

use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{Error, ErrorKind, Result};

/// Bytes in a sector, the unit of addressing and of encryption.
pub const SECTOR: u64 = 512;

/// Facts about a device. They never change while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Size in bytes; a multiple of [`SECTOR`].
    pub size: u64,
    /// Whether every write is refused.
    pub read_only: bool,
    /// Request size, in bytes, below which the device works more than it has to.
    pub preferred_io: u32,
    /// A name for logs and status files: the format and the file.
    pub name: String,
}

/// What lies in a range, as far as it is known without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Bytes were written here.
    Data,
    /// Reads as zeros and takes no space.
    Hole,
}

/// A run of bytes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte.
    pub offset: u64,
    /// Length in bytes, never 0.
    pub len: u64,
    /// What is there.
    pub kind: ExtentKind,
}

/// A disk of sectors.
///
/// The contract, for implementers (callers use a [`Disk`], which keeps its half of it):
/// - `offset` and lengths are multiples of [`SECTOR`] and lie within [`DeviceInfo::size`];
///   the writing calls are never made on a read-only device. Lengths may be 0.
/// - Calls come from many threads at once. Overlapping writes may land in either order, sector by
///   sector; afterwards no sector is a mixture. A read that runs beside a write of the same sector may see
///   parts of both.
/// - After an error of a write the range holds old or new bytes, sector by sector; nothing else changed.
/// - No call panics, whatever the request or the file holds.
pub trait BlockDevice: Send + Sync {
    /// The facts; cheap, and the same at every call.
    fn info(&self) -> &DeviceInfo;

    /// Fills `buf` from `offset`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Writes `buf` at `offset`. `buf` is never modified, not even for a moment: a guest may own it.
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()>;

    /// Makes the range read as zeros, giving the space back where the format can.
    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()>;

    /// Says that the range's contents no longer matter. It may read as anything afterwards that was
    /// ever written there, or zeros.
    fn discard(&self, offset: u64, len: u64) -> Result<()>;

    /// Returns when everything acknowledged before the call survives a crash of the host (on devices
    /// that promise to survive one).
    fn flush(&self) -> Result<()>;

    /// Calls `found` with the extents of the range, in order, without gaps and within the range.
    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()>;
}

/// A handle on a device, cheap to clone, that any client may be let loose on: it checks bounds and
/// access once, here, and turns odd byte ranges into whole sectors.
#[derive(Clone)]
pub struct Disk {
    device: Arc<dyn BlockDevice>,
    info: Arc<DeviceInfo>,
    /// Held for writing while an odd range is read, changed and written back, and for reading by every
    /// other write: else the bytes beside an odd range could fall back to what they were.
    edges: Arc<RwLock<()>>,
}

impl Disk {
    /// Wraps a device.
    pub fn new(device: impl BlockDevice + 'static) -> Self {
        Self::from_arc(Arc::new(device))
    }

    /// Wraps a device that is shared already.
    pub fn from_arc(device: Arc<dyn BlockDevice>) -> Self {
        let info = Arc::new(device.info().clone());
        Self {
            device,
            info,
            edges: Arc::default(),
        }
    }

    /// The facts about the disk.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.info.size
    }

    /// Fills `buf` from any byte offset.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check("read", offset, buf.len() as u64)?;
        if aligned(offset, buf.len() as u64) {
            return self.device.read_at(offset, buf);
        }
        // Odd head and tail go through one sector each; the middle goes straight to the caller.
        let mut sector = [0; SECTOR as usize];
        for part in parts(offset, buf.len()) {
            let target = &mut buf[part.range.clone()];
            if part.whole {
                self.device.read_at(part.offset, target)?;
            } else {
                self.device.read_at(part.sector(), &mut sector)?;
                target.copy_from_slice(&sector[part.within()]);
            }
        }
        Ok(())
    }

    /// Writes `buf` at any byte offset.
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.check_write("write", offset, buf.len() as u64)?;
        if aligned(offset, buf.len() as u64) {
            let _shared = self.edges.read().unwrap_or_else(PoisonError::into_inner);
            return self.device.write_at(offset, buf);
        }
        let _alone = self.edges.write().unwrap_or_else(PoisonError::into_inner);
        let mut sector = [0; SECTOR as usize];
        for part in parts(offset, buf.len()) {
            let source = &buf[part.range.clone()];
            if part.whole {
                self.device.write_at(part.offset, source)?;
            } else {
                self.device.read_at(part.sector(), &mut sector)?;
                sector[part.within()].copy_from_slice(source);
                self.device.write_at(part.sector(), &sector)?;
            }
        }
        Ok(())
    }

    /// Makes any byte range read as zeros.
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.check_write("write zeroes", offset, len)?;
        let (head, middle, tail) = split(offset, len);
        for (at, n) in [head, tail] {
            if n > 0 {
                self.write_at(at, &[0; SECTOR as usize][..n as usize])?;
            }
        }
        if middle.1 > 0 {
            let _shared = self.edges.read().unwrap_or_else(PoisonError::into_inner);
            self.device.write_zeroes(middle.0, middle.1)?;
        }
        Ok(())
    }

    /// Forgets the whole sectors within a byte range.
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check_write("discard", offset, len)?;
        let (_, middle, _) = split(offset, len);
        if middle.1 == 0 {
            return Ok(());
        }
        let _shared = self.edges.read().unwrap_or_else(PoisonError::into_inner);
        self.device.discard(middle.0, middle.1)
    }

    /// See [`BlockDevice::flush`].
    pub fn flush(&self) -> Result<()> {
        self.device.flush()
    }

    /// The extents of any byte range, trimmed to it.
    pub fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        self.check("map", offset, len)?;
        let start = offset - offset % SECTOR;
        let end = (offset + len).next_multiple_of(SECTOR);
        self.device.extents(start, end - start, &mut |extent| {
            let from = extent.offset.max(offset);
            let to = (extent.offset + extent.len).min(offset + len);
            if from < to {
                found(Extent {
                    offset: from,
                    len: to - from,
                    kind: extent.kind,
                });
            }
        })
    }

    fn check(&self, what: &str, offset: u64, len: u64) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.info.size => Ok(()),
            _ => Err(Error::new(
                ErrorKind::InvalidRequest,
                format!(
                    "{what} of {len} bytes goes past the end of the disk ({} bytes)",
                    self.info.size
                ),
            )
            .at_offset(offset)),
        }
    }

    fn check_write(&self, what: &str, offset: u64, len: u64) -> Result<()> {
        if self.info.read_only {
            return Err(
                Error::new(ErrorKind::ReadOnly, format!("{what} on a read-only disk"))
                    .at_offset(offset),
            );
        }
        self.check(what, offset, len)
    }
}

fn aligned(offset: u64, len: u64) -> bool {
    (offset | len).is_multiple_of(SECTOR)
}

/// `(offset, len)` of the odd head, the whole sectors, and the odd tail of a range.
fn split(offset: u64, len: u64) -> ((u64, u64), (u64, u64), (u64, u64)) {
    let end = offset + len;
    let first = offset.next_multiple_of(SECTOR).min(end);
    let last = (end - end % SECTOR).max(first);
    (
        (offset, first - offset),
        (first, last - first),
        (last, end - last),
    )
}

/// A piece of a byte range: whole sectors, or bytes within one.
struct Part {
    offset: u64,
    range: std::ops::Range<usize>,
    whole: bool,
}

impl Part {
    fn sector(&self) -> u64 {
        self.offset - self.offset % SECTOR
    }

    fn within(&self) -> std::ops::Range<usize> {
        let start = (self.offset % SECTOR) as usize;
        start..start + self.range.len()
    }
}

/// The parts of a buffer of `len` bytes that lies at `offset`, in order, none empty.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let (head, middle, tail) = split(offset, len as u64);
    // A range inside one sector that neither starts nor ends on its edge is a head alone.
    [(head, false), (middle, true), (tail, false)]
        .into_iter()
        .filter(|((_, n), _)| *n > 0)
        .map(move |((at, n), whole)| {
            let start = (at - offset) as usize;
            Part {
                offset: at,
                range: start..start + n as usize,
                whole,
            }
        })
}
