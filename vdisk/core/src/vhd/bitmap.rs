//! Which sectors of a block were written: one bit each, first sector in the highest bit.

use std::sync::atomic::{AtomicU64, Ordering};

/// A block's sector bitmap, shared by readers and writers without a lock. Bits are only ever set.
#[derive(Debug)]
pub struct Bitmap {
    words: Box<[AtomicU64]>,
    sectors: u64,
}

impl Bitmap {
    /// A bitmap of `sectors` clear bits.
    pub fn empty(sectors: u64) -> Self {
        let words = (0..sectors.div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect();
        Self { words, sectors }
    }

    /// A bitmap as it lies on disk; bytes past the last sector are ignored.
    pub fn from_bytes(bytes: &[u8], sectors: u64) -> Self {
        let bitmap = Self::empty(sectors);
        for (word, bytes) in bitmap.words.iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_be_bytes(whole), Ordering::Relaxed);
        }
        bitmap
    }

    /// The bytes as they lie on disk, `len` of them.
    pub fn to_bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|w| w.load(Ordering::Acquire).to_be_bytes())
            .collect();
        bytes.resize(len, 0);
        bytes
    }

    /// Whether sector `first` was written, and how many sectors from there on, at most `max`, have the
    /// same answer.
    pub fn run(&self, first: u64, max: u64) -> (bool, u64) {
        let end = (first + max).min(self.sectors);
        let word_at = |sector: u64| self.words[(sector / 64) as usize].load(Ordering::Acquire);
        let present = word_at(first) << (first % 64) >> 63 == 1;
        let mut at = first;
        while at < end {
            let left = 64 - at % 64;
            let word = word_at(at) << (at % 64);
            let same = u64::from(if present {
                word.leading_ones()
            } else {
                word.leading_zeros()
            })
            .min(left);
            at += same;
            if same < left {
                break;
            }
        }
        (present, at.min(end) - first)
    }

    /// Sets the bits of a range; says whether any of them was clear.
    pub fn set(&self, first: u64, count: u64) -> bool {
        let mut changed = false;
        let (mut at, end) = (first, first + count);
        while at < end {
            let n = (64 - at % 64).min(end - at);
            let mask = u64::MAX << (64 - n) >> (at % 64);
            let before = self.words[(at / 64) as usize].fetch_or(mask, Ordering::AcqRel);
            changed |= before & mask != mask;
            at += n;
        }
        changed
    }

    /// Whether every sector was written.
    pub fn is_full(&self) -> bool {
        self.run(0, self.sectors) == (true, self.sectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_row_of_booleans(
            sectors in 1u64..300,
            sets in prop::collection::vec((0u64..300, 1u64..300), 0..12),
            at in 0u64..300,
            max in 1u64..300,
        ) {
            let bitmap = Bitmap::empty(sectors);
            let mut model = vec![false; sectors as usize];
            for (first, count) in sets {
                let first = first % sectors;
                let count = count.min(sectors - first);
                let slots = &mut model[first as usize..(first + count) as usize];
                prop_assert_eq!(bitmap.set(first, count), slots.contains(&false));
                slots.fill(true);
            }
            let at = at % sectors;
            let max = max.min(sectors - at);
            let row = &model[at as usize..(at + max) as usize];
            let same = row.iter().take_while(|b| **b == row[0]).count() as u64;
            prop_assert_eq!(bitmap.run(at, max), (row[0], same));
            prop_assert_eq!(bitmap.is_full(), !model.contains(&false));
            let bytes = bitmap.to_bytes(512);
            for (sector, set) in model.iter().enumerate() {
                prop_assert_eq!(bytes[sector / 8] & (0x80 >> (sector % 8)) != 0, *set);
            }
            prop_assert_eq!(Bitmap::from_bytes(&bytes, sectors).to_bytes(512), bytes);
        }
    }
}
