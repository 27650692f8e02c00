//! Disks that are wrong on purpose, so that a verifier can show that it would notice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use vdisk::xts::{DataUnit, Xts, XtsKey};
use vdisk::{BlockDevice, DeviceInfo, Error, ErrorKind, Extent, Result, SECTOR};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write is acknowledged and not done.
    LostWrite,
    /// A write lands somewhere else.
    MisdirectedWrite,
    /// Of a sector, only the first half is written.
    TornSector,
    /// A read finds what was there before the last write.
    StaleRead,
    /// A write is encrypted under another key.
    SwappedKey,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::LostWrite,
        Self::MisdirectedWrite,
        Self::TornSector,
        Self::StaleRead,
        Self::SwappedKey,
    ];
}

/// A device of which every so many writes go wrong.
pub struct Faulty<D> {
    inner: D,
    fault: Fault,
    every: u64,
    writes: AtomicU64,
    /// What a stale read will find, and where.
    stale: Mutex<Option<(u64, Vec<u8>)>>,
}

impl<D: BlockDevice> Faulty<D> {
    /// `inner`, but for each `every`th write.
    pub fn new(inner: D, fault: Fault, every: u64) -> Self {
        Self {
            inner,
            fault,
            every,
            writes: AtomicU64::new(0),
            stale: Mutex::default(),
        }
    }

    fn wrong(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let half = SECTOR as usize / 2;
        let mut before = vec![0; buf.len()];
        self.inner.read_at(offset, &mut before)?;
        match self.fault {
            Fault::LostWrite => Ok(()),
            Fault::MisdirectedWrite => {
                let elsewhere = (offset + self.info().size / 2) % self.info().size;
                let room = (self.info().size - elsewhere).min(buf.len() as u64);
                self.inner.write_at(elsewhere, &buf[..room as usize])
            }
            Fault::TornSector => {
                let mut torn = buf.to_vec();
                torn[half..SECTOR as usize].copy_from_slice(&before[half..SECTOR as usize]);
                self.inner.write_at(offset, &torn)
            }
            Fault::StaleRead => {
                self.inner.write_at(offset, buf)?;
                let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
                *stale = Some((offset, before));
                Ok(())
            }
            Fault::SwappedKey => {
                let mut bytes = buf.to_vec();
                let key = XtsKey::new(std::array::from_fn(|i| i as u8))
                    .map_err(|e| Error::new(ErrorKind::Key, e.to_string()))?;
                Xts::new(&key).encrypt(DataUnit::B512, offset / SECTOR, &mut bytes);
                self.inner.write_at(offset, &bytes)
            }
        }
    }
}

impl<D: BlockDevice> BlockDevice for Faulty<D> {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, buf)?;
        let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, before)) = &*stale
            && let Some(within) = at.checked_sub(offset)
            && let Some(range) = buf.get_mut(within as usize..within as usize + before.len())
        {
            range.copy_from_slice(before);
            *stale = None;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        match number.is_multiple_of(self.every) {
            true => self.wrong(offset, buf),
            false => self.inner.write_at(offset, buf),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.write_zeroes(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.discard(offset, len)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        self.inner.extents(offset, len, found)
    }
}
