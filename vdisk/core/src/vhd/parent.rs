//! What a differencing disk's header says about its parent: who it is, and where it was.

use std::ops::Range;
use std::path::PathBuf;

use uuid::Uuid;

use super::header::{DynamicHeader, HEADER_LEN};
use super::locator::{MAX_LOCATOR, Platform, header_name, utf16};
use super::{be32, be64};
use crate::device::SECTOR;
use crate::error::Result;
use crate::store::Store;

/// Locators that fit in a header.
pub(super) const LOCATORS: usize = 8;

const UUID_AT: usize = 40;
const TIMESTAMP_AT: usize = 56;
const NAME_AT: usize = 64;
const NAME_LEN: usize = 512;
const LOCATORS_AT: usize = 576;
const LOCATOR_LEN: usize = 24;

/// Where a locator's text lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locator {
    /// Whose names it speaks.
    pub platform: Platform,
    /// Bytes of its text.
    pub len: u32,
    /// Byte offset of its text in the file.
    pub offset: u64,
}

impl Locator {
    /// Bytes it occupies, in whole sectors.
    pub fn space(&self) -> u64 {
        u64::from(self.len).next_multiple_of(SECTOR)
    }

    /// The bytes of the file that are its own, whether the file has them (yet) or not: what may be blocks
    /// must not change as the file grows. A text too long to be read has none.
    pub(super) fn claim(&self) -> Option<Range<u64>> {
        let end = self.offset.checked_add(self.space())?;
        (1..=MAX_LOCATOR)
            .contains(&self.len)
            .then_some(self.offset..end)
    }

    /// Its text, or what is wrong with it.
    pub fn read(&self, store: &dyn Store) -> Result<Vec<u8>> {
        let corrupt = |what: String| crate::Error::corrupt(what).at_offset(self.offset);
        if self.len == 0 || self.len > MAX_LOCATOR {
            return Err(corrupt(format!("a parent locator of {} bytes", self.len)));
        }
        let file_len = store.len()?;
        match self.offset.checked_add(u64::from(self.len)) {
            Some(end) if end <= file_len => {}
            _ => return Err(corrupt("a parent locator that is not in the file".into())),
        }
        let mut data = vec![0; self.len as usize];
        store.read_at(self.offset, &mut data)?;
        Ok(data)
    }
}

/// What a child knows of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentLink {
    /// The parent's [UUID](super::Footer::uuid).
    pub uuid: Uuid,
    /// The parent's [timestamp](super::Footer::timestamp) when the child was made: a parent that was
    /// written to since has another.
    pub timestamp: u32,
    /// The parent's name, for people and as the last resort.
    pub name: String,
    /// Where it may be found.
    pub locators: Vec<Locator>,
}

impl ParentLink {
    /// Reads the link from a dynamic header's bytes, whose checksum the caller has checked.
    pub fn parse(header: &[u8; HEADER_LEN]) -> Self {
        let locators = header[LOCATORS_AT..LOCATORS_AT + LOCATORS * LOCATOR_LEN]
            .chunks_exact(LOCATOR_LEN)
            .filter_map(|entry| {
                Some(Locator {
                    platform: Platform::from_code(be32(entry, 0))?,
                    len: be32(entry, 8),
                    offset: be64(entry, 16),
                })
            })
            .collect();
        Self {
            uuid: Uuid::from_slice(&header[UUID_AT..UUID_AT + 16]).unwrap_or_default(),
            timestamp: be32(header, TIMESTAMP_AT),
            name: utf16(&header[NAME_AT..NAME_AT + NAME_LEN]),
            locators,
        }
    }

    /// Changes the parent's timestamp in a dynamic header's bytes, and its checksum. Both lie in the first
    /// sector.
    pub(super) fn stamp(header: &mut [u8; HEADER_LEN], timestamp: u32) {
        header[TIMESTAMP_AT..TIMESTAMP_AT + 4].copy_from_slice(&timestamp.to_be_bytes());
        super::header::seal(header);
    }

    /// A dynamic header's bytes with this link in them, checksum and all.
    pub fn header_bytes(&self, header: &DynamicHeader) -> [u8; HEADER_LEN] {
        let mut bytes = header.to_bytes();
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(UUID_AT, self.uuid.as_bytes());
        put(TIMESTAMP_AT, &self.timestamp.to_be_bytes());
        put(NAME_AT, &header_name(self.name.as_ref()));
        for (i, locator) in self.locators.iter().take(LOCATORS).enumerate() {
            let at = LOCATORS_AT + i * LOCATOR_LEN;
            put(at, &locator.platform.code().to_be_bytes());
            // Writers disagree whether this counts sectors or bytes; readers go by the length.
            put(at + 4, &(locator.space() as u32).to_be_bytes());
            put(at + 8, &locator.len.to_be_bytes());
            put(at + 16, &locator.offset.to_be_bytes());
        }
        super::header::seal(&mut bytes);
        bytes
    }

    /// Paths where the parent may be, best first, as the locators spell them (relative ones are meant from
    /// the child's folder); then the bare names, to be looked for beside the child. Locators that cannot
    /// be read are left out.
    pub fn candidates(&self, store: &dyn Store) -> Vec<PathBuf> {
        let mut locators = self.locators.clone();
        locators.sort_by_key(|l| l.platform.rank());
        let read: Vec<_> = locators
            .iter()
            .filter_map(|l| Some((l.platform, l.read(store).ok()?)))
            .collect();
        let paths = read.iter().filter_map(|(p, data)| p.path(data));
        let names = read.iter().filter_map(|(p, data)| p.file_name(data));
        let own = Platform::Wi2r.file_name(self.name.as_bytes());
        let mut found: Vec<PathBuf> = Vec::new();
        for path in paths.chain(names).chain(own) {
            if !found.contains(&path) {
                found.push(path);
            }
        }
        found
    }
}
