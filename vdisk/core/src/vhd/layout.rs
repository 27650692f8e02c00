//! What lies where in a growing image: its metadata and blocks as regions of the file, and which of
//! them are not where they may be.

use super::footer::{FOOTER_LEN, Footer};
use super::header::{DynamicHeader, HEADER_LEN, UNUSED};
use super::parent::ParentLink;
use crate::device::SECTOR;
use crate::error::{Error, Result};
use crate::store::Store;

/// What a region of the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Copy,
    Header,
    Table,
    Locator,
    Block(usize),
}

/// A run of bytes with one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub start: u64,
    pub end: u64,
    pub used: Use,
}

/// What is wrong with a block's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlawKind {
    InMetadata,
    PastEnd,
    /// It lies over this block.
    Overlaps(usize),
}

/// A block that is not where it may be. A hostile table has a million of them, so they are small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flaw {
    pub kind: FlawKind,
    pub block: usize,
    /// Where it starts, in bytes.
    pub start: u64,
}

/// A growing image's metadata, read and each part checked by itself.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub header_at: u64,
    pub header: DynamicHeader,
    /// Of differencing disks.
    pub link: Option<ParentLink>,
    /// An entry per block of the disk.
    pub table: Vec<u32>,
    /// Where the payload must end: at the footer, or the file's end where that is missing.
    pub payload_end: u64,
}

impl Layout {
    /// Reads the metadata that `footer` leads to.
    pub fn read(store: &dyn Store, footer: &Footer, payload_end: u64) -> Result<Self> {
        let file_len = store.len()?;
        let header_at = footer.header_offset;
        let bytes = read_header(store, header_at, file_len)?;
        let header = DynamicHeader::parse(&bytes, footer.current_size)
            .map_err(|e| e.at_offset(header_at))?;
        let link =
            (footer.disk_type == super::DiskType::Differencing).then(|| ParentLink::parse(&bytes));
        Self::with(store, footer, header_at, header, link, payload_end)
    }

    /// Reads the table that `header` leads to.
    pub fn with(
        store: &dyn Store,
        footer: &Footer,
        header_at: u64,
        header: DynamicHeader,
        link: Option<ParentLink>,
        payload_end: u64,
    ) -> Result<Self> {
        let table_end = header.table_offset + header.table_len();
        let header_end = header_at + HEADER_LEN as u64;
        if header_end > payload_end {
            return Err(
                Error::corrupt("the dynamic header lies over the footer").at_offset(header_at)
            );
        }
        if header.table_offset < FOOTER_LEN as u64
            || (header.table_offset < header_end && header_at < table_end)
        {
            return Err(Error::corrupt(
                "the block table lies over the footer's copy or the dynamic header",
            )
            .at_offset(header.table_offset));
        }
        // Some writers do not pad the table to a whole sector.
        if header.table_offset + u64::from(header.entries) * 4 > payload_end {
            return Err(Error::corrupt(format!(
                "the block table ends at {table_end}, past the end of the file ({})",
                store.len()?
            ))
            .at_offset(header.table_offset)
            .remedy("fetch the file again"));
        }
        let blocks = footer.current_size.div_ceil(u64::from(header.block_size)) as usize;
        let mut bytes = vec![0; blocks * 4];
        store.read_at(header.table_offset, &mut bytes)?;
        let table = bytes
            .chunks_exact(4)
            .map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
            .collect();
        Ok(Self {
            header_at,
            header,
            link,
            table,
            payload_end,
        })
    }

    /// Bytes of a block with its bitmap.
    pub fn slot_len(&self) -> u64 {
        self.header.bitmap_len() + u64::from(self.header.block_size)
    }

    /// Where each block that has a place starts with its bitmap: `(byte offset, block)`, by offset.
    pub fn slots(&self) -> Vec<(u64, usize)> {
        let mut slots: Vec<_> = self
            .table
            .iter()
            .enumerate()
            .filter(|(_, entry)| **entry != UNUSED)
            .map(|(block, entry)| (u64::from(*entry) * SECTOR, block))
            .collect();
        slots.sort_unstable();
        slots
    }

    /// The regions of the metadata. Locators' may lie past the end of the file, in one of somebody's making.
    pub fn metadata(&self) -> Vec<Region> {
        let region = |start, len, used| Region {
            start,
            end: start + len,
            used,
        };
        let mut regions = vec![
            region(0, FOOTER_LEN as u64, Use::Copy),
            region(self.header_at, HEADER_LEN as u64, Use::Header),
            region(
                self.header.table_offset,
                self.header.table_len(),
                Use::Table,
            ),
        ];
        for locator in self.link.iter().flat_map(|link| &link.locators) {
            regions.extend(locator.claim().map(|claim| Region {
                start: claim.start,
                end: claim.end,
                used: Use::Locator,
            }));
        }
        regions.sort_by_key(|r| r.start);
        regions
    }

    /// Whether a region of the metadata is in the file.
    pub fn holds(&self, region: &Region) -> bool {
        region.used != Use::Locator || region.end <= self.payload_end
    }

    /// All regions, by their start.
    pub fn regions(&self) -> Vec<Region> {
        let len = self.slot_len();
        let blocks = self.slots().into_iter().map(|(start, block)| Region {
            start,
            end: start + len,
            used: Use::Block(block),
        });
        let mut regions = self.metadata();
        regions.extend(blocks);
        regions.sort_by_key(|r| r.start);
        regions
    }

    /// Where the last region that is in the file ends: a footer may follow.
    pub fn end(&self) -> u64 {
        let used = self.table.iter().filter(|entry| **entry != UNUSED);
        let block = used
            .max()
            .map_or(0, |entry| u64::from(*entry) * SECTOR + self.slot_len());
        let metadata = self.metadata().into_iter();
        metadata
            .filter(|r| self.holds(r))
            .fold(block, |end, r| end.max(r.end))
    }

    /// Blocks that do not lie in the file, or lie over something else; each is told once.
    pub fn flaws(&self) -> Vec<Flaw> {
        let len = self.slot_len();
        let metadata = self.metadata();
        let meets = |start: u64, end: u64| metadata.iter().any(|r| start < r.end && r.start < end);
        let mut flaws = Vec::new();
        let mut last: Option<(u64, usize)> = None;
        for (start, block) in self.slots() {
            let end = start + len;
            let kind = if meets(start, end) {
                Some(FlawKind::InMetadata)
            } else if end > self.payload_end {
                Some(FlawKind::PastEnd)
            } else {
                last.filter(|(end, _)| *end > start)
                    .map(|(_, other)| FlawKind::Overlaps(other))
            };
            flaws.extend(kind.map(|kind| Flaw { kind, block, start }));
            last = Some((end, block));
        }
        flaws
    }

    /// A flaw in words.
    pub fn tell(&self, flaw: &Flaw) -> String {
        let Flaw { kind, block, start } = *flaw;
        match kind {
            FlawKind::InMetadata => {
                format!("block {block} starts at {start}, inside the image's metadata")
            }
            FlawKind::PastEnd => format!(
                "block {block} ends at {}, past the end of the payload ({})",
                start + self.slot_len(),
                self.payload_end
            ),
            FlawKind::Overlaps(other) => format!("blocks {other} and {block} overlap at {start}"),
        }
    }
}

/// The bytes of the dynamic header at `header_at`.
pub(super) fn read_header(
    store: &dyn Store,
    header_at: u64,
    file_len: u64,
) -> Result<[u8; HEADER_LEN]> {
    if !header_at.is_multiple_of(SECTOR)
        || header_at < FOOTER_LEN as u64
        || header_at > file_len.saturating_sub(HEADER_LEN as u64)
    {
        return Err(Error::corrupt(format!(
            "the dynamic header's offset {header_at} is not in the file"
        )));
    }
    let mut bytes = [0; HEADER_LEN];
    store.read_at(header_at, &mut bytes)?;
    Ok(bytes)
}
