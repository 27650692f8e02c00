//! Streams of the bulk channel, in both directions: the clipboard's, files, print jobs. What a guest sends is kept
//! only if it was agreed upon, in memory or in a file that was given; what is sent to it goes in chunks as it
//! acknowledges them, from memory or out of a file of which one chunk at a time is held.
mod coming;
mod going;

use coming::Inward;
use going::Outward;
use medley_link::Outgoing;
use medley_wire::bulk::{Broken, Cancel, Carries, Chunk, End, FromHost, Open, Received};
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::time::Duration;

/// How long a stream may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that may wait in the channel's queue before more are added: one stream's worth.
const AHEAD: usize = CHUNKS_IN_FLIGHT as usize * CHUNK_BYTES;

/// Where a guest's bytes go.
#[derive(Debug)]
pub enum Sink {
    /// Here, until they are whole.
    Memory,
    /// Into this file, from where it stands. One that does not block is not waited for.
    File(File),
}

/// Where bytes for a guest come from.
pub enum Source {
    /// From here.
    Memory(Vec<u8>),
    /// Out of this file, from its beginning. It may change meanwhile: so many bytes as were announced are sent,
    /// or the stream is cancelled.
    File(File),
}

impl fmt::Debug for Source {
    /// Only how many: what somebody copied has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(file) => file.fmt(f),
        }
    }
}

/// How a stream that somebody waits for has ended. The number is the transfer's.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it has come: so many bytes, and the bytes themselves if they were kept in memory.
    Came(Carries, u32, u64, Option<Vec<u8>>),
    /// What came is not all, and no more will come.
    Broke(Carries, u32),
    /// The guest has all of it.
    Sent(Carries, u32),
    /// The guest has not all of it.
    Unsent(Carries, u32),
}

/// Where messages go that are said on the bulk channel.
pub trait Line {
    /// How it fails.
    type Error;

    /// Whether a chunk may be said now. If not, somebody will ask again when there is room.
    ///
    /// # Errors
    /// The channel is gone.
    fn has_room(&mut self) -> Result<bool, Self::Error>;

    /// Says it.
    ///
    /// # Errors
    /// The channel is gone.
    fn say(&mut self, message: &FromHost<'_>) -> Result<(), Self::Error>;
}

impl Line for Outgoing<FromHost<'static>> {
    type Error = medley_link::Error;

    fn has_room(&mut self) -> Result<bool, Self::Error> {
        if self.queued() >= AHEAD {
            self.flush()?;
        }
        Ok(self.queued() < AHEAD)
    }

    fn say(&mut self, message: &FromHost<'_>) -> Result<(), Self::Error> {
        self.send(message)
    }
}

/// What the halves have to say, and what they have come to.
#[derive(Debug, Default)]
struct News {
    said: VecDeque<FromHost<'static>>,
    ended: VecDeque<Ended>,
}

impl News {
    fn say(&mut self, message: impl Into<FromHost<'static>>) {
        self.said.push_back(message.into());
    }

    /// One word for all chunks that came together.
    fn acknowledge(&mut self, stream: u8, bytes: u64) {
        if let Some(FromHost::Received(last)) = self.said.back_mut()
            && last.stream == stream
            && last.bytes < bytes
        {
            last.bytes = bytes;
        } else {
            self.say(Received { stream, bytes });
        }
    }
}

/// All streams of both directions.
#[derive(Debug, Default)]
pub struct Streams {
    inward: Inward,
    outward: Outward,
    news: News,
}

impl Streams {
    /// A stream of the guest's begins; `limit` is what its transfer may have. One that nobody waits for goes
    /// nowhere: the guest is told to end it, and what it says until it has heard that is judged and not kept.
    ///
    /// # Errors
    /// The stream breaks its rules, as with all that follow.
    pub fn open(
        &mut self,
        open: &Open,
        sink: Option<Sink>,
        limit: u64,
        now: Duration,
    ) -> Result<(), Broken> {
        self.inward.open(open, sink, limit, now, &mut self.news)
    }

    /// More of it. It is acknowledged when it is dealt with: in a file, or in memory.
    ///
    /// # Errors
    /// See [`open`](Self::open).
    pub fn chunk(&mut self, chunk: &Chunk<'_>, now: Duration) -> Result<(), Broken> {
        self.inward.chunk(chunk, now, &mut self.news)
    }

    /// It is whole.
    ///
    /// # Errors
    /// See [`open`](Self::open).
    pub fn end(&mut self, end: &End) -> Result<(), Broken> {
        self.inward.end(end, &mut self.news)
    }

    /// The guest ends a stream early: its own, or one of ours.
    pub fn cancel(&mut self, cancel: &Cancel) {
        if cancel.own {
            self.inward.cancel(cancel.stream, &mut self.news);
        } else {
            self.outward.cancel(cancel.stream, &mut self.news);
        }
    }

    /// The guest has dealt with so much of one of ours.
    pub fn received(&mut self, received: &Received, now: Duration) {
        self.outward.received(received, now, &mut self.news);
    }

    /// Sends `size` bytes, as soon as a stream is free.
    pub fn send(
        &mut self,
        carries: Carries,
        transfer: u32,
        source: Source,
        size: u64,
        now: Duration,
    ) {
        self.outward
            .send(carries, transfer, source, size, now, &mut self.news);
    }

    /// Sends no more of a transfer.
    pub fn withdraw(&mut self, transfer: u32) {
        self.outward.withdraw(transfer, &mut self.news);
    }

    /// What has ended since this was asked last.
    pub fn ended(&mut self) -> Option<Ended> {
        self.news.ended.pop_front()
    }

    /// Bytes that are held in memory: of what comes, of what goes, and of the chunk between.
    #[must_use]
    pub fn held(&self) -> usize {
        self.inward.held() + self.outward.held()
    }

    /// When a stream has stood still for too long, or a file is tried again that took nothing more.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let still = self.inward.moved().into_iter().chain(self.outward.moved());
        let still = still.min().map(|moved| moved + PATIENCE);
        still.into_iter().chain(self.inward.again()).min()
    }

    /// Time passed: what stands still is ended.
    pub fn tick(&mut self, now: Duration) {
        self.inward.pump(now, &mut self.news);
        let old = |moved: Duration| moved + PATIENCE <= now;
        self.inward.stop_all(old, &mut self.news);
        self.outward.stop_all(old, &mut self.news);
    }

    /// Says what may be said.
    ///
    /// # Errors
    /// The channel is gone.
    pub fn work<L: Line>(&mut self, line: &mut L, now: Duration) -> Result<(), L::Error> {
        while let Some(message) = self.news.said.pop_front() {
            line.say(&message)?;
        }
        self.outward.work(line, now, &mut self.news)
    }
}
