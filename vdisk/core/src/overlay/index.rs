//! The index: the words of all clusters, in leaves that come into memory when they are first needed.

use std::sync::OnceLock;

use super::words::{CLUSTER_SECTORS, PAGE, Word, Words};
use super::{CLUSTER, SECTOR};
use crate::error::{Error, Result};
use crate::store::Store;

/// Pages in a leaf; one leaf covers 64 MiB of the disk.
const LEAF_PAGES: usize = 8;
/// Words in a leaf.
pub(super) const LEAF: usize = LEAF_PAGES * PAGE;
const WORD_LEN: u64 = 8;
const PAGE_LEN: u64 = PAGE as u64 * WORD_LEN;
const LEAF_LEN: u64 = LEAF as u64 * WORD_LEN;

/// Where the index of a durable overlay lies in its file.
pub(super) struct Stored {
    /// Offset of the first word.
    at: u64,
    /// Leaves that may hold something else than zeros.
    leaves: Box<[bool]>,
    /// Where the clusters begin.
    data: u64,
    /// The highest number that a word may name.
    last: u64,
}

/// All words of an overlay.
pub(super) struct Index {
    leaves: Box<[OnceLock<Words>]>,
    stored: Option<Stored>,
}

/// Leaves that the index of a disk has.
fn leaves(sectors: u64) -> u64 {
    sectors.div_ceil(CLUSTER_SECTORS).div_ceil(LEAF as u64)
}

/// Bytes that the index of a disk takes in a file.
pub(super) fn stored_len(sectors: u64) -> u64 {
    leaves(sectors) * LEAF_LEN
}

impl Index {
    /// An index that knows nothing and is never written.
    pub(super) fn in_memory(sectors: u64) -> Self {
        Self {
            leaves: (0..leaves(sectors)).map(|_| OnceLock::new()).collect(),
            stored: None,
        }
    }

    /// The index that lies in `store` from `at` on, for clusters that lie from `data` on, of which `last`
    /// were handed out. Costs one look at which parts of the file are holes.
    pub(super) fn stored(
        store: &dyn Store,
        sectors: u64,
        at: u64,
        data: u64,
        last: u64,
    ) -> Result<Self> {
        let mut index = Self::in_memory(sectors);
        let mut present = vec![false; index.leaves.len()];
        let (mut offset, end) = (at, at + stored_len(sectors));
        while offset < end {
            let (allocated, len) = store.allocated(offset, end - offset)?;
            if allocated {
                let first = (offset - at) / LEAF_LEN;
                let last = (offset + len - 1 - at) / LEAF_LEN;
                present[first as usize..=last as usize].fill(true);
            }
            offset += len;
        }
        index.stored = Some(Stored {
            at,
            leaves: present.into(),
            data,
            last,
        });
        Ok(index)
    }

    /// The leaf of a cluster, if anything is known in it.
    fn find(&self, leaf: usize, store: &dyn Store) -> Result<Option<&Words>> {
        let cell = &self.leaves[leaf];
        if let Some(words) = cell.get() {
            return Ok(Some(words));
        }
        match &self.stored {
            Some(stored) if stored.leaves[leaf] => {
                let words = stored.read(leaf, store)?;
                // Whoever was first has the one that counts; both read the same.
                Ok(Some(cell.get_or_init(|| words)))
            }
            _ => Ok(None),
        }
    }

    /// What is known about a cluster.
    pub(super) fn word(&self, cluster: u64, store: &dyn Store) -> Result<Word> {
        let (leaf, within) = place(cluster);
        Ok(self
            .find(leaf, store)?
            .map_or(Word::BELOW, |words| words.get(within)))
    }

    /// The words around a cluster, to be changed, and the cluster's place among them.
    pub(super) fn entry(&self, cluster: u64, store: &dyn Store) -> Result<(&Words, usize)> {
        let (leaf, within) = place(cluster);
        let words = match self.find(leaf, store)? {
            Some(words) => words,
            None => self.leaves[leaf].get_or_init(|| Words::new(LEAF_PAGES, [])),
        };
        Ok((words, within))
    }

    /// Clusters from `cluster` on about whose words nothing is in memory or file, up to the next leaf.
    pub(super) fn unknown_run(&self, cluster: u64) -> u64 {
        let (leaf, within) = place(cluster);
        let stored = self.stored.as_ref().is_some_and(|s| s.leaves[leaf]);
        if stored || self.leaves[leaf].get().is_some() {
            return 0;
        }
        (LEAF - within) as u64
    }

    /// Whether a flush has something to write.
    pub(super) fn is_changed(&self) -> bool {
        self.leaves
            .iter()
            .filter_map(OnceLock::get)
            .any(Words::is_changed)
    }

    /// The pages that changed since the last time, as bytes and where they belong.
    pub(super) fn take_changed(&self) -> Vec<(u64, Vec<u8>)> {
        let Some(stored) = &self.stored else {
            return Vec::new();
        };
        let mut writes = Vec::new();
        for (n, words) in self.leaves.iter().enumerate() {
            let Some(words) = words.get() else { continue };
            words.take_changed(|page, words| {
                let at = stored.at + n as u64 * LEAF_LEN + page as u64 * PAGE_LEN;
                writes.push((at, words.flat_map(u64::to_le_bytes).collect()));
            });
        }
        writes
    }

    /// Calls `found` with every cluster of which something is known, in order.
    pub(super) fn for_each(
        &self,
        store: &dyn Store,
        mut found: impl FnMut(u64, Word) -> Result<()>,
    ) -> Result<()> {
        for leaf in 0..self.leaves.len() {
            let Some(words) = self.find(leaf, store)? else {
                continue;
            };
            for within in 0..LEAF {
                let word = words.get(within);
                if word != Word::BELOW {
                    found((leaf * LEAF + within) as u64, word)?;
                }
            }
        }
        Ok(())
    }
}

impl Stored {
    /// Reads a leaf and makes sure that every word in it names bytes that are in the file.
    fn read(&self, leaf: usize, store: &dyn Store) -> Result<Words> {
        let at = self.at + leaf as u64 * LEAF_LEN;
        let mut bytes = vec![0; LEAF_LEN as usize];
        store.read_at(at, &mut bytes)?;
        let len = store.len()?;
        let words = bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b));
        for (bits, offset) in words.clone().zip((at..).step_by(WORD_LEN as usize)) {
            let word = Word::from_bits(bits);
            if u64::from(word.cluster) > self.last {
                return Err(Error::corrupt(format!(
                    "the overlay's index names cluster {}, and {} were handed out",
                    word.cluster, self.last
                ))
                .at_offset(offset)
                .remedy("restore the overlay from a copy, or revert it"));
            }
            if extent(word, self.data).is_some_and(|end| end > len) {
                return Err(Error::corrupt(format!(
                    "the overlay's index names cluster {}, past the end of the file",
                    word.cluster
                ))
                .at_offset(offset)
                .remedy("the overlay was cut short: restore it, or revert it"));
            }
        }
        Ok(Words::new(LEAF_PAGES, words))
    }
}

/// The end in the file of the last byte that a word promises, if it promises any.
pub(super) fn extent(word: Word, data: u64) -> Option<u64> {
    if word.cluster == 0 || word.mask == 0 {
        return None;
    }
    let sectors = u64::from(u32::BITS - word.mask.leading_zeros());
    Some(data + (u64::from(word.cluster) - 1) * CLUSTER + sectors * SECTOR)
}

fn place(cluster: u64) -> (usize, usize) {
    (
        (cluster / LEAF as u64) as usize,
        (cluster % LEAF as u64) as usize,
    )
}
