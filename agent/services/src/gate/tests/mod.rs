//! The rules, one test for each.
mod gifts;
mod offers;
mod shown;

use super::*;
use crate::streams::Line;
use medley_wire::bulk::{Cancel, Chunk, End, Open, Received};
use medley_wire::control::FileOffer;
use medley_wire::{Bytes, Text, Untrusted};
use std::convert::Infallible;
use std::io::{Read, Seek, Write};

pub const NOW: Duration = Duration::ZERO;

pub const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A gate, and a guest and a supervisor who say what the test wants.
pub struct Desk {
    pub gate: Gate,
    pub now: Duration,
    /// What was said on the bulk channel.
    pub heard: Far,
}

/// The guest's end of the bulk channel.
#[derive(Default)]
pub struct Far {
    /// Chunks that it takes.
    pub room: usize,
    /// Files as they came, by stream.
    pub bytes: BTreeMap<u8, Vec<u8>>,
    pub opened: Vec<Open>,
    pub ended: Vec<u8>,
    pub cancelled: Vec<(u8, bool)>,
    pub received: Vec<(u8, u64)>,
}

impl Line for Far {
    type Error = Infallible;

    fn has_room(&mut self) -> Result<bool, Infallible> {
        Ok(self.room > 0)
    }

    fn say(&mut self, message: &bulk::FromHost<'_>) -> Result<(), Infallible> {
        match message {
            bulk::FromHost::Open(open) => {
                self.bytes.insert(open.stream, Vec::new());
                self.opened.push(open.clone());
            }
            bulk::FromHost::Chunk(chunk) => {
                self.room -= 1;
                let bytes = self.bytes.get_mut(&chunk.stream).unwrap();
                assert_eq!(bytes.len() as u64, chunk.offset);
                bytes.extend_from_slice(chunk.data.0);
            }
            bulk::FromHost::End(end) => self.ended.push(end.stream),
            bulk::FromHost::Cancel(cancel) => self.cancelled.push((cancel.stream, cancel.own)),
            bulk::FromHost::Received(received) => {
                self.received.push((received.stream, received.bytes));
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

impl Desk {
    pub fn allowing(services: &[Service]) -> Self {
        let policy = Policy::allowing(services.iter().copied());
        Self {
            gate: Gate::new(policy),
            now: NOW,
            heard: Far {
                room: usize::MAX,
                ..Far::default()
            },
        }
    }

    pub fn say(&mut self, message: impl Into<FromGuest<'static>>) -> Result<bool, Violation> {
        self.gate.guest_says(&message.into(), self.now)
    }

    pub fn bulk<'m>(
        &mut self,
        message: impl Into<bulk::FromGuest<'m>>,
    ) -> Result<Option<Pasted>, Violation> {
        let pastes = |transfer| (transfer == 1).then_some(8);
        self.gate.bulk_says(&message.into(), pastes, self.now)
    }

    pub fn open(&mut self, transfer: u32, carries: Carries, size: u64) -> Result<(), Violation> {
        let open = Open {
            stream: 0,
            transfer,
            carries,
            size: Untrusted::claim(size),
        };
        self.bulk(open).map(|_| ())
    }

    pub fn chunk(&mut self, offset: u64, data: &[u8]) -> Result<(), Violation> {
        let chunk = Chunk {
            stream: 0,
            offset,
            data: Bytes(data),
        };
        self.bulk(chunk).map(|_| ())
    }

    pub fn end(&mut self, size: u64) -> Result<Option<Pasted>, Violation> {
        self.bulk(End { stream: 0, size })
    }

    pub fn order(&mut self, order: Order, file: Option<File>) -> Ordered {
        self.gate.order(order, file.map(OwnedFd::from), self.now)
    }

    pub fn take(&mut self, transfer: u32) -> File {
        let file = tempfile::tempfile().unwrap();
        let ours = file.try_clone().unwrap();
        assert_eq!(
            self.order(Order::Take { transfer }, Some(file)),
            Ordered::Done
        );
        ours
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now += at(seconds);
        self.gate.tick(self.now);
    }

    pub fn work(&mut self) {
        let Ok(()) = self.gate.work(&mut self.heard, self.now);
    }

    /// What the supervisor was told.
    pub fn told(&mut self) -> Vec<Event> {
        self.gate.out.events.drain(..).collect()
    }

    /// What the guest was told.
    pub fn said(&mut self) -> Vec<Word> {
        self.gate.out.words.drain(..).collect()
    }

    /// The guest's answers, and nothing else.
    pub fn verdicts(&mut self) -> Vec<(u32, Verdict)> {
        let words = self.said().into_iter().map(|word| match word {
            Word::Plain(FromHost::Answer(answer)) => (answer.transfer, answer.verdict),
            other => panic!("{other:?}"),
        });
        words.collect()
    }
}

pub fn file_offer(transfer: u32, name: &'static str, size: u64) -> FileOffer<'static> {
    FileOffer {
        transfer,
        size: Untrusted::claim(size),
        name: Untrusted::claim(Text::cut(name)),
    }
}

pub fn read(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

pub fn written(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub fn cancel(own: bool) -> Cancel {
    Cancel { stream: 0, own }
}

pub fn received(stream: u8, bytes: u64) -> Received {
    Received { stream, bytes }
}
