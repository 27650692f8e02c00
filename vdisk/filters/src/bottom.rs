//! A [`Disk`] as the device under a stack of filters. Its lock around odd ranges stays in force, so other
//! handles on the same disk may be used beside the filtered one.

use vdisk::{BlockDevice, DeviceInfo, Disk, Extent, Result};

pub struct Bottom(pub Disk);

impl BlockDevice for Bottom {
    fn info(&self) -> &DeviceInfo {
        self.0.info()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.0.write_at(offset, buf)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.0.write_zeroes(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.0.discard(offset, len)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        self.0.extents(offset, len, found)
    }
}
