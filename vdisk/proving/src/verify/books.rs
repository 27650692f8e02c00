//! The books: what was asked of each sector, and what was acknowledged.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sector::{Damage, Stamp};

/// The generation of a filled disk.
pub(super) const FIRST: u64 = Kind::Data as u64;

/// What was done to a sector. The two lowest bits of every generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was written.
    Data = 0b100,
    /// It was zeroed.
    Zeroes = 0b101,
    /// It may be anything it ever was, or zeros.
    Discard = 0b110,
}

fn kind(generation: u64) -> Kind {
    match generation & 0b11 {
        0b01 => Kind::Zeroes,
        0b10 => Kind::Discard,
        _ => Kind::Data,
    }
}

/// Something that must not be.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// The sector; `None` where the disk itself failed.
    pub sector: Option<u64>,
    /// What it was.
    pub damage: Option<Damage>,
    what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Mismatch {
    pub(super) fn failed(what: &str, error: &vdisk::Error) -> Self {
        Self {
            sector: None,
            damage: None,
            what: format!("cannot {what}: {error}"),
        }
    }
}

struct Entry {
    /// The newest generation that was begun.
    issued: AtomicU64,
    /// The newest that is done.
    acknowledged: AtomicU64,
    /// The newest zeroing or discard that was begun: zeros are right from then on.
    cleared: AtomicU64,
    /// The newest discard that was begun: whatever ever was is right from then on.
    discarded: AtomicU64,
}

/// What each sector of a disk may hold, whoever asks and whenever. A sector has one writer at a time.
pub struct Books {
    entries: Box<[Entry]>,
    next: AtomicU64,
}

impl Books {
    /// The books of a disk that was [filled](super::fill).
    pub fn filled(sectors: u64) -> Self {
        Self::of(&vec![FIRST; sectors as usize])
    }

    /// The books of a disk whose sectors hold these generations; 0 for zeros.
    pub fn of(generations: &[u64]) -> Self {
        let entry = |generation: &u64| Entry {
            issued: AtomicU64::new(*generation),
            acknowledged: AtomicU64::new(*generation),
            cleared: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
        };
        let newest = generations.iter().max().copied().unwrap_or(0);
        Self {
            entries: generations.iter().map(entry).collect(),
            next: AtomicU64::new((newest >> 2) + 2),
        }
    }

    fn range(&self, sectors: Range<u64>) -> &[Entry] {
        &self.entries[sectors.start as usize..sectors.end as usize]
    }

    /// Something will be done to these sectors: the generation it makes.
    pub fn issue(&self, sectors: Range<u64>, kind: Kind) -> u64 {
        let generation = self.next.fetch_add(1, Ordering::Relaxed) << 2 | kind as u64 & 0b11;
        for entry in self.range(sectors) {
            entry.issued.store(generation, Ordering::Release);
            if kind != Kind::Data {
                entry.cleared.store(generation, Ordering::Release);
            }
            if kind == Kind::Discard {
                entry.discarded.store(generation, Ordering::Release);
            }
        }
        generation
    }

    /// It was done.
    pub fn acknowledge(&self, sectors: Range<u64>, generation: u64) {
        for entry in self.range(sectors) {
            entry.acknowledged.store(generation, Ordering::Release);
        }
    }

    /// The newest generation of a sector that was begun.
    pub fn issued(&self, sector: u64) -> u64 {
        self.entries[sector as usize].issued.load(Ordering::Acquire)
    }

    /// What these sectors hold at least, from now on.
    pub fn floors(&self, sectors: Range<u64>) -> Vec<u64> {
        let floor = |entry: &Entry| entry.acknowledged.load(Ordering::Acquire);
        self.range(sectors).iter().map(floor).collect()
    }

    /// What all sectors hold at least, from now on.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.floors(0..self.entries.len() as u64)
    }

    /// Holds what was read of a sector against what it held at least (`floor`, noted before the read) and
    /// what it may hold by now. Answers its generation.
    pub fn judge(&self, sector: u64, bytes: &[u8], floor: u64) -> Result<u64, Mismatch> {
        let entry = &self.entries[sector as usize];
        let issued = entry.issued.load(Ordering::Acquire);
        let discarded = kind(floor) == Kind::Discard;
        let judged = match Stamp::read(sector, bytes) {
            // Zeros are the newest clearing that anybody may see.
            Ok(None) if floor == 0 || kind(floor) != Kind::Data => Ok(floor),
            Ok(None) => match entry.cleared.load(Ordering::Acquire) {
                cleared if cleared > floor => Ok(cleared),
                _ => Err(Damage::Stale(0)),
            },
            Ok(Some(found)) if found.generation < floor && !discarded => {
                match entry.discarded.load(Ordering::Acquire) > floor {
                    true => Ok(found.generation),
                    false => Err(Damage::Stale(found.generation)),
                }
            }
            Ok(Some(found)) if found.generation > issued => Err(Damage::Future(found.generation)),
            Ok(Some(found)) => Ok(found.generation),
            Err(damage) => Err(damage),
        };
        judged.map_err(|damage| Mismatch {
            sector: Some(sector),
            damage: Some(damage),
            what: format!(
                "sector {sector} is {damage}; it held generation {floor} at least, {issued} at most"
            ),
        })
    }
}
