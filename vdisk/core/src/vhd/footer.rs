//! The footer: 512 bytes at the end of every VHD (and a copy at the start of the growing kinds) that
//! say what the file is.

use uuid::Uuid;

use super::geometry::Geometry;
use super::{be32, be64, checksum};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};

/// Bytes in a footer.
pub const FOOTER_LEN: usize = 512;

const COOKIE: &[u8; 8] = b"conectix";
const VERSION: u32 = 0x0001_0000;
const CREATOR: &[u8; 4] = b"mdly";
const TIMESTAMP_AT: usize = 24;
const CHECKSUM_AT: usize = 64;
const NO_OFFSET: u64 = u64::MAX;

/// Where, in the bytes that the format reserves, we note that the payload is ciphertext, and the UUID
/// of the LUKS header that opens it. Other readers ignore these bytes; the checksum covers them.
const MARK_AT: usize = 256;
const MARK: &[u8; 16] = b"medley-luks-v1\0\0";

/// The kinds of VHD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskType {
    /// All sectors, one after the other.
    Fixed,
    /// Blocks appear as they are written.
    Dynamic,
    /// A dynamic disk over a parent.
    Differencing,
}

/// A footer's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Which kind of VHD.
    pub disk_type: DiskType,
    /// Size of the disk in bytes, a multiple of 512.
    pub current_size: u64,
    /// Size it was made with, in bytes.
    pub original_size: u64,
    /// Byte offset of the dynamic header; meaningless for fixed disks.
    pub header_offset: u64,
    /// Seconds since 2000-01-01 00:00 UTC of the last write session, as its writer saw it.
    pub timestamp: u32,
    /// Four letters of the program that made it.
    pub creator: [u8; 4],
    /// What the disk tells a BIOS.
    pub geometry: Geometry,
    /// Identity; children name their parent by it.
    pub uuid: Uuid,
    /// UUID of the LUKS header that holds the key, when the payload is ciphertext and we made it.
    pub luks: Option<Uuid>,
}

impl Footer {
    /// A footer for a new disk of ours of `size` bytes.
    pub fn new(disk_type: DiskType, size: u64) -> Self {
        Self {
            disk_type,
            current_size: size,
            original_size: size,
            header_offset: FOOTER_LEN as u64,
            timestamp: now(),
            creator: *CREATOR,
            geometry: Geometry::for_sectors(size / SECTOR),
            uuid: Uuid::new_v4(),
            luks: None,
        }
    }

    /// Whether a program of ours made the image.
    pub fn is_ours(&self) -> bool {
        self.creator == *CREATOR
    }

    /// Whether bytes start like a footer; nothing else about them is checked.
    pub fn looks_like(bytes: &[u8]) -> bool {
        bytes.starts_with(COOKIE)
    }

    /// Reads a footer.
    pub fn parse(bytes: &[u8; FOOTER_LEN]) -> Result<Self> {
        if !Self::looks_like(bytes) {
            return Err(Error::corrupt(
                "no VHD footer here (the cookie `conectix` is missing)",
            ));
        }
        let (stored, found) = (be32(bytes, CHECKSUM_AT), checksum(bytes, CHECKSUM_AT));
        if stored != found {
            return Err(Error::corrupt(format!(
                "the VHD footer's checksum is {stored:#010x}, its bytes give {found:#010x}"
            )));
        }
        let version = be32(bytes, 12);
        if version >> 16 != VERSION >> 16 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "VHD format version {}.{} is unknown",
                    version >> 16,
                    version & 0xffff
                ),
            ));
        }
        let disk_type = match be32(bytes, 60) {
            2 => DiskType::Fixed,
            3 => DiskType::Dynamic,
            4 => DiskType::Differencing,
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("VHD disk type {other} is unknown"),
                ));
            }
        };
        let current_size = be64(bytes, 48);
        if current_size == 0
            || !current_size.is_multiple_of(SECTOR)
            || current_size > super::MAX_SIZE
        {
            return Err(Error::corrupt(format!(
                "the VHD footer's current size is {current_size}: not a whole number of sectors up to 2040 GiB"
            )));
        }
        let luks = (bytes[MARK_AT..MARK_AT + 16] == *MARK)
            .then(|| Uuid::from_slice(&bytes[MARK_AT + 16..MARK_AT + 32]).ok())
            .flatten();
        Ok(Self {
            disk_type,
            current_size,
            original_size: be64(bytes, 40),
            header_offset: be64(bytes, 16),
            timestamp: be32(bytes, TIMESTAMP_AT),
            creator: [bytes[28], bytes[29], bytes[30], bytes[31]],
            geometry: Geometry {
                cylinders: u16::from_be_bytes([bytes[56], bytes[57]]),
                heads: bytes[58],
                sectors: bytes[59],
            },
            uuid: Uuid::from_slice(&bytes[68..84]).unwrap_or_default(),
            luks,
        })
    }

    /// The footer's bytes, checksum and all.
    pub fn to_bytes(&self) -> [u8; FOOTER_LEN] {
        let mut bytes = [0; FOOTER_LEN];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        let (number, header_offset) = match self.disk_type {
            DiskType::Fixed => (2u32, NO_OFFSET),
            DiskType::Dynamic => (3, self.header_offset),
            DiskType::Differencing => (4, self.header_offset),
        };
        put(0, COOKIE);
        put(8, &2u32.to_be_bytes()); // Features: the bit that is always set.
        put(12, &VERSION.to_be_bytes());
        put(16, &header_offset.to_be_bytes());
        put(TIMESTAMP_AT, &self.timestamp.to_be_bytes());
        put(28, &self.creator);
        put(32, &VERSION.to_be_bytes()); // Creator version.
        put(36, b"Wi2k"); // Creator host: readers know this one and "Mac ".
        put(40, &self.original_size.to_be_bytes());
        put(48, &self.current_size.to_be_bytes());
        put(56, &self.geometry.cylinders.to_be_bytes());
        put(58, &[self.geometry.heads, self.geometry.sectors]);
        put(60, &number.to_be_bytes());
        put(68, self.uuid.as_bytes());
        if let Some(luks) = &self.luks {
            put(MARK_AT, MARK);
            put(MARK_AT + 16, luks.as_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    /// The timestamp of the next change: now, or a second later than the last one.
    pub(super) fn next_timestamp(&self) -> u32 {
        next(self.timestamp)
    }

    /// Changes the timestamp in a footer's bytes: children notice that their parent was written to by
    /// nothing else.
    pub(super) fn stamp(bytes: &mut [u8; FOOTER_LEN]) {
        let stamp = next(be32(bytes, TIMESTAMP_AT));
        bytes[TIMESTAMP_AT..TIMESTAMP_AT + 4].copy_from_slice(&stamp.to_be_bytes());
        seal(bytes);
    }

    /// This footer's size, geometry, timestamp and header offset in the bytes of another writer's footer,
    /// whose other fields stay.
    pub(super) fn to_bytes_over(&self, original: &[u8; FOOTER_LEN]) -> [u8; FOOTER_LEN] {
        let mut bytes = *original;
        for range in [16..28, 48..60] {
            bytes[range.clone()].copy_from_slice(&self.to_bytes()[range]);
        }
        seal(&mut bytes);
        bytes
    }

    /// This footer's bytes as its writer wrote them when `original` still holds them whole, and as we
    /// would write them otherwise: what others keep in fields we do not know stays.
    pub fn to_bytes_like(&self, original: &[u8; FOOTER_LEN]) -> [u8; FOOTER_LEN] {
        match Self::parse(original) {
            Ok(same) if same == *self => *original,
            _ => self.to_bytes(),
        }
    }
}

/// Writes a footer's checksum.
fn seal(bytes: &mut [u8; FOOTER_LEN]) {
    let sum = checksum(bytes, CHECKSUM_AT);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_be_bytes());
}

fn next(timestamp: u32) -> u32 {
    now().max(timestamp.wrapping_add(1))
}

/// Seconds since 2000-01-01 00:00 UTC.
fn now() -> u32 {
    let epoch = std::time::UNIX_EPOCH + std::time::Duration::from_secs(946_684_800);
    std::time::SystemTime::now()
        .duration_since(epoch)
        .map_or(0, |d| d.as_secs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went() {
        let mut footer = Footer::new(DiskType::Dynamic, 3 << 30);
        assert_eq!(Footer::parse(&footer.to_bytes()).unwrap(), footer);
        footer.luks = Some(Uuid::new_v4());
        assert_eq!(Footer::parse(&footer.to_bytes()).unwrap(), footer);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = Footer::new(DiskType::Fixed, 1 << 20).to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::parse(&bad).is_err(), "bit {bit}");
        }
    }
}
