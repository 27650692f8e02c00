//! The overlay's lock-free words under a model checker: every interleaving of two writers and a flush,
//! in the very code that runs (the file is included, on loom's atomics).
#![allow(clippy::unwrap_used)]

#[path = "../src/overlay/words.rs"]
#[allow(dead_code)]
mod words;

mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering};
}

use std::sync::atomic::{AtomicU32, Ordering};

use loom::sync::Arc;
use loom::thread;
use words::{Word, Words};

/// Bits are noted here when their writer was told that they are visible, plainly: not part of the model.
type Told = AtomicU32;

/// One write of `sectors` to the first cluster, as the layer does it: claim a place, move the bytes, show.
fn write(words: &Words, offered: u32, sectors: u32) -> u32 {
    let word = words.claim(0, offered);
    assert_ne!(
        word.cluster, 0,
        "a claim leaves the cluster without a place"
    );
    words.show(0, sectors);
    word.cluster
}

/// What a flush would write for the first cluster, if it writes the page at all.
fn flush(words: &Words) -> Option<Word> {
    let mut found = None;
    words.take_changed(|_, page| found = page.next().map(Word::from_bits));
    found
}

#[test]
fn writers_agree_on_a_place_and_nobody_loses_a_sector() {
    loom::model(|| {
        let words = Arc::new(Words::new(1, []));
        let other = words.clone();
        let there = thread::spawn(move || write(&other, 7, 0b01));
        let here = write(&words, 8, 0b10);
        assert_eq!(there.join().unwrap(), here, "two places for one cluster");
        assert_eq!(
            words.get(0),
            Word {
                cluster: here,
                mask: 0b11
            }
        );
    });
}

#[test]
fn a_flush_takes_whatever_was_acknowledged_before_it() {
    loom::model(|| {
        let words = Arc::new(Words::new(1, []));
        let told = std::sync::Arc::new(Told::new(0));
        let (other, other_told) = (words.clone(), told.clone());
        let writer = thread::spawn(move || {
            for sectors in [0b01, 0b10] {
                write(&other, 7, sectors);
                other_told.fetch_or(sectors, Ordering::SeqCst);
            }
        });
        let mut durable = 0;
        for _ in 0..2 {
            let before = told.load(Ordering::SeqCst);
            if let Some(word) = flush(&words) {
                durable = word.mask;
            }
            assert_eq!(
                durable & before,
                before,
                "acknowledged, flushed, and not on disk"
            );
        }
        writer.join().unwrap();
        if let Some(word) = flush(&words) {
            durable = word.mask;
        }
        assert_eq!(durable, 0b11);
    });
}

#[test]
fn a_sector_that_another_made_visible_is_in_the_next_flush_too() {
    loom::model(|| {
        let zeros = Word {
            cluster: 0,
            mask: 0b10,
        };
        let words = Arc::new(Words::new(1, [zeros.bits()]));
        let other = words.clone();
        // The other moves the zeros of our sector into a cluster along with a sector of its own.
        let writer = thread::spawn(move || assert!(other.move_in(0, 7, 0b10, 0b01)));
        thread::yield_now();
        let mut durable = zeros;
        if words.get(0).cluster == 7 {
            // Our bytes are in that cluster, our bit is set already; we are told it is done, and flush.
            words.show(0, 0b10);
            durable = flush(&words).unwrap_or(durable);
            assert_eq!(
                durable.cluster, 7,
                "flushed into a cluster that no word on disk names"
            );
        }
        writer.join().unwrap();
        assert_eq!(flush(&words).unwrap_or(durable).mask, 0b11);
    });
}

#[test]
fn zeros_move_in_once_and_keep_what_another_zeroed() {
    loom::model(|| {
        let zeros = Word {
            cluster: 0,
            mask: 0b100,
        };
        let words = Arc::new(Words::new(1, [zeros.bits()]));
        let other = words.clone();
        // Both saw the zeros, wrote them to a place of their own, and want the word.
        let there = thread::spawn(move || other.move_in(0, 7, 0b100, 0b001));
        let here = words.move_in(0, 8, 0b100, 0b010);
        let there = there.join().unwrap();
        assert!(here != there, "exactly one of them has it");
        let (cluster, mask) = if here { (8, 0b110) } else { (7, 0b101) };
        assert_eq!(words.get(0), Word { cluster, mask });
        assert_eq!(flush(&words), Some(Word { cluster, mask }));
    });
}
