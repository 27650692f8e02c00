//! The bytes of what control channel and host agreed upon, over the bulk channel: a few streams at a time, each
//! no further ahead than the other side allows.
use crate::channel::Say;
use medley_wire::bulk::{Cancel, Carries, Chunk, End, FromGuest, FromHost, Intake, Open, Received};
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, STREAMS};
use medley_wire::{Bytes, Untrusted};
use std::collections::{HashMap, VecDeque};

/// What is said on the bulk channel.
pub type Bulk<'o> = Say<'o, FromGuest<'static>>;

/// Bytes that may wait in the channel's queue before more are added.
const WAITING: usize = 1 << 20;

#[derive(Debug)]
struct Going {
    transfer: u32,
    carries: Carries,
    data: Vec<u8>,
    opened: bool,
    sent: usize,
    /// Bytes that the host has dealt with.
    received: u64,
}

/// A stream of the host's that ended: its bytes, or nothing if it ended early.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// The transfer.
    pub transfer: u32,
    /// What came.
    pub data: Option<Vec<u8>>,
}

/// Streams in both directions.
#[derive(Debug, Default)]
pub struct Transfers {
    going: [Option<Going>; STREAMS],
    waiting: VecDeque<Going>,
    intake: Intake,
    coming: HashMap<u8, Vec<u8>>,
    /// Transfers that the host said yes to, and how many bytes each may have.
    expected: HashMap<u32, u64>,
}

impl Transfers {
    /// The channel is gone, and with it all that was on its way.
    pub fn lost(&mut self) {
        *self = Self::default();
    }

    /// Sends these bytes.
    pub fn send(&mut self, transfer: u32, carries: Carries, data: Vec<u8>) {
        self.waiting.push_back(Going {
            transfer,
            carries,
            data,
            opened: false,
            sent: 0,
            received: 0,
        });
    }

    /// The host will send at most so many bytes.
    pub fn expect(&mut self, transfer: u32, most: u64) {
        self.expected.insert(transfer, most);
    }

    /// The host will not send it after all.
    pub fn unexpect(&mut self, transfer: u32) {
        self.expected.remove(&transfer);
    }

    /// Says as much as may be said now.
    pub fn pump(&mut self, say: &mut Bulk<'_>) {
        if !say.is_open() {
            return;
        }
        for slot in &mut self.going {
            if slot.is_none() {
                *slot = self.waiting.pop_front();
            }
        }
        for (stream, slot) in (0_u8..).zip(&mut self.going) {
            let Some(going) = slot else { continue };
            let whole = going.data.len();
            if !std::mem::replace(&mut going.opened, true) {
                say.say(Open {
                    stream,
                    transfer: going.transfer,
                    carries: going.carries,
                    size: Untrusted::claim(whole as u64),
                });
            }
            let ahead = going.received + u64::from(CHUNKS_IN_FLIGHT) * CHUNK_BYTES as u64;
            while going.sent < whole && (going.sent as u64) < ahead && say.queued() < WAITING {
                let end = whole.min(going.sent + CHUNK_BYTES);
                say.say(Chunk {
                    stream,
                    offset: going.sent as u64,
                    data: Bytes(&going.data[going.sent..end]),
                });
                going.sent = end;
            }
            if going.sent == whole {
                say.say(End {
                    stream,
                    size: whole as u64,
                });
                *slot = None;
            }
        }
    }

    /// Deals with one message; tells of a stream that ended.
    pub fn host_says(&mut self, message: FromHost<'_>, say: &mut Bulk<'_>) -> Option<Finished> {
        match message {
            FromHost::Open(open) => {
                let most = self.expected.get(&open.transfer).copied().unwrap_or(0);
                match self.intake.open(&open, most) {
                    Ok(()) => {
                        self.coming.insert(open.stream, Vec::new());
                    }
                    Err(broken) => {
                        tracing::warn!(%broken, "a stream of the host's is not taken");
                        say.say(Cancel {
                            stream: open.stream,
                            own: false,
                        });
                        return self.finish(open.transfer, None);
                    }
                }
            }
            FromHost::Chunk(chunk) => match self.intake.chunk(&chunk) {
                Ok(coming) => {
                    if let Some(data) = self.coming.get_mut(&chunk.stream) {
                        data.extend_from_slice(chunk.data.0);
                    }
                    say.say(Received {
                        stream: chunk.stream,
                        bytes: coming.come,
                    });
                }
                Err(_) => return self.cancel(chunk.stream, true, say),
            },
            FromHost::End(end) => match self.intake.end(&end) {
                Ok(coming) => {
                    let data = self.coming.remove(&end.stream);
                    return self.finish(coming.transfer, data);
                }
                Err(_) => return self.cancel(end.stream, true, say),
            },
            FromHost::Received(received) => {
                if let Some(Some(going)) = self.going.get_mut(usize::from(received.stream)) {
                    going.received = received.bytes.min(going.sent as u64);
                }
            }
            FromHost::Cancel(cancel) if cancel.own => {
                return self.cancel(cancel.stream, false, say);
            }
            FromHost::Cancel(cancel) => {
                if let Some(slot) = self.going.get_mut(usize::from(cancel.stream)) {
                    *slot = None;
                }
            }
            FromHost::Hello(_) | FromHost::Bye(_) => {}
        }
        None
    }

    fn cancel(&mut self, stream: u8, tell: bool, say: &mut Bulk<'_>) -> Option<Finished> {
        self.coming.remove(&stream);
        let coming = self.intake.cancel(stream)?;
        if tell {
            tracing::warn!("a stream of the host's breaks its rules and is ended");
            say.say(Cancel { stream, own: false });
        }
        self.finish(coming.transfer, None)
    }

    fn finish(&mut self, transfer: u32, data: Option<Vec<u8>>) -> Option<Finished> {
        self.expected.remove(&transfer)?;
        Some(Finished { transfer, data })
    }
}
