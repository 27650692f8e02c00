//! Opening an image: find its footer, believe nothing, and set right what a crash may leave behind.

use std::sync::Arc;

use super::dynamic::Dynamic;
use super::footer::{DiskType, FOOTER_LEN, Footer};
use super::header::DynamicHeader;
use super::layout::Layout;
use super::parent::ParentLink;
use super::stamped::Stamped;
use crate::device::SECTOR;
use crate::error::{Error, Result};
use crate::flat::Flat;
use crate::layer::Layer;
use crate::store::Store;

/// Damaged table entries told one by one; the rest is counted.
const TOLD: usize = 16;

/// An image, ready to be a layer.
pub struct Opened {
    /// What the footer says.
    pub footer: Footer,
    /// How the payload is kept.
    pub payload: Payload,
    /// Whose child it is, for a differencing disk. Its layer must then lie above the parent's: alone, what
    /// the parent has reads as zeros.
    pub parent: Option<ParentLink>,
    /// What was found damaged but did not keep the image from being opened, in words. When it was opened
    /// for writing, it has been mended.
    pub troubles: Vec<String>,
    /// Bytes at the end of the file that no block uses: what a crash or a discard left behind. Opened for
    /// writing, they have been given back.
    pub slack: u64,
}

/// How an image keeps its payload.
pub enum Payload {
    /// All of it, in order.
    Fixed(Box<Stamped<Flat>>),
    /// In blocks.
    Dynamic(Box<Dynamic>, DynamicHeader),
}

impl Opened {
    /// The layer, boxed.
    pub fn into_layer(self) -> Box<dyn Layer> {
        match self.payload {
            Payload::Fixed(flat) => flat,
            Payload::Dynamic(dynamic, _) => dynamic,
        }
    }
}

/// Where a valid footer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FooterPlace {
    /// At this offset, the end of the file.
    End(u64),
    /// Only in the copy at the start: the end of the file was lost.
    Start,
}

/// Reads the footer without opening the image: `Ok(None)` when nothing in the file looks like a VHD, an
/// error when something does but is damaged.
pub fn read_footer(store: &dyn Store) -> Result<Option<Footer>> {
    Ok(find_footer(store)?.map(|(footer, _)| footer))
}

pub(super) fn footer_at(store: &dyn Store, offset: u64, len: usize) -> Result<[u8; FOOTER_LEN]> {
    let mut bytes = [0; FOOTER_LEN];
    store.read_at(offset, &mut bytes[..len])?;
    Ok(bytes)
}

pub(super) fn find_footer(store: &dyn Store) -> Result<Option<(Footer, FooterPlace)>> {
    let len = store.len()?;
    if len < FOOTER_LEN as u64 {
        return Ok(None);
    }
    // The very first writers of the format left the footer's last byte out.
    let short = (len % SECTOR == SECTOR - 1) as usize;
    let end = len - (FOOTER_LEN - short) as u64;
    let last = footer_at(store, end, FOOTER_LEN - short)?;
    let damage = match Footer::parse(&last) {
        Ok(footer) => return Ok(Some((footer, FooterPlace::End(end)))),
        Err(e) => Footer::looks_like(&last).then(|| e.at_offset(end)),
    };
    let first = footer_at(store, 0, FOOTER_LEN)?;
    match (Footer::looks_like(&first), Footer::parse(&first)) {
        (true, Ok(footer)) if footer.disk_type != DiskType::Fixed => {
            Ok(Some((footer, FooterPlace::Start)))
        }
        (true, Ok(_)) => Err(Error::corrupt(
            "a fixed VHD without its footer: the end of the file is missing",
        )
        .at_offset(end)
        .remedy("fetch the file again; if it is whole, open it as a raw disk")),
        (true, Err(e)) => Err(damage.unwrap_or(e.at_offset(0))),
        (false, _) => damage.map_or(Ok(None), Err),
    }
}

/// Opens the image in `store`. Opened for writing, a damaged copy of the footer is written anew and space
/// that a crash leaked is given back, before anything else is written.
pub fn open(store: Arc<dyn Store>, read_only: bool) -> Result<Opened> {
    let opened = open_pathless(store.clone(), read_only);
    opened.map_err(|e| match store.path() {
        Some(path) => e.at_path(path),
        None => e,
    })
}

fn open_pathless(store: Arc<dyn Store>, read_only: bool) -> Result<Opened> {
    let Some((footer, place)) = find_footer(&*store)? else {
        return Err(Error::corrupt(
            "not a VHD: no footer at the end of the file, no copy at its start",
        ));
    };
    match footer.disk_type {
        DiskType::Fixed => open_fixed(store, footer, place),
        DiskType::Dynamic | DiskType::Differencing => open_growing(store, footer, place, read_only),
    }
}

fn open_fixed(store: Arc<dyn Store>, footer: Footer, place: FooterPlace) -> Result<Opened> {
    let FooterPlace::End(end) = place else {
        return Err(Error::corrupt("a fixed VHD without its footer"));
    };
    if end < footer.current_size {
        return Err(Error::corrupt(format!(
            "the file is cut short: {} bytes of payload, but the footer says {}",
            end, footer.current_size
        ))
        .remedy("fetch the file again"));
    }
    let flat = Flat::new(store.clone(), footer.current_size / SECTOR);
    let bytes = match end + FOOTER_LEN as u64 <= store.len()? {
        true => footer_at(&*store, end, FOOTER_LEN)?,
        false => footer.to_bytes(),
    };
    Ok(Opened {
        footer,
        payload: Payload::Fixed(Box::new(Stamped::new(flat, bytes, end))),
        parent: None,
        troubles: Vec::new(),
        slack: 0,
    })
}

fn open_growing(
    store: Arc<dyn Store>,
    footer: Footer,
    place: FooterPlace,
    read_only: bool,
) -> Result<Opened> {
    let mut troubles = Vec::new();
    let payload_end = match place {
        FooterPlace::End(end) => end,
        FooterPlace::Start => store.len()?,
    };
    let layout = Layout::read(&*store, &footer, payload_end)?;
    judge_blocks(&layout, read_only, &mut troubles)?;
    let end = layout.end();

    let start_copy = footer_at(&*store, 0, FOOTER_LEN)?;
    let mut footer_place = payload_end;
    let mut slack = 0;
    let bytes = match place {
        FooterPlace::Start => {
            troubles.push("the footer at the end of the file was missing or damaged".into());
            footer_place = end;
            if !read_only {
                store.write_at(end, &start_copy)?;
                store.sync()?;
                store.set_len(end + FOOTER_LEN as u64)?;
            }
            start_copy
        }
        FooterPlace::End(at) => {
            let original = match at + FOOTER_LEN as u64 <= store.len()? {
                true => footer_at(&*store, at, FOOTER_LEN)?,
                // The short footer of the first writers of the format.
                false => {
                    let whole = footer.to_bytes_like(&start_copy);
                    if !read_only {
                        store.write_at(at, &whole)?;
                        store.sync()?;
                    }
                    whole
                }
            };
            // Only whole blocks count: small gaps are other writers' padding.
            if at >= end + u64::from(layout.header.block_size) {
                slack = at - end;
                if !read_only {
                    store.write_at(end, &original)?;
                    store.sync()?;
                    store.set_len(end + FOOTER_LEN as u64)?;
                    footer_place = end;
                }
            }
            if Footer::parse(&start_copy).is_err() {
                troubles.push("the footer's copy at the start of the file was damaged".into());
            }
            // One that is merely older belongs to a change that a crash interrupted here.
            if !read_only && Footer::parse(&start_copy).ok().as_ref() != Some(&footer) {
                store.write_at(0, &original)?;
                store.sync()?;
            }
            original
        }
    };
    let dynamic = Dynamic::new(
        store,
        footer.current_size,
        &layout.header,
        layout.table,
        layout.link.as_ref(),
        bytes,
        footer_place,
    );
    Ok(Opened {
        footer,
        payload: Payload::Dynamic(Box::new(dynamic), layout.header),
        parent: layout.link,
        troubles,
        slack,
    })
}

/// Checks that every block lies in the file, and that no two things overlap. A reader gets off with a
/// note; a writer could make it worse and is refused.
fn judge_blocks(layout: &Layout, read_only: bool, troubles: &mut Vec<String>) -> Result<()> {
    let flaws = layout.flaws();
    for flaw in flaws.iter().take(TOLD) {
        let error = Error::corrupt(layout.tell(flaw))
            .at_offset(layout.header.table_offset + flaw.block as u64 * 4)
            .remedy("open it read-only to save what is readable");
        if !read_only {
            return Err(error);
        }
        troubles.push(error.to_string());
    }
    if flaws.len() > TOLD {
        troubles.push(format!(
            "{} more damaged entries of the block table",
            flaws.len() - TOLD
        ));
    }
    Ok(())
}
