//! The lock-free part of an overlay: one 64-bit word per cluster, changed by compare-and-swap alone, and
//! the marks that tell a flush which pages of words changed.
//!
//! The file stands alone, on whatever `sync` its parent module offers, so that a model checker can run
//! exactly this code (`tests/words_model.rs`).

use super::sync::{AtomicU64, Ordering};

/// Sectors in a cluster: as many as half a word has bits.
pub const CLUSTER_SECTORS: u64 = 32;
/// Words that are written to disk together: 4 KiB of them.
pub const PAGE: usize = 512;

/// What an overlay knows about a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// Number of the cluster in the file, counted from 1; 0 for none.
    pub cluster: u32,
    /// The sectors that the overlay decides about: with a cluster, their bytes are there; without one,
    /// they read as zeros. The others are the layer below's.
    pub mask: u32,
}

impl Word {
    /// All sectors read as zeros.
    pub const ZERO: Self = Self {
        cluster: 0,
        mask: u32::MAX,
    };
    /// All sectors are the layer below's.
    pub const BELOW: Self = Self {
        cluster: 0,
        mask: 0,
    };

    /// A word as it lies on disk.
    pub fn from_bits(bits: u64) -> Self {
        Self {
            cluster: (bits >> 32) as u32,
            mask: bits as u32,
        }
    }

    /// The form on disk: the cluster above, the mask below.
    pub fn bits(self) -> u64 {
        (u64::from(self.cluster) << 32) | u64::from(self.mask)
    }
}

/// The words of neighbouring clusters, in whole pages.
pub struct Words {
    words: Box<[AtomicU64]>,
    /// Bit n: page n changed since a flush last took it.
    changed: AtomicU64,
    /// Writers that may have changed a word and not yet set its page's mark.
    changing: AtomicU64,
}

impl Words {
    /// `pages` pages (at most 64) of words from `initial`; what it does not give is [`Word::BELOW`].
    pub fn new(pages: usize, initial: impl IntoIterator<Item = u64>) -> Self {
        debug_assert!((1..=64).contains(&pages));
        let mut initial = initial.into_iter();
        let next = || AtomicU64::new(initial.next().unwrap_or(0));
        Self {
            words: std::iter::repeat_with(next).take(pages * PAGE).collect(),
            changed: AtomicU64::new(0),
            changing: AtomicU64::new(0),
        }
    }

    /// The word at `index` as it is now.
    pub fn get(&self, index: usize) -> Word {
        Word::from_bits(self.words[index].load(Ordering::Acquire))
    }

    fn swap(&self, index: usize, old: Word, new: Word) -> Result<(), Word> {
        self.words[index]
            .compare_exchange(old.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word::from_bits)
    }

    /// After the word: a flush that takes the mark away sees the word too.
    fn mark(&self, index: usize) {
        self.changed.fetch_or(1 << (index / PAGE), Ordering::AcqRel);
    }

    /// Swaps a word and sets its page's mark. Between the two, others can tell that a mark is still to come.
    fn change(&self, index: usize, old: Word, new: Word) -> Result<(), Word> {
        self.changing.fetch_add(1, Ordering::AcqRel);
        let changed = self.swap(index, old, new);
        if changed.is_ok() {
            self.mark(index);
        }
        self.changing.fetch_sub(1, Ordering::AcqRel);
        changed
    }

    /// Gives a cluster that nothing is known of the place `offered`; answers the word that stands then.
    /// Nothing is visible yet, so a flush need not know.
    pub fn claim(&self, index: usize, offered: u32) -> Word {
        let new = Word {
            cluster: offered,
            mask: 0,
        };
        match self.swap(index, Word::BELOW, new) {
            Ok(()) => new,
            Err(found) => found,
        }
    }

    /// Makes sectors visible whose bytes were written to the word's own cluster. Whoever calls is told that
    /// they will be in the next flush, so it is not enough that another made them visible: that one's mark
    /// must be there too.
    pub fn show(&self, index: usize, sectors: u32) {
        let mut word = self.get(index);
        while word.mask & sectors != sectors {
            let new = Word {
                mask: word.mask | sectors,
                ..word
            };
            match self.change(index, word, new) {
                Ok(()) => return,
                Err(found) => word = found,
            }
        }
        if self.changing.load(Ordering::Acquire) != 0 {
            self.mark(index);
        }
    }

    /// Moves a cluster that was known as zeros in `zeros` alone into the place `cluster`, where those
    /// zeros and the bytes of `sectors` were written. Says whether it did: not if anything changed.
    #[must_use]
    pub fn move_in(&self, index: usize, cluster: u32, zeros: u32, sectors: u32) -> bool {
        let word = self.get(index);
        let new = Word {
            cluster,
            mask: zeros | sectors,
        };
        let unchanged = word.cluster == 0 && word.mask & !sectors == zeros;
        unchanged && self.change(index, word, new).is_ok()
    }

    /// Puts `new` in place of whatever stands and answers that. For callers that are alone with the word.
    pub fn replace(&self, index: usize, new: Word) -> Word {
        let old = Word::from_bits(self.words[index].swap(new.bits(), Ordering::AcqRel));
        if old != new {
            self.mark(index);
        }
        old
    }

    /// Whether a flush has something to take.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire) != 0
    }

    /// Takes the marks away and hands out the pages that had one: page number and words.
    pub fn take_changed(&self, mut page: impl FnMut(usize, &mut dyn Iterator<Item = u64>)) {
        let changed = self.changed.swap(0, Ordering::AcqRel);
        for n in (0..64).filter(|n| changed & (1 << n) != 0) {
            let words = &self.words[n * PAGE..(n + 1) * PAGE];
            page(n, &mut words.iter().map(|w| w.load(Ordering::Acquire)));
        }
    }
}
