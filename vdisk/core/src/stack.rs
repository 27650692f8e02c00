//! The stack: layers above one another, flattened for every request into runs on their stores, and
//! the engine that moves the payload and encrypts it under the key of the layer it lies in.
//!
//! Reads go straight from a store into the caller's buffer and are decrypted there. Writes are
//! encrypted from the caller's buffer into a recycled staging buffer: the caller's bytes are never
//! changed, and no request allocates memory.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use vdisk_xts::{DataUnit, Xts};

use crate::device::{BlockDevice, DeviceInfo, Extent, ExtentKind, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Layer, Place, Published, Reservation, ZeroFill, Zeroed};
use crate::store::sync_after;

/// Bytes encrypted and written at once: large enough to make system calls rare, small enough to stay
/// in a core's own cache between the cipher and the kernel's copy.
const STAGING: usize = 256 << 10;

/// A source of zeros.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

thread_local! {
    static STAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A layer and the key its payload is encrypted under, if any.
pub struct StackedLayer {
    /// Dropped first: what an ephemeral layer leaves behind for a moment has no key any more.
    cipher: Option<Xts>,
    layer: Box<dyn Layer>,
}

impl StackedLayer {
    /// A layer whose payload is plain bytes.
    pub fn plain(layer: impl Layer + 'static) -> Self {
        Self {
            layer: Box::new(layer),
            cipher: None,
        }
    }

    /// A layer whose payload is AES-256-XTS with 512-byte units, tweaked by the disk's sector number.
    pub fn encrypted(layer: impl Layer + 'static, cipher: Xts) -> Self {
        Self {
            layer: Box::new(layer),
            cipher: Some(cipher),
        }
    }

    /// A boxed layer, with or without a key.
    pub fn new(layer: Box<dyn Layer>, cipher: Option<Xts>) -> Self {
        Self { layer, cipher }
    }

    pub(crate) fn read(&self, first: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.layer.store().read_at(offset, buf)?;
        if let Some(cipher) = &self.cipher {
            cipher.decrypt(DataUnit::B512, first, buf);
        }
        Ok(())
    }

    fn write(&self, first: u64, offset: u64, buf: &[u8]) -> Result<()> {
        let Some(cipher) = &self.cipher else {
            return self.layer.store().write_at(offset, buf);
        };
        STAGE.with_borrow_mut(|stage| {
            if stage.is_empty() {
                stage.resize(STAGING, 0);
            }
            for (chunk, at) in buf.chunks(STAGING).zip((0u64..).step_by(STAGING)) {
                let staged = &mut stage[..chunk.len()];
                cipher.encrypt_into(DataUnit::B512, first + at / SECTOR, chunk, staged);
                self.layer.store().write_at(offset + at, staged)?;
            }
            Ok(())
        })
    }

    /// Writes the zeros that a reservation asks for beside its data.
    fn fill(&self, fill: &ZeroFill) -> Result<()> {
        for bit in (0..u32::BITS).filter(|bit| fill.mask & (1 << bit) != 0) {
            let bit = u64::from(bit);
            self.write_zeros(fill.first + bit, fill.offset + bit * SECTOR, SECTOR)?;
        }
        Ok(())
    }

    fn write_zeros(&self, mut first: u64, mut offset: u64, mut len: u64) -> Result<()> {
        while len > 0 {
            let n = len.min(ZEROS.len() as u64);
            self.write(first, offset, &ZEROS[..n as usize])?;
            (first, offset, len) = (first + n / SECTOR, offset + n, len - n);
        }
        Ok(())
    }
}

/// Layers above one another, as one device. Writes go to the top; the rest is only read.
pub struct Stack {
    /// Top first, never empty.
    layers: Vec<StackedLayer>,
    info: DeviceInfo,
    /// Shared by requests in flight; exclusive while a layer frees space that one of them may be using.
    gate: RwLock<()>,
    /// One flush at a time.
    flushing: Mutex<()>,
    /// A sync failed: what it should have made durable may be lost, and later syncs would not say so.
    poisoned: AtomicBool,
    /// Nobody will want what was written: closing need not wait for the medium.
    abandoned: AtomicBool,
}

impl Stack {
    /// A stack of `layers`, top first, all of the same size.
    pub fn new(
        layers: Vec<StackedLayer>,
        read_only: bool,
        name: impl Into<String>,
    ) -> Result<Self> {
        let Some(top) = layers.first() else {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "a stack needs at least one layer",
            ));
        };
        let sectors = top.layer.sectors();
        if let Some(other) = layers.iter().find(|l| l.layer.sectors() != sectors) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                format!(
                    "layers of {sectors} and {} sectors do not fit each other",
                    other.layer.sectors()
                ),
            ));
        }
        let size = sectors
            .checked_mul(SECTOR)
            .ok_or_else(|| Error::corrupt("the disk's size overflows"))?;
        let info = DeviceInfo {
            size,
            read_only,
            preferred_io: 4096,
            name: name.into(),
        };
        Ok(Self {
            layers,
            info,
            gate: RwLock::default(),
            flushing: Mutex::default(),
            poisoned: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        })
    }

    /// Gives up what was not flushed: closing the stack writes nothing more.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn top(&self) -> &StackedLayer {
        &self.layers[0]
    }

    /// After a failed sync nothing that is written can be promised to stay.
    fn check_usable(&self) -> Result<()> {
        if !self.poisoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = format!("{}: an earlier flush failed", self.info.name);
        Err(Error::new(ErrorKind::Poisoned, what)
            .remedy("close the disk, check the medium it lies on, and open it again"))
    }

    fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run that starts at sector `first`: the layer that has it and where, or `None` for zeros; and
    /// how many sectors, at most `max`.
    fn resolve(&self, first: u64, mut max: u64) -> Result<(Option<(&StackedLayer, u64)>, u64)> {
        for stacked in &self.layers {
            let run = stacked.layer.map(first, max)?;
            debug_assert!((1..=max).contains(&run.sectors));
            max = run.sectors;
            match run.place {
                Place::Here(offset) => return Ok((Some((stacked, offset)), max)),
                Place::Zero => return Ok((None, max)),
                Place::Below => {}
            }
        }
        Ok((None, max))
    }

    /// Writes `len` bytes from sector `first` on, asking `write` to move each run it was given leave for.
    fn write_runs(
        &self,
        first: u64,
        sectors: u64,
        write: impl Fn(&Reservation) -> Result<()>,
    ) -> Result<()> {
        self.check_usable()?;
        let top = self.top();
        let mut at = first;
        let end = first + sectors;
        while at < end {
            let reservation = top.layer.reserve(at, end - at)?;
            let written = write(&reservation).and_then(|()| match &reservation.zero_fill {
                Some(fill) => top.fill(fill),
                None => Ok(()),
            });
            if written.is_err() {
                top.layer.cancel(&reservation);
                return written;
            }
            match top.layer.publish(&reservation)? {
                Published::Yes => at += reservation.sectors,
                Published::Again => {}
            }
        }
        Ok(())
    }

    /// Runs `change` on the top layer with no request in flight.
    fn alone<T>(&self, change: impl FnOnce(&StackedLayer) -> Result<T>) -> Result<T> {
        self.check_usable()?;
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        change(self.top())
    }
}

impl BlockDevice for Stack {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let _shared = self.enter();
        let mut first = offset / SECTOR;
        let mut rest = buf;
        while !rest.is_empty() {
            let (found, sectors) = self.resolve(first, rest.len() as u64 / SECTOR)?;
            let (run, after) = rest.split_at_mut((sectors * SECTOR) as usize);
            match found {
                Some((layer, at)) => layer.read(first, at, run)?,
                None => run.fill(0),
            }
            first += sectors;
            rest = after;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let _shared = self.enter();
        let start = offset / SECTOR;
        self.write_runs(start, buf.len() as u64 / SECTOR, |r| {
            let from = ((r.first - start) * SECTOR) as usize;
            let run = &buf[from..from + (r.sectors * SECTOR) as usize];
            self.top().write(r.first, r.offset, run)
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let (mut at, end) = (offset / SECTOR, (offset + len) / SECTOR);
        while at < end {
            let zeroed = self.alone(|top| top.layer.zero(at, end - at, top.cipher.is_none()))?;
            at += match zeroed {
                Zeroed::Done(n) => n,
                Zeroed::NeedsWrite(n) => {
                    let _shared = self.enter();
                    self.write_runs(at, n, |r| {
                        self.top()
                            .write_zeros(r.first, r.offset, r.sectors * SECTOR)
                    })?;
                    n
                }
            };
        }
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let (mut at, end) = (offset / SECTOR, (offset + len) / SECTOR);
        while at < end {
            at += self.alone(|top| top.layer.discard(at, end - at, top.cipher.is_none()))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let top = self.top();
        if self.info.read_only || !top.layer.durable() {
            return Ok(());
        }
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_usable()?;
        // Up to here a failure has lost nothing, and the next flush tries again.
        let frozen = top.layer.freeze()?;
        let flushed =
            sync_after(top.layer.store(), frozen).and_then(|synced| top.layer.persist(synced));
        if flushed.is_err() {
            self.poisoned.store(true, Ordering::Relaxed);
        }
        flushed
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        let _shared = self.enter();
        let (mut first, end) = (offset / SECTOR, (offset + len) / SECTOR);
        let mut run: Option<Extent> = None;
        while first < end {
            let (place, mut sectors) = self.resolve(first, end - first)?;
            let kind = match place {
                None => ExtentKind::Hole,
                // Zeros in the store are zeros of the disk only where nothing is encrypted.
                Some((layer, at)) if layer.cipher.is_none() && layer.layer.sparse() => {
                    let (data, bytes) = layer.layer.store().allocated(at, sectors * SECTOR)?;
                    match bytes / SECTOR {
                        // Less than a sector of hole is data.
                        0 => {
                            sectors = 1;
                            ExtentKind::Data
                        }
                        n => {
                            sectors = n;
                            if data {
                                ExtentKind::Data
                            } else {
                                ExtentKind::Hole
                            }
                        }
                    }
                }
                Some(_) => ExtentKind::Data,
            };
            let extent = Extent {
                offset: first * SECTOR,
                len: sectors * SECTOR,
                kind,
            };
            match &mut run {
                Some(last) if last.kind == kind => last.len += extent.len,
                _ => {
                    if let Some(last) = run.replace(extent) {
                        found(last);
                    }
                }
            }
            first += sectors;
        }
        if let Some(last) = run {
            found(last);
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if *self.abandoned.get_mut() {
            return;
        }
        // Metadata of a clean close; an owner who needs to know flushes first.
        if let Err(e) = self.flush() {
            tracing::warn!("{}: the last flush failed: {e}", self.info.name);
        }
    }
}
