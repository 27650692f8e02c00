//! IPP's messages: read from strangers, and written.
//!
//! The `ipp` crate decodes what has passed here. It keeps whatever a message promises and trusts some lengths
//! within values, so each field is measured and counted before; and its reader wants to own its source, while
//! ours is a connection. What passes is a copy of the attributes, at most as long as the limit.
use crate::values::Attributes;
use ipp::IppHeader;
use ipp::attribute::{IppAttributeGroup, IppAttributes};
use ipp::model::{DelimiterTag, IppVersion};
use ipp::parser::IppParser;
use std::io::{self, Read};

/// Collections within collections. `media-col` has two.
const DEPTH: usize = 8;
/// The longest value that IPP knows.
const VALUE: u16 = 1023;
/// The longest that an octet string may be.
const OCTETS: u16 = 32767;

/// How much a message may say.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Bytes of its attributes.
    pub bytes: usize,
    /// Values of its attributes, names of members and ends of collections included.
    pub values: usize,
}

/// What a printer reads: requests name a few attributes.
pub const REQUEST: Limits = Limits {
    bytes: 64 << 10,
    values: 2048,
};

/// What a client reads: printers list all their paper, in collections.
pub const RESPONSE: Limits = Limits {
    bytes: 4 << 20,
    values: 256 << 10,
};

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no IPP.
    #[error("{0}")]
    Malformed(&'static str),
    /// The codec does not take it.
    #[error("{0}")]
    Codec(String),
    /// It says too much.
    #[error("more attributes than anybody needs")]
    TooMuch,
}

/// A message without the document that may follow it.
pub struct Message {
    /// The version's two numbers.
    pub version: u16,
    /// What is to be done, or what became of it.
    pub code: u16,
    pub id: i32,
    pub attributes: IppAttributes,
}

impl Message {
    /// Reads a message up to the end of its attributes, and no byte further.
    pub fn read(from: &mut impl Read, limits: Limits) -> Result<Self, Unreadable> {
        let bytes = measured(from, limits)?;
        let parser = IppParser::new(io::Cursor::new(bytes));
        let (header, attributes, _) =
            (parser.parse_parts()).map_err(|error| Unreadable::Codec(error.to_string()))?;
        Ok(Self {
            version: header.version.0,
            code: header.operation_or_status.cast_unsigned(),
            id: header.request_id,
            attributes,
        })
    }

    pub fn group(&self, tag: DelimiterTag) -> Option<&IppAttributeGroup> {
        self.attributes.first_of(tag)
    }

    /// The attributes that say what is to be done with what.
    pub fn operation(&self) -> Option<&IppAttributeGroup> {
        self.group(DelimiterTag::OperationAttributes)
    }
}

/// A message's bytes. The operation's attributes begin with character set and language; the rest follows in order.
pub fn write(version: u16, code: u16, id: i32, groups: Vec<(DelimiterTag, Attributes)>) -> Vec<u8> {
    let mut attributes = IppAttributes::new();
    for (tag, group) in groups {
        let mut written = IppAttributeGroup::new(tag);
        *written.attributes_mut() = group.into_inner();
        attributes.groups_mut().push(written);
    }
    let header = IppHeader::new(IppVersion(version), code.cast_signed(), id);
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&attributes.to_bytes());
    bytes
}

/// A copy of a message's bytes, if they are one.
fn measured(from: &mut impl Read, limits: Limits) -> Result<Vec<u8>, Unreadable> {
    let mut copy = Copy {
        from,
        bytes: Vec::new(),
        most: limits.bytes,
    };
    copy.take(8)?;
    let mut values = 0;
    let mut depth = 0_usize;
    // Groups of other kinds (of subscriptions, documents, resources) are skipped, as RFC 8010, 3.5.1 wants.
    let mut skipped = None;
    let mut in_group = false;
    let mut has_name = false;
    loop {
        let tag = copy.take(1)?[0];
        if tag < 0x10 {
            if depth > 0 {
                return Err(Unreadable::Malformed("a collection without an end"));
            }
            if let Some(start) = skipped.take() {
                copy.bytes.drain(start..copy.bytes.len() - 1);
            }
            (in_group, has_name) = (true, false);
            match tag {
                0x00 => return Err(Unreadable::Malformed("a group without a kind")),
                0x03 => return Ok(copy.bytes),
                0x01 | 0x02 | 0x04 | 0x05 => {}
                _ => skipped = Some(copy.bytes.len() - 1),
            }
            continue;
        }
        values += 1;
        if values > limits.values {
            return Err(Unreadable::TooMuch);
        }
        if !in_group || tag > 0x4a {
            return Err(Unreadable::Malformed("a value of no group or no kind"));
        }
        let name = copy.length()?;
        if name > 255 || (name > 0 && depth > 0) || (name == 0 && !has_name) {
            return Err(Unreadable::Malformed("a name where none may be, or none"));
        }
        copy.take(name.into())?;
        has_name = true;
        let length = copy.length()?;
        let value = copy.take(length.into())?;
        if !has_shape(tag, value) {
            return Err(Unreadable::Malformed("a value that is not of its kind"));
        }
        match tag {
            0x34 => depth += 1,
            0x37 => {
                let less = depth.checked_sub(1);
                depth = less.ok_or(Unreadable::Malformed("an end without a collection"))?;
            }
            0x4a if depth == 0 => {
                return Err(Unreadable::Malformed("a member without a collection"));
            }
            _ => {}
        }
        if depth > DEPTH {
            return Err(Unreadable::TooMuch);
        }
    }
}

/// Whether a value has the form of its kind (RFC 8010, 3.9).
fn has_shape(tag: u8, value: &[u8]) -> bool {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    match tag {
        0x21 | 0x23 => length == 4,
        0x22 => length == 1,
        0x30 => length <= OCTETS,
        0x31 => length == 11,
        0x32 => length == 9,
        0x33 => length == 8,
        0x34 | 0x37 => length == 0,
        0x35 | 0x36 => is_pair(value),
        0x42 | 0x44 | 0x49 | 0x4a => length <= 255,
        0x47 | 0x48 => length <= 63,
        _ => length <= VALUE,
    }
}

/// A language and a text, each with its length, and nothing else.
fn is_pair(value: &[u8]) -> bool {
    let part = |bytes: &[u8]| {
        let (length, rest) = bytes.split_at_checked(2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        rest.get(length..).map(<[u8]>::to_vec)
    };
    let rest = part(value).and_then(|rest| part(&rest));
    value.len() <= usize::from(VALUE) + 4 + 63 && rest.is_some_and(|rest| rest.is_empty())
}

struct Copy<'a, R> {
    from: &'a mut R,
    bytes: Vec<u8>,
    most: usize,
}

impl<R: Read> Copy<'_, R> {
    fn take(&mut self, count: usize) -> Result<&[u8], Unreadable> {
        let start = self.bytes.len();
        if start + count > self.most {
            return Err(Unreadable::TooMuch);
        }
        self.bytes.resize(start + count, 0);
        let new = &mut self.bytes[start..];
        self.from.read_exact(new)?;
        Ok(new)
    }

    fn length(&mut self) -> Result<u16, Unreadable> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{self, Says};

    fn request() -> Vec<u8> {
        let mut operation = Attributes::default();
        operation.put("attributes-charset", values::charset("utf-8"));
        operation.put("attributes-natural-language", values::language("en"));
        let mut job = Attributes::default();
        let size = values::collection([("x-dimension", values::integer(21000))]);
        job.put("media-col", values::collection([("media-size", size)]));
        job.put(
            "page-ranges",
            values::several([values::integer(1), values::integer(2)]),
        );
        let groups = vec![
            (DelimiterTag::OperationAttributes, operation),
            (DelimiterTag::JobAttributes, job),
        ];
        write(0x0200, 2, 7, groups)
    }

    fn read(bytes: &[u8]) -> Result<Message, Unreadable> {
        Message::read(&mut &bytes[..], REQUEST)
    }

    #[test]
    fn what_is_written_can_be_read_and_no_more_is() {
        let mut bytes = request();
        bytes.extend_from_slice(b"%PDF-");
        let mut rest = bytes.as_slice();
        let message = Message::read(&mut rest, REQUEST).unwrap();
        assert_eq!(rest, b"%PDF-");
        assert_eq!((message.version, message.code, message.id), (0x0200, 2, 7));
        assert_eq!(
            message.operation().says("attributes-charset"),
            Some("utf-8")
        );
        let job = message.group(DelimiterTag::JobAttributes);
        assert_eq!(job.each("page-ranges").len(), 2);
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = request();
        for end in 0..bytes.len() {
            assert!(
                matches!(read(&bytes[..end]), Err(Unreadable::Io(_))),
                "{end}"
            );
        }
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 2, 0, 0, 0, 1], body].concat()
    }

    #[test]
    fn unknown_groups_are_skipped() {
        let bytes = message(b"\x01\x44\x00\x01a\x00\x01b\x09\x44\x00\x01c\x00\x01d\x06\x02\x44\x00\x01e\x00\x01f\x03");
        let message = read(&bytes).unwrap();
        let tags: Vec<_> = (message.attributes.groups().iter())
            .map(|group| group.tag())
            .collect();
        assert_eq!(
            tags,
            [
                DelimiterTag::OperationAttributes,
                DelimiterTag::JobAttributes
            ]
        );
        assert_eq!(
            message.group(DelimiterTag::JobAttributes).says("e"),
            Some("f")
        );
    }

    #[test]
    fn lies_about_lengths_are_found() {
        for body in [
            // A language that is longer than its value: the codec would look beyond it.
            &b"\x01\x35\x00\x01a\x00\x02\xff\xff\x03"[..],
            b"\x01\x36\x00\x01a\x00\x04\x00\x00\x00\x01\x03",
            b"\x01\x21\x00\x01a\x00\x03\x00\x00\x00\x03",
            b"\x01\x34\x00\x01a\x00\x00\x03",
            b"\x01\x37\x00\x01a\x00\x00\x03",
            b"\x01\x4a\x00\x01a\x00\x00\x03",
            b"\x01\x44\x00\x00\x00\x00\x03",
            b"\x01\x7f\x00\x01a\x00\x00\x03",
            b"\x44\x00\x01a\x00\x00\x03",
            b"\x00\x03",
        ] {
            assert!(
                matches!(read(&message(body)), Err(Unreadable::Malformed(_))),
                "{body:?}"
            );
        }
    }

    #[test]
    fn messages_have_limits() {
        let deep = [
            b"\x01".to_vec(),
            b"\x34\x00\x01a\x00\x00".to_vec(),
            b"\x34\x00\x00\x00\x00".repeat(9),
        ]
        .concat();
        assert!(matches!(read(&message(&deep)), Err(Unreadable::TooMuch)));
        let wide = [b"\x01".to_vec(), b"\x44\x00\x01a\x00\x00".repeat(3000)].concat();
        assert!(matches!(read(&message(&wide)), Err(Unreadable::TooMuch)));
        let long = [
            b"\x01".to_vec(),
            [&b"\x30\x00\x01a\x7f\xff"[..], &[0; 32767]]
                .concat()
                .repeat(3),
        ]
        .concat();
        assert!(matches!(read(&message(&long)), Err(Unreadable::TooMuch)));
    }
}
