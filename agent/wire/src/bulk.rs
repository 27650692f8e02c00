//! The messages of the bulk channel, the same in both directions but for icons: the bytes of what the control
//! channel agreed upon, in chunks that are acknowledged.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::Fault;
use crate::fuzz::Dice;
use crate::hello::{Bye, Hello};
use crate::ids::{AppId, WindowId};
use crate::limits::{CHUNK_BYTES, ICON_SIDE, STREAMS};
use crate::pixels::Picture;
use crate::text::Bytes;
use core::fmt;

messages! {
    /// What a guest says on the bulk channel.
    pub enum FromGuest on Bulk {
        1 Hello(Hello), 2 Bye(Bye<'a>),
        200 Open(Open), 201 Chunk(Chunk<'a>), 202 End(End), 203 Received(Received), 204 Cancel(Cancel),
        210 Icon(Icon<'a>),
    }
}

messages! {
    /// What a host says on the bulk channel.
    pub enum FromHost on Bulk {
        1 Hello(Hello), 2 Bye(Bye<'a>),
        200 Open(Open), 201 Chunk(Chunk<'a>), 202 End(End), 203 Received(Received), 204 Cancel(Cancel),
    }
}

choice! {
    /// What a stream carries.
    pub enum Carries {
        /// What was copied.
        Clipboard = 0,
        /// A file.
        File = 1,
        /// Something to print.
        Print = 2,
        /// A newer agent.
        Update = 3,
    }
}

record! {
    /// A stream begins, for a transfer that the other side said yes to.
    pub struct Open {
        /// Its number: below [`STREAMS`], of the sender's own, and free.
        pub stream: u8,
        /// The transfer.
        pub transfer: u32,
        /// What it carries.
        pub carries: Carries,
        /// How many bytes will come: exactly.
        pub size: crate::Untrusted<u64>,
    }
}
record! {
    /// The next bytes of a stream.
    pub struct Chunk<'a> {
        /// Which.
        pub stream: u8,
        /// Where they belong: exactly behind those before.
        pub offset: u64,
        /// They; at least one.
        pub data: Bytes<'a, CHUNK_BYTES>,
    }
}
record! {
    /// A stream is whole.
    pub struct End {
        /// Which.
        pub stream: u8,
        /// How many bytes it had.
        pub size: u64,
    }
}
record! {
    /// So many bytes of the other side's stream are dealt with: it may send more.
    pub struct Received {
        /// Which.
        pub stream: u8,
        /// How many in all.
        pub bytes: u64,
    }
}
record! {
    /// A stream ends before it is whole. Of whose streams: the sender's own, or the other's.
    pub struct Cancel {
        /// Which.
        pub stream: u8,
        /// It is the sender's own.
        pub own: bool,
    }
}

/// What an icon belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A window.
    Window(WindowId),
    /// An app.
    App(AppId),
    /// A tray item.
    Tray(u32),
    /// A notification.
    Note(u32),
}

impl<'a> Wire<'a> for Owner {
    const MIN: usize = 17;
    const MAX: usize = 17;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let kind = u8::take(reader)?;
        let id = <[u8; 16]>::take(reader)?;
        let mut id_reader = Reader::new(&id);
        let number = u32::take(&mut id_reader)?;
        let rest = id_reader.bytes(12)?.iter().all(|byte| *byte == 0);
        match (kind, WindowId::new(number)) {
            (1, _) => Ok(Self::App(AppId::new(id))),
            (0, Some(window)) if rest => Ok(Self::Window(window)),
            (2, _) if rest => Ok(Self::Tray(number)),
            (3, _) if rest => Ok(Self::Note(number)),
            _ => Err(Fault::value(kind.into())),
        }
    }
    fn put(&self, writer: &mut Writer<'_>) {
        let (kind, number) = match self {
            Self::App(id) => {
                1_u8.put(writer);
                return id.put(writer);
            }
            Self::Window(window) => (0_u8, window.get()),
            Self::Tray(id) => (2, *id),
            Self::Note(id) => (3, *id),
        };
        kind.put(writer);
        number.put(writer);
        [0_u8; 12].put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        match dice.below(4) {
            0 => Self::Window(WindowId::invent(dice)),
            1 => Self::App(AppId::invent(dice)),
            2 => Self::Tray(dice.below(4)),
            _ => Self::Note(dice.below(4)),
        }
    }
}

record! {
    /// An icon.
    pub struct Icon<'a> {
        /// Whose.
        pub owner: Owner,
        /// It.
        pub picture: Picture<'a, { ICON_SIDE as usize }>,
    }
}

/// What is coming over one stream, and how much of it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    /// The transfer.
    pub transfer: u32,
    /// What it carries.
    pub carries: Carries,
    /// How many bytes there will be.
    pub size: u64,
    /// How many have come.
    pub come: u64,
}

/// How a stream breaks its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// No stream has such a number.
    Number,
    /// A stream with this number is open already.
    Open,
    /// No stream with this number is open.
    Closed,
    /// It is larger than it may be.
    TooLarge,
    /// A chunk that is empty, or not where the last one ended.
    Place,
    /// More bytes than were announced, or an end before all have come.
    Size,
    /// More chunks than may go unacknowledged.
    Ahead,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "a stream has a number that none can have",
            Self::Open => "a stream was opened twice",
            Self::Closed => "a stream goes on that was never opened",
            Self::TooLarge => "a stream is larger than its kind may be",
            Self::Place => "a chunk is empty or not where the last one ended",
            Self::Size => "a stream does not have the size that it announced",
            Self::Ahead => "a stream does not wait until its chunks are dealt with",
        })?;
        f.write_str("; the connection must be closed and begun anew")
    }
}

impl core::error::Error for Broken {}

/// The other side's streams: judges every message of them, and holds none of their bytes.
#[derive(Debug, Default)]
pub struct Intake {
    streams: [Option<Coming>; STREAMS],
}

impl Intake {
    fn at(&mut self, stream: u8) -> Result<&mut Option<Coming>, Broken> {
        self.streams
            .get_mut(usize::from(stream))
            .ok_or(Broken::Number)
    }

    /// A stream begins, whose kind and transfer may have at most `limit` bytes. Whether the transfer was
    /// agreed upon is for the caller to know.
    ///
    /// # Errors
    /// It breaks its rules, as with all that follow.
    pub fn open(&mut self, open: &Open, limit: u64) -> Result<(), Broken> {
        let slot = self.at(open.stream)?;
        if slot.is_some() {
            return Err(Broken::Open);
        }
        let size = open.size.at_most(limit).ok_or(Broken::TooLarge)?;
        *slot = Some(Coming {
            transfer: open.transfer,
            carries: open.carries,
            size,
            come: 0,
        });
        Ok(())
    }

    /// A chunk comes; tells where the stream stands with it.
    ///
    /// # Errors
    /// It breaks its rules.
    pub fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<Coming, Broken> {
        let coming = self.at(chunk.stream)?.as_mut().ok_or(Broken::Closed)?;
        if chunk.data.0.is_empty() || chunk.offset != coming.come {
            return Err(Broken::Place);
        }
        let come = coming.come.saturating_add(chunk.data.0.len() as u64);
        if come > coming.size {
            return Err(Broken::Size);
        }
        coming.come = come;
        Ok(*coming)
    }

    /// A stream is whole.
    ///
    /// # Errors
    /// It breaks its rules.
    pub fn end(&mut self, end: &End) -> Result<Coming, Broken> {
        let slot = self.at(end.stream)?;
        let coming = slot.ok_or(Broken::Closed)?;
        if coming.come != coming.size || end.size != coming.size {
            return Err(Broken::Size);
        }
        *slot = None;
        Ok(coming)
    }

    /// A stream ends early; nothing, if it was not open: both sides may end it at once.
    pub fn cancel(&mut self, stream: u8) -> Option<Coming> {
        self.at(stream).ok()?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Untrusted;

    fn open(stream: u8, size: u64) -> Open {
        Open {
            stream,
            transfer: 9,
            carries: Carries::File,
            size: Untrusted::claim(size),
        }
    }

    fn chunk(stream: u8, offset: u64, data: &[u8]) -> Chunk<'_> {
        Chunk {
            stream,
            offset,
            data: Bytes(data),
        }
    }

    #[test]
    fn a_stream_has_the_size_it_announced() {
        let mut intake = Intake::default();
        intake.open(&open(3, 5), 5).unwrap();
        assert_eq!(intake.chunk(&chunk(3, 0, b"abc")).unwrap().come, 3);
        assert_eq!(intake.chunk(&chunk(3, 3, b"def")), Err(Broken::Size));
        assert_eq!(intake.chunk(&chunk(3, 2, b"d")), Err(Broken::Place));
        assert_eq!(intake.chunk(&chunk(3, 3, b"")), Err(Broken::Place));
        assert_eq!(intake.end(&End { stream: 3, size: 3 }), Err(Broken::Size));
        intake.chunk(&chunk(3, 3, b"de")).unwrap();
        assert_eq!(intake.end(&End { stream: 3, size: 4 }), Err(Broken::Size));
        assert_eq!(intake.end(&End { stream: 3, size: 5 }).unwrap().transfer, 9);
        assert_eq!(intake.chunk(&chunk(3, 5, b"x")), Err(Broken::Closed));
    }

    #[test]
    fn streams_are_counted() {
        let mut intake = Intake::default();
        assert_eq!(intake.open(&open(8, 1), 9), Err(Broken::Number));
        assert_eq!(intake.open(&open(0, 10), 9), Err(Broken::TooLarge));
        intake.open(&open(0, 9), 9).unwrap();
        assert_eq!(intake.open(&open(0, 9), 9), Err(Broken::Open));
        assert!(
            intake.cancel(0).is_some() && intake.cancel(0).is_none() && intake.cancel(99).is_none()
        );
    }
}
