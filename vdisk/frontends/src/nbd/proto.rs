//! The bytes of the NBD protocol: what a client sends becomes values here, and values become what it is
//! sent. No I/O, so that all of it can be fuzzed; all integers on the wire are big-endian.

/// What the server says first: "NBDMAGIC", "IHAVEOPT".
pub const GREETING: [u8; 16] = *b"NBDMAGICIHAVEOPT";
const OPTION_MAGIC: [u8; 8] = *b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, the server's and the client's alike: fixed newstyle; no padding after
/// `NBD_OPT_EXPORT_NAME`.
pub const FLAG_FIXED_NEWSTYLE: u16 = 1;
/// See [`FLAG_FIXED_NEWSTYLE`].
pub const FLAG_NO_ZEROES: u16 = 2;

/// Options a client may ask for while negotiating.
pub mod opt {
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Kinds of answers to an option.
pub mod rep {
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR_UNSUP: u32 = 1 << 31 | 1;
    pub const ERR_INVALID: u32 = 1 << 31 | 3;
    pub const ERR_UNKNOWN: u32 = 1 << 31 | 6;
    pub const ERR_TOO_BIG: u32 = 1 << 31 | 9;
}

/// Pieces of information about an export.
pub mod info {
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub mod transmit {
    pub const HAS_FLAGS: u16 = 1 << 0;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_FLUSH: u16 = 1 << 2;
    pub const SEND_FUA: u16 = 1 << 3;
    pub const SEND_TRIM: u16 = 1 << 5;
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub const SEND_DF: u16 = 1 << 7;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// Flags of a request.
pub mod flag {
    pub const FUA: u16 = 1 << 0;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const DF: u16 = 1 << 2;
    pub const REQ_ONE: u16 = 1 << 3;
}

/// Kinds of reply chunks.
pub mod chunk {
    pub const NONE: u16 = 0;
    pub const OFFSET_DATA: u16 = 1;
    pub const BLOCK_STATUS: u16 = 5;
    pub const ERROR: u16 = 1 << 15 | 1;
    /// The chunk is the last of its reply.
    pub const DONE: u16 = 1;
}

/// The errors NBD knows, by their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// Not permitted, or read-only.
    Perm = 1,
    /// Input or output failed.
    Io = 5,
    /// The request makes no sense.
    Invalid = 22,
    /// No space, or a write past the end.
    NoSpace = 28,
    /// Too large to be answered in one piece.
    Overflow = 75,
    /// Not supported.
    NotSupported = 95,
}

impl From<vdisk::ErrorKind> for Errno {
    fn from(kind: vdisk::ErrorKind) -> Self {
        use vdisk::ErrorKind as Kind;
        match kind {
            Kind::ReadOnly | Kind::Key => Self::Perm,
            Kind::NoSpace => Self::NoSpace,
            Kind::InvalidRequest => Self::Invalid,
            Kind::Unsupported => Self::NotSupported,
            _ => Self::Io,
        }
    }
}

/// Bits of a block status descriptor of `base:allocation`: a hole, which reads as zeros.
pub const STATE_HOLE_ZERO: u32 = 1 | 2;

/// The first big-endian bytes of `bytes`, and the rest.
fn split<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes
        .split_first_chunk::<N>()
        .map(|(head, rest)| (*head, rest))
}

/// A length of four bytes, so many bytes, and the rest.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = split::<4>(bytes)?;
    rest.split_at_checked(u32::from_be_bytes(len) as usize)
}

/// Head of an option: what is asked, and how many bytes of data follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHeader {
    /// One of [`opt`], or something unknown.
    pub option: u32,
    /// Bytes that follow.
    pub len: u32,
}

impl OptionHeader {
    /// Bytes on the wire.
    pub const SIZE: usize = 16;

    /// `None` if this is no option.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let rest = bytes.strip_prefix(&OPTION_MAGIC)?;
        let (option, rest) = split(rest)?;
        let (len, _) = split(rest)?;
        Some(Self {
            option: u32::from_be_bytes(option),
            len: u32::from_be_bytes(len),
        })
    }
}

/// Data of `NBD_OPT_GO` and `NBD_OPT_INFO`.
#[derive(Debug, PartialEq, Eq)]
pub struct GoRequest<'a> {
    /// The export wanted.
    pub name: &'a [u8],
    /// What the client wants to know, two bytes each.
    wanted: &'a [u8],
}

impl<'a> GoRequest<'a> {
    /// `None` if the lengths inside do not add up.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (name, rest) = split_string(bytes)?;
        let (count, wanted) = split(rest)?;
        (wanted.len() == usize::from(u16::from_be_bytes(count)) * 2)
            .then_some(Self { name, wanted })
    }

    /// Whether the client wants to know `info`.
    pub fn wants(&self, info: u16) -> bool {
        self.wanted.chunks_exact(2).any(|w| w == info.to_be_bytes())
    }
}

/// Data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
#[derive(Debug, PartialEq, Eq)]
pub struct MetaRequest<'a> {
    /// The export it is about.
    pub name: &'a [u8],
    /// Number of queries.
    pub count: u32,
    queries: &'a [u8],
}

impl<'a> MetaRequest<'a> {
    /// `None` if the lengths inside do not add up.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (name, rest) = split_string(bytes)?;
        let (count, queries) = split(rest)?;
        let request = Self {
            name,
            count: u32::from_be_bytes(count),
            queries,
        };
        // Each query takes its bytes away, so a huge count ends as soon as they are used up.
        let mut rest = queries;
        for _ in 0..request.count {
            (_, rest) = split_string(rest)?;
        }
        rest.is_empty().then_some(request)
    }

    /// The contexts asked for.
    pub fn queries(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.queries;
        std::iter::from_fn(move || {
            let (query, after) = split_string(rest)?;
            rest = after;
            Some(query)
        })
    }
}

/// What a request wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Read bytes.
    Read,
    /// Write the bytes that follow.
    Write,
    /// Finish what was asked, then close the connection.
    Disconnect,
    /// Make all acknowledged writes, of all connections, durable.
    Flush,
    /// Discard bytes.
    Trim,
    /// Write zeros.
    WriteZeroes,
    /// Say where data and holes are.
    BlockStatus,
    /// Anything else; it has no payload.
    Unknown(u16),
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Bits of [`flag`].
    pub flags: u16,
    /// What to do.
    pub command: Command,
    /// The client's name for the request, given back in the reply.
    pub cookie: u64,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes on the disk; of a [`Command::Write`], the payload that follows.
    pub len: u32,
}

impl Request {
    /// Bytes on the wire.
    pub const SIZE: usize = 28;

    /// `None` if this is no request: the connection is out of step and cannot be used further.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let rest = bytes.strip_prefix(&REQUEST_MAGIC.to_be_bytes())?;
        let (flags, rest) = split(rest)?;
        let (command, rest) = split(rest)?;
        let (cookie, rest) = split(rest)?;
        let (offset, rest) = split(rest)?;
        let (len, _) = split(rest)?;
        Some(Self {
            flags: u16::from_be_bytes(flags),
            command: match u16::from_be_bytes(command) {
                0 => Command::Read,
                1 => Command::Write,
                2 => Command::Disconnect,
                3 => Command::Flush,
                4 => Command::Trim,
                6 => Command::WriteZeroes,
                7 => Command::BlockStatus,
                other => Command::Unknown(other),
            },
            cookie: u64::from_be_bytes(cookie),
            offset: u64::from_be_bytes(offset),
            len: u32::from_be_bytes(len),
        })
    }

    /// Bits of [`flag`] that mean something for the command. FUA is harmless everywhere.
    pub fn known_flags(&self) -> u16 {
        flag::FUA
            | match self.command {
                Command::Read => flag::DF,
                Command::WriteZeroes => flag::NO_HOLE,
                Command::BlockStatus => flag::REQ_ONE,
                _ => 0,
            }
    }

    /// Whether the request has the flag.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Writes the parts, one after the other, into an array that they fill exactly or from the front.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let mut rest = &mut out[..];
    for part in parts {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    out
}

/// Head of an answer to an option; `len` bytes of data follow.
pub fn option_reply(option: u32, reply: u32, len: u32) -> [u8; 20] {
    join(&[
        &OPTION_REPLY_MAGIC.to_be_bytes(),
        &option.to_be_bytes(),
        &reply.to_be_bytes(),
        &len.to_be_bytes(),
    ])
}

/// Data of the answer [`info::EXPORT`].
pub fn info_export(size: u64, flags: u16) -> [u8; 12] {
    join(&[
        &info::EXPORT.to_be_bytes(),
        &size.to_be_bytes(),
        &flags.to_be_bytes(),
    ])
}

/// Data of the answer [`info::BLOCK_SIZE`].
pub fn info_block_size(min: u32, preferred: u32, max: u32) -> [u8; 14] {
    join(&[
        &info::BLOCK_SIZE.to_be_bytes(),
        &min.to_be_bytes(),
        &preferred.to_be_bytes(),
        &max.to_be_bytes(),
    ])
}

/// A simple reply. After a read without an error the bytes follow.
pub fn simple_reply(error: Option<Errno>, cookie: u64) -> [u8; 16] {
    join(&[
        &SIMPLE_REPLY_MAGIC.to_be_bytes(),
        &error.map_or(0, |e| e as u32).to_be_bytes(),
        &cookie.to_be_bytes(),
    ])
}

/// Head of a chunk of a structured reply; `len` bytes follow.
pub fn chunk_head(flags: u16, kind: u16, cookie: u64, len: u32) -> [u8; 20] {
    join(&[
        &CHUNK_MAGIC.to_be_bytes(),
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &len.to_be_bytes(),
    ])
}

/// Head of a chunk that carries `len` bytes read at `offset`.
pub fn data_head(flags: u16, cookie: u64, offset: u64, len: u32) -> [u8; 28] {
    join(&[
        &chunk_head(flags, chunk::OFFSET_DATA, cookie, len + 8),
        &offset.to_be_bytes(),
    ])
}

/// Head of the last chunk of a reply that failed; `message` bytes of text follow.
pub fn error_head(error: Errno, cookie: u64, message: u16) -> [u8; 26] {
    join(&[
        &chunk_head(chunk::DONE, chunk::ERROR, cookie, 6 + u32::from(message)),
        &(error as u32).to_be_bytes(),
        &message.to_be_bytes(),
    ])
}

/// Head of the block status of context `id`, with `extents` descriptors to follow.
pub fn status_head(cookie: u64, id: u32, extents: u32) -> [u8; 24] {
    join(&[
        &chunk_head(chunk::DONE, chunk::BLOCK_STATUS, cookie, 4 + 8 * extents),
        &id.to_be_bytes(),
    ])
}

/// A descriptor of a block status.
pub fn descriptor(len: u32, state: u32) -> [u8; 8] {
    join(&[&len.to_be_bytes(), &state.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a client sends, parsing ends, and nothing but what was sent comes out.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(go) = GoRequest::parse(&bytes) {
                prop_assert_eq!(go.name.len() + go.wanted.len() + 6, bytes.len());
            }
            if let Some(meta) = MetaRequest::parse(&bytes) {
                prop_assert_eq!(meta.queries().count(), meta.count as usize);
            }
            if let Some(head) = bytes.first_chunk() {
                prop_assert!(Request::parse(head).is_none() || bytes.starts_with(&REQUEST_MAGIC.to_be_bytes()));
            }
        }

        #[test]
        fn requests_come_through(flags: u16, cookie: u64, offset: u64, len: u32) {
            let bytes = join(&[
                &REQUEST_MAGIC.to_be_bytes(), &flags.to_be_bytes(), &6u16.to_be_bytes(),
                &cookie.to_be_bytes(), &offset.to_be_bytes(), &len.to_be_bytes(),
            ]);
            let command = Command::WriteZeroes;
            prop_assert_eq!(Request::parse(&bytes), Some(Request { flags, command, cookie, offset, len }));
        }

        #[test]
        fn meta_requests_come_through(name: Vec<u8>, queries in proptest::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let mut bytes = (name.len() as u32).to_be_bytes().to_vec();
            bytes.extend(&name);
            bytes.extend((queries.len() as u32).to_be_bytes());
            for query in &queries {
                bytes.extend((query.len() as u32).to_be_bytes());
                bytes.extend(query);
            }
            let meta = MetaRequest::parse(&bytes).unwrap();
            prop_assert_eq!(meta.name, &name[..]);
            prop_assert_eq!(meta.queries().map(<[u8]>::to_vec).collect::<Vec<_>>(), queries);
            bytes.push(0);
            prop_assert_eq!(MetaRequest::parse(&bytes), None);
        }
    }

    #[test]
    fn a_huge_count_of_queries_costs_nothing() {
        let mut bytes = vec![0; 4];
        bytes.extend([255; 4]);
        bytes.extend([0; 400]);
        assert_eq!(MetaRequest::parse(&bytes), None);
    }
}
