//! The dynamic header: 1024 bytes that say where the block table is and how large a block is.

use super::{be32, be64, checksum};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};

/// Bytes in a dynamic header.
pub const HEADER_LEN: usize = 1024;

/// A block table entry of a block that was never written.
pub const UNUSED: u32 = u32::MAX;

/// Entries a block table may have: with 2 MiB blocks this is sixteen times the largest disk, and it bounds
/// what a hostile header can make us allocate to some tens of MiB.
pub(super) const MAX_ENTRIES: u64 = 1 << 20;

const COOKIE: &[u8; 8] = b"cxsparse";
const VERSION: u32 = 0x0001_0000;
const CHECKSUM_AT: usize = 36;

/// A dynamic header's contents, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicHeader {
    /// Byte offset of the block allocation table.
    pub table_offset: u64,
    /// Entries in the table; at least one per block of the disk.
    pub entries: u32,
    /// Bytes in a block: a power of two of at least a sector.
    pub block_size: u32,
}

impl DynamicHeader {
    /// Reads a header for a disk of `size` bytes.
    pub fn parse(bytes: &[u8; HEADER_LEN], size: u64) -> Result<Self> {
        if !bytes.starts_with(COOKIE) {
            return Err(Error::corrupt(
                "no dynamic VHD header here (the cookie `cxsparse` is missing)",
            ));
        }
        let (stored, found) = (be32(bytes, CHECKSUM_AT), checksum(bytes, CHECKSUM_AT));
        if stored != found {
            return Err(Error::corrupt(format!(
                "the dynamic VHD header's checksum is {stored:#010x}, its bytes give {found:#010x}"
            )));
        }
        let version = be32(bytes, 24);
        if version >> 16 != VERSION >> 16 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "dynamic VHD header version {}.{} is unknown",
                    version >> 16,
                    version & 0xffff
                ),
            ));
        }
        let block_size = be32(bytes, 32);
        if !block_size.is_power_of_two() || u64::from(block_size) < SECTOR || block_size > 256 << 20
        {
            return Err(Error::corrupt(format!(
                "the dynamic VHD header's block size is {block_size}: not a power of two from 512 bytes to 256 MiB"
            )));
        }
        let entries = be32(bytes, 28);
        let needed = size.div_ceil(u64::from(block_size));
        if u64::from(entries) < needed {
            return Err(Error::corrupt(format!(
                "the dynamic VHD header's table has {entries} entries, but the disk has {needed} blocks"
            )));
        }
        if needed > MAX_ENTRIES {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a block table of {needed} entries is too large (at most {MAX_ENTRIES})"),
            ));
        }
        let table_offset = be64(bytes, 16);
        if !table_offset.is_multiple_of(SECTOR) || table_offset > super::MAX_SIZE {
            return Err(Error::corrupt(format!(
                "the dynamic VHD header's table offset is {table_offset}: not a sector within the file"
            )));
        }
        Ok(Self {
            table_offset,
            entries,
            block_size,
        })
    }

    /// The header's bytes, checksum and all, for a disk without a parent.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, COOKIE);
        put(8, &u64::MAX.to_be_bytes()); // Data offset: unused.
        put(16, &self.table_offset.to_be_bytes());
        put(24, &VERSION.to_be_bytes());
        put(28, &self.entries.to_be_bytes());
        put(32, &self.block_size.to_be_bytes());
        seal(&mut bytes);
        bytes
    }

    /// Bytes of the sector bitmap before each block's data.
    pub fn bitmap_len(&self) -> u64 {
        (u64::from(self.block_size) / SECTOR)
            .div_ceil(8)
            .next_multiple_of(SECTOR)
    }

    /// Bytes of the block table, whole sectors.
    pub fn table_len(&self) -> u64 {
        (u64::from(self.entries) * 4).next_multiple_of(SECTOR)
    }
}

/// Writes a header's checksum.
pub(super) fn seal(bytes: &mut [u8; HEADER_LEN]) {
    let sum = checksum(bytes, CHECKSUM_AT);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went() {
        let header = DynamicHeader {
            table_offset: 1536,
            entries: 512,
            block_size: 2 << 20,
        };
        assert_eq!(
            DynamicHeader::parse(&header.to_bytes(), 1 << 30).unwrap(),
            header
        );
    }

    #[test]
    fn refuses_what_cannot_be() {
        let good = DynamicHeader {
            table_offset: 1536,
            entries: 512,
            block_size: 2 << 20,
        };
        let refused = |h: DynamicHeader, size| {
            DynamicHeader::parse(&h.to_bytes(), size)
                .unwrap_err()
                .to_string()
        };
        assert!(
            refused(
                DynamicHeader {
                    block_size: 3 << 20,
                    ..good.clone()
                },
                1 << 30
            )
            .contains("block size")
        );
        assert!(
            refused(
                DynamicHeader {
                    block_size: 0,
                    ..good.clone()
                },
                1 << 30
            )
            .contains("block size")
        );
        assert!(
            refused(
                DynamicHeader {
                    entries: 511,
                    ..good.clone()
                },
                1 << 30
            )
            .contains("512 blocks")
        );
        assert!(
            refused(
                DynamicHeader {
                    table_offset: 7,
                    ..good.clone()
                },
                1 << 30
            )
            .contains("table offset")
        );
        let huge = DynamicHeader {
            entries: u32::MAX,
            block_size: 512,
            ..good
        };
        assert!(refused(huge, 1 << 40).contains("too large"));
    }
}
