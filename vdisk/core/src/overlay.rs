//! The ephemeral overlay: what a revertible session writes, in a file without a name, under a key that
//! lives in memory alone. Reverting is forgetting: when the overlay is dropped, or its process or host
//! dies, the key is gone and so is the file.
//!
//! The disk is divided into clusters of 16 KiB. One 64-bit word per cluster says it all: the upper half
//! is the cluster's number in the file (0: none yet), the lower half has a bit per sector. A set bit
//! means that the overlay decides about the sector: with a cluster, its bytes are there; without one, it
//! reads as zeros. A clear bit leaves the sector to the layer below, so nothing is ever copied up.
//!
//! Clusters are handed out in order, never moved and never given to another place of the disk. That is
//! what makes lock-free words enough: whoever holds an outdated word can at worst write where nobody reads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Frozen, Layer, Place, Published, Reservation, Run, ZeroFill, Zeroed};
use crate::store::{Store, Synced};

/// Sectors in a cluster: as many as half a word has bits.
const CLUSTER_SECTORS: u64 = 32;
/// Bytes in a cluster.
const CLUSTER: u64 = CLUSTER_SECTORS * SECTOR;
/// Words in a leaf of the index; one leaf covers 64 MiB of the disk and is made when it is first written.
const LEAF: usize = 4096;

/// A cluster's word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// Number of the cluster in the file, counted from 1; 0 for none.
    cluster: u32,
    /// The sectors that the overlay decides about.
    mask: u32,
}

impl Word {
    fn from_bits(bits: u64) -> Self {
        Self {
            cluster: (bits >> 32) as u32,
            mask: bits as u32,
        }
    }

    fn bits(self) -> u64 {
        (u64::from(self.cluster) << 32) | u64::from(self.mask)
    }

    fn offset(self) -> u64 {
        (u64::from(self.cluster) - 1) * CLUSTER
    }
}

/// The bits of `count` sectors from `within` on.
fn mask(within: u64, count: u64) -> u32 {
    (((1u64 << count) - 1) << within) as u32
}

type Leaf = Box<[AtomicU64]>;

/// A copy-on-write layer that a crash or a drop reverts.
pub struct Ephemeral {
    store: Box<dyn Store>,
    sectors: u64,
    index: Box<[OnceLock<Leaf>]>,
    /// The number of the last cluster that was handed out.
    last: AtomicU64,
}

impl Ephemeral {
    /// An overlay for a disk of `sectors` sectors that keeps what is written in `store`, which should be
    /// [unnamed](crate::store::FileStore::unnamed) and empty.
    pub fn new(store: impl Store + 'static, sectors: u64) -> Self {
        let leaves = sectors.div_ceil(CLUSTER_SECTORS).div_ceil(LEAF as u64);
        Self {
            store: Box::new(store),
            sectors,
            index: (0..leaves).map(|_| OnceLock::new()).collect(),
            last: AtomicU64::new(0),
        }
    }

    /// Bytes written so far, in whole clusters.
    pub fn used(&self) -> u64 {
        self.last.load(Ordering::Relaxed) * CLUSTER
    }

    fn word(&self, cluster: u64) -> Word {
        let leaf = self.index[(cluster / LEAF as u64) as usize].get();
        Word::from_bits(leaf.map_or(0, |leaf| {
            leaf[(cluster % LEAF as u64) as usize].load(Ordering::Acquire)
        }))
    }

    fn entry(&self, cluster: u64) -> &AtomicU64 {
        let leaf = self.index[(cluster / LEAF as u64) as usize]
            .get_or_init(|| (0..LEAF).map(|_| AtomicU64::new(0)).collect());
        &leaf[(cluster % LEAF as u64) as usize]
    }

    fn swap(&self, cluster: u64, old: Word, new: Word) -> Result<(), Word> {
        self.entry(cluster)
            .compare_exchange(old.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word::from_bits)
    }

    fn hand_out(&self) -> Result<u32> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        u32::try_from(number)
            .map_err(|_| Error::new(ErrorKind::NoSpace, "the overlay has no cluster left"))
    }

    /// The word of a cluster with a place in the file, giving it one if nothing at all is known of it yet.
    fn ensure(&self, cluster: u64) -> Result<Word> {
        let mut word = self.word(cluster);
        while word
            == (Word {
                cluster: 0,
                mask: 0,
            })
        {
            let new = Word {
                cluster: self.hand_out()?,
                mask: 0,
            };
            match self.swap(cluster, word, new) {
                Ok(()) => word = new,
                // Another writer was faster; the number stays a hole in the file.
                Err(found) => word = found,
            }
        }
        Ok(word)
    }
}

/// The cluster of a sector, the sector within it, and how many of the next `max` lie in it.
fn split(first: u64, max: u64) -> (u64, u64, u64) {
    let within = first % CLUSTER_SECTORS;
    (
        first / CLUSTER_SECTORS,
        within,
        max.min(CLUSTER_SECTORS - within),
    )
}

impl Layer for Ephemeral {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn map(&self, first: u64, max: u64) -> Result<Run> {
        let mut total = 0;
        let mut place = None;
        while total < max {
            let (cluster, within, here) = split(first + total, max - total);
            let word = self.word(cluster);
            let mask = word.mask >> within;
            let decided = mask & 1 == 1;
            let same = u64::from(if decided {
                mask.trailing_ones()
            } else {
                mask.trailing_zeros()
            })
            .min(here);
            let found = match (decided, word.cluster) {
                (false, _) => Place::Below,
                (true, 0) => Place::Zero,
                (true, _) => Place::Here(word.offset() + within * SECTOR),
            };
            // Clusters that were written in order lie in order: their runs join.
            let joins = match (place, found) {
                (None, _) => true,
                (Some(Place::Here(start)), Place::Here(next)) => next == start + total * SECTOR,
                (Some(known), found) => known == found,
            };
            if !joins {
                break;
            }
            place.get_or_insert(found);
            total += same;
            if same < here {
                break;
            }
        }
        Ok(Run {
            sectors: total,
            place: place.unwrap_or(Place::Below),
        })
    }

    fn reserve(&self, first: u64, max: u64) -> Result<Reservation> {
        let (cluster, within, here) = split(first, max);
        let word = self.ensure(cluster)?;
        if word.cluster == 0 {
            // All the overlay knows here is zeros. They move into the file with the new data, all at once.
            let place = Word {
                cluster: self.hand_out()?,
                mask: word.mask,
            };
            let zero_fill = ZeroFill {
                first: cluster * CLUSTER_SECTORS,
                offset: place.offset(),
                mask: word.mask & !mask(within, here),
            };
            let offset = place.offset() + within * SECTOR;
            return Ok(Reservation {
                first,
                sectors: here,
                offset,
                zero_fill: Some(zero_fill),
            });
        }
        let offset = word.offset() + within * SECTOR;
        let mut total = here;
        while total < max {
            let (cluster, _, here) = split(first + total, max - total);
            let next = self.ensure(cluster)?;
            if next.cluster == 0 || next.offset() != offset + total * SECTOR {
                break;
            }
            total += here;
        }
        Ok(Reservation {
            first,
            sectors: total,
            offset,
            zero_fill: None,
        })
    }

    fn publish(&self, reservation: &Reservation) -> Result<Published> {
        let number = |offset: u64| (offset / CLUSTER) as u32 + 1;
        if let Some(fill) = reservation.zero_fill {
            let (cluster, within, here) = split(reservation.first, reservation.sectors);
            let bits = mask(within, here);
            // The fill mask and our own bits are all that was known when we started.
            let new = Word {
                cluster: number(fill.offset),
                mask: fill.mask | bits,
            };
            let word = self.word(cluster);
            let unchanged = word.cluster == 0 && word.mask & !bits == fill.mask;
            return Ok(if unchanged && self.swap(cluster, word, new).is_ok() {
                Published::Yes
            } else {
                Published::Again
            });
        }
        let (mut at, end) = (reservation.first, reservation.first + reservation.sectors);
        while at < end {
            let (cluster, within, here) = split(at, end - at);
            let place = number(reservation.offset + (at - reservation.first) * SECTOR);
            let mut word = self.word(cluster);
            // Only zeroing takes a cluster away, and never while a reservation is held.
            debug_assert_eq!(word.cluster, place);
            loop {
                let new = Word {
                    mask: word.mask | mask(within, here),
                    ..word
                };
                match self.swap(cluster, word, new) {
                    Ok(()) => break,
                    Err(found) => word = found,
                }
            }
            at += here;
        }
        Ok(Published::Yes)
    }

    fn zero(&self, first: u64, max: u64, _plain: bool) -> Result<Zeroed> {
        let (cluster, within, here) = split(first, max);
        let whole = CLUSTER_SECTORS.min(self.sectors - cluster * CLUSTER_SECTORS);
        let mut word = self.word(cluster);
        loop {
            let new = if within == 0 && here >= whole {
                Word {
                    cluster: 0,
                    mask: u32::MAX,
                }
            } else if word.cluster == 0 {
                Word {
                    cluster: 0,
                    mask: word.mask | mask(within, here),
                }
            } else {
                return Ok(Zeroed::NeedsWrite(here));
            };
            match self.swap(cluster, word, new) {
                Ok(()) => {
                    if word.cluster != 0 && new.cluster == 0 {
                        self.store.punch(word.offset(), CLUSTER)?;
                    }
                    return Ok(Zeroed::Done(here));
                }
                Err(found) => word = found,
            }
        }
    }

    fn durable(&self) -> bool {
        false
    }

    fn freeze(&self) -> Result<Frozen> {
        Ok(Frozen::default())
    }

    fn persist(&self, _: Synced<Frozen>) -> Result<()> {
        Ok(())
    }
}
