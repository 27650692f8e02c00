//! New images.

use std::path::Path;

use uuid::Uuid;

use super::footer::{DiskType, FOOTER_LEN, Footer};
use super::header::{DynamicHeader, HEADER_LEN};
use super::locator::locators_for;
use super::parent::{Locator, ParentLink};
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

/// What a child notes of its parent.
#[derive(Debug, Clone)]
pub struct NewParent<'a> {
    /// The parent's footer.
    pub footer: &'a Footer,
    /// The parent's file, absolute and without links or dots.
    pub path: &'a Path,
    /// The folder of the child's file, likewise.
    pub child_folder: &'a Path,
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
    match kind {
        Kind::Fixed => {
            store.set_len(size)?;
            store.write_at(size, &footer.to_bytes())?;
        }
        Kind::Dynamic => {
            let header = empty_header(size, 0);
            write_growing(store, &footer, &header, &header.to_bytes())?;
        }
    }
    store.sync()?;
    Ok(footer)
}

/// Writes an empty child of a parent into an empty store, and syncs it: a disk of the parent's size that
/// reads as the parent does. `luks` is the header of the child's own key, if it is to be encrypted.
pub fn create_child(
    store: &dyn Store,
    parent: &NewParent<'_>,
    luks: Option<Uuid>,
) -> Result<Footer> {
    let size = parent.footer.current_size;
    let mut footer = Footer::new(DiskType::Differencing, size);
    footer.luks = luks;
    let (link, texts) = link_to(parent, (FOOTER_LEN + HEADER_LEN) as u64);
    let header = empty_header(size, texts.len() as u64);
    store.write_at((FOOTER_LEN + HEADER_LEN) as u64, &texts)?;
    write_growing(store, &footer, &header, &link.header_bytes(&header))?;
    store.sync()?;
    Ok(footer)
}

/// The link to a parent whose locators' texts lie at `at`, and those texts, in whole sectors.
pub(super) fn link_to(parent: &NewParent<'_>, at: u64) -> (ParentLink, Vec<u8>) {
    let mut texts = Vec::new();
    let mut locators = Vec::new();
    for (platform, text) in locators_for(parent.child_folder, parent.path) {
        locators.push(Locator {
            platform,
            len: text.len() as u32,
            offset: at + texts.len() as u64,
        });
        texts.extend(text);
        texts.resize(texts.len().next_multiple_of(SECTOR as usize), 0);
    }
    let name = parent.path.file_name().unwrap_or_default();
    let link = ParentLink {
        uuid: parent.footer.uuid,
        timestamp: parent.footer.timestamp,
        name: name.to_string_lossy().into_owned(),
        locators,
    };
    (link, texts)
}

/// The header of an empty image whose table follows `before` bytes after the header.
fn empty_header(size: u64, before: u64) -> DynamicHeader {
    DynamicHeader {
        table_offset: (FOOTER_LEN + HEADER_LEN) as u64 + before,
        entries: size.div_ceil(u64::from(BLOCK_SIZE)) as u32,
        block_size: BLOCK_SIZE,
    }
}

fn write_growing(
    store: &dyn Store,
    footer: &Footer,
    header: &DynamicHeader,
    header_bytes: &[u8; HEADER_LEN],
) -> Result<()> {
    let bytes = footer.to_bytes();
    store.write_at(0, &bytes)?;
    store.write_at(FOOTER_LEN as u64, header_bytes)?;
    let table = vec![0xff; header.table_len() as usize];
    store.write_at(header.table_offset, &table)?;
    store.write_at(header.table_offset + header.table_len(), &bytes)
}
