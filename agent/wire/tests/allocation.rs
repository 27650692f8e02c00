//! What a hostile stream can make a decoder allocate, counted by the allocator itself. One test: nobody else
//! allocates beside it.
#![allow(clippy::unwrap_used)]
use medley_wire::{Decoder, HEADER, Set, control, gui};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator unchanged; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(
            LIVE.fetch_add(layout.size(), Relaxed) + layout.size(),
            Relaxed,
        );
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; the pointer came from there.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Feeds a body of `fill` behind a header of every kind and length class, and gives the most bytes that were
/// live at once beyond those before, for each byte that was sent.
fn worst<S: Set>(fill: u8, hello: &[u8]) {
    for entry in S::TABLE.iter().filter(|entry| entry.number > 1) {
        for (claimed, sent) in [
            (entry.max, entry.max.min(70_000)),
            (entry.max, 64),
            (entry.min, entry.min),
        ] {
            let sent = sent.max(HEADER).min(claimed);
            let mut line = vec![fill; sent];
            line[..4].copy_from_slice(&(claimed as u32).to_le_bytes());
            line[4..6].copy_from_slice(&entry.number.to_le_bytes());
            line[6..8].fill(0);
            line[8..12].copy_from_slice(&1_u32.to_le_bytes());
            let before = LIVE.load(Relaxed);
            PEAK.store(before, Relaxed);
            let mut decoder = Decoder::<S>::new();
            assert!(decoder.push(&mut &*hello).unwrap().is_some());
            for mut piece in line.chunks(1000) {
                while let Ok(Some(_)) = decoder.push(&mut piece) {}
            }
            let peak = PEAK.load(Relaxed) - before;
            // The bytes themselves, once more while room grows, and lists of values that are at most
            // sixteen times as large in memory as on the wire.
            assert!(
                peak <= 18 * sent + 1024,
                "{}: {peak} for {sent}",
                entry.name
            );
            assert!(decoder.held() <= entry.max);
        }
    }
}

#[test]
fn no_stream_makes_a_decoder_allocate_more_than_it_sends() {
    let hello = |channel: u8| {
        let mut hello = vec![0_u8; 65];
        hello[0] = 65;
        hello[4] = 1;
        hello[12..20].copy_from_slice(b"medley\0w");
        hello[20] = channel;
        hello
    };
    for fill in [0, 1, 2, 0x20, 0x7f, 0xff] {
        worst::<gui::FromGuest<'static>>(fill, &hello(0));
        worst::<control::FromGuest<'static>>(fill, &hello(1));
        worst::<control::FromHost<'static>>(fill, &hello(1));
    }
}
