//! Entries for a fuzzer: arbitrary bytes where a guest or a recording speaks. None may panic, hang, or hold
//! more than a message may have. [`Dice`] turns the same bytes into messages that are allowed, for fuzzers
//! of what comes after decoding.
use crate::record::Replayer;
use crate::stream::{Decoder, Encoder, Set};
use crate::{Channel, bulk, control, gui};
use alloc::vec;

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

/// Decodes `bytes` in pieces whose lengths are taken from them as well, and looks at the limits.
fn decode<S: Set>(bytes: &[u8]) {
    let most = S::TABLE
        .iter()
        .map(|entry| entry.max)
        .max()
        .unwrap_or_default();
    let mut decoder = Decoder::<S>::new();
    let mut rest = bytes;
    while let Some(length) = rest.first() {
        let (mut piece, after) = rest.split_at(rest.len().min(usize::from(*length) + 1));
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
        let come = 2 * bytes.len();
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

/// `bytes` as what a guest says on the gui channel.
#[doc(hidden)]
pub fn fuzz_gui(bytes: &[u8]) {
    decode::<gui::FromGuest<'static>>(bytes);
    round::<gui::FromGuest<'static>>(bytes);
}

/// `bytes` as what a guest says on the control channel.
#[doc(hidden)]
pub fn fuzz_control(bytes: &[u8]) {
    decode::<control::FromGuest<'static>>(bytes);
    round::<control::FromGuest<'static>>(bytes);
}

/// `bytes` as what a guest says on the bulk channel.
#[doc(hidden)]
pub fn fuzz_bulk(bytes: &[u8]) {
    decode::<bulk::FromGuest<'static>>(bytes);
    round::<bulk::FromGuest<'static>>(bytes);
}

/// `bytes` as what a host says, on all three channels.
#[doc(hidden)]
pub fn fuzz_host(bytes: &[u8]) {
    decode::<gui::FromHost<'static>>(bytes);
    decode::<control::FromHost<'static>>(bytes);
    decode::<bulk::FromHost<'static>>(bytes);
    round::<gui::FromHost<'static>>(bytes);
    round::<control::FromHost<'static>>(bytes);
    round::<bulk::FromHost<'static>>(bytes);
}

/// `bytes` as a recording.
#[doc(hidden)]
pub fn fuzz_recording(bytes: &[u8]) {
    let Ok(replayer) = Replayer::new(bytes) else {
        return;
    };
    let mut total = 0;
    for record in replayer {
        let Ok(record) = record else { break };
        total += record.bytes.len();
        if record.from_guest {
            match record.channel {
                Channel::Gui => decode::<gui::FromGuest<'static>>(record.bytes),
                Channel::Control => decode::<control::FromGuest<'static>>(record.bytes),
                Channel::Bulk => decode::<bulk::FromGuest<'static>>(record.bytes),
            }
        }
    }
    assert!(total <= bytes.len());
}
