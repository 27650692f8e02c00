//! The `fault` filter: a disk that fails when it is told to, and fails the same way again under the same
//! seed, as long as requests come in the same order.

mod spec;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use vdisk::{BlockDevice, DeviceInfo, Error, ErrorKind, Extent, ExtentKind, Result, SECTOR};
use vdisk_frontends::stats::Op;

use crate::chance::{below, throw};
use crate::spec::name;
pub use spec::FaultSpec;
use spec::{Part, When};

/// Most pieces that a torn request falls into.
const PIECES: u64 = 4096;

/// A device that fails.
pub struct Fault {
    inner: Arc<dyn BlockDevice>,
    spec: FaultSpec,
    start: Instant,
    /// Requests so far that are of a kind and in a range that are meant.
    meant: AtomicU64,
    /// The power is off.
    dead: AtomicBool,
}

/// A request that is to fail: the how-manieth of those that are meant, from 1.
#[derive(Clone, Copy)]
struct Hit(u64);

impl Fault {
    /// Lets requests to `inner` fail; times count from now.
    pub fn new(inner: Arc<dyn BlockDevice>, spec: FaultSpec) -> Self {
        Self {
            inner,
            spec,
            start: Instant::now(),
            meant: AtomicU64::new(0),
            dead: AtomicBool::new(false),
        }
    }

    /// Whether this request fails. The error is that of a disk without power.
    fn judge(&self, op: Op, offset: u64, len: u64) -> Result<Option<Hit>> {
        let spec = &self.spec;
        if self.dead.load(SeqCst) {
            let what = format!("injected fault: {} after the power was cut", name(op));
            return Err(place(op, offset, Error::new(ErrorKind::Io, what)));
        }
        if !spec.ops.has(op) {
            return Ok(None);
        }
        if let Some(range) = &spec.range
            && (op == Op::Flush || offset + len <= range.start || range.end <= offset)
        {
            return Ok(None);
        }
        let n = self.meant.fetch_add(1, SeqCst) + 1;
        let fails = match spec.when {
            When::Always => true,
            When::Every(every) => n.is_multiple_of(every),
            When::Nth(nth) => n == nth,
            When::After(requests) => n > requests,
            When::AfterTime(time) => self.start.elapsed() >= time,
            When::Share(share) => share == u64::MAX || throw(spec.seed, n) < share,
        };
        if fails && spec.cut {
            self.dead.store(true, SeqCst);
        }
        Ok(fails.then_some(Hit(n)))
    }

    /// What the client is told.
    fn verdict(&self, op: Op, offset: u64, Hit(n): Hit) -> Result<()> {
        let Some(kind) = self.spec.error else {
            return Ok(());
        };
        let what = format!("injected fault: {} number {n}", name(op));
        Err(place(op, offset, Error::new(kind, what)))
    }

    /// Calls `piece` with the pieces of a request of `len` bytes, each as `(start, length)` within it, and
    /// whether it is done.
    fn pieces(
        &self,
        Hit(n): Hit,
        len: u64,
        mut piece: impl FnMut(u64, u64, bool) -> Result<()>,
    ) -> Result<()> {
        let sectors = len / SECTOR;
        let each = sectors.div_ceil(PIECES).max(1);
        let count = sectors.div_ceil(each);
        // Of what is torn into several pieces at least one is done and at least one is not.
        let seed = throw(self.spec.seed, n);
        let lost = below(throw(seed, 0), count);
        let kept = (lost + 1 + below(throw(seed, 1), count.saturating_sub(1))) % count.max(1);
        for i in 0..count {
            let done = match self.spec.part {
                Part::Nothing => false,
                Part::Short => i < count / 2,
                Part::Torn => i != lost && (i == kept || throw(seed, i + 2) & 1 == 1),
            };
            let start = i * each;
            let sectors = each.min(sectors - start);
            piece(start * SECTOR, sectors * SECTOR, done)?;
        }
        Ok(())
    }

    /// A request that changes `len` bytes; `change` changes a piece of it.
    fn change(
        &self,
        op: Op,
        offset: u64,
        len: u64,
        change: impl Fn(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let Some(hit) = self.judge(op, offset, len)? else {
            return change(0, len);
        };
        self.pieces(hit, len, |start, len, done| match done {
            true => change(start, len),
            false => Ok(()),
        })?;
        self.verdict(op, offset, hit)
    }
}

/// A flush has no place.
fn place(op: Op, offset: u64, error: Error) -> Error {
    match op {
        Op::Flush => error,
        _ => error.at_offset(offset),
    }
}

impl BlockDevice for Fault {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(hit) = self.judge(Op::Read, offset, buf.len() as u64)? else {
            return self.inner.read_at(offset, buf);
        };
        self.inner.read_at(offset, buf)?;
        // Zeros for what did not come: a lie must not show what the buffer held before.
        self.pieces(hit, buf.len() as u64, |start, len, done| {
            if !done {
                buf[start as usize..][..len as usize].fill(0);
            }
            Ok(())
        })?;
        self.verdict(Op::Read, offset, hit)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.change(Op::Write, offset, buf.len() as u64, |start, len| {
            let piece = &buf[start as usize..][..len as usize];
            self.inner.write_at(offset + start, piece)
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.change(Op::Zero, offset, len, |start, len| {
            self.inner.write_zeroes(offset + start, len)
        })
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.change(Op::Discard, offset, len, |start, len| {
            self.inner.discard(offset + start, len)
        })
    }

    fn flush(&self) -> Result<()> {
        match self.judge(Op::Flush, 0, 0)? {
            None => self.inner.flush(),
            Some(hit) => self.verdict(Op::Flush, 0, hit),
        }
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        let Some(hit) = self.judge(Op::Map, offset, len)? else {
            return self.inner.extents(offset, len, found);
        };
        self.verdict(Op::Map, offset, hit)?;
        // Nothing is known, so all of it may be data.
        if len > 0 {
            found(Extent {
                offset,
                len,
                kind: ExtentKind::Data,
            });
        }
        Ok(())
    }
}
