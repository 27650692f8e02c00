//! Entries for a fuzzer: arbitrary bytes where a guest or a recording speaks. None may panic, hang, or hold
//! more than a message may have. [`Dice`] turns the same bytes into messages that are allowed, for fuzzers
//! of what comes after decoding.
use crate::record::Replayer;
use crate::stream::{Decoder, Encoder, Set};
use crate::{Channel, bulk, control, gui};
use alloc::vec;
use alloc::vec::Vec;

/// A fuzzer's bytes as a source of values. When they run out, everything is zero.
#[derive(Debug)]
pub struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    /// Values from these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all bytes are used up.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// A number below `limit`, which must not be zero.
    pub fn below(&mut self, limit: u32) -> u32 {
        let number = if limit <= 256 {
            u32::from(self.array::<1>()[0])
        } else {
            u32::from_le_bytes(self.array())
        };
        number % limit.max(1)
    }

    /// A message of the set that is allowed.
    pub fn message<S: Set>(&mut self) -> Option<S::Message<'a>> {
        let entry = S::TABLE.get(self.below(S::TABLE.len() as u32) as usize)?;
        S::invent(entry.number, self)
    }
}

/// The lengths of pieces that a stream is cut into: all at once, byte by byte, or mixed, as one byte chooses.
struct Pieces {
    how: u8,
    state: u32,
}

impl Pieces {
    fn next(&mut self) -> usize {
        match self.how {
            0 => usize::MAX,
            1 => 1,
            _ => {
                self.state = self
                    .state
                    .wrapping_mul(1_664_525)
                    .wrapping_add(1_013_904_223);
                (self.state >> 24) as usize + 1
            }
        }
    }
}

/// Decodes a stream that is cut in that way, and looks at the limits.
fn decode<S: Set>(how: u8, stream: &[u8]) {
    let most = S::TABLE
        .iter()
        .map(|entry| entry.max)
        .max()
        .unwrap_or_default();
    let mut decoder = Decoder::<S>::new();
    let mut pieces = Pieces {
        how,
        state: how.into(),
    };
    let mut rest = stream;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(rest.len().min(pieces.next()));
        rest = after;
        loop {
            let fault = match decoder.push(&mut piece) {
                Ok(Some(message)) => {
                    let mut again = vec![0; message.len()];
                    assert!(
                        message.encode_into(&mut again),
                        "what was read can be written"
                    );
                    continue;
                }
                Ok(None) => break,
                Err(fault) => fault,
            };
            assert_eq!(
                decoder.push(&mut piece).err(),
                Some(fault),
                "a fault is final"
            );
            return;
        }
        // Room doubles as bytes come.
        let come = 2 * stream.len();
        assert!(decoder.held() <= most.min(come.max(crate::stream::FIRST_ROOM)));
    }
}

/// Makes up messages from `bytes`, writes and reads them.
fn round<S: Set>(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    while !dice.is_empty() {
        let Some(message) = dice.message::<S>() else {
            return;
        };
        let mut room = vec![0; crate::stream::HEADER + S::len(&message)];
        let mut encoder = Encoder::<S>::new();
        assert_eq!(encoder.encode(&message, &mut room), Ok(room.len()));
        let read = crate::stream::decode_whole::<S>(&room).map(|(_, read)| S::number(&read));
        assert_eq!(read, Ok(S::number(&message)));
    }
}

/// The first byte says how the others, a stream, are cut.
fn cut(bytes: &[u8]) -> (u8, &[u8]) {
    bytes
        .split_first()
        .map_or((0, bytes), |(how, rest)| (*how, rest))
}

/// `bytes` as what a guest says on the gui channel.
#[doc(hidden)]
pub fn fuzz_gui(bytes: &[u8]) {
    let (how, stream) = cut(bytes);
    decode::<gui::FromGuest<'static>>(how, stream);
    round::<gui::FromGuest<'static>>(bytes);
}

/// `bytes` as what a guest says on the control channel.
#[doc(hidden)]
pub fn fuzz_control(bytes: &[u8]) {
    let (how, stream) = cut(bytes);
    decode::<control::FromGuest<'static>>(how, stream);
    round::<control::FromGuest<'static>>(bytes);
}

/// `bytes` as what a guest says on the bulk channel.
#[doc(hidden)]
pub fn fuzz_bulk(bytes: &[u8]) {
    let (how, stream) = cut(bytes);
    decode::<bulk::FromGuest<'static>>(how, stream);
    round::<bulk::FromGuest<'static>>(bytes);
}

/// `bytes` as what a host says, on all three channels.
#[doc(hidden)]
pub fn fuzz_host(bytes: &[u8]) {
    let (how, stream) = cut(bytes);
    decode::<gui::FromHost<'static>>(how, stream);
    decode::<control::FromHost<'static>>(how, stream);
    decode::<bulk::FromHost<'static>>(how, stream);
    round::<gui::FromHost<'static>>(bytes);
    round::<control::FromHost<'static>>(bytes);
    round::<bulk::FromHost<'static>>(bytes);
}

/// `bytes` as a recording, and what it holds as streams.
#[doc(hidden)]
pub fn fuzz_recording(bytes: &[u8]) {
    let Ok(replayer) = Replayer::new(bytes) else {
        return;
    };
    let mut guest = [const { Vec::new() }; Channel::ALL.len()];
    let mut host = [const { Vec::new() }; Channel::ALL.len()];
    let mut total = 0;
    for record in replayer {
        let Ok(record) = record else { break };
        total += record.bytes.len();
        let streams = if record.from_guest {
            &mut guest
        } else {
            &mut host
        };
        streams[record.channel as usize].extend_from_slice(record.bytes);
    }
    assert!(total <= bytes.len());
    let [gui, control, bulk] = guest;
    decode::<gui::FromGuest<'static>>(2, &gui);
    decode::<control::FromGuest<'static>>(2, &control);
    decode::<bulk::FromGuest<'static>>(2, &bulk);
    let [gui, control, bulk] = host;
    decode::<gui::FromHost<'static>>(2, &gui);
    decode::<control::FromHost<'static>>(2, &control);
    decode::<bulk::FromHost<'static>>(2, &bulk);
}
