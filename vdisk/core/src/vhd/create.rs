//! New images.

use uuid::Uuid;

use super::footer::{DiskType, FOOTER_LEN, Footer};
use super::header::{DynamicHeader, HEADER_LEN};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Bytes in a block of the images we make: the format's default.
pub const BLOCK_SIZE: u32 = 2 << 20;

/// The kinds of image that can be made from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As large as the disk at once.
    Fixed,
    /// Grows as it is written.
    Dynamic,
}

/// Writes an empty image for a disk of `size` bytes into an empty store, and syncs it. `luks` notes in
/// the footer that the payload is ciphertext and which header opens it.
pub fn create(store: &dyn Store, kind: Kind, size: u64, luks: Option<Uuid>) -> Result<Footer> {
    if size == 0 || !size.is_multiple_of(SECTOR) || size > super::MAX_SIZE {
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            format!(
                "a VHD cannot have {size} bytes: it takes whole 512-byte sectors, up to 2040 GiB"
            ),
        ));
    }
    let disk_type = match kind {
        Kind::Fixed => DiskType::Fixed,
        Kind::Dynamic => DiskType::Dynamic,
    };
    let mut footer = Footer::new(disk_type, size);
    footer.luks = luks;
    let bytes = footer.to_bytes();
    match kind {
        Kind::Fixed => {
            store.set_len(size)?;
            store.write_at(size, &bytes)?;
        }
        Kind::Dynamic => {
            let header = DynamicHeader {
                table_offset: (FOOTER_LEN + HEADER_LEN) as u64,
                entries: size.div_ceil(u64::from(BLOCK_SIZE)) as u32,
                block_size: BLOCK_SIZE,
            };
            store.write_at(0, &bytes)?;
            store.write_at(FOOTER_LEN as u64, &header.to_bytes())?;
            let table = vec![0xff; header.table_len() as usize];
            store.write_at(header.table_offset, &table)?;
            store.write_at(header.table_offset + header.table_len(), &bytes)?;
        }
    }
    store.sync()?;
    Ok(footer)
}
