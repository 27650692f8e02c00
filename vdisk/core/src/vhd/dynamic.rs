//! The dynamic and differencing layer: blocks appear at the end of the file as they are first written.
//! What was never written reads as zeros, or in a child as what its parent has; a child therefore has
//! no way to say "zeros" but to write them, and never gives a block up.
//!
//! What keeps it safe is the order in which things reach the medium:
//! - Before a session's first change both footers have a new timestamp, durably: whoever relies on the
//!   disk as it was notices, wherever the session is cut.
//! - A valid footer exists at every instant: the copy at the start is never touched while the file
//!   grows, and a growing file gets its new footer before anything overwrites the old one.
//! - A table entry is written only after its block's bitmap and data are durable, and only by a flush;
//!   a crash before that loses nothing that was acknowledged, just space that the next open takes back.
//! - Space that is freed is reused only after the table that no longer names it is durable.
//!
//! So a flush costs one sync, or two when blocks or sectors were new, however many they were.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::bitmap::Bitmap;
use super::edit::replace_footers;
use super::footer::{FOOTER_LEN, Footer};
use super::header::{DynamicHeader, UNUSED};
use super::parent::{Locator, ParentLink};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Frozen, Layer, Place, Published, Reservation, Run, Zeroed};
use crate::store::{Store, Synced};

/// Payload starts at multiples of this, so that a guest's 4 KiB lies in one page of the host's file.
const ALIGN: u64 = 4096;

/// Table entries in a sector.
const PER_SECTOR: usize = SECTOR as usize / 4;

/// What is known in memory of a block's bitmap.
mod state {
    /// Not read yet, or the block has none.
    pub const UNREAD: u8 = 0;
    /// Every sector was written.
    pub const FULL: u8 = 1;
    /// Some sectors were; the bitmap is in the map.
    pub const PARTIAL: u8 = 2;
}

/// A dynamic or differencing VHD as a layer. One object owns the file's metadata; nothing else may write the file.
pub struct Dynamic {
    store: Arc<dyn Store>,
    sectors: u64,
    block_sectors: u64,
    bitmap_len: u64,
    table_offset: u64,
    /// Bytes of the table in the file: some writers do not pad it to a whole sector.
    table_len: u64,
    /// Per block: the sector of the file where its bitmap starts, its data right after it.
    table: Box<[AtomicU32]>,
    states: Box<[AtomicU8]>,
    /// Where sectors are that were never written: nowhere, or in the parent.
    absent: Place,
    /// Where no block may lie, though the file may not reach there yet: names of the parent.
    claims: Vec<Range<u64>>,
    /// The timestamp in both footers says that the disk is written to.
    stamped: AtomicBool,
    partial: RwLock<HashMap<usize, Arc<Bitmap>>>,
    growth: Mutex<Growth>,
}

/// Where the file ends, and what changed since the last flush.
struct Growth {
    footer: [u8; FOOTER_LEN],
    /// Where the footer is now; the next block goes here or later.
    footer_at: u64,
    /// Slots (offsets of bitmaps) that may be used again.
    free: Vec<u64>,
    /// Slots freed since the last flush; the table on disk may still name them.
    freed: Vec<u64>,
    /// Blocks that the table on disk does not name yet.
    new_blocks: BTreeSet<usize>,
    /// Blocks of the table on disk whose bitmap gained bits.
    changed_blocks: BTreeSet<usize>,
    /// Sectors of the table that changed.
    changed_table: BTreeSet<usize>,
}

impl Dynamic {
    /// A layer over the file of `footer`'s disk, whose table was read and checked by the caller.
    /// `footer_at` is where the footer lies, at or after the end of every block.
    pub(super) fn new(
        store: Arc<dyn Store>,
        size: u64,
        header: &DynamicHeader,
        table: Vec<u32>,
        link: Option<&ParentLink>,
        footer: [u8; FOOTER_LEN],
        footer_at: u64,
    ) -> Self {
        let states = table.iter().map(|_| AtomicU8::new(state::UNREAD)).collect();
        Self {
            store,
            sectors: size / SECTOR,
            block_sectors: u64::from(header.block_size) / SECTOR,
            bitmap_len: header.bitmap_len(),
            table_offset: header.table_offset,
            table_len: u64::from(header.entries) * 4,
            table: table.into_iter().map(AtomicU32::new).collect(),
            states,
            absent: link.map_or(Place::Zero, |_| Place::Below),
            claims: link
                .iter()
                .flat_map(|link| &link.locators)
                .filter_map(Locator::claim)
                .collect(),
            stamped: AtomicBool::new(false),
            partial: RwLock::default(),
            growth: Mutex::new(Growth {
                footer,
                footer_at,
                free: Vec::new(),
                freed: Vec::new(),
                new_blocks: BTreeSet::new(),
                changed_blocks: BTreeSet::new(),
                changed_table: BTreeSet::new(),
            }),
        }
    }

    fn growth(&self) -> MutexGuard<'_, Growth> {
        self.growth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partial(&self, block: usize) -> Option<Arc<Bitmap>> {
        self.partial
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&block)
            .cloned()
    }

    /// Makes sure that the timestamp on the medium says that the disk is written to, before it is. Most
    /// calls only look.
    fn stamp(&self) -> Result<()> {
        if self.stamped.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut growth = self.growth();
        if !self.stamped.load(Ordering::Relaxed) {
            let mut footer = growth.footer;
            Footer::stamp(&mut footer);
            replace_footers(growth.footer_at, &footer).carry_out(&*self.store)?;
            growth.footer = footer;
            self.stamped.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Byte offset of a block's bitmap, or `None` where the block was never written.
    fn slot(&self, block: usize) -> Option<u64> {
        match self.table[block].load(Ordering::Acquire) {
            UNUSED => None,
            sector => Some(u64::from(sector) * SECTOR),
        }
    }

    /// The block of a sector, the sector within it, and how many of the next `max` lie in it.
    fn split(&self, first: u64, max: u64) -> (usize, u64, u64) {
        let within = first % self.block_sectors;
        (
            (first / self.block_sectors) as usize,
            within,
            max.min(self.block_sectors - within),
        )
    }

    /// The bitmap of an allocated block, read when it is first needed; `None` when every sector is there.
    fn bitmap(&self, block: usize, slot: u64) -> Result<Option<Arc<Bitmap>>> {
        loop {
            match self.states[block].load(Ordering::Acquire) {
                state::FULL => return Ok(None),
                state::PARTIAL => {
                    // It may have filled up and left the map in between: look again.
                    if let Some(bitmap) = self.partial(block) {
                        return Ok(Some(bitmap));
                    }
                }
                _ => {
                    let mut bytes = vec![0; self.bitmap_len as usize];
                    self.store.read_at(slot, &mut bytes)?;
                    let bitmap = Bitmap::from_bytes(&bytes, self.block_sectors);
                    let mut partial = self.partial.write().unwrap_or_else(PoisonError::into_inner);
                    // Whoever read it first has made it known; later changes are in theirs.
                    if self.states[block].load(Ordering::Acquire) == state::UNREAD {
                        if bitmap.is_full() {
                            self.states[block].store(state::FULL, Ordering::Release);
                        } else {
                            partial.insert(block, Arc::new(bitmap));
                            self.states[block].store(state::PARTIAL, Ordering::Release);
                        }
                    }
                }
            }
        }
    }

    /// The first place for a block's bitmap at or after `from` where new blocks may lie.
    fn new_slot(&self, from: u64) -> u64 {
        let aligned = |at: u64| (at + self.bitmap_len).next_multiple_of(ALIGN) - self.bitmap_len;
        let len = self.bitmap_len + self.block_sectors * SECTOR;
        let mut slot = aligned(from);
        // Each claim is passed once at most.
        while let Some(claim) = self
            .claims
            .iter()
            .find(|claim| slot < claim.end && claim.start < slot + len)
        {
            slot = aligned(claim.end);
        }
        slot
    }

    /// Gives a block its place in the file. Its sectors stay absent until they are published.
    fn allocate(&self, block: usize) -> Result<u64> {
        let mut growth = self.growth();
        if let Some(slot) = self.slot(block) {
            return Ok(slot);
        }
        let slot = match growth.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = self.new_slot(growth.footer_at);
                let end = slot + self.bitmap_len + self.block_sectors * SECTOR;
                if end / SECTOR >= u64::from(UNUSED) {
                    return Err(Error::new(
                        ErrorKind::NoSpace,
                        "the VHD file cannot grow past 2 TiB",
                    ));
                }
                self.store.write_at(end, &growth.footer)?;
                growth.footer_at = end;
                slot
            }
        };
        let bitmap = Bitmap::empty(self.block_sectors);
        self.partial
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(block, Arc::new(bitmap));
        self.states[block].store(state::PARTIAL, Ordering::Release);
        self.table[block].store((slot / SECTOR) as u32, Ordering::Release);
        growth.new_blocks.insert(block);
        growth.changed_table.insert(block / PER_SECTOR);
        Ok(slot)
    }

    /// Takes a block out of the table. The caller made sure that no request is using it.
    fn free(&self, block: usize, slot: u64) {
        let mut growth = self.growth();
        self.table[block].store(UNUSED, Ordering::Release);
        self.states[block].store(state::UNREAD, Ordering::Release);
        self.partial
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&block);
        growth.freed.push(slot);
        growth.changed_table.insert(block / PER_SECTOR);
    }

    /// A block's bitmap as it is now, with the place it belongs; `None` for a block that was freed.
    fn bitmap_bytes(&self, block: usize) -> Option<(u64, Vec<u8>)> {
        let (slot, bitmap) = (self.slot(block)?, self.partial(block)?);
        Some((slot, bitmap.to_bytes(self.bitmap_len as usize)))
    }

    fn table_sector(&self, index: usize) -> (u64, Vec<u8>) {
        let from = index * PER_SECTOR;
        let mut bytes: Vec<u8> = self.table[from..self.table.len().min(from + PER_SECTOR)]
            .iter()
            .flat_map(|entry| entry.load(Ordering::Acquire).to_be_bytes())
            .collect();
        let at = index as u64 * SECTOR;
        bytes.resize((self.table_len - at).min(SECTOR) as usize, 0xff);
        (self.table_offset + at, bytes)
    }

    /// Sectors from `first` on, at most `max`, in blocks that were never written.
    fn unused_run(&self, first: u64, max: u64) -> u64 {
        let (mut block, _, mut run) = self.split(first, max);
        while run < max {
            block += 1;
            if self.slot(block).is_some() {
                break;
            }
            run = max.min(run + self.block_sectors);
        }
        run
    }
}

impl Layer for Dynamic {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn map(&self, first: u64, max: u64) -> Result<Run> {
        let (block, within, max_here) = self.split(first, max);
        let Some(slot) = self.slot(block) else {
            return Ok(Run {
                sectors: self.unused_run(first, max),
                place: self.absent,
            });
        };
        let here = Place::Here(slot + self.bitmap_len + within * SECTOR);
        Ok(match self.bitmap(block, slot)? {
            None => Run {
                sectors: max_here,
                place: here,
            },
            Some(bitmap) => match bitmap.run(within, max_here) {
                (true, sectors) => Run {
                    sectors,
                    place: here,
                },
                (false, sectors) => Run {
                    sectors,
                    place: self.absent,
                },
            },
        })
    }

    fn reserve(&self, first: u64, max: u64) -> Result<Reservation> {
        self.stamp()?;
        let (block, within, sectors) = self.split(first, max);
        let slot = match self.slot(block) {
            Some(slot) => slot,
            None => self.allocate(block)?,
        };
        let offset = slot + self.bitmap_len + within * SECTOR;
        Ok(Reservation {
            first,
            sectors,
            offset,
            zero_fill: None,
        })
    }

    fn publish(&self, reservation: &Reservation) -> Result<Published> {
        let (block, within, _) = self.split(reservation.first, reservation.sectors);
        let slot = reservation.offset - self.bitmap_len - within * SECTOR;
        let Some(bitmap) = self.bitmap(block, slot)? else {
            return Ok(Published::Yes);
        };
        if bitmap.run(within, reservation.sectors) == (true, reservation.sectors) {
            return Ok(Published::Yes);
        }
        // Bits appear under the lock that a flush takes too: whoever is told that a sector is written
        // will find it in the next flush, whichever thread noted the block first.
        let mut growth = self.growth();
        if bitmap.set(within, reservation.sectors) {
            if !growth.new_blocks.contains(&block) {
                growth.changed_blocks.insert(block);
            }
            if bitmap.is_full() {
                self.states[block].store(state::FULL, Ordering::Release);
            }
        }
        Ok(Published::Yes)
    }

    fn zero(&self, first: u64, max: u64, plain: bool) -> Result<Zeroed> {
        let child = self.absent == Place::Below;
        let (block, within, sectors) = self.split(first, max);
        let Some(slot) = self.slot(block) else {
            let run = self.unused_run(first, max);
            return Ok(match child {
                true => Zeroed::NeedsWrite(run),
                false => Zeroed::Done(run),
            });
        };
        let whole = self
            .block_sectors
            .min(self.sectors - block as u64 * self.block_sectors);
        if !child && within == 0 && sectors >= whole {
            self.stamp()?;
            self.free(block, slot);
            return Ok(Zeroed::Done(sectors));
        }
        let sectors = match self.bitmap(block, slot)? {
            Some(bitmap) if plain => match bitmap.run(within, sectors) {
                (false, absent) if child => return Ok(Zeroed::NeedsWrite(absent)),
                (false, absent) => return Ok(Zeroed::Done(absent)),
                (true, present) => present,
            },
            _ => sectors,
        };
        // Under a key, zeros are written even where the bitmap would do: many readers ignore it, and
        // some writers set it whole.
        if !plain {
            return Ok(Zeroed::NeedsWrite(sectors));
        }
        self.stamp()?;
        self.store
            .punch(slot + self.bitmap_len + within * SECTOR, sectors * SECTOR)?;
        Ok(Zeroed::Done(sectors))
    }

    fn freeze(&self) -> Result<Frozen> {
        let mut growth = self.growth();
        // Bitmaps of blocks that no table on disk names may be written with the data they describe.
        for block in &growth.new_blocks {
            if let Some((slot, bytes)) = self.bitmap_bytes(*block) {
                self.store.write_at(slot, &bytes)?;
            }
        }
        let bitmaps = growth
            .changed_blocks
            .iter()
            .filter_map(|block| self.bitmap_bytes(*block));
        let table = growth
            .changed_table
            .iter()
            .map(|index| self.table_sector(*index));
        let writes = bitmaps.chain(table).collect();
        let mut settled = std::mem::take(&mut growth.new_blocks);
        settled.append(&mut growth.changed_blocks);
        growth.changed_table.clear();
        let freed = std::mem::take(&mut growth.freed);
        Ok(Frozen {
            writes,
            freed,
            settled: settled.into_iter().collect(),
        })
    }

    fn persist(&self, frozen: Synced<Frozen>) -> Result<()> {
        let Frozen {
            writes,
            freed,
            settled,
        } = frozen.into_inner();
        if writes.is_empty() {
            return Ok(());
        }
        for (offset, bytes) in &writes {
            self.store.write_at(*offset, bytes)?;
        }
        self.store.sync()?;
        // The flush has done its work; giving space back may fail without harm, but then the slot may
        // hold old bytes and is not used again before the disk is opened anew.
        let len = self.bitmap_len + self.block_sectors * SECTOR;
        let (given, kept): (Vec<u64>, Vec<u64>) = freed
            .into_iter()
            .partition(|slot| self.store.punch(*slot, len).is_ok());
        if !kept.is_empty() {
            tracing::warn!("space of {} blocks could not be given back", kept.len());
        }
        let mut growth = self.growth();
        growth.free.extend(given);
        // A bitmap that is full and on disk need not be remembered.
        let mut partial = self.partial.write().unwrap_or_else(PoisonError::into_inner);
        for block in settled {
            let full = self.states[block].load(Ordering::Acquire) == state::FULL;
            if full
                && !growth.changed_blocks.contains(&block)
                && !growth.new_blocks.contains(&block)
            {
                partial.remove(&block);
            }
        }
        Ok(())
    }
}
