//! The talk before the first request: which export, which features. It ends with a [`Session`], or with
//! the connection.

use std::io::{self, Read, Write};
use std::time::Instant;

use super::proto::{self, GoRequest, MetaRequest, OptionHeader, info, opt, rep, transmit};

/// Longest option data that is looked at; the longest name the protocol allows is 4096.
const MAX_OPTION: u32 = 16 << 10;
/// Longest option data that is skipped to stay in step.
const MAX_SKIP: u32 = 256 << 10;
/// Options a client may send before it is thought to be toying with us.
const MAX_OPTIONS: u32 = 64;
/// The one context we have.
const CONTEXT: &[u8] = b"base:allocation";
/// Its id on the wire.
pub const CONTEXT_ID: u32 = 1;

/// What is offered to clients.
#[derive(Debug, Clone)]
pub struct Export {
    /// Its name; clients may also ask for the nameless default export.
    pub name: String,
    /// A line for people.
    pub description: String,
    /// Bytes.
    pub size: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Preferred request size, a power of two.
    pub preferred_block: u32,
    /// Largest payload of one request.
    pub max_payload: u32,
}

/// What a client and the server agreed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Session {
    /// Reads are answered in chunks, errors carry text.
    pub structured: bool,
    /// Block status was asked for.
    pub allocation: bool,
}

impl Export {
    fn has_name(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }

    fn flags(&self, session: &Session) -> u16 {
        let mut flags = transmit::HAS_FLAGS
            | transmit::SEND_FLUSH
            | transmit::SEND_FUA
            | transmit::CAN_MULTI_CONN;
        flags |= if self.read_only {
            transmit::READ_ONLY
        } else {
            transmit::SEND_TRIM | transmit::SEND_WRITE_ZEROES
        };
        if session.structured {
            flags |= transmit::SEND_DF;
        }
        flags
    }
}

/// Talks until the client wants to use the export. `None` if it went away or only wanted to look.
/// Ends at `deadline`, provided that no single read or write of `io` lasts much longer.
pub fn negotiate(
    io: &mut (impl Read + Write),
    export: &Export,
    deadline: Instant,
) -> io::Result<Option<Session>> {
    let offered = proto::FLAG_FIXED_NEWSTYLE | proto::FLAG_NO_ZEROES;
    let mut greeting = [0; 18];
    greeting[..16].copy_from_slice(&proto::GREETING);
    greeting[16..].copy_from_slice(&offered.to_be_bytes());
    io.write_all(&greeting)?;
    let mut flags = [0; 4];
    io.read_exact(&mut flags)?;
    let flags = u32::from_be_bytes(flags);
    if flags & !u32::from(offered) != 0 {
        return Err(invalid("client flags that nobody offered"));
    }
    let mut talk = Talk {
        io,
        export,
        session: Session::default(),
        no_zeroes: flags & u32::from(proto::FLAG_NO_ZEROES) != 0,
        data: Vec::new(),
    };
    for _ in 0..MAX_OPTIONS {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match talk.option()? {
            Step::Go => return Ok(Some(talk.session)),
            Step::Leave => return Ok(None),
            Step::Continue => {}
        }
    }
    Err(invalid("too many options"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

enum Step {
    Continue,
    Go,
    Leave,
}

struct Talk<'a, Io> {
    io: &'a mut Io,
    export: &'a Export,
    session: Session,
    no_zeroes: bool,
    data: Vec<u8>,
}

impl<Io: Read + Write> Talk<'_, Io> {
    fn option(&mut self) -> io::Result<Step> {
        let mut head = [0; OptionHeader::SIZE];
        self.io.read_exact(&mut head)?;
        let head = OptionHeader::parse(&head).ok_or_else(|| invalid("not an option"))?;
        if head.len > MAX_OPTION {
            if head.len > MAX_SKIP {
                return Err(invalid("an option of absurd length"));
            }
            let skipped = io::copy(
                &mut Read::take(&mut *self.io, head.len.into()),
                &mut io::sink(),
            )?;
            if skipped < head.len.into() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.reply(head.option, rep::ERR_TOO_BIG, &[b"option too long"])?;
            return Ok(Step::Continue);
        }
        let mut data = std::mem::take(&mut self.data);
        data.resize(head.len as usize, 0);
        self.io.read_exact(&mut data)?;
        let step = self.answer(head.option, &data);
        self.data = data;
        step
    }

    fn answer(&mut self, option: u32, data: &[u8]) -> io::Result<Step> {
        match option {
            opt::EXPORT_NAME => return self.export_name(data),
            opt::GO | opt::INFO => return self.go(option, data),
            opt::ABORT => {
                // The client may be gone already; it does not wait for the answer.
                let _ = self.reply(option, rep::ACK, &[]);
                return Ok(Step::Leave);
            }
            opt::LIST if data.is_empty() => {
                let name = self.export.name.as_bytes();
                let len = (name.len() as u32).to_be_bytes();
                self.reply(
                    option,
                    rep::SERVER,
                    &[&len, name, self.export.description.as_bytes()],
                )?;
                self.reply(option, rep::ACK, &[])?;
            }
            opt::STRUCTURED_REPLY if data.is_empty() => {
                self.session.structured = true;
                self.reply(option, rep::ACK, &[])?;
            }
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => self.meta_context(option, data)?,
            opt::LIST | opt::STRUCTURED_REPLY => {
                self.reply(option, rep::ERR_INVALID, &[b"option takes no data"])?;
            }
            _ => self.reply(option, rep::ERR_UNSUP, &[])?,
        }
        Ok(Step::Continue)
    }

    /// The old way to choose an export: no answer but its facts, no refusal but hanging up.
    fn export_name(&mut self, name: &[u8]) -> io::Result<Step> {
        if !self.export.has_name(name) {
            return Ok(Step::Leave);
        }
        let mut facts = [0; 134];
        facts[..8].copy_from_slice(&self.export.size.to_be_bytes());
        facts[8..10].copy_from_slice(&self.export.flags(&self.session).to_be_bytes());
        let len = if self.no_zeroes { 10 } else { facts.len() };
        self.io.write_all(&facts[..len])?;
        Ok(Step::Go)
    }

    fn go(&mut self, option: u32, data: &[u8]) -> io::Result<Step> {
        let Some(wish) = GoRequest::parse(data) else {
            self.reply(option, rep::ERR_INVALID, &[b"malformed"])?;
            return Ok(Step::Continue);
        };
        if !self.export.has_name(wish.name) {
            self.reply(option, rep::ERR_UNKNOWN, &[b"no such export"])?;
            return Ok(Step::Continue);
        }
        let export = self.export;
        let facts = proto::info_export(export.size, export.flags(&self.session));
        self.reply(option, rep::INFO, &[&facts])?;
        if wish.wants(info::BLOCK_SIZE) {
            let sizes = proto::info_block_size(1, export.preferred_block, export.max_payload);
            self.reply(option, rep::INFO, &[&sizes])?;
        }
        for (kind, text) in [
            (info::NAME, &export.name),
            (info::DESCRIPTION, &export.description),
        ] {
            if wish.wants(kind) {
                self.reply(option, rep::INFO, &[&kind.to_be_bytes(), text.as_bytes()])?;
            }
        }
        self.reply(option, rep::ACK, &[])?;
        Ok(if option == opt::GO {
            Step::Go
        } else {
            Step::Continue
        })
    }

    fn meta_context(&mut self, option: u32, data: &[u8]) -> io::Result<()> {
        let set = option == opt::SET_META_CONTEXT;
        if set {
            // A new choice replaces the old one, even if it fails.
            self.session.allocation = false;
        }
        let Some(wish) = MetaRequest::parse(data).filter(|_| self.session.structured) else {
            return self.reply(
                option,
                rep::ERR_INVALID,
                &[b"malformed, or structured replies were not asked for"],
            );
        };
        if !self.export.has_name(wish.name) {
            return self.reply(option, rep::ERR_UNKNOWN, &[b"no such export"]);
        }
        // "base:" and no query at all mean everything, but only when listing.
        let chosen = wish
            .queries()
            .any(|query| query == CONTEXT || (!set && query == b"base:"))
            || (!set && wish.count == 0);
        if chosen {
            let id = if set { CONTEXT_ID } else { 0 };
            self.reply(option, rep::META_CONTEXT, &[&id.to_be_bytes(), CONTEXT])?;
        }
        self.session.allocation |= set && chosen;
        self.reply(option, rep::ACK, &[])
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[&[u8]]) -> io::Result<()> {
        let data = data.concat();
        let mut bytes = proto::option_reply(option, kind, data.len() as u32).to_vec();
        bytes.extend(data);
        self.io.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    /// A client that says all it has to say at once.
    struct Script {
        says: Cursor<Vec<u8>>,
        hears: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.says.read(buf)
        }
    }

    impl Write for Script {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.hears.write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(flags: u32, options: &[u8]) -> (io::Result<Option<Session>>, Vec<u8>) {
        let export = Export {
            name: "disk".into(),
            description: "a disk".into(),
            size: 1 << 20,
            read_only: false,
            preferred_block: 4096,
            max_payload: 32 << 20,
        };
        let mut script = Script {
            says: Cursor::new([&flags.to_be_bytes(), options].concat()),
            hears: Vec::new(),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        (negotiate(&mut script, &export, deadline), script.hears)
    }

    fn option(option: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn export_name_with_and_without_padding() {
        let (session, heard) = talk(1, &option(opt::EXPORT_NAME, b"disk"));
        assert_eq!(session.unwrap(), Some(Session::default()));
        assert_eq!(heard.len(), 18 + 134);
        let (session, heard) = talk(3, &option(opt::EXPORT_NAME, b""));
        assert!(session.unwrap().is_some());
        assert_eq!(heard.len(), 18 + 10);
        let (session, _) = talk(3, &option(opt::EXPORT_NAME, b"other"));
        assert_eq!(session.unwrap(), None);
    }

    #[test]
    fn too_long_options_are_refused_in_step_or_dropped() {
        let mut bytes = option(opt::INFO, &vec![0; 20_000]);
        bytes.extend(option(opt::ABORT, b""));
        let (session, heard) = talk(3, &bytes);
        assert_eq!(session.unwrap(), None);
        assert_eq!(heard[18 + 12..][..4], rep::ERR_TOO_BIG.to_be_bytes());
        let mut bytes = option(opt::INFO, b"");
        bytes[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(talk(3, &bytes).0.is_err());
    }

    #[test]
    fn options_without_end_are_not_listened_to() {
        let bytes = option(99, b"").repeat(100_000);
        assert!(talk(3, &bytes).0.is_err());
    }

    #[test]
    fn contexts_need_structured_replies() {
        let wish = [
            &4u32.to_be_bytes()[..],
            b"disk",
            &1u32.to_be_bytes(),
            &15u32.to_be_bytes(),
            CONTEXT,
        ]
        .concat();
        let go = option(opt::GO, &[0; 6]);
        let set = option(opt::SET_META_CONTEXT, &wish);
        let (session, _) = talk(3, &[set.clone(), go.clone()].concat());
        assert_eq!(session.unwrap(), Some(Session::default()));
        let structured = option(opt::STRUCTURED_REPLY, b"");
        let (session, _) = talk(3, &[structured, set, go].concat());
        let both = Session {
            structured: true,
            allocation: true,
        };
        assert_eq!(session.unwrap(), Some(both));
    }

    proptest! {
        /// No bytes make the server panic, loop or answer without bound.
        #[test]
        fn any_client(options in proptest::collection::vec((0u32..13, proptest::collection::vec(any::<u8>(), 0..64)), 0..20), tail: Vec<u8>) {
            let mut bytes: Vec<u8> = options.iter().flat_map(|(o, d)| option(*o, d)).collect();
            bytes.extend(tail);
            let (_, heard) = talk(3, &bytes);
            prop_assert!(heard.len() < 18 + 256 * (options.len() + 2));
        }
    }
}
