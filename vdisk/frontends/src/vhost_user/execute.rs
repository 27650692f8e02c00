//! Requests are done. Reads go through a buffer of ours, where the disk decrypts them. Writes go to the
//! disk out of the guest's pages where runs of bytes are long, and through the buffer where they are
//! short, so that a request of many pages is few calls of the disk.

use std::sync::Arc;
use std::time::Instant;

use vdisk::SECTOR;
use zeroize::Zeroizing;

use super::chain::{Chain, Segments};
use super::device::{Device, MAX_DATA, MAX_DISCARDS, MAX_RANGE_SECTORS, MAX_ZEROES};
use super::memory::Memory;
use super::request::Kind;
use crate::stats::Op;
use crate::zeros;

/// Bytes from which on a run is worth a call of the disk. Copying 16 KiB takes about as long as a call.
const DIRECT: u64 = 16 << 10;
/// Bytes of the buffer: they stay in a core's own cache from the disk's copy to ours.
const STAGING: usize = 128 << 10;
/// Bytes that are discarded, or become zeros, at once: whole blocks of any format, and not so many that
/// whoever wants to stop us would notice.
const PIECE: u64 = 16 << 20;

/// How a request ended, in the driver's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Failed.
    IoError = 1,
    /// Nothing that this device does.
    Unsupported = 2,
}

/// Why a request was not done.
enum Undone {
    /// It failed; the driver is told no more.
    Failed(Status),
    /// We are to stop.
    Stopped,
}

use Undone::{Failed, Stopped};

impl From<vdisk::Error> for Undone {
    fn from(error: vdisk::Error) -> Self {
        tracing::debug!(%error, "request of a guest failed");
        Failed(Status::IoError)
    }
}

/// What [`Segments`] say about memory that is not there.
fn no_memory() -> Undone {
    Failed(Status::IoError)
}

/// Does the requests of one queue. Its buffer is wiped when it goes.
pub struct Executor {
    device: Arc<Device>,
    /// Whether the driver does not know flushes, so that writes have to be durable by themselves.
    write_through: bool,
    staging: Zeroizing<Vec<u8>>,
}

impl Executor {
    pub fn new(device: Arc<Device>, write_through: bool) -> Self {
        Self {
            device,
            write_through,
            staging: Zeroizing::new(Vec::new()),
        }
    }

    /// Does a request; how it ended, and how many of its writable bytes were written. A long one asks
    /// `go_on` now and then; none if it said no, and the request has to be done again from its beginning.
    pub fn run(
        &mut self,
        memory: &Memory,
        kind: Kind,
        chain: &mut Chain,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<(Status, u64)> {
        let room = chain.writable.len();
        let done = match kind {
            Kind::Read(sector) => self.read(memory, sector, &mut chain.writable),
            Kind::Write(sector) => self.write(memory, sector, &mut chain.readable),
            Kind::Flush => self.flush(),
            Kind::Identify => self.identify(memory, &mut chain.writable),
            Kind::Discard => self.zero(memory, &mut chain.readable, true, go_on),
            Kind::WriteZeroes => self.zero(memory, &mut chain.readable, false, go_on),
            Kind::Unknown => Err(Failed(Status::Unsupported)),
        };
        match done {
            Ok(()) => Some((Status::Ok, room - chain.writable.len())),
            Err(Failed(status)) => Some((status, 0)),
            Err(Stopped) => None,
        }
    }

    /// Where on the disk a request of `len` bytes at `sector` lies.
    fn place(&self, sector: u64, len: u64) -> Result<u64, Undone> {
        let offset = sector.checked_mul(SECTOR);
        let end = offset.and_then(|offset| offset.checked_add(len));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= self.device.disk.size() => Ok(offset),
            _ => Err(Failed(Status::IoError)),
        }
    }

    fn data(&self, sector: u64, segments: &Segments) -> Result<(u64, u64), Undone> {
        let len = segments.len();
        if len > MAX_DATA || !len.is_multiple_of(SECTOR) {
            return Err(Failed(Status::IoError));
        }
        Ok((self.place(sector, len)?, len))
    }

    fn check_writable(&self) -> Result<(), Undone> {
        if self.device.read_only {
            return Err(Failed(Status::IoError));
        }
        Ok(())
    }

    fn read(
        &mut self,
        memory: &Memory,
        sector: u64,
        segments: &mut Segments,
    ) -> Result<(), Undone> {
        let (offset, len) = self.data(sector, segments)?;
        let device = self.device.clone();
        device.stats.time(Op::Read, len, || {
            let disk = &device.disk;
            let mut done = 0;
            while done < len {
                let n = (len - done).min(STAGING as u64);
                let buffer = self.buffer(n as usize);
                disk.read_at(offset + done, buffer)?;
                segments.copy_in(memory, buffer).ok_or_else(no_memory)?;
                done += n;
            }
            Ok(())
        })
    }

    fn write(
        &mut self,
        memory: &Memory,
        sector: u64,
        segments: &mut Segments,
    ) -> Result<(), Undone> {
        self.check_writable()?;
        let (offset, len) = self.data(sector, segments)?;
        let device = self.device.clone();
        device.stats.time(Op::Write, len, || {
            let disk = &device.disk;
            let mut done = 0;
            while done < len {
                if let Some(run) = direct(memory, segments, len - done) {
                    memory
                        .lend(run.guest, run.len as usize, |bytes| {
                            disk.write_at(offset + done, bytes)
                        })
                        .ok_or_else(no_memory)??;
                    done += run.len;
                } else {
                    let n = short_run(segments);
                    let buffer = self.buffer(n);
                    segments.copy_out(memory, buffer).ok_or_else(no_memory)?;
                    disk.write_at(offset + done, buffer)?;
                    done += n as u64;
                }
            }
            Ok::<_, Undone>(())
        })?;
        self.settle()
    }

    /// Makes a write durable for a driver that will not ask for it.
    fn settle(&self) -> Result<(), Undone> {
        if self.write_through {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Undone> {
        if self.device.read_only {
            return Ok(());
        }
        let device = &self.device;
        Ok(device.stats.time(Op::Flush, 0, || device.disk.flush())?)
    }

    fn identify(&self, memory: &Memory, segments: &mut Segments) -> Result<(), Undone> {
        segments
            .copy_in(memory, &self.device.serial)
            .ok_or_else(no_memory)
    }

    /// Discards, or writes zeros to, the ranges that the driver lists: all of them, or none if one is
    /// wrong.
    fn zero(
        &self,
        memory: &Memory,
        segments: &mut Segments,
        discard: bool,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Undone> {
        const RANGE: usize = 16;
        const UNMAP: u32 = 1;
        self.check_writable()?;
        let most = if discard { MAX_DISCARDS } else { MAX_ZEROES };
        let mut raw = [0; RANGE * MAX_DISCARDS as usize];
        let raw = &mut raw[..RANGE * most as usize];
        let len = usize::try_from(segments.len()).unwrap_or(usize::MAX);
        let Some(raw) = raw.get_mut(..len).filter(|raw| raw.len() % RANGE == 0) else {
            return Err(Failed(Status::IoError));
        };
        segments.copy_out(memory, raw).ok_or_else(no_memory)?;
        let ranges = || {
            raw.chunks_exact(RANGE).map(|range| {
                let mut fields = [0; RANGE];
                fields.copy_from_slice(range);
                let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = fields;
                (
                    u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
                    u64::from(u32::from_le_bytes([n0, n1, n2, n3])) * SECTOR,
                    u32::from_le_bytes(flags),
                )
            })
        };
        for (sector, len, flags) in ranges() {
            if flags & !UNMAP != 0 || (discard && flags != 0) {
                return Err(Failed(Status::Unsupported));
            }
            if len > u64::from(MAX_RANGE_SECTORS) * SECTOR {
                return Err(Failed(Status::IoError));
            }
            self.place(sector, len)?;
        }
        let Device { disk, stats, .. } = &*self.device;
        for (sector, len, flags) in ranges() {
            let offset = self.place(sector, len)?;
            let begin = Instant::now();
            let done = in_pieces(offset, len, go_on, |offset, len| match (discard, flags) {
                (true, _) => disk.discard(offset, len),
                (false, UNMAP) => disk.write_zeroes(offset, len),
                _ => zeros::write_solid(disk, offset, len),
            });
            if let Err(Stopped) = done {
                return done;
            }
            let op = if discard { Op::Discard } else { Op::Zero };
            stats.count(op, len, begin.elapsed(), done.is_ok());
            done?;
        }
        self.settle()
    }

    fn buffer(&mut self, len: usize) -> &mut [u8] {
        if self.staging.is_empty() {
            self.staging.resize(STAGING, 0);
        }
        &mut self.staging[..len]
    }
}

/// Works on a range piece by piece, as long as `go_on` says yes between two of them.
fn in_pieces(
    offset: u64,
    len: u64,
    go_on: &mut dyn FnMut() -> bool,
    work: impl Fn(u64, u64) -> vdisk::Result<()>,
) -> Result<(), Undone> {
    let (mut at, end) = (offset, offset + len);
    while at < end {
        if at > offset && !go_on() {
            return Err(Stopped);
        }
        let next = (at - at % PIECE + PIECE).min(end);
        work(at, next - at)?;
        at = next;
    }
    Ok(())
}

/// Takes a run of whole sectors off the front that lies together in our address space, if it is long or
/// all of the `left` bytes that there are.
fn direct(memory: &Memory, segments: &mut Segments, left: u64) -> Option<super::chain::Segment> {
    let front = *segments.all().first()?;
    if front.len < DIRECT.min(left) {
        return None;
    }
    let together = memory.lend(front.guest, front.len as usize, |bytes| bytes.len() as u64)?;
    let whole = together - together % SECTOR;
    if whole == 0 || whole < DIRECT.min(left) {
        return None;
    }
    segments.take(whole)
}

/// Bytes to go through the buffer next: whole sectors, up to the next long run.
fn short_run(segments: &Segments) -> usize {
    let mut run = 0;
    for segment in segments.all() {
        if run > 0 && run % SECTOR == 0 && segment.len >= DIRECT {
            break;
        }
        run += segment.len;
        if run >= STAGING as u64 {
            return STAGING;
        }
    }
    // All together are whole sectors, and so is what comes before a break.
    run as usize
}
