//! Filters that act before and after a request but never look into it: one method instead of seven.

use std::sync::Arc;

use vdisk::{BlockDevice, DeviceInfo, Extent, Result};
use vdisk_frontends::stats::Op;

/// What a filter does around every request.
pub trait Hook: Send + Sync {
    /// Runs `request`, of kind `op` on `len` bytes, once.
    fn around(&self, op: Op, len: u64, request: impl FnOnce() -> Result<()>) -> Result<()>;
}

/// A device behind a hook.
pub struct Hooked<H> {
    inner: Arc<dyn BlockDevice>,
    hook: H,
}

impl<H: Hook> Hooked<H> {
    /// Puts `hook` around every request to `inner`.
    pub fn new(inner: Arc<dyn BlockDevice>, hook: H) -> Self {
        Self { inner, hook }
    }
}

impl<H: Hook> BlockDevice for Hooked<H> {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len() as u64;
        let request = || self.inner.read_at(offset, buf);
        self.hook.around(Op::Read, len, request)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let request = || self.inner.write_at(offset, buf);
        self.hook.around(Op::Write, buf.len() as u64, request)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let request = || self.inner.write_zeroes(offset, len);
        self.hook.around(Op::Zero, len, request)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let request = || self.inner.discard(offset, len);
        self.hook.around(Op::Discard, len, request)
    }

    fn flush(&self) -> Result<()> {
        self.hook.around(Op::Flush, 0, || self.inner.flush())
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        let request = || self.inner.extents(offset, len, found);
        self.hook.around(Op::Map, len, request)
    }
}
