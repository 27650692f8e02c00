//! A growing image taken apart for work on its file: its footer, its metadata, and where those may go.

use std::sync::Arc;

use super::edit::{Plan, Preview, end_at, free_from, replace_footers};
use super::footer::{FOOTER_LEN, Footer};
use super::header::{DynamicHeader, HEADER_LEN, seal};
use super::layout::{Layout, read_header};
use super::open::{FooterPlace, find_footer, footer_at};
use super::parent::{Locator, ParentLink};
use super::{DiskType, open};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// An image that is sound and that nobody else is using.
pub(super) struct Growing {
    pub store: Arc<dyn Store>,
    pub footer: Footer,
    pub bytes: [u8; FOOTER_LEN],
    pub footer_at: u64,
    pub header_bytes: [u8; HEADER_LEN],
    pub layout: Layout,
}

impl Growing {
    /// Takes the image in `store` apart. What a writer mends is mended; what it refuses is refused.
    pub fn take(store: Arc<dyn Store>) -> Result<Self> {
        open(store.clone(), false)?;
        Self::read(store)
    }

    /// Reads it again after a change.
    pub fn read(store: Arc<dyn Store>) -> Result<Self> {
        Self::read_through(&*store.clone(), store)
    }

    /// Reads the image of `store` as `view` shows it.
    fn read_through(view: &dyn Store, store: Arc<dyn Store>) -> Result<Self> {
        let Some((footer, FooterPlace::End(footer_at_end))) = find_footer(view)? else {
            return Err(Error::corrupt("the VHD's footer is missing"));
        };
        if footer.disk_type == DiskType::Fixed {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "a fixed VHD has no blocks",
            ));
        }
        let bytes = footer_at(view, footer_at_end, FOOTER_LEN)?;
        let header_bytes = read_header(view, footer.header_offset, view.len()?)?;
        let layout = Layout::read(view, &footer, footer_at_end)?;
        Ok(Self {
            store,
            footer,
            bytes,
            footer_at: footer_at_end,
            header_bytes,
            layout,
        })
    }

    /// Where new metadata may be written.
    pub fn free_from(&self) -> u64 {
        free_from(self.footer_at)
    }

    /// Carries out a plan and reads what it made. A plan that would leave what cannot be read changes
    /// nothing.
    pub fn change(self, plan: &Plan) -> Result<Self> {
        let preview = Preview {
            store: &*self.store,
            plan,
        };
        Self::read_through(&preview, self.store.clone())?;
        plan.carry_out(&*self.store)?;
        Self::read(self.store)
    }

    /// Cuts off what nothing uses at the end of the file.
    pub fn trim(self) -> Result<Self> {
        let end = self.layout.end();
        match end < self.footer_at {
            true => {
                let plan = end_at(end, &self.bytes);
                self.change(&plan)
            }
            false => Ok(self),
        }
    }

    /// Both footers with another header offset.
    pub fn leading_to(&self, header_at: u64) -> Plan {
        let footer = Footer {
            header_offset: header_at,
            ..self.footer.clone()
        };
        replace_footers(self.footer_at, &footer.to_bytes_over(&self.bytes))
    }

    /// Bytes of all the metadata but the footers.
    pub fn metadata_len(&self, entries: u32) -> u64 {
        let header = DynamicHeader {
            entries,
            ..self.layout.header.clone()
        };
        let texts: u64 = self.locators().map(|locator| locator.space()).sum();
        HEADER_LEN as u64 + texts + header.table_len()
    }

    fn locators(&self) -> impl Iterator<Item = &Locator> {
        let locators = self.layout.link.iter().flat_map(|link| &link.locators);
        locators.filter(|locator| locator.read(&*self.store).is_ok())
    }

    /// The header, the locators' texts and a table of `entries` entries, as they would lie from `at` on.
    pub fn metadata_at(&self, at: u64, entries: u32) -> Result<Vec<u8>> {
        let mut texts = Vec::new();
        let mut locators = Vec::new();
        for locator in self.locators() {
            locators.push(Locator {
                offset: at + HEADER_LEN as u64 + texts.len() as u64,
                ..*locator
            });
            texts.extend(locator.read(&*self.store)?);
            texts.resize(texts.len().next_multiple_of(SECTOR as usize), 0);
        }
        let header = DynamicHeader {
            table_offset: at + HEADER_LEN as u64 + texts.len() as u64,
            entries,
            block_size: self.layout.header.block_size,
        };
        let mut metadata = match &self.layout.link {
            Some(link) => ParentLink {
                locators,
                ..link.clone()
            }
            .header_bytes(&header)
            .to_vec(),
            // What others keep in a header without a parent stays.
            None => {
                let mut bytes = self.header_bytes;
                bytes[16..24].copy_from_slice(&header.table_offset.to_be_bytes());
                bytes[28..32].copy_from_slice(&entries.to_be_bytes());
                seal(&mut bytes);
                bytes.to_vec()
            }
        };
        metadata.extend(texts);
        let table_end = metadata.len() + header.table_len() as usize;
        let blocks = self.layout.table.iter().take(entries as usize);
        metadata.extend(blocks.flat_map(|entry| entry.to_be_bytes()));
        metadata.resize(table_end, 0xff);
        Ok(metadata)
    }

    /// The table's entries of `blocks` made `entry`.
    pub fn entries(&self, changes: impl IntoIterator<Item = (usize, u32)>) -> Plan {
        let at = self.layout.header.table_offset;
        changes
            .into_iter()
            .fold(Plan::default(), |plan, (block, entry)| {
                plan.write(at + block as u64 * 4, entry.to_be_bytes())
            })
            .sync()
    }

    /// The header with another timestamp of the parent: in place, since it and the checksum lie in one
    /// sector.
    pub fn with_parent_timestamp(self, timestamp: u32) -> Result<Self> {
        let mut bytes = self.header_bytes;
        ParentLink::stamp(&mut bytes, timestamp);
        let plan = Plan::default()
            .write(self.layout.header_at, &bytes[..SECTOR as usize])
            .sync();
        self.change(&plan)
    }
}
