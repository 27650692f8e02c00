//! From a stream of bytes to messages and back. A header says a message's length and kind; the kind's own
//! bounds judge the length before a byte of the body is kept.
//!
//! Header, 12 bytes: length of the whole message (4), kind (2), flags (2), number of the message (4).
use crate::codec::{Reader, Wire, Writer};
use crate::fault::{Fault, FaultKind};
use crate::fuzz::Dice;
use crate::hello::Channel;
use crate::limits::{IDLE_BYTES, SKIPPED_BYTES};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

/// Bytes of a header.
pub const HEADER: usize = 12;

/// A message whose kind the reader does not know may be left out. No message of version 1 has this flag.
pub const SKIPPABLE: u16 = 1;

/// The first room that a decoder makes for a message that comes in pieces.
pub(crate) const FIRST_ROOM: usize = 256;

/// Kinds that may come before the other side's hello: the hello itself, and a farewell.
const HELLO: u16 = 1;
const BYE: u16 = 2;

/// What is fixed about one kind of message.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number on the wire.
    pub number: u16,
    /// Its name.
    pub name: &'static str,
    /// Fewest bytes, with the header.
    pub min: usize,
    /// Most bytes, with the header.
    pub max: usize,
}

/// All that one side may say on one channel.
#[allow(clippy::len_without_is_empty, reason = "a message's length in bytes")]
pub trait Set {
    /// The channel.
    const CHANNEL: Channel;
    /// Every kind of message.
    const TABLE: &'static [Entry];
    /// One message; it may borrow from the bytes that it was read from.
    type Message<'m>: fmt::Debug + Clone + PartialEq;
    /// The number of the message's kind.
    fn number(message: &Self::Message<'_>) -> u16;
    /// Bytes of the message, without the header.
    fn len(message: &Self::Message<'_>) -> usize;
    /// Writes the message, without a header.
    fn put(message: &Self::Message<'_>, writer: &mut Writer<'_>);
    /// Reads a message of a kind, without a header.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn take<'m>(number: u16, reader: &mut Reader<'m>) -> Result<Self::Message<'m>, Fault>;
    /// Makes up a message of a kind that is allowed; nothing, if there is no such kind.
    fn invent<'m>(number: u16, dice: &mut Dice<'m>) -> Option<Self::Message<'m>>;
}

#[derive(Clone, Copy, Debug)]
struct Header {
    length: usize,
    number: u16,
    serial: u32,
    /// An unknown kind that may be left out.
    skipped: bool,
}

impl Header {
    fn take<S: Set>(bytes: [u8; HEADER]) -> Result<Self, Fault> {
        let mut reader = Reader::new(&bytes);
        let length = u32::take(&mut reader)? as usize;
        let (number, flags) = (u16::take(&mut reader)?, u16::take(&mut reader)?);
        let serial = u32::take(&mut reader)?;
        let known = S::TABLE.iter().find(|entry| entry.number == number);
        let (name, min, max) = match known {
            Some(entry) if flags == 0 => (entry.name, entry.min, entry.max),
            Some(entry) => return Err(Fault::new(FaultKind::Flags(flags)).in_message(entry.name)),
            None if flags == SKIPPABLE => ("", HEADER, SKIPPED_BYTES),
            None if flags == 0 => return Err(Fault::new(FaultKind::Unknown(number))),
            None => return Err(Fault::new(FaultKind::Flags(flags))),
        };
        if length < min || length > max {
            let kind = FaultKind::Length {
                got: length,
                min,
                max,
            };
            return Err(Fault::new(kind).in_message(name));
        }
        Ok(Self {
            length,
            number,
            serial,
            skipped: known.is_none(),
        })
    }
}

/// Reads one whole message, whatever its number in the stream, which comes back with it.
pub(crate) fn decode_whole<S: Set>(bytes: &[u8]) -> Result<(u32, S::Message<'_>), Fault> {
    let head = bytes.first_chunk().ok_or(Fault::new(FaultKind::Short))?;
    let header = Header::take::<S>(*head)?;
    let mut reader = Reader::new(&bytes[HEADER..]);
    let message = S::take(header.number, &mut reader)?;
    let name = S::TABLE
        .iter()
        .find(|e| e.number == header.number)
        .map_or("", |e| e.name);
    match reader.left() {
        0 => Ok((header.serial, message)),
        left => Err(Fault::new(FaultKind::Trailing(left)).in_message(name)),
    }
}

/// A message as it came out of a [`Decoder`].
pub struct Received<'d, S: Set> {
    /// Its number on this channel in this direction since the connection began.
    pub serial: u32,
    /// What it says.
    pub message: S::Message<'d>,
}

impl<S: Set> fmt::Debug for Received<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.serial, self.message)
    }
}

impl<S: Set> Received<'_, S> {
    pub(crate) fn len(&self) -> usize {
        S::len(&self.message)
    }

    pub(crate) fn encode_into(&self, room: &mut [u8]) -> bool {
        let mut writer = Writer::new(room);
        S::put(&self.message, &mut writer);
        writer.is_exact()
    }
}

/// Makes messages out of a stream of bytes that may be cut anywhere. It holds one message at most, makes
/// room for it as its bytes come, and after a fault says nothing but that fault.
///
/// ```
/// use medley_wire::{Channel, Decoder, Encoder, Features, Hello, gui};
///
/// let mut line = [0; 256];
/// let hello = Hello::new(Channel::Gui, Features::ALL, [7; 32]);
/// let length = Encoder::<gui::FromGuest>::new().encode(&hello.into(), &mut line)?;
///
/// let mut decoder = Decoder::<gui::FromGuest>::new();
/// for mut piece in line[..length].chunks(5) {
///     while let Some(received) = decoder.push(&mut piece)? {
///         assert!(matches!(received.message, gui::FromGuest::Hello(_)));
///     }
/// }
/// # Ok::<(), medley_wire::Refused>(())
/// ```
pub struct Decoder<S> {
    /// The beginning of a message whose end has not come.
    begun: Vec<u8>,
    /// Bytes of a message that is left out.
    skip: usize,
    next: u32,
    greeted: bool,
    /// `begun` is a message that was handed out and is done with.
    done: bool,
    fault: Option<Fault>,
    set: PhantomData<S>,
}

impl<S> fmt::Debug for Decoder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "before message {}, {} bytes begun, {:?}",
            self.next,
            self.begun.len(),
            self.fault
        )
    }
}

impl<S: Set> Default for Decoder<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Set> Decoder<S> {
    /// At the beginning of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            begun: Vec::new(),
            skip: 0,
            next: 0,
            greeted: false,
            done: false,
            fault: None,
            set: PhantomData,
        }
    }

    /// Bytes that the decoder holds room for: never more than the longest message of its set.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.begun.capacity()
    }

    /// Whether the stream stands between two messages, so that it may end here.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        (self.done || self.begun.is_empty()) && self.skip == 0 && self.fault.is_none()
    }

    /// Takes bytes from the front of `bytes` until a message is whole, or all of them. Call it again until
    /// it gives nothing. A message that lies whole in `bytes` is not copied.
    ///
    /// # Errors
    /// The stream is no stream of this set's messages; every later call gives the same fault.
    pub fn push<'d, 'b: 'd>(
        &'d mut self,
        bytes: &mut &'b [u8],
    ) -> Result<Option<Received<'d, S>>, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let whole = match self.gather(bytes) {
            Ok(Gathered::Nothing) => return Ok(None),
            Ok(Gathered::Here(message)) => message,
            Ok(Gathered::Begun) => {
                self.done = true;
                self.begun.as_slice()
            }
            Err(fault) => {
                self.begun = Vec::new();
                self.fault = Some(fault);
                return Err(fault);
            }
        };
        match decode_whole::<S>(whole) {
            Ok((serial, message)) => Ok(Some(Received { serial, message })),
            Err(fault) => {
                self.fault = Some(fault);
                Err(fault)
            }
        }
    }

    /// Moves the stream on to the end of the next message.
    fn gather<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Gathered<'b>, Fault> {
        if core::mem::take(&mut self.done) {
            self.begun.clear();
            if self.begun.capacity() > IDLE_BYTES {
                self.begun = Vec::new();
            }
        }
        loop {
            split(bytes, &mut self.skip);
            if self.skip > 0 {
                return Ok(Gathered::Nothing);
            }
            // The header: out of what was begun, or of what is here, or of both.
            let mut head = [0; HEADER];
            let old = self.begun.len().min(HEADER);
            let new = bytes.len().min(HEADER - old);
            head[..old].copy_from_slice(&self.begun[..old]);
            head[old..old + new].copy_from_slice(&bytes[..new]);
            if old + new < HEADER {
                self.keep(bytes, new, HEADER);
                return Ok(Gathered::Nothing);
            }
            let header = Header::take::<S>(head)?;
            if old < HEADER {
                self.admit(&header)?;
            }
            if header.skipped {
                self.skip = header.length - self.begun.len();
                self.begun.clear();
                continue;
            }
            let missing = header.length - self.begun.len();
            if self.begun.is_empty()
                && let Some((message, rest)) = bytes.split_at_checked(missing)
            {
                *bytes = rest;
                return Ok(Gathered::Here(message));
            }
            self.keep(bytes, missing, header.length);
            return Ok(if self.begun.len() == header.length {
                Gathered::Begun
            } else {
                Gathered::Nothing
            });
        }
    }

    /// Whether a message with this header may come now. Asked once for each.
    fn admit(&mut self, header: &Header) -> Result<(), Fault> {
        let name = S::TABLE
            .iter()
            .find(|e| e.number == header.number)
            .map_or("", |e| e.name);
        let refused = |kind| Err(Fault::new(kind).in_message(name));
        if header.serial != self.next {
            return refused(FaultKind::Serial {
                expected: self.next,
                got: header.serial,
            });
        }
        match header.number {
            HELLO if self.greeted => return refused(FaultKind::GreetedTwice),
            HELLO => self.greeted = true,
            BYE => {}
            _ if !self.greeted => return refused(FaultKind::NotGreeted),
            _ => {}
        }
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Keeps up to `count` bytes of a message of `length`; room doubles as bytes come, up to that length.
    fn keep(&mut self, bytes: &mut &[u8], count: usize, length: usize) {
        let (here, rest) = bytes.split_at(count.min(bytes.len()));
        let need = self.begun.len() + here.len();
        if need > self.begun.capacity() {
            let room = need
                .max(2 * self.begun.capacity())
                .max(FIRST_ROOM)
                .min(length.max(HEADER));
            self.begun.reserve_exact(room - self.begun.len());
        }
        self.begun.extend_from_slice(here);
        *bytes = rest;
    }
}

enum Gathered<'b> {
    Nothing,
    Here(&'b [u8]),
    Begun,
}

/// Leaves out up to `skip` bytes.
fn split(bytes: &mut &[u8], skip: &mut usize) {
    let count = bytes.len().min(*skip);
    *bytes = &bytes[count..];
    *skip -= count;
}

/// Why a message was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The buffer is too short; the message has this many bytes.
    Room(usize),
    /// The other side would not take it.
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(need) => write!(f, "the buffer is too short for a message of {need} bytes"),
            Self::Fault(fault) => write!(f, "{fault}"),
        }
    }
}

impl core::error::Error for Refused {}

/// Writes messages into a caller's buffer, and numbers them.
#[derive(Debug)]
pub struct Encoder<S> {
    next: u32,
    set: PhantomData<S>,
}

impl<S: Set> Default for Encoder<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Set> Encoder<S> {
    /// At the beginning of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: 0,
            set: PhantomData,
        }
    }

    /// Writes a message to the front of `room` and says how many bytes it has. What the other side would
    /// refuse is refused here, by the same rules.
    ///
    /// # Errors
    /// Too little room, or a message that breaks a limit. Neither counts as a message.
    pub fn encode(&mut self, message: &S::Message<'_>, room: &mut [u8]) -> Result<usize, Refused> {
        let length = HEADER + S::len(message);
        let room = room.get_mut(..length).ok_or(Refused::Room(length))?;
        let mut writer = Writer::new(room);
        u32::try_from(length).unwrap_or(u32::MAX).put(&mut writer);
        S::number(message).put(&mut writer);
        0_u16.put(&mut writer);
        self.next.put(&mut writer);
        S::put(message, &mut writer);
        if !writer.is_exact() {
            return Err(Fault::new(FaultKind::Short).into());
        }
        decode_whole::<S>(room)?;
        self.next = self.next.wrapping_add(1);
        Ok(length)
    }
}
