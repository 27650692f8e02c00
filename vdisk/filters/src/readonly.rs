//! The `readonly` filter: the disk stays open as it is, but whoever comes through here cannot write.

use std::sync::Arc;

use vdisk::{BlockDevice, DeviceInfo, Error, ErrorKind, Extent, Result};

/// A device that refuses writes.
pub struct ReadOnly {
    inner: Arc<dyn BlockDevice>,
    info: DeviceInfo,
}

impl ReadOnly {
    /// Protects `inner`.
    pub fn new(inner: Arc<dyn BlockDevice>) -> Self {
        let info = DeviceInfo {
            read_only: true,
            ..inner.info().clone()
        };
        Self { inner, info }
    }

    /// [`vdisk::Disk`] never comes here, since [`DeviceInfo::read_only`] is set; others may.
    fn refuse(&self, offset: u64) -> Result<()> {
        let what = "the readonly filter lets no write through";
        Err(Error::new(ErrorKind::ReadOnly, what).at_offset(offset))
    }
}

impl BlockDevice for ReadOnly {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, _: &[u8]) -> Result<()> {
        self.refuse(offset)
    }

    fn write_zeroes(&self, offset: u64, _: u64) -> Result<()> {
        self.refuse(offset)
    }

    fn discard(&self, offset: u64, _: u64) -> Result<()> {
        self.refuse(offset)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        self.inner.extents(offset, len, found)
    }
}
