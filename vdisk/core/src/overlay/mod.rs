//! Overlays: what a session writes above a base that stays as it is.
//!
//! The disk is divided into clusters of 16 KiB. One 64-bit word per cluster says it all: the upper half
//! is the cluster's number in the file (0: none yet), the lower half has a bit per sector. A set bit
//! means that the overlay decides about the sector: with a cluster, its bytes are there; without one, it
//! reads as zeros. A clear bit leaves the sector to the layer below, so nothing is ever copied up.
//!
//! Clusters are handed out in order, never moved and never given to another place of the disk. That is
//! what makes lock-free words enough: whoever holds an outdated word can at worst write where nobody reads.
//!
//! An *ephemeral* overlay lies in a file without a name, under a key that lives in memory alone. Reverting
//! is forgetting: when it is dropped, or its process or host dies, the key is gone and so is the file.
//!
//! A *durable* overlay has a name and survives; [`OpenOverlay`] makes and opens it. Its file is two
//! copies of a [`Superblock`], the index (the words of all clusters, little-endian, in order), and from
//! the next MiB on the clusters. Only a flush writes words, after the data they speak of is durable; a
//! word is 8 bytes within one sector, so a torn page of them is as good as a whole one. There is nothing
//! else to go wrong in a crash: clusters that no word names are taken back by the next opening.

mod commit;
mod durable;
mod index;
mod key;
mod reaper;
mod superblock;
mod words;

/// What the words are made of; a model checker puts its own in place.
mod sync {
    pub use std::sync::atomic::{AtomicU64, Ordering};
}

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use index::Index;
use words::{CLUSTER_SECTORS, Word};

pub use commit::{CommitOverlay, Committed};
pub use durable::{CheckReport, Kept, OpenOverlay, OverlayOptions, check, inspect, revert};
pub use superblock::{Base, State, Superblock};

use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Frozen, Layer, Place, Published, Reservation, Run, ZeroFill, Zeroed};
use crate::store::{Store, Synced};

/// Bytes in a cluster.
pub const CLUSTER: u64 = CLUSTER_SECTORS * SECTOR;

/// The clusters that may be in use where so many bytes may: at least one, and no more than can be named.
fn quota(bytes: u64) -> u64 {
    (bytes / CLUSTER).clamp(1, u32::MAX.into())
}

/// The bits of `count` sectors from `within` on.
fn mask(within: u64, count: u64) -> u32 {
    (((1u64 << count) - 1) << within) as u32
}

/// A copy-on-write layer. Clones are handles on the same overlay: one goes into the stack, another stays
/// with whoever asks how full it is or suspends it.
#[derive(Clone)]
pub struct Overlay(Arc<Inner>);

struct Inner {
    store: Box<dyn Store>,
    sectors: u64,
    index: Index,
    /// Where the first cluster lies.
    data: u64,
    /// The number of the last cluster that was handed out.
    last: AtomicU64,
    /// Clusters in use.
    used: AtomicU64,
    /// Most clusters that may be.
    quota: AtomicU64,
    /// What makes a durable overlay one.
    durable: Option<Durable>,
}

/// The part of an overlay that stays on disk.
struct Durable {
    superblock: Mutex<Superblock>,
    /// Clusters that no word in memory names any more, though one on disk may.
    freed: Mutex<Vec<u64>>,
    /// Suspended, or only read: nothing may change.
    frozen: AtomicBool,
    /// A flush took words that changed and has not made them durable; or it failed, and never will.
    unsettled: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Overlay {
    /// An overlay for a disk of `sectors` sectors that is gone when its last handle is. What is written
    /// lies in `store`, which should be [unnamed](crate::store::FileStore::unnamed) and empty.
    pub fn ephemeral(store: impl Store + 'static, sectors: u64) -> Result<Self> {
        superblock::check_size(sectors)?;
        Ok(Self(Arc::new(Inner {
            store: Box::new(store),
            sectors,
            index: Index::in_memory(sectors),
            data: 0,
            last: AtomicU64::new(0),
            used: AtomicU64::new(0),
            quota: AtomicU64::new(u64::MAX),
            durable: None,
        })))
    }

    /// Bytes of clusters in use.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed) * CLUSTER
    }

    /// Bounds what the overlay may take, in bytes; writes beyond it fail with [`ErrorKind::NoSpace`]. What
    /// is there already stays. A durable overlay remembers it when it is closed.
    pub fn set_quota(&self, bytes: Option<u64>) {
        let clusters = bytes.map_or(u64::MAX, quota);
        self.0.quota.store(clusters, Ordering::Relaxed);
    }
}

impl Inner {
    fn word(&self, cluster: u64) -> Result<Word> {
        self.index.word(cluster, &*self.store)
    }

    /// Where a cluster of the file begins.
    fn offset(&self, cluster: u32) -> u64 {
        self.data + (u64::from(cluster) - 1) * CLUSTER
    }

    /// The cluster of the file that a byte of the file is in.
    fn number(&self, offset: u64) -> u32 {
        ((offset - self.data) / CLUSTER) as u32 + 1
    }

    fn hand_out(&self) -> Result<u32> {
        let no_space =
            |what: &str, remedy| Err(Error::new(ErrorKind::NoSpace, what).remedy(remedy));
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.quota.load(Ordering::Relaxed) {
            self.used.fetch_sub(1, Ordering::Relaxed);
            return no_space(
                "the overlay has reached its quota",
                "raise the quota, free space in the guest, commit or revert",
            );
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        u32::try_from(number).or_else(|_| {
            self.last.fetch_sub(1, Ordering::Relaxed);
            self.used.fetch_sub(1, Ordering::Relaxed);
            no_space(
                "the overlay has no cluster left",
                "commit it, or revert it and start anew",
            )
        })
    }

    /// Takes back a cluster that no word ever named. Its number stays a hole in the file.
    fn hand_back(&self, cluster: u32) {
        self.release(1);
        if let Err(e) = self.store.punch(self.offset(cluster), CLUSTER) {
            tracing::debug!("a cluster of the overlay could not be given back: {e}");
        }
    }

    /// The word of a cluster with a place in the file, giving it one if nothing at all is known of it yet.
    fn ensure(&self, cluster: u64) -> Result<Word> {
        let (words, at) = self.index.entry(cluster, &*self.store)?;
        let word = words.get(at);
        if word != Word::BELOW {
            return Ok(word);
        }
        let offered = self.hand_out()?;
        let word = words.claim(at, offered);
        if word.cluster != offered {
            self.hand_back(offered);
        }
        Ok(word)
    }

    fn check_writable(&self) -> Result<()> {
        match &self.durable {
            Some(durable) if durable.frozen.load(Ordering::Acquire) => Err(Error::new(
                ErrorKind::ReadOnly,
                "the overlay is suspended or open for reading only",
            )
            .remedy("resume it first")),
            _ => Ok(()),
        }
    }

    /// Counts clusters as not in use any more.
    fn release(&self, clusters: u64) {
        let less = |used: u64| Some(used.saturating_sub(clusters));
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Gives space back, or has the next flush do it where words on disk may still name it.
    fn give_back(&self, clusters: &mut Vec<u64>) -> Result<()> {
        match &self.durable {
            None => self.punch(clusters),
            Some(durable) => {
                lock(&durable.freed).append(clusters);
                Ok(())
            }
        }
    }

    /// Punches clusters out of the file, neighbours together, and counts them as not in use any more.
    fn punch(&self, clusters: &mut [u64]) -> Result<()> {
        clusters.sort_unstable();
        for run in clusters.chunk_by(|a, b| a + CLUSTER == *b) {
            self.store.punch(run[0], run.len() as u64 * CLUSTER)?;
            self.release(run.len() as u64);
        }
        Ok(())
    }

    /// Changes the words of sectors from `first` on, a leaf of them at most; the caller is alone. `change`
    /// gets a word, the sectors in question and whether these are all of its cluster; it answers the new
    /// word, or `None` where bytes have to be written instead.
    fn sweep(
        &self,
        first: u64,
        max: u64,
        change: impl Fn(Word, u32, bool) -> Option<Word>,
    ) -> Result<Zeroed> {
        self.check_writable()?;
        let mut freed = Vec::new();
        let swept = self.sweep_words(first, max, change, &mut freed);
        // Also after an error: what has gone so far has gone.
        self.give_back(&mut freed)?;
        swept
    }

    fn sweep_words(
        &self,
        first: u64,
        max: u64,
        change: impl Fn(Word, u32, bool) -> Option<Word>,
        freed: &mut Vec<u64>,
    ) -> Result<Zeroed> {
        let max = max.min(index::LEAF as u64 * CLUSTER_SECTORS);
        let mut done = 0;
        while done < max {
            let (cluster, within, here) = split(first + done, max - done);
            let whole = CLUSTER_SECTORS.min(self.sectors - cluster * CLUSTER_SECTORS);
            let old = self.word(cluster)?;
            let Some(new) = change(old, mask(within, here), here >= whole) else {
                return Ok(match done {
                    0 => Zeroed::NeedsWrite(here),
                    _ => Zeroed::Done(done),
                });
            };
            if new != old {
                let (words, at) = self.index.entry(cluster, &*self.store)?;
                words.replace(at, new);
                if old.cluster != 0 && new.cluster == 0 {
                    freed.push(self.offset(old.cluster));
                }
            }
            done += here;
        }
        Ok(Zeroed::Done(done))
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

impl Layer for Overlay {
    fn sectors(&self) -> u64 {
        self.0.sectors
    }

    fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    fn map(&self, first: u64, max: u64) -> Result<Run> {
        let mut total = 0;
        let mut place = None;
        while total < max {
            let (cluster, within, here) = split(first + total, max - total);
            let word = self.0.word(cluster)?;
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
                (true, number) => Place::Here(self.0.offset(number) + within * SECTOR),
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
            if word == Word::BELOW {
                let unknown = self.0.index.unknown_run(cluster) * CLUSTER_SECTORS;
                total = max.min(total.max(total - here + unknown.saturating_sub(within)));
            }
        }
        Ok(Run {
            sectors: total,
            place: place.unwrap_or(Place::Below),
        })
    }

    fn reserve(&self, first: u64, max: u64) -> Result<Reservation> {
        let inner = &*self.0;
        inner.check_writable()?;
        let (cluster, within, here) = split(first, max);
        let word = inner.ensure(cluster)?;
        if word.cluster == 0 {
            // All the overlay knows here is zeros. They move into the file with the new data, all at once.
            let place = inner.offset(inner.hand_out()?);
            return Ok(Reservation {
                first,
                sectors: here,
                offset: place + within * SECTOR,
                zero_fill: Some(ZeroFill {
                    first: cluster * CLUSTER_SECTORS,
                    offset: place,
                    mask: word.mask & !mask(within, here),
                }),
            });
        }
        let offset = inner.offset(word.cluster) + within * SECTOR;
        let mut total = here;
        while total < max {
            let (cluster, _, here) = split(first + total, max - total);
            let next = match inner.ensure(cluster) {
                Ok(next) => next,
                // What was found so far can be written; the rest meets the error on its own.
                Err(_) => break,
            };
            if next.cluster == 0 || inner.offset(next.cluster) != offset + total * SECTOR {
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
        let inner = &*self.0;
        if let Some(fill) = reservation.zero_fill {
            let (cluster, within, here) = split(reservation.first, reservation.sectors);
            let place = inner.number(fill.offset);
            let (words, at) = inner.index.entry(cluster, &*inner.store)?;
            // The fill mask and our own bits are all that was known when we started.
            return Ok(if words.move_in(at, place, fill.mask, mask(within, here)) {
                Published::Yes
            } else {
                inner.hand_back(place);
                Published::Again
            });
        }
        let (mut at, end) = (reservation.first, reservation.first + reservation.sectors);
        while at < end {
            let (cluster, within, here) = split(at, end - at);
            let (words, entry) = inner.index.entry(cluster, &*inner.store)?;
            // Only zeroing takes a cluster away, and never while a reservation is held.
            debug_assert_eq!(
                words.get(entry).cluster,
                inner.number(reservation.offset + (at - reservation.first) * SECTOR)
            );
            words.show(entry, mask(within, here));
            at += here;
        }
        Ok(Published::Yes)
    }

    fn cancel(&self, reservation: &Reservation) {
        if let Some(fill) = reservation.zero_fill {
            self.0.hand_back(self.0.number(fill.offset));
        }
    }

    fn zero(&self, first: u64, max: u64, _plain: bool) -> Result<Zeroed> {
        self.0.sweep(first, max, |word, sectors, whole| match word {
            _ if whole => Some(Word::ZERO),
            Word { cluster: 0, mask } => Some(Word {
                cluster: 0,
                mask: mask | sectors,
            }),
            _ => None,
        })
    }

    fn discard(&self, first: u64, max: u64, _plain: bool) -> Result<u64> {
        // Sectors that nobody wants fall back to the base; zeros cost nothing and stay.
        let discarded = self.0.sweep(first, max, |word, sectors, _| {
            let rest = word.mask & !sectors;
            Some(match word.cluster {
                0 => word,
                _ if rest == 0 => Word::BELOW,
                cluster => Word {
                    cluster,
                    mask: rest,
                },
            })
        })?;
        let (Zeroed::Done(sectors) | Zeroed::NeedsWrite(sectors)) = discarded;
        Ok(sectors)
    }

    fn durable(&self) -> bool {
        self.0.durable.is_some()
    }

    fn freeze(&self) -> Result<Frozen> {
        let Some(durable) = &self.0.durable else {
            return Ok(Frozen::default());
        };
        // Before the words: whatever is in this list is no longer named by those that are taken now, or
        // by those that the flush before took.
        let freed = std::mem::take(&mut *lock(&durable.freed));
        durable.unsettled.store(true, Ordering::Release);
        Ok(Frozen {
            writes: self.0.index.take_changed(),
            freed,
            settled: Vec::new(),
        })
    }

    fn persist(&self, frozen: Synced<Frozen>) -> Result<()> {
        let Frozen {
            writes, mut freed, ..
        } = frozen.into_inner();
        if !writes.is_empty() {
            for (offset, bytes) in &writes {
                self.0.store.write_at(*offset, bytes)?;
            }
            self.0.store.sync()?;
        }
        if let Some(durable) = &self.0.durable {
            durable.unsettled.store(false, Ordering::Release);
        }
        // No word on disk names these any more. The flush has done its work; space that cannot be given
        // back is only space.
        if let Err(e) = self.0.punch(&mut freed) {
            tracing::warn!("space of the overlay could not be given back: {e}");
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        match &self.durable {
            None => reaper::bury(std::mem::replace(
                &mut self.store,
                Box::new(crate::store::MemoryStore::default()),
            )),
            Some(_) => {
                if let Err(e) = self.close() {
                    tracing::warn!("the overlay was not closed cleanly: {e}");
                }
            }
        }
    }
}
