//! The 4096-byte binary part of a LUKS2 header copy, its JSON area, and the checksum over both.

use crate::hash::Hash;
use crate::{Error, ErrorKind, Result};

/// Length of the binary part.
pub(crate) const BINARY_LEN: usize = 4096;
/// What a header begins with: LUKS1, and the primary copy of LUKS2.
pub(crate) const PRIMARY_MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
const SECONDARY_MAGIC: &[u8; 6] = b"SKUL\xba\xbe";

/// The sizes a header copy may have, which are also the places where a secondary copy may begin.
pub(crate) const COPY_SIZES: [u64; 9] = [
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
];

mod field {
    use std::ops::Range;

    pub const MAGIC: Range<usize> = 0..6;
    pub const VERSION: Range<usize> = 6..8;
    pub const HDR_SIZE: Range<usize> = 8..16;
    pub const SEQID: Range<usize> = 16..24;
    pub const LABEL: Range<usize> = 24..72;
    pub const CSUM_ALG: Range<usize> = 72..104;
    pub const SALT: Range<usize> = 104..168;
    pub const UUID: Range<usize> = 168..208;
    pub const SUBSYSTEM: Range<usize> = 208..256;
    pub const HDR_OFFSET: Range<usize> = 256..264;
    pub const CSUM: Range<usize> = 448..512;
}

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    Primary,
    Secondary,
}

impl Copy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary header",
            Self::Secondary => "secondary header",
        }
    }
}

/// What both copies say alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Length of one copy, one of [`COPY_SIZES`].
    pub copy_size: u64,
    pub seqid: u64,
    pub label: String,
    pub uuid: String,
    pub subsystem: String,
    pub checksum: Hash,
}

impl Binary {
    /// Reads and verifies the copy at `offset` of the file; gives its text up to the zero padding too.
    pub(crate) fn decode(file: &[u8], offset: u64, which: Copy) -> Result<(Self, &[u8])> {
        let at = |field: &str| format!("{}.{field}", which.name());
        let truncated = || {
            Error::new(
                ErrorKind::Truncated,
                which.name(),
                format!("the file ends after {} bytes", file.len()),
            )
        };
        let start = usize::try_from(offset).map_err(|_| truncated())?;
        let rest = file.get(start..).ok_or_else(truncated)?;
        let magic = match which {
            Copy::Primary => PRIMARY_MAGIC,
            Copy::Secondary => SECONDARY_MAGIC,
        };
        if !rest.starts_with(magic) {
            return Err(Error::new(ErrorKind::NotLuks, at("magic"), "not found"));
        }
        let head = rest.get(..BINARY_LEN).ok_or_else(truncated)?;
        let version = u16::from_be_bytes(array(&head[field::VERSION]));
        if version != 2 {
            let remedy = if version == 1 {
                ", read it as LUKS1"
            } else {
                ""
            };
            let kind = if version == 1 {
                ErrorKind::WrongVersion
            } else {
                ErrorKind::Unsupported
            };
            return Err(Error::new(
                kind,
                at("version"),
                format!("{version} instead of 2{remedy}"),
            ));
        }
        let copy_size = u64::from_be_bytes(array(&head[field::HDR_SIZE]));
        let expected_size = offset == 0 || copy_size == offset;
        if !COPY_SIZES.contains(&copy_size) || !expected_size {
            return Err(Error::corrupt(
                at("hdr_size"),
                format!("{copy_size} is no allowed size here"),
            ));
        }
        let said = u64::from_be_bytes(array(&head[field::HDR_OFFSET]));
        if said != offset {
            return Err(Error::corrupt(
                at("hdr_offset"),
                format!("{said}, but it lies at {offset}"),
            ));
        }
        let name = text(&head[field::CSUM_ALG])
            .ok_or_else(|| Error::corrupt(at("csum_alg"), "not text"))?;
        let checksum = Hash::from_name(name).ok_or_else(|| {
            Error::unsupported(at("csum_alg"), format!("unknown hash `{name:.32}`"))
        })?;
        let whole = rest.get(..copy_size as usize).ok_or_else(truncated)?;
        let mut sum = [0; 64];
        checksum_of(checksum, whole, &mut sum);
        let len = checksum.output_len();
        if sum[..len] != head[field::CSUM][..len] {
            return Err(Error::corrupt(at("csum"), "the checksum does not match"));
        }
        let string = |range: std::ops::Range<usize>, name: &str| {
            text(&head[range])
                .map(str::to_owned)
                .ok_or_else(|| Error::corrupt(at(name), "not terminated UTF-8 text"))
        };
        let binary = Self {
            copy_size,
            seqid: u64::from_be_bytes(array(&head[field::SEQID])),
            label: string(field::LABEL, "label")?,
            uuid: string(field::UUID, "uuid")?,
            subsystem: string(field::SUBSYSTEM, "subsystem")?,
            checksum,
        };
        Ok((binary, json_text(&whole[BINARY_LEN..], which)?))
    }

    /// Writes a whole copy into `out` (exactly `copy_size` bytes): binary part, text, zero padding, checksum.
    ///
    /// The caller has checked that the strings and the text fit.
    pub(crate) fn encode(&self, which: Copy, salt: &[u8; 64], json: &[u8], out: &mut [u8]) {
        out.fill(0);
        let (magic, offset) = match which {
            Copy::Primary => (PRIMARY_MAGIC, 0),
            Copy::Secondary => (SECONDARY_MAGIC, self.copy_size),
        };
        out[field::MAGIC].copy_from_slice(magic);
        out[field::VERSION].copy_from_slice(&2u16.to_be_bytes());
        out[field::HDR_SIZE].copy_from_slice(&self.copy_size.to_be_bytes());
        out[field::SEQID].copy_from_slice(&self.seqid.to_be_bytes());
        put_text(&mut out[field::LABEL], &self.label);
        put_text(&mut out[field::CSUM_ALG], self.checksum.name());
        out[field::SALT].copy_from_slice(salt);
        put_text(&mut out[field::UUID], &self.uuid);
        put_text(&mut out[field::SUBSYSTEM], &self.subsystem);
        out[field::HDR_OFFSET].copy_from_slice(&offset.to_be_bytes());
        out[BINARY_LEN..BINARY_LEN + json.len()].copy_from_slice(json);
        let mut sum = [0; 64];
        checksum_of(self.checksum, out, &mut sum);
        out[field::CSUM].copy_from_slice(&sum);
    }

    /// Refuses a label that does not fit its field.
    pub(crate) fn check_label(label: &str) -> Result<()> {
        let room = field::LABEL.len() - 1;
        if label.len() > room {
            return Err(Error::input(
                "label",
                format!("{} bytes long, {room} fit", label.len()),
            ));
        }
        if label.contains('\0') {
            return Err(Error::input("label", "holds a zero byte"));
        }
        Ok(())
    }
}

/// The checksum of a copy: all of it, with the checksum's own field as zeros.
fn checksum_of(hash: Hash, copy: &[u8], out: &mut [u8; 64]) {
    let (before, after) = (&copy[..field::CSUM.start], &copy[field::CSUM.end..]);
    hash.digest_into(&[before, &[0; 64], after], out);
}

/// The text in a JSON area, which must be followed by zeros only, at least one.
fn json_text(area: &[u8], which: Copy) -> Result<&[u8]> {
    let at = || format!("{}.json", which.name());
    let len = area
        .iter()
        .position(|&b| b == 0)
        .ok_or_else(|| Error::corrupt(at(), "not terminated"))?;
    let (text, padding) = area.split_at(len);
    if padding.iter().any(|&b| b != 0) {
        return Err(Error::corrupt(at(), "something follows the text"));
    }
    if text.first() != Some(&b'{') {
        return Err(Error::corrupt(at(), "does not begin with `{`"));
    }
    Ok(text)
}

/// A zero-terminated string in a fixed field.
fn text(field: &[u8]) -> Option<&str> {
    let len = field.iter().position(|&b| b == 0)?;
    std::str::from_utf8(&field[..len]).ok()
}

fn put_text(field: &mut [u8], text: &str) {
    field[..text.len()].copy_from_slice(text.as_bytes());
}

/// The bytes of a field whose length is known.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
