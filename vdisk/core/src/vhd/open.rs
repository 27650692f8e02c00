//! Opening an image: find its footer, believe nothing, and set right what a crash may leave behind.

use std::sync::Arc;

use super::dynamic::Dynamic;
use super::footer::{DiskType, FOOTER_LEN, Footer};
use super::header::{DynamicHeader, HEADER_LEN, UNUSED};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
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
    Fixed(Flat),
    /// In blocks.
    Dynamic(Box<Dynamic>, DynamicHeader),
}

impl Opened {
    /// The layer, boxed.
    pub fn into_layer(self) -> Box<dyn Layer> {
        match self.payload {
            Payload::Fixed(flat) => Box::new(flat),
            Payload::Dynamic(dynamic, _) => dynamic,
        }
    }
}

/// Where a valid footer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FooterPlace {
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

fn footer_at(store: &dyn Store, offset: u64, len: usize) -> Result<[u8; FOOTER_LEN]> {
    let mut bytes = [0; FOOTER_LEN];
    store.read_at(offset, &mut bytes[..len])?;
    Ok(bytes)
}

fn find_footer(store: &dyn Store) -> Result<Option<(Footer, FooterPlace)>> {
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
        DiskType::Dynamic => open_dynamic(store, footer, place, read_only),
        DiskType::Differencing => Err(Error::new(
            ErrorKind::Unsupported,
            "differencing VHDs (children of another VHD) are not supported yet",
        )
        .remedy("merge it into its parent with the tool that made it")),
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
    let flat = Flat::new(store, footer.current_size / SECTOR);
    Ok(Opened {
        footer,
        payload: Payload::Fixed(flat),
        troubles: Vec::new(),
        slack: 0,
    })
}

fn open_dynamic(
    store: Arc<dyn Store>,
    footer: Footer,
    place: FooterPlace,
    read_only: bool,
) -> Result<Opened> {
    let mut troubles = Vec::new();
    let file_len = store.len()?;
    let payload_end = match place {
        FooterPlace::End(end) => end,
        FooterPlace::Start => file_len,
    };

    let header_at = footer.header_offset;
    if !header_at.is_multiple_of(SECTOR)
        || header_at < FOOTER_LEN as u64
        || header_at > file_len - HEADER_LEN.min(file_len as usize) as u64
    {
        return Err(Error::corrupt(format!(
            "the dynamic header's offset {header_at} is not in the file"
        )));
    }
    let mut bytes = [0; HEADER_LEN];
    store.read_at(header_at, &mut bytes)?;
    let header =
        DynamicHeader::parse(&bytes, footer.current_size).map_err(|e| e.at_offset(header_at))?;
    let table_end = header.table_offset + header.table_len();
    let header_end = header_at + HEADER_LEN as u64;
    if header.table_offset < FOOTER_LEN as u64
        || (header.table_offset < header_end && header_at < table_end)
    {
        return Err(Error::corrupt(
            "the block table lies over the footer's copy or the dynamic header",
        )
        .at_offset(header.table_offset));
    }
    let meta_end = table_end.max(header_end);
    // Some writers do not pad the table to a whole sector.
    if header.table_offset + u64::from(header.entries) * 4 > payload_end {
        return Err(Error::corrupt(format!(
            "the block table ends at {table_end}, past the end of the file ({file_len})"
        ))
        .at_offset(header.table_offset)
        .remedy("fetch the file again"));
    }
    let blocks = footer.current_size.div_ceil(u64::from(header.block_size)) as usize;
    let mut bytes = vec![0; blocks * 4];
    store.read_at(header.table_offset, &mut bytes)?;
    let table: Vec<u32> = bytes
        .chunks_exact(4)
        .map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
        .collect();

    let block_end = check_table(
        &table,
        &header,
        meta_end,
        payload_end,
        read_only,
        &mut troubles,
    )?;
    let end = block_end.unwrap_or(table_end).max(meta_end);

    let start_copy = footer_at(&*store, 0, FOOTER_LEN)?;
    let copy = footer.to_bytes_like(&start_copy);
    let mut footer_place = payload_end;
    let mut slack = 0;
    match place {
        FooterPlace::Start => {
            troubles.push("the footer at the end of the file was missing or damaged".into());
            footer_place = end;
            if !read_only {
                store.write_at(end, &copy)?;
                store.sync()?;
                store.set_len(end + FOOTER_LEN as u64)?;
            }
        }
        FooterPlace::End(at) => {
            // Only whole blocks count: small gaps are other writers' padding.
            if at >= end + u64::from(header.block_size) {
                slack = at - end;
                if !read_only {
                    store.write_at(end, &copy)?;
                    store.sync()?;
                    store.set_len(end + FOOTER_LEN as u64)?;
                    footer_place = end;
                }
            }
            if Footer::parse(&start_copy).is_err() {
                troubles.push("the footer's copy at the start of the file was damaged".into());
                if !read_only {
                    store.write_at(0, &copy)?;
                    store.sync()?;
                }
            }
        }
    }
    let dynamic = Dynamic::new(
        store,
        footer.current_size,
        &header,
        table,
        copy,
        footer_place,
    );
    Ok(Opened {
        footer,
        payload: Payload::Dynamic(Box::new(dynamic), header),
        troubles,
        slack,
    })
}

/// Checks that every block lies in the file, past the metadata, and that no two overlap. Returns the end
/// of the last one. A reader gets off with a note; a writer could make it worse and is refused.
fn check_table(
    table: &[u32],
    header: &DynamicHeader,
    meta_end: u64,
    payload_end: u64,
    read_only: bool,
    troubles: &mut Vec<String>,
) -> Result<Option<u64>> {
    let slot_len = header.bitmap_len() + u64::from(header.block_size);
    let mut slots: Vec<(u64, usize)> = table
        .iter()
        .enumerate()
        .filter(|(_, entry)| **entry != UNUSED)
        .map(|(block, entry)| (u64::from(*entry) * SECTOR, block))
        .collect();
    slots.sort_unstable();
    let mut found = 0usize;
    let mut damage = |what: &dyn Fn() -> String, block: usize| {
        found += 1;
        if !read_only || found <= TOLD {
            let error = Error::corrupt(what())
                .at_offset(header.table_offset + block as u64 * 4)
                .remedy("open it read-only to save what is readable");
            if !read_only {
                return Err(error);
            }
            troubles.push(error.to_string());
        }
        Ok(())
    };
    for (at, block) in &slots {
        let end = at + slot_len;
        if *at < meta_end {
            let what = || format!("block {block} starts at {at}, inside the image's metadata");
            damage(&what, *block)?;
        }
        if end > payload_end {
            let what = || {
                format!("block {block} ends at {end}, past the end of the payload ({payload_end})")
            };
            damage(&what, *block)?;
        }
    }
    for pair in slots.windows(2) {
        let ((at, block), (next, other)) = (pair[0], pair[1]);
        if at + slot_len > next {
            damage(
                &|| format!("blocks {block} and {other} overlap at {next}"),
                other,
            )?;
        }
    }
    if found > TOLD {
        troubles.push(format!(
            "{} more damaged entries of the block table",
            found - TOLD
        ));
    }
    Ok(slots.last().map(|(at, _)| at + slot_len))
}
