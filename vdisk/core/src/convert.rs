//! New images, and copying one disk into another.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vdisk_xts::Xts;

use crate::device::{Disk, ExtentKind, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::flat::Flat;
use crate::image::{DiskKey, Format};
use crate::stack::{Stack, StackedLayer};
use crate::store::{Draft, Store};
use crate::vhd::{self, Kind};

/// Bytes copied at once: a VHD's block.
const CHUNK: u64 = vhd::BLOCK_SIZE as u64;

/// Bytes below which a run of zeros in an unencrypted image is not worth a hole.
const GRAIN: usize = 64 << 10;

/// An image that is being made. It gets its name when it is [finished](NewImage::finish).
pub struct NewImage {
    stack: Arc<Stack>,
    disk: Disk,
    /// Taken when it is finished.
    draft: Option<Draft>,
    zeros: Zeros,
}

/// What has to be done about zeros in a fresh image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    /// Nothing: what is not written reads as zeros.
    Skip,
    /// Blocks with anything but zeros in them are written whole, so that readers that ignore the sector
    /// bitmap do not decrypt what was never encrypted.
    WholeBlocks,
    /// Every sector is written: the format cannot tell zeros from what was never written.
    Write,
}

impl NewImage {
    /// Starts an image of `size` bytes for `path`, which must not exist.
    pub fn create(path: &Path, format: Format, size: u64, key: Option<&DiskKey>) -> Result<Self> {
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                format!("a disk of {size} bytes: not a whole number of 512-byte sectors"),
            )
            .at_path(path));
        }
        let draft = Draft::new(path)?;
        let store: Arc<dyn Store> = Arc::new(draft.store()?);
        let header = key.map(|key| key.header);
        let layer = match format {
            Format::Raw => {
                store.set_len(size)?;
                Box::new(Flat::new(store, size / SECTOR))
            }
            Format::VhdFixed | Format::VhdDynamic => {
                let kind = if format == Format::VhdFixed {
                    Kind::Fixed
                } else {
                    Kind::Dynamic
                };
                vhd::create(&*store, kind, size, header).map_err(|e| e.at_path(path))?;
                vhd::open(store, false)?.into_layer()
            }
            Format::VhdDifferencing => {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    "a differencing VHD is made as a child of another",
                )
                .remedy("name its parent"));
            }
        };
        let zeros = match (key, format) {
            (None, _) => Zeros::Skip,
            (Some(_), Format::VhdDynamic) => Zeros::WholeBlocks,
            (Some(_), _) => Zeros::Write,
        };
        let layer = StackedLayer::new(layer, key.map(|key| Xts::new(&key.key)));
        let name = path.display().to_string();
        let stack = Arc::new(Stack::new(vec![layer], false, name)?);
        Ok(Self {
            disk: Disk::from_arc(stack.clone()),
            stack,
            draft: Some(draft),
            zeros,
        })
    }

    /// Has every sector written, zeros too, so that readers that ignore VHD's sector bitmap see the same as
    /// we do: for disks that QEMU shall use through a LUKS1 twin.
    #[must_use]
    pub fn dense(mut self) -> Self {
        self.zeros = Zeros::Write;
        self
    }

    /// Copies `source` into the image, which must be as large. `progress` is told how many of the source's
    /// bytes are done, from several threads, and may stop the copy.
    pub fn fill_from(
        &self,
        source: &Disk,
        progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
    ) -> Result<()> {
        let size = self.disk.size();
        if source.size() != size {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                format!(
                    "a disk of {} bytes does not fit one of {size}",
                    source.size()
                ),
            ));
        }
        self.for_chunks(progress, |at, len, buf| {
            let mut data = false;
            source.extents(at, len, &mut |e| data |= e.kind == ExtentKind::Data)?;
            if data {
                source.read_at(at, buf)?;
            } else {
                buf.fill(0);
            }
            self.write_chunk(at, buf, data)
        })
    }

    /// Makes the whole image read as zeros, where it does not by itself.
    pub fn fill_with_zeros(
        &self,
        progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
    ) -> Result<()> {
        match self.zeros {
            Zeros::Write => {
                self.for_chunks(progress, |at, _, buf| self.write_chunk(at, buf, false))
            }
            Zeros::Skip | Zeros::WholeBlocks => Ok(()),
        }
    }

    /// Makes what was written durable, so that finishing takes but a moment.
    pub fn flush(&self) -> Result<()> {
        self.disk.flush()
    }

    /// Makes the image durable and gives it its name.
    pub fn finish(mut self) -> Result<()> {
        self.disk.flush()?;
        self.draft.take().map_or(Ok(()), Draft::publish)
    }

    fn write_chunk(&self, at: u64, buf: &[u8], maybe_data: bool) -> Result<()> {
        let zero = !maybe_data || is_zero(buf);
        match self.zeros {
            Zeros::Write => self.disk.write_at(at, buf),
            _ if zero => Ok(()),
            Zeros::WholeBlocks => self.disk.write_at(at, buf),
            Zeros::Skip => {
                let mut from = 0;
                for run in buf.chunks(GRAIN) {
                    if !is_zero(run) {
                        self.disk.write_at(at + from, run)?;
                    }
                    from += run.len() as u64;
                }
                Ok(())
            }
        }
    }

    /// Runs `work` on every chunk, on as many threads as help.
    fn for_chunks(
        &self,
        progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
        work: impl Fn(u64, u64, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<()> {
        let size = self.disk.size();
        let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let failed = Mutex::new(None);
        let worker = || {
            let mut buf = vec![0; CHUNK.min(size) as usize];
            while !stop.load(Ordering::Relaxed) {
                let at = next.fetch_add(CHUNK, Ordering::Relaxed);
                if at >= size {
                    break;
                }
                let len = CHUNK.min(size - at);
                let mut result = work(at, len, &mut buf[..len as usize]);
                let sum = done.fetch_add(len, Ordering::Relaxed) + len;
                if result.is_ok() && progress(sum).is_break() {
                    result = Err(Error::new(ErrorKind::Io, "stopped before the end")
                        .remedy("nothing was left behind; start again when you like"));
                }
                if let Err(e) = result {
                    failed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(e);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(worker);
            }
            worker();
        });
        failed
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }
}

impl Drop for NewImage {
    fn drop(&mut self) {
        // Finished, all is on the medium; given up, nobody should wait for bytes that vanish.
        self.stack.abandon();
    }
}

/// Whether all bytes are zero; fast on long runs.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(4096)
        .all(|page| page.iter().fold(0, |all, b| all | b) == 0)
}
