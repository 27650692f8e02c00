//! The guest's streams: judged by the wire's rules whether anybody wants them or not, and kept only if so. What goes
//! into a file may go into a pipe that somebody empties at a disk's pace: nobody waits for it here, and the guest is
//! told only of what is written.
use super::{Ended, News, Sink};
use medley_wire::bulk::{Broken, Cancel, Carries, Chunk, End, Intake, Open};
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, STREAMS};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::time::Duration;

/// When a file that takes nothing more at the moment is tried again.
const AGAIN: Duration = Duration::from_millis(10);

enum Room {
    Memory(Vec<u8>),
    File(Backlog),
}

/// What a guest may send unacknowledged.
const AHEAD: usize = CHUNKS_IN_FLIGHT as usize * CHUNK_BYTES;

/// A file, and what it did not take yet: at most what a guest may send unacknowledged.
struct Backlog {
    file: File,
    waiting: Vec<u8>,
    written: usize,
}

impl Backlog {
    fn len(&self) -> usize {
        self.waiting.len() - self.written
    }

    fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.len() > 0 {
            self.waiting.extend_from_slice(bytes);
            return Ok(());
        }
        let taken = write(&mut self.file, bytes)?;
        self.waiting.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Whether it took something.
    fn pump(&mut self) -> std::io::Result<bool> {
        let taken = write(&mut self.file, &self.waiting[self.written..])?;
        self.written += taken;
        if self.len() == 0 {
            (self.waiting, self.written) = (Vec::new(), 0);
        } else if self.written >= AHEAD {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
        Ok(taken > 0)
    }
}

/// Writes as much as the file takes without waiting.
fn write(file: &mut File, bytes: &[u8]) -> std::io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match file.write(&bytes[taken..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(some) => taken += some,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

impl fmt::Debug for Room {
    /// As with a [`Source`](super::Source).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(backlog) => backlog.file.fmt(f),
        }
    }
}

/// What comes over one stream, if somebody waits for it.
#[derive(Debug)]
struct Coming {
    stream: u8,
    carries: Carries,
    transfer: u32,
    room: Room,
    /// Bytes that the guest has sent.
    come: u64,
    moved: Duration,
}

#[derive(Debug, Default)]
pub struct Inward {
    intake: Intake,
    coming: [Option<Coming>; STREAMS],
    /// Streams that the guest was told to end. It may not have heard yet, and then goes on for a while.
    unwanted: [bool; STREAMS],
    /// Whole, and not yet taken by their files.
    draining: Vec<Coming>,
    /// When files that take nothing more are tried again.
    again: Option<Duration>,
}

impl Inward {
    pub fn open(
        &mut self,
        open: &Open,
        sink: Option<Sink>,
        limit: u64,
        now: Duration,
        news: &mut News,
    ) -> Result<(), Broken> {
        let stream = usize::from(open.stream);
        // It has heard, and uses the number for something else.
        if self.unwanted.get_mut(stream).is_some_and(std::mem::take) {
            self.intake.cancel(open.stream);
        }
        let limit = if sink.is_some() { limit } else { u64::MAX };
        self.intake.open(open, limit)?;
        let room = match sink {
            Some(Sink::Memory) => Room::Memory(Vec::new()),
            Some(Sink::File(file)) => Room::File(Backlog {
                file,
                waiting: Vec::new(),
                written: 0,
            }),
            None => {
                self.unwant(open.stream, news);
                return Ok(());
            }
        };
        if let Some(slot) = self.coming.get_mut(stream) {
            *slot = Some(Coming {
                stream: open.stream,
                carries: open.carries,
                transfer: open.transfer,
                room,
                come: 0,
                moved: now,
            });
        }
        Ok(())
    }

    pub fn chunk(
        &mut self,
        chunk: &Chunk<'_>,
        now: Duration,
        news: &mut News,
    ) -> Result<(), Broken> {
        let come = self.intake.chunk(chunk)?.come;
        let stream = chunk.stream;
        let Some(Some(coming)) = self.coming.get_mut(usize::from(stream)) else {
            return Ok(());
        };
        coming.come = come;
        let kept = match &mut coming.room {
            Room::Memory(bytes) => {
                bytes.extend_from_slice(chunk.data.0);
                Ok(0)
            }
            // Who waits as it should is never told of more than is written, and so never has more than that waiting.
            Room::File(backlog) if backlog.len() + chunk.data.0.len() > AHEAD => {
                return Err(Broken::Ahead);
            }
            Room::File(backlog) => backlog.add(chunk.data.0).map(|()| backlog.len()),
        };
        match kept {
            Ok(waiting) => {
                if waiting < chunk.data.0.len() {
                    coming.moved = now;
                    news.acknowledge(stream, come - waiting as u64);
                }
                if waiting > 0 {
                    self.again.get_or_insert(now + AGAIN);
                }
            }
            // A full disk, most likely. The supervisor has the file, and sees for itself.
            Err(_) => self.stop(stream, news),
        }
        Ok(())
    }

    /// Tries the files again that took nothing more.
    pub fn pump(&mut self, now: Duration, news: &mut News) {
        if self.again.is_none_or(|at| at > now) {
            return;
        }
        self.again = None;
        let mut blocked = false;
        let mut broken = Vec::new();
        for (stream, slot) in (0..).zip(&mut self.coming) {
            let Some(coming) = slot else { continue };
            let Room::File(backlog) = &mut coming.room else {
                continue;
            };
            match backlog.pump() {
                Ok(true) => {
                    coming.moved = now;
                    news.acknowledge(stream, coming.come - backlog.len() as u64);
                }
                Ok(false) => {}
                Err(_) => broken.push(stream),
            }
            blocked |= backlog.len() > 0;
        }
        for stream in broken {
            self.stop(stream, news);
        }
        let mut broken = Vec::new();
        self.draining.retain_mut(|coming| {
            let Room::File(backlog) = &mut coming.room else {
                return false;
            };
            let (carries, transfer) = (coming.carries, coming.transfer);
            let Ok(moved) = backlog.pump() else {
                broken.push(coming.stream);
                news.ended.push_back(Ended::Broke(carries, transfer));
                return false;
            };
            if moved {
                coming.moved = now;
                // A guest is done when it hears that the last byte is.
                news.acknowledge(coming.stream, coming.come - backlog.len() as u64);
            }
            if backlog.len() > 0 {
                blocked = true;
                return true;
            }
            let ended = Ended::Came(carries, transfer, coming.come, None);
            news.ended.push_back(ended);
            false
        });
        for stream in broken {
            self.unwant(stream, news);
        }
        if blocked {
            self.again = Some(now + AGAIN);
        }
    }

    /// When files are tried again.
    pub const fn again(&self) -> Option<Duration> {
        self.again
    }

    pub fn end(&mut self, end: &End, news: &mut News) -> Result<(), Broken> {
        let size = self.intake.end(end)?.size;
        let stream = usize::from(end.stream);
        if let Some(unwanted) = self.unwanted.get_mut(stream) {
            *unwanted = false;
        }
        if let Some(coming) = self.coming.get_mut(stream).and_then(Option::take) {
            let bytes = match coming.room {
                Room::Memory(bytes) => Some(bytes),
                Room::File(ref backlog) if backlog.len() > 0 => {
                    self.draining.push(coming);
                    return Ok(());
                }
                Room::File(_) => None,
            };
            let (carries, transfer) = (coming.carries, coming.transfer);
            news.ended
                .push_back(Ended::Came(carries, transfer, size, bytes));
        }
        Ok(())
    }

    /// The guest ends it.
    pub fn cancel(&mut self, stream: u8, news: &mut News) {
        self.intake.cancel(stream);
        if let Some(unwanted) = self.unwanted.get_mut(usize::from(stream)) {
            *unwanted = false;
        }
        self.break_off(stream, news);
    }

    /// Ends it from this side.
    fn stop(&mut self, stream: u8, news: &mut News) {
        self.unwant(stream, news);
        self.break_off(stream, news);
    }

    /// Ends those that have not moved since a time that is too long ago.
    pub fn stop_all(&mut self, old: impl Fn(Duration) -> bool, news: &mut News) {
        for stream in 0..STREAMS as u8 {
            let coming = self.coming[usize::from(stream)].as_ref();
            if coming.is_some_and(|coming| old(coming.moved)) {
                self.stop(stream, news);
            }
        }
        let mut broken = Vec::new();
        self.draining.retain(|coming| {
            let stays = !old(coming.moved);
            if !stays {
                let (carries, transfer) = (coming.carries, coming.transfer);
                broken.push(coming.stream);
                news.ended.push_back(Ended::Broke(carries, transfer));
            }
            stays
        });
        for stream in broken {
            self.unwant(stream, news);
        }
    }

    fn unwant(&mut self, stream: u8, news: &mut News) {
        if let Some(unwanted) = self.unwanted.get_mut(usize::from(stream)) {
            *unwanted = true;
            news.say(Cancel { stream, own: false });
        }
    }

    fn break_off(&mut self, stream: u8, news: &mut News) {
        let slot = self.coming.get_mut(usize::from(stream));
        if let Some(coming) = slot.and_then(Option::take) {
            let (carries, transfer) = (coming.carries, coming.transfer);
            news.ended.push_back(Ended::Broke(carries, transfer));
        }
    }

    pub fn held(&self) -> usize {
        let all = self.coming.iter().flatten().chain(&self.draining);
        let held = all.map(|coming| match &coming.room {
            Room::Memory(bytes) => bytes.len(),
            Room::File(backlog) => backlog.waiting.len(),
        });
        held.sum()
    }

    /// When the one that has stood still the longest moved last.
    pub fn moved(&self) -> Option<Duration> {
        let all = self.coming.iter().flatten().chain(&self.draining);
        all.map(|coming| coming.moved).min()
    }
}
