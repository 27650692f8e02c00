//! Compacting: blocks that hold nothing lose their place, the last blocks move into the holes, and the
//! file is cut. At every step the table names blocks that are whole.

use std::sync::Arc;

use serde::Serialize;
use vdisk_xts::{DataUnit, Xts, XtsKey};

use super::bitmap::Bitmap;
use super::check::is_zero;
use super::growing::Growing;
use super::header::UNUSED;
use super::layout::Use;
use crate::device::SECTOR;
use crate::error::Result;
use crate::progress::{Progress, tell};
use crate::store::Store;

/// Payload starts at multiples of this, as in blocks that grow.
const ALIGN: u64 = 4096;

/// Blocks moved between two syncs.
const BATCH: usize = 32;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Length of the file before, in bytes.
    pub before: u64,
    /// And after.
    pub after: u64,
    /// Blocks that held nothing but zeros.
    pub dropped: u64,
    /// Blocks that were moved.
    pub moved: u64,
}

/// Gives back the space that the growing image in `store` does not need, in place. `key` tells zeros
/// from data in an encrypted image; in a child only blocks go that nothing was written to, since zeros
/// hide what its parent has.
pub fn compact(
    store: Arc<dyn Store>,
    key: Option<&XtsKey>,
    progress: Progress<'_>,
) -> Result<Compacted> {
    let before = store.len()?;
    let image = Growing::take(store.clone())?;
    let empty = empty_blocks(&image, key.map(Xts::new).as_ref(), progress)?;
    let dropped = empty.len() as u64;
    let plan = image.entries(empty.into_iter().map(|block| (block, UNUSED)));
    let mut image = match dropped {
        0 => image,
        _ => image.change(&plan)?,
    };
    let mut moved = 0;
    loop {
        // The work so far counts as reading the disk did.
        tell(progress, image.footer.current_size)?;
        let moves = moves(&image);
        if moves.is_empty() {
            break;
        }
        moved += moves.len() as u64;
        image = carry_down(image, &moves)?;
    }
    let image = metadata_down(image)?.trim()?;
    Ok(Compacted {
        before,
        after: image.store.len()?,
        dropped,
        moved,
    })
}

fn empty_blocks(
    image: &Growing,
    cipher: Option<&Xts>,
    progress: Progress<'_>,
) -> Result<Vec<usize>> {
    let header = &image.layout.header;
    let block_sectors = u64::from(header.block_size) / SECTOR;
    let sectors = image.footer.current_size / SECTOR;
    let mut empty = Vec::new();
    let mut bytes = vec![0; header.bitmap_len() as usize];
    let mut buf = vec![0; (256 << 10).min(header.block_size as usize)];
    for (block, entry) in image.layout.table.iter().enumerate() {
        let first = block as u64 * block_sectors;
        tell(progress, first * SECTOR)?;
        if *entry == UNUSED {
            continue;
        }
        let slot = u64::from(*entry) * SECTOR;
        image.store.read_at(slot, &mut bytes)?;
        let bitmap = Bitmap::from_bytes(&bytes, block_sectors);
        let end = block_sectors.min(sectors - first);
        let mut at = 0;
        // Some readers ignore bitmaps: to them, bytes of a block without bits are data.
        let mut zero = bytes.iter().any(|b| *b != 0)
            || is_zero(
                &*image.store,
                slot + header.bitmap_len(),
                u64::from(header.block_size),
            )?;
        while zero && at < end {
            let (present, run) = bitmap.run(at, end - at);
            if !present {
                at += run;
                continue;
            }
            if image.layout.link.is_some() {
                zero = false;
                break;
            }
            let run = run.min(buf.len() as u64 / SECTOR);
            let buf = &mut buf[..(run * SECTOR) as usize];
            image
                .store
                .read_at(slot + header.bitmap_len() + at * SECTOR, buf)?;
            if let Some(cipher) = cipher {
                cipher.decrypt(DataUnit::B512, first + at, buf);
            }
            zero = buf.iter().all(|b| *b == 0);
            at += run;
        }
        if zero {
            empty.push(block);
        }
    }
    Ok(empty)
}

/// The next blocks to move, each with the place it moves to: from the end of the file into the first holes.
fn moves(image: &Growing) -> Vec<(usize, u64)> {
    let (len, bitmap_len) = (image.layout.slot_len(), image.layout.header.bitmap_len());
    let regions = image.layout.regions();
    let mut last = image.layout.slots();
    let mut moves = Vec::new();
    let mut from = 0;
    'holes: for region in &regions {
        loop {
            let slot = (from + bitmap_len).next_multiple_of(ALIGN) - bitmap_len;
            if slot + len > region.start {
                break;
            }
            match last.pop() {
                Some((at, block)) if at > slot && at >= region.start && moves.len() < BATCH => {
                    moves.push((block, slot));
                    from = slot + len;
                }
                _ => break 'holes,
            }
        }
        from = from.max(region.end);
    }
    moves
}

/// Copies blocks to where nothing is, and when they are there, has the table name those places.
fn carry_down(image: Growing, moves: &[(usize, u64)]) -> Result<Growing> {
    let len = image.layout.slot_len();
    let mut buf = vec![0; (1 << 20).min(len as usize)];
    for (block, to) in moves {
        let from = u64::from(image.layout.table[*block]) * SECTOR;
        let mut at = 0;
        while at < len {
            let n = (len - at).min(buf.len() as u64);
            let buf = &mut buf[..n as usize];
            image.store.read_at(from + at, buf)?;
            image.store.write_at(to + at, buf)?;
            at += n;
        }
    }
    image.store.sync()?;
    let entries = moves
        .iter()
        .map(|(block, to)| (*block, (to / SECTOR) as u32));
    let plan = image.entries(entries);
    image.change(&plan)
}

/// Moves metadata that lies behind the blocks, as after a growth of the disk, into a hole that takes it.
pub(super) fn metadata_down(image: Growing) -> Result<Growing> {
    let regions = image.layout.regions();
    let behind = |used| regions.last().is_some_and(|r| r.used == used);
    if !behind(Use::Header) && !behind(Use::Table) && !behind(Use::Locator) {
        return Ok(image);
    }
    let entries = image.layout.table.len() as u32;
    let len = image.metadata_len(entries);
    let mut from = 0;
    for region in &regions {
        if from + len <= region.start && from < image.layout.header_at {
            let metadata = image.metadata_at(from, entries)?;
            let plan = super::edit::Plan::default()
                .write(from, metadata)
                .sync()
                .then(image.leading_to(from));
            return image.change(&plan);
        }
        // Other writers' texts end anywhere.
        from = from.max(region.end).next_multiple_of(SECTOR);
    }
    Ok(image)
}
