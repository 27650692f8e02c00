//! Streams to the guest: a chunk of each in turn, as far as the guest has dealt with what came before.
use super::{Ended, Line, News, Source};
use medley_wire::bulk::{Cancel, Carries, Chunk, End, Open, Received};
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, STREAMS};
use medley_wire::{Bytes, Untrusted};
use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Bytes of one stream that may be on their way.
const IN_FLIGHT: u64 = CHUNKS_IN_FLIGHT as u64 * CHUNK_BYTES as u64;

#[derive(Debug)]
struct Going {
    carries: Carries,
    transfer: u32,
    source: Source,
    size: u64,
    opened: bool,
    sent: u64,
    acknowledged: u64,
    /// The guest was told that this is all.
    whole: bool,
    moved: Duration,
}

enum Step {
    Nothing,
    Said,
    Full,
}

/// Pastes that are on their way from memory, and bytes of all of them, unless one alone has more.
const MEMORY: (usize, u64) = (2 * STREAMS, 64 << 20);

#[derive(Debug, Default)]
pub struct Outward {
    going: [Option<Going>; STREAMS],
    queue: VecDeque<Going>,
    /// Where the next stream begins. A number rests before it is used again, so that a late word about an
    /// old stream finds no new one.
    turn: usize,
    /// The stream whose chunk is next.
    next: u8,
    /// One chunk on its way from a file.
    chunk: Vec<u8>,
}

impl Outward {
    pub fn send(
        &mut self,
        carries: Carries,
        transfer: u32,
        source: Source,
        size: u64,
        now: Duration,
        news: &mut News,
    ) {
        // What somebody copied is held in memory, and a guest that takes nothing can ask for it again and again.
        if matches!(source, Source::Memory(_)) {
            let held = self.in_memory();
            if held.0 >= MEMORY.0 || held.1 > 0 && held.1 + size > MEMORY.1 {
                news.ended.push_back(Ended::Unsent(carries, transfer));
                return;
            }
        }
        self.queue.push_back(Going {
            carries,
            transfer,
            source,
            size,
            opened: false,
            sent: 0,
            acknowledged: 0,
            whole: false,
            moved: now,
        });
    }

    /// The guest does not want it.
    pub fn cancel(&mut self, stream: u8, news: &mut News) {
        let slot = self.going.get_mut(usize::from(stream));
        if let Some(going) = slot.and_then(Option::take) {
            let (carries, transfer) = (going.carries, going.transfer);
            news.ended.push_back(Ended::Unsent(carries, transfer));
        }
    }

    pub fn received(&mut self, received: &Received, now: Duration, news: &mut News) {
        let slot = self.going.get_mut(usize::from(received.stream));
        let Some(slot) = slot else { return };
        if let Some(going) = slot {
            // What was not sent cannot have come.
            let bytes = received.bytes.min(going.sent);
            if bytes > going.acknowledged {
                going.acknowledged = bytes;
                going.moved = now;
            }
            if going.whole && going.acknowledged == going.size {
                let (carries, transfer) = (going.carries, going.transfer);
                news.ended.push_back(Ended::Sent(carries, transfer));
                *slot = None;
            }
        }
    }

    /// Ends those that have not moved since a time that is too long ago.
    pub fn stop_all(&mut self, old: impl Fn(Duration) -> bool, news: &mut News) {
        for (stream, slot) in (0..).zip(&mut self.going) {
            if let Some(going) = slot.take_if(|going| old(going.moved)) {
                // One whose turn has not come yet was never begun.
                if going.opened {
                    news.say(Cancel { stream, own: true });
                }
                let (carries, transfer) = (going.carries, going.transfer);
                news.ended.push_back(Ended::Unsent(carries, transfer));
            }
        }
        // Nothing waits while streams are free, unless there is no channel.
        while self.is_idle()
            && let Some(going) = self.queue.pop_front_if(|going| old(going.moved))
        {
            let (carries, transfer) = (going.carries, going.transfer);
            news.ended.push_back(Ended::Unsent(carries, transfer));
        }
    }

    /// Ends what a transfer sends, unless all of it is sent: the guest says soon that it has it.
    pub fn withdraw(&mut self, transfer: u32, news: &mut News) {
        for (stream, slot) in (0..).zip(&mut self.going) {
            if let Some(going) = slot.take_if(|going| going.transfer == transfer && !going.whole) {
                if going.opened {
                    news.say(Cancel { stream, own: true });
                }
                news.ended.push_back(Ended::Unsent(going.carries, transfer));
            }
        }
        self.queue.retain(|going| {
            let stays = going.transfer != transfer;
            if !stays {
                news.ended.push_back(Ended::Unsent(going.carries, transfer));
            }
            stays
        });
    }

    /// How many are sent from memory, and their bytes.
    fn in_memory(&self) -> (usize, u64) {
        let all = self.going.iter().flatten().chain(&self.queue);
        let sizes = all.filter_map(|going| match &going.source {
            Source::Memory(bytes) => Some(bytes.len() as u64),
            Source::File(_) => None,
        });
        sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size))
    }

    fn is_idle(&self) -> bool {
        self.going.iter().all(Option::is_none)
    }

    pub fn held(&self) -> usize {
        let going = self.going.iter().flatten().chain(&self.queue);
        let held = going.map(|going| match &going.source {
            Source::Memory(bytes) => bytes.len(),
            Source::File(_) => 0,
        });
        held.sum::<usize>() + self.chunk.capacity()
    }

    /// When the one that has stood still the longest moved last.
    pub fn moved(&self) -> Option<Duration> {
        let first = self.queue.front().filter(|_| self.is_idle());
        let going = self.going.iter().flatten().chain(first);
        going.map(|going| going.moved).min()
    }

    pub fn work<L: Line>(
        &mut self,
        line: &mut L,
        now: Duration,
        news: &mut News,
    ) -> Result<(), L::Error> {
        let first = self.turn;
        for at in (first..first + STREAMS).map(|at| at % STREAMS) {
            if self.going[at].is_none()
                && let Some(next) = self.queue.pop_front()
            {
                self.going[at] = Some(Going { moved: now, ..next });
                self.turn = at + 1;
            }
        }
        let mut idle = 0;
        while idle < STREAMS {
            match self.step(self.next, line, news)? {
                Step::Nothing => idle += 1,
                Step::Said => idle = 0,
                Step::Full => return Ok(()),
            }
            self.next = (self.next + 1) % STREAMS as u8;
        }
        let reads = |going: &Going| matches!(going.source, Source::File(_));
        if !self.going.iter().flatten().any(reads) {
            self.chunk = Vec::new();
        }
        Ok(())
    }

    /// The next message of a stream.
    fn step<L: Line>(
        &mut self,
        stream: u8,
        line: &mut L,
        news: &mut News,
    ) -> Result<Step, L::Error> {
        let slot = &mut self.going[usize::from(stream)];
        let Some(going) = slot else {
            return Ok(Step::Nothing);
        };
        let (carries, transfer, size) = (going.carries, going.transfer, going.size);
        if !std::mem::replace(&mut going.opened, true) {
            let size = Untrusted::claim(size);
            let open = Open {
                stream,
                transfer,
                carries,
                size,
            };
            line.say(&open.into())?;
        }
        if going.sent == size {
            if !std::mem::replace(&mut going.whole, true) {
                line.say(&End { stream, size }.into())?;
            }
            if going.acknowledged == size {
                news.ended.push_back(Ended::Sent(carries, transfer));
                *slot = None;
            }
            return Ok(Step::Nothing);
        }
        if going.sent - going.acknowledged >= IN_FLIGHT {
            return Ok(Step::Nothing);
        }
        if !line.has_room()? {
            return Ok(Step::Full);
        }
        let offset = going.sent;
        let length = (size - offset).min(CHUNK_BYTES as u64) as usize;
        let data = match &going.source {
            Source::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                bytes.get(from..from.saturating_add(length))
            }
            Source::File(file) => {
                self.chunk.resize(length, 0);
                let read = file.read_exact_at(&mut self.chunk, offset);
                read.is_ok().then_some(&*self.chunk)
            }
        };
        if let Some(data) = data {
            let data = Bytes(data);
            let chunk = Chunk {
                stream,
                offset,
                data,
            };
            line.say(&chunk.into())?;
            going.sent += length as u64;
        } else {
            // The file has become shorter, or cannot be read any more.
            line.say(&Cancel { stream, own: true }.into())?;
            news.ended.push_back(Ended::Unsent(carries, transfer));
            *slot = None;
        }
        Ok(Step::Said)
    }
}
