//! A disk in memory: for tests of frontends, and for benches that want no disk in the way.

use std::sync::{PoisonError, RwLock};

use crate::device::{BlockDevice, DeviceInfo, Extent, ExtentKind, SECTOR};
use crate::error::Result;

/// A device whose sectors live in memory.
pub struct MemoryDisk {
    info: DeviceInfo,
    bytes: RwLock<Vec<u8>>,
}

impl MemoryDisk {
    /// A disk of `sectors` zeroed sectors.
    pub fn new(sectors: u64) -> Self {
        Self::with(vec![0; (sectors * SECTOR) as usize], false)
    }

    /// A disk that holds `bytes`, filled up with zeros to a whole sector.
    pub fn with(mut bytes: Vec<u8>, read_only: bool) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        let info = DeviceInfo {
            size: bytes.len() as u64,
            read_only,
            preferred_io: SECTOR as u32,
            name: "memory".into(),
        };
        Self {
            info,
            bytes: RwLock::new(bytes),
        }
    }
}

impl BlockDevice for MemoryDisk {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        buf.copy_from_slice(&bytes[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        bytes[offset as usize..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        bytes[offset as usize..][..len as usize].fill(0);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.write_zeroes(offset, len)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let mut run: Option<Extent> = None;
        for at in (offset..offset + len).step_by(SECTOR as usize) {
            let zero = bytes[at as usize..][..SECTOR as usize]
                .iter()
                .all(|b| *b == 0);
            let kind = if zero {
                ExtentKind::Hole
            } else {
                ExtentKind::Data
            };
            match &mut run {
                Some(extent) if extent.kind == kind => extent.len += SECTOR,
                _ => {
                    if let Some(extent) = run.replace(Extent {
                        offset: at,
                        len: SECTOR,
                        kind,
                    }) {
                        found(extent);
                    }
                }
            }
        }
        if let Some(extent) = run {
            found(extent);
        }
        Ok(())
    }
}
