//! The guest's streams: judged by the wire's rules whether anybody wants them or not, and kept only if so.
use super::{Ended, News, Sink};
use medley_wire::bulk::{Broken, Cancel, Carries, Chunk, End, Intake, Open};
use medley_wire::limits::STREAMS;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

enum Room {
    Memory(Vec<u8>),
    File(File),
}

impl fmt::Debug for Room {
    /// As with a [`Source`](super::Source).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(file) => file.fmt(f),
        }
    }
}

/// What comes over one stream, if somebody waits for it.
#[derive(Debug)]
struct Coming {
    carries: Carries,
    transfer: u32,
    room: Room,
    moved: Duration,
}

#[derive(Debug, Default)]
pub struct Inward {
    intake: Intake,
    coming: [Option<Coming>; STREAMS],
    /// Streams that the guest was told to end. It may not have heard yet, and then goes on for a while.
    unwanted: [bool; STREAMS],
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
            Some(Sink::File(file)) => Room::File(file),
            None => {
                self.unwant(open.stream, news);
                return Ok(());
            }
        };
        if let Some(slot) = self.coming.get_mut(stream) {
            *slot = Some(Coming {
                carries: open.carries,
                transfer: open.transfer,
                room,
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
        coming.moved = now;
        let kept = match &mut coming.room {
            Room::Memory(bytes) => {
                bytes.extend_from_slice(chunk.data.0);
                Ok(())
            }
            Room::File(file) => file.write_all(chunk.data.0),
        };
        match kept {
            Ok(()) => news.acknowledge(stream, come),
            // A full disk, most likely. The supervisor has the file, and sees for itself.
            Err(_) => self.stop(stream, news),
        }
        Ok(())
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
        let held = self
            .coming
            .iter()
            .flatten()
            .map(|coming| match &coming.room {
                Room::Memory(bytes) => bytes.len(),
                Room::File(_) => 0,
            });
        held.sum()
    }

    /// When the one that has stood still the longest moved last.
    pub fn moved(&self) -> Option<Duration> {
        self.coming
            .iter()
            .flatten()
            .map(|coming| coming.moved)
            .min()
    }
}
