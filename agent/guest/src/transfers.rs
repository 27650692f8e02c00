//! The bytes of what control channel and host agreed upon, over the bulk channel: a few streams at a time, each
//! no further ahead than the other side allows. What is large lies in files, and is never in memory as a whole.
use crate::channel::Say;
use medley_wire::bulk::{Cancel, Carries, Chunk, End, FromGuest, FromHost, Intake, Open, Received};
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, STREAMS};
use medley_wire::{Bytes, Untrusted};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;

/// What is said on the bulk channel.
pub type Bulk<'o> = Say<'o, FromGuest<'static>>;

/// Bytes that may wait in the channel's queue before more are added.
const WAITING: usize = 1 << 20;

/// Where the bytes of a stream to the host come from.
#[derive(Debug)]
pub enum Source {
    /// Memory.
    Bytes(Vec<u8>),
    /// A file, and how many bytes of it were announced.
    File(File, u64),
}

impl Source {
    const fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// The bytes at a place, as many as there is room for; fewer mean that the file is shorter than it was.
    fn read<'b>(&'b self, at: u64, room: &'b mut [u8]) -> std::io::Result<&'b [u8]> {
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let end = bytes.len().min(start + room.len());
                Ok(&bytes[start..end])
            }
            Self::File(file, _) => {
                let mut filled = 0;
                while filled < room.len() {
                    match file.read_at(&mut room[filled..], at + filled as u64) {
                        Ok(0) => break,
                        Ok(count) => filled += count,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(&room[..filled])
            }
        }
    }
}

/// Where the bytes of a stream of the host's go.
#[derive(Debug)]
pub enum Sink {
    /// Memory: for what is small.
    Memory(Vec<u8>),
    /// A file.
    File(File),
}

impl Sink {
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Memory(memory) => memory.extend_from_slice(bytes),
            Self::File(file) => file.write_all(bytes)?,
        }
        Ok(())
    }
}

/// A transfer that ended.
#[derive(Debug)]
pub enum Done {
    /// One of the host's: its bytes, or nothing if it ended early.
    Came {
        /// What it carried.
        carries: Carries,
        /// Its number: the guest's own for a clipboard, else the host's.
        transfer: u32,
        /// What came.
        sink: Option<Sink>,
    },
    /// One to the host.
    Went {
        /// What it carried.
        carries: Carries,
        /// Its number: the host's for a clipboard, else the guest's own.
        transfer: u32,
        /// Whether the host has all of it.
        whole: bool,
    },
}

#[derive(Debug)]
struct Going {
    transfer: u32,
    carries: Carries,
    source: Source,
    size: u64,
    opened: bool,
    ended: bool,
    stopped: bool,
    sent: u64,
    /// Bytes that the host has dealt with.
    received: u64,
}

impl Going {
    const fn done(&self, whole: bool) -> Done {
        Done::Went {
            carries: self.carries,
            transfer: self.transfer,
            whole,
        }
    }
}

/// Numbers are of their maker's own, so what a stream carries belongs to its name.
type Name = (Carries, u32);

/// Streams in both directions.
#[derive(Debug, Default)]
pub struct Transfers {
    /// The last number that was made here.
    number: u32,
    going: [Option<Going>; STREAMS],
    waiting: VecDeque<Going>,
    intake: Intake,
    coming: HashMap<u8, Sink>,
    /// What will come: how many bytes it may have, and where they go.
    expected: HashMap<Name, (u64, Sink)>,
    done: VecDeque<Done>,
}

impl Transfers {
    /// A number for something that the guest asks for or offers.
    pub const fn number(&mut self) -> u32 {
        self.number = match self.number.wrapping_add(1) {
            0 => 1,
            number => number,
        };
        self.number
    }

    /// The channel is gone, and with it all that was on its way.
    pub fn lost(&mut self) {
        let old = std::mem::take(self);
        self.number = old.number;
        self.done = old.done;
        for going in old.going.into_iter().flatten().chain(old.waiting) {
            // What had ended may have arrived; nobody knows.
            self.done.push_back(going.done(false));
        }
        let mut intake = old.intake;
        let streams = (0..STREAMS as u8).filter_map(|stream| intake.cancel(stream));
        let names = streams.map(|coming| (coming.carries, coming.transfer));
        let names = names.chain(old.expected.into_keys());
        self.done
            .extend(names.map(|(carries, transfer)| Done::Came {
                carries,
                transfer,
                sink: None,
            }));
    }

    /// What has ended since this was last asked.
    pub fn done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// Sends these bytes.
    pub fn send(&mut self, transfer: u32, carries: Carries, source: Source) {
        self.waiting.push_back(Going {
            transfer,
            carries,
            size: source.size(),
            source,
            opened: false,
            ended: false,
            stopped: false,
            sent: 0,
            received: 0,
        });
    }

    /// Ends a stream of the guest's before it is whole.
    pub fn stop(&mut self, carries: Carries, transfer: u32) {
        let all = self.going.iter_mut().flatten().chain(&mut self.waiting);
        for going in all.filter(|g| (g.carries, g.transfer) == (carries, transfer)) {
            going.stopped = true;
        }
    }

    /// The host will send at most so many bytes.
    pub fn expect(&mut self, carries: Carries, transfer: u32, most: u64, sink: Sink) {
        self.expected.insert((carries, transfer), (most, sink));
    }

    /// The host will not send it after all.
    pub fn unexpect(&mut self, carries: Carries, transfer: u32) {
        self.expected.remove(&(carries, transfer));
    }

    /// Says as much as may be said now.
    pub fn pump(&mut self, say: &mut Bulk<'_>) {
        if !say.is_open() {
            return;
        }
        self.fill_slots();
        let mut room = Vec::new();
        for (stream, slot) in (0_u8..).zip(&mut self.going) {
            let Some(going) = slot else { continue };
            if let Some(whole) = step(going, stream, &mut room, say) {
                self.done.push_back(going.done(whole));
                *slot = None;
            }
        }
    }

    /// Gives numbers of streams to those that wait. A stream that ended keeps its number until the host has
    /// acknowledged all of it, so that no late word counts for another; unless there is no other number.
    fn fill_slots(&mut self) {
        while !self.waiting.is_empty() {
            let free = self.going.iter().position(Option::is_none);
            let ended = || {
                self.going
                    .iter()
                    .position(|g| g.as_ref().is_some_and(|g| g.ended))
            };
            let Some(slot) = free.or_else(ended).and_then(|at| self.going.get_mut(at)) else {
                return;
            };
            if let Some(old) = std::mem::replace(slot, self.waiting.pop_front()) {
                self.done.push_back(old.done(true));
            }
        }
    }

    /// Deals with one message. What ended by it is told by [`done`](Self::done).
    pub fn host_says(&mut self, message: FromHost<'_>, say: &mut Bulk<'_>) {
        match message {
            FromHost::Open(open) => self.open(&open, say),
            FromHost::Chunk(chunk) => self.chunk(&chunk, say),
            FromHost::End(end) => match self.intake.end(&end) {
                Ok(coming) => {
                    let sink = self.coming.remove(&end.stream);
                    self.came((coming.carries, coming.transfer), sink);
                }
                Err(_) => self.cancel(end.stream, true, say),
            },
            FromHost::Received(received) => {
                if let Some(slot) = self.going.get_mut(usize::from(received.stream))
                    && let Some(going) = slot
                {
                    going.received = received.bytes.min(going.sent);
                    if going.ended && going.received == going.size {
                        self.done.push_back(going.done(true));
                        *slot = None;
                    }
                }
            }
            FromHost::Cancel(cancel) if cancel.own => self.cancel(cancel.stream, false, say),
            FromHost::Cancel(cancel) => {
                let slot = self.going.get_mut(usize::from(cancel.stream));
                if let Some(going) = slot.and_then(Option::take) {
                    self.done.push_back(going.done(false));
                }
            }
            FromHost::Hello(_) | FromHost::Bye(_) => {}
        }
    }

    fn open(&mut self, open: &Open, say: &mut Bulk<'_>) {
        let name = (open.carries, open.transfer);
        let expected = self.expected.remove(&name);
        let most = expected.as_ref().map_or(0, |(most, _)| *most);
        match (self.intake.open(open, most), expected) {
            (Ok(()), Some((_, sink))) => {
                self.coming.insert(open.stream, sink);
            }
            (judged, expected) => {
                // An empty one that nobody expects breaks no rule, but is not taken all the same.
                if judged.is_ok() {
                    self.intake.cancel(open.stream);
                }
                tracing::warn!(carries = ?open.carries, "a stream of the host's is not taken");
                say.say(Cancel {
                    stream: open.stream,
                    own: false,
                });
                if expected.is_some() {
                    self.came(name, None);
                }
            }
        }
    }

    fn chunk(&mut self, chunk: &Chunk<'_>, say: &mut Bulk<'_>) {
        let Ok(coming) = self.intake.chunk(chunk) else {
            return self.cancel(chunk.stream, true, say);
        };
        match self
            .coming
            .get_mut(&chunk.stream)
            .map(|sink| sink.take(chunk.data.0))
        {
            Some(Ok(())) => say.say(Received {
                stream: chunk.stream,
                bytes: coming.come,
            }),
            Some(Err(error)) => {
                tracing::warn!("what the host sends cannot be written: {error}");
                self.cancel(chunk.stream, true, say);
            }
            None => self.cancel(chunk.stream, true, say),
        }
    }

    /// A stream of the host's ends early.
    fn cancel(&mut self, stream: u8, tell: bool, say: &mut Bulk<'_>) {
        self.coming.remove(&stream);
        // Of a stream that was ended already, more may have been on its way.
        let Some(coming) = self.intake.cancel(stream) else {
            return;
        };
        if tell {
            tracing::warn!("a stream of the host's is ended early");
            say.say(Cancel { stream, own: false });
        }
        self.came((coming.carries, coming.transfer), None);
    }

    fn came(&mut self, (carries, transfer): Name, sink: Option<Sink>) {
        self.done.push_back(Done::Came {
            carries,
            transfer,
            sink,
        });
    }
}

/// Says what one stream may say now; tells whether it was whole, once it is over.
fn step(going: &mut Going, stream: u8, room: &mut Vec<u8>, say: &mut Bulk<'_>) -> Option<bool> {
    let size = going.size;
    if !std::mem::replace(&mut going.opened, true) {
        say.say(Open {
            stream,
            transfer: going.transfer,
            carries: going.carries,
            size: Untrusted::claim(size),
        });
    }
    if going.stopped && !going.ended {
        say.say(Cancel { stream, own: true });
        return Some(false);
    }
    let ahead = going.received + u64::from(CHUNKS_IN_FLIGHT) * CHUNK_BYTES as u64;
    while going.sent < size && going.sent < ahead && say.queued() < WAITING {
        let count = (size - going.sent).min(CHUNK_BYTES as u64) as usize;
        room.resize(CHUNK_BYTES, 0);
        let data = going.source.read(going.sent, &mut room[..count]);
        let Some(data) = data.ok().filter(|data| data.len() == count) else {
            tracing::warn!("a file became shorter while it was sent");
            say.say(Cancel { stream, own: true });
            return Some(false);
        };
        say.say(Chunk {
            stream,
            offset: going.sent,
            data: Bytes(data),
        });
        going.sent += count as u64;
    }
    if going.sent == size && !std::mem::replace(&mut going.ended, true) {
        say.say(End { stream, size });
        going.source = Source::Bytes(Vec::new());
    }
    (going.ended && going.received == size).then_some(true)
}
