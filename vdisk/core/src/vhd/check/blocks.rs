//! The check of blocks, their bitmaps, and the parent.

use std::path::{Path, PathBuf};

use super::super::create::{NewParent, link_to};
use super::super::edit::{Plan, switch_to};
use super::super::footer::DiskType;
use super::super::header::UNUSED;
use super::super::layout::{Flaw, FlawKind, Layout};
use super::super::parent::ParentLink;
use super::super::{HEADER_LEN, read_footer};
use super::inspect::Image;
use super::report::{Damage, Finding};
use crate::chain;
use crate::device::SECTOR;
use crate::error::Result;
use crate::store::Store;

/// Entries past the disk's last block that are looked at; real tables have hardly any.
const MAX_STRAY: u64 = 1 << 20;

/// Findings of one class that are told one by one; more would tell nobody more.
const TOLD: usize = 1 << 16;

pub(super) fn check(image: &Image<'_>, layout: &Layout, findings: &mut Vec<Finding>) -> Result<()> {
    let flaws = layout.flaws();
    for flaw in flaws.iter().take(TOLD) {
        findings.push(judge(layout, flaw));
    }
    check_stray(image, layout, findings)?;
    check_bitmaps(image, layout, &flaws, findings)?;
    if let Some(link) = &layout.link {
        check_parent(image, layout, link, &flaws, findings)?;
    }
    Ok(())
}

/// Whether a flaw is a block of which the file has only the beginning.
pub(super) fn is_cut(layout: &Layout, flaw: &Flaw) -> bool {
    flaw.kind == FlawKind::PastEnd && flaw.start < layout.payload_end
}

fn entry_at(layout: &Layout, block: usize) -> u64 {
    layout.header.table_offset + block as u64 * 4
}

/// The table's entry of a block made empty. Like every plan of which there may be many, it leaves the
/// sync to the repair.
fn without_entry(layout: &Layout, block: usize) -> Plan {
    Plan::default().write(entry_at(layout, block), UNUSED.to_be_bytes())
}

fn judge(layout: &Layout, flaw: &Flaw) -> Finding {
    let block_sectors = u64::from(layout.header.block_size) / SECTOR;
    let finding = |damage| {
        Finding::new(damage, layout.tell(flaw))
            .at(entry_at(layout, flaw.block))
            .block(flaw.block, block_sectors)
    };
    match flaw.kind {
        FlawKind::InMetadata => {
            finding(Damage::BlockInMetadata).refused("where the block really is, is not known")
        }
        FlawKind::Overlaps(_) => {
            finding(Damage::BlocksOverlap).refused("whose the sectors are, is not known")
        }
        FlawKind::PastEnd => {
            let data = flaw.start + layout.header.bitmap_len();
            let lost =
                (data + block_sectors * SECTOR - layout.payload_end.max(data)).div_ceil(SECTOR);
            let finding = finding(Damage::BlockPastEnd).sectors(lost);
            match flaw.start >= layout.payload_end {
                true => finding.lost_by(without_entry(layout, flaw.block)),
                false => finding.refused("the footer at the end must be missing for that"),
            }
        }
    }
}

fn check_stray(image: &Image<'_>, layout: &Layout, findings: &mut Vec<Finding>) -> Result<()> {
    let first = layout.table.len() as u64;
    let count = u64::from(layout.header.entries)
        .saturating_sub(first)
        .min(MAX_STRAY);
    let mut bytes = vec![0; (count * 4) as usize];
    image
        .store
        .read_at(layout.header.table_offset + first * 4, &mut bytes)?;
    let strays = bytes
        .chunks_exact(4)
        .enumerate()
        .filter(|(_, entry)| *entry != UNUSED.to_be_bytes());
    for (i, _) in strays.take(TOLD) {
        let block = layout.table.len() + i;
        let what = format!("the table has a block {block}, the disk only {first}");
        let plan = without_entry(layout, block);
        let at = entry_at(layout, block);
        findings.push(
            Finding::new(Damage::StrayEntries, what)
                .at(at)
                .mended_by(plan),
        );
    }
    Ok(())
}

fn check_bitmaps(
    image: &Image<'_>,
    layout: &Layout,
    flaws: &[Flaw],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let header = &layout.header;
    let block_sectors = u64::from(header.block_size) / SECTOR;
    let mut flawed: Vec<usize> = flaws.iter().map(|flaw| flaw.block).collect();
    flawed.sort_unstable();
    let mut bitmap = vec![0; header.bitmap_len() as usize];
    let (mut padded, mut empty) = (0, 0);
    for (slot, block) in layout.slots() {
        if flawed.binary_search(&block).is_ok() {
            continue;
        }
        image.store.read_at(slot, &mut bitmap)?;
        let used = (block_sectors / 8) as usize;
        let (bits, padding) = bitmap.split_at(used.max(1));
        // Blocks of less than eight sectors share their byte with padding.
        let over = (block_sectors < 8).then(|| bits[0] & (0xff >> block_sectors));
        let dirty = over.is_some_and(|bits| bits != 0) || padding.iter().any(|b| *b != 0);
        if dirty && padded < TOLD {
            padded += 1;
            let mut clean = bits.to_vec();
            if over.is_some() {
                clean[0] &= !(0xff >> block_sectors);
            }
            clean.resize(bitmap.len(), 0);
            let what = format!("the bitmap of block {block} has bits past the block's end");
            findings.push(
                Finding::new(Damage::BitmapPadding, what)
                    .at(slot)
                    .block(block, 0)
                    .mended_by(Plan::default().write(slot, clean)),
            );
        }
        if empty < TOLD && bits.iter().all(|b| *b == 0) {
            empty += 1;
            let what = format!("block {block} has a place in the file, but no sector was written");
            let finding = Finding::new(Damage::BitmapEmpty, what)
                .at(slot)
                .block(block, block_sectors);
            let data = slot + header.bitmap_len();
            // Some readers ignore bitmaps: to them, bytes there are data.
            findings.push(match is_zero(image.store, data, block_sectors * SECTOR)? {
                true => finding.mended_by(without_entry(layout, block)),
                false => finding.refused("the block holds bytes, which a damaged bitmap may hide"),
            });
        }
    }
    Ok(())
}

/// Whether bytes of a store are all zero.
pub(in super::super) fn is_zero(store: &dyn Store, mut at: u64, len: u64) -> Result<bool> {
    let end = at + len;
    let mut buf = vec![0; 64 << 10];
    while at < end {
        let (data, n) = store.allocated(at, (end - at).min(buf.len() as u64))?;
        if data {
            let buf = &mut buf[..n as usize];
            store.read_at(at, buf)?;
            if buf.iter().any(|b| *b != 0) {
                return Ok(false);
            }
        }
        at += n;
    }
    Ok(true)
}

fn check_parent(
    image: &Image<'_>,
    layout: &Layout,
    link: &ParentLink,
    flaws: &[Flaw],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let found = image.path.map(|path| find_parent(image, path, link));
    let broken: Vec<_> = link
        .locators
        .iter()
        .filter(|locator| {
            let end = locator.offset.saturating_add(locator.space());
            locator.read(image.store).is_err() || end > image.payload_end()
        })
        .collect();
    if let Some(first) = broken.first() {
        let what = format!(
            "{} of {} parent locators cannot be read",
            broken.len(),
            link.locators.len()
        );
        let finding = Finding::new(Damage::LocatorBroken, what).at(first.offset);
        findings.push(match (&found, image.tail) {
            (Some(Ok(parent)), Some(_)) if flaws.is_empty() => {
                finding.mended_by(relocated(image, layout, link, parent)?)
            }
            (_, None) => finding.refused("the footer at the end must be repaired first"),
            (Some(Ok(_)), _) => finding.refused("other parts of the image are damaged"),
            _ => finding.refused("its parent must be found first"),
        });
    }
    if let Some(Err(found)) = found {
        findings.push(*found);
    }
    Ok(())
}

/// The parent's file, or what is wrong with it.
fn find_parent(image: &Image<'_>, path: &Path, link: &ParentLink) -> Result<PathBuf, Box<Finding>> {
    let all = image.footer.current_size / SECTOR;
    let missing = |e: crate::Error| {
        let finding = Finding::new(Damage::ParentMissing, e.to_string());
        Box::new(finding.sectors(all).refused("the parent is another file"))
    };
    let mismatch = |what: String| {
        let finding = Finding::new(Damage::ParentMismatch, what).sectors(all);
        Box::new(finding.refused("which disk is right, is not known"))
    };
    let own = chain::canonical(path).map_err(missing)?;
    let candidates = link.candidates(image.store);
    let seen = [chain::file_id(&own).map_err(missing)?];
    let (parent, store) = match chain::locate(&own, link, &candidates, &seen, false) {
        Ok(found) => found,
        // Forced, it would have been something: so something is there, but the wrong thing.
        Err(e) if chain::locate(&own, link, &candidates, &seen, true).is_ok() => {
            return Err(mismatch(e.to_string()));
        }
        Err(e) => return Err(missing(e)),
    };
    let Some(footer) = read_footer(&store).map_err(missing)? else {
        return Err(mismatch(format!("{} is no VHD any more", parent.display())));
    };
    if footer.current_size != image.footer.current_size {
        return Err(mismatch(format!(
            "the parent {} has {} bytes, the child {}",
            parent.display(),
            footer.current_size,
            image.footer.current_size
        )));
    }
    let modified = store.modified().map_err(missing)?;
    if let Err(e) = chain::check_identity(&own, &parent, link, &footer, modified) {
        let finding = Finding::new(Damage::ParentModified, e.to_string()).sectors(all);
        return Err(Box::new(
            finding.refused("what the child showed before is not known"),
        ));
    }
    Ok(parent)
}

/// The header with new locators that lead to `parent`, which stays the one it was.
fn relocated(image: &Image<'_>, layout: &Layout, link: &ParentLink, parent: &Path) -> Result<Plan> {
    debug_assert_eq!(image.footer.disk_type, DiskType::Differencing);
    let at = image.free_from();
    let path = image.path.unwrap_or(parent);
    let new = NewParent {
        footer: &image.footer,
        path: parent,
        child_folder: &chain::folder_of(path)?,
    };
    let (fresh, texts) = link_to(&new, at + HEADER_LEN as u64);
    let link = ParentLink {
        locators: fresh.locators,
        ..link.clone()
    };
    let mut metadata = link.header_bytes(&layout.header).to_vec();
    metadata.extend(texts);
    Ok(switch_to(at, metadata, &image.footer, &image.bytes))
}
