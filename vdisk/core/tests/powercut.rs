//! Power cuts of a growing VHD: everything a medium may hold after one, tried out.
//!
//! For each such medium the image must open, hold every sector that was flushed before the cut (or what
//! was written to it later), and nowhere show a sector of another place; and if it reads otherwise than
//! before, its timestamp must say so. The same must hold when the
//! power goes again while the image is being opened, and for the life that goes on after it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use vdisk::layer::{Frozen, Layer, Published, Reservation, Run, Zeroed};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{Store, Synced};
use vdisk::vhd::{self, Kind};
use vdisk::xts::{Xts, XtsKey};
use vdisk::{BlockDevice, Result, SECTOR};
use vdisk_proving::{Cuts, Ledger, Lie, Medium, Random, Recorder, stamp};

/// Sectors of the disk under test: three blocks, small ones so that many images fit in memory.
const SECTORS: u64 = 3 * BLOCK;
const BLOCK: u64 = 64;

fn cipher() -> Xts {
    Xts::new(&XtsKey::new(std::array::from_fn(|i| i as u8)).unwrap())
}

/// An image with blocks of 32 KiB, as our own writer makes them but for the size.
fn small_blocks(child: bool) -> Medium {
    let store = Recorder::default();
    let mut footer = vhd::create(&store, Kind::Dynamic, SECTORS * SECTOR, None).unwrap();
    if child {
        footer.disk_type = vhd::DiskType::Differencing;
    }
    let header = vhd::DynamicHeader {
        table_offset: 1536,
        entries: 3,
        block_size: (BLOCK * SECTOR) as u32,
    };
    store.write_at(0, &footer.to_bytes()).unwrap();
    store.write_at(512, &header.to_bytes()).unwrap();
    store.write_at(1536, &[0xff; 512]).unwrap();
    store.write_at(2048, &footer.to_bytes()).unwrap();
    store.medium()
}

/// How the disk under test is wrong on purpose.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    Store(Lie),
    /// Metadata goes out before the sync that it has to wait for.
    HastyMetadata,
}

fn open(store: &Arc<Recorder>, flaw: Flaw) -> Result<Stack> {
    let layer = vhd::open(store.clone(), false)?.into_layer();
    let layer: Box<dyn Layer> = match flaw {
        Flaw::HastyMetadata => Box::new(Hasty(layer)),
        _ => layer,
    };
    let layer = StackedLayer::new(layer, Some(cipher()));
    Stack::new(vec![layer], false, "powercut")
}

/// A layer that writes its metadata together with the data.
struct Hasty(Box<dyn Layer>);

impl Layer for Hasty {
    fn sectors(&self) -> u64 {
        self.0.sectors()
    }
    fn store(&self) -> &dyn Store {
        self.0.store()
    }
    fn map(&self, first: u64, max: u64) -> Result<Run> {
        self.0.map(first, max)
    }
    fn reserve(&self, first: u64, max: u64) -> Result<Reservation> {
        self.0.reserve(first, max)
    }
    fn publish(&self, reservation: &Reservation) -> Result<Published> {
        self.0.publish(reservation)
    }
    fn zero(&self, first: u64, max: u64, plain: bool) -> Result<Zeroed> {
        self.0.zero(first, max, plain)
    }
    fn freeze(&self) -> Result<Frozen> {
        let frozen = self.0.freeze()?;
        for (at, bytes) in &frozen.writes {
            self.store().write_at(*at, bytes)?;
        }
        Ok(frozen)
    }
    fn persist(&self, frozen: Synced<Frozen>) -> Result<()> {
        self.0.persist(frozen)
    }
}

/// A disk's life of so many steps; `versions` counts on from what was written before.
fn live(store: &Arc<Recorder>, ledger: &mut Ledger, flaw: Flaw, random: &mut Random, version: u64) {
    let mut stack = open(store, flaw).unwrap();
    for version in version..version + 40 {
        let first = random.below(SECTORS);
        let mut range = first..SECTORS.min(first + 1 + random.below(12));
        match random.below(20) {
            0..10 => {
                // From the first write on, the new version may be there.
                ledger.may_become(store.count(), range.clone(), &[version]);
                let bytes: Vec<u8> = range.clone().flat_map(|s| stamp(s, version)).collect();
                stack.write_at(range.start * SECTOR, &bytes).unwrap();
                ledger.became(range, version);
            }
            n @ 10..14 => {
                if n >= 12 {
                    // A whole block, which frees it.
                    let block = first / BLOCK * BLOCK;
                    range = block..block + BLOCK;
                }
                ledger.may_become(store.count(), range.clone(), &[0]);
                let len = range.end - range.start;
                stack
                    .write_zeroes(range.start * SECTOR, len * SECTOR)
                    .unwrap();
                ledger.became(range, 0);
            }
            14 => {
                // Closed and opened again.
                drop(stack);
                ledger.flushed(store.count());
                stack = open(store, flaw).unwrap();
            }
            _ => {
                stack.flush().unwrap();
                ledger.flushed(store.count());
            }
        }
    }
    drop(stack);
    ledger.flushed(store.count());
}

/// What a life began with.
struct Before {
    versions: Vec<u64>,
    timestamp: u32,
}

fn timestamp(store: &dyn Store) -> u32 {
    vhd::read_footer(store).unwrap().unwrap().timestamp
}

/// Opens what a cut left, and judges every sector; the store with what opening it did, and the versions.
fn judge(
    medium: Medium,
    before: &Before,
    ledger: &Ledger,
    at: usize,
) -> std::result::Result<(Arc<Recorder>, Vec<u64>), String> {
    let store = Arc::new(Recorder::new(medium));
    let stack = open(&store, Flaw::None).map_err(|e| format!("does not open: {e}"))?;
    let mut disk = vec![0; (SECTORS * SECTOR) as usize];
    stack
        .read_at(0, &mut disk)
        .map_err(|e| format!("cannot be read: {e}"))?;
    drop(stack);
    let found = ledger.judge(at, &disk)?;
    if found != before.versions && timestamp(&*store) == before.timestamp {
        return Err("it reads differently, but has the same timestamp".into());
    }
    Ok((store, found))
}

/// Lives a life that begins with `medium` and tries every cut of it. Answers how many media that were, and
/// one of them with what it held, from which life may go on.
fn cut(
    medium: Medium,
    versions: Vec<u64>,
    flaw: Flaw,
    random: &mut Random,
    version: u64,
) -> (u64, Medium, Vec<u64>) {
    let before = Before {
        versions: versions.clone(),
        timestamp: timestamp(&Recorder::new(medium.clone())),
    };
    let mut ledger = Ledger::new(versions);
    let store = Arc::new(match flaw {
        Flaw::Store(lie) => Recorder::lying(medium.clone(), lie),
        _ => Recorder::new(medium.clone()),
    });
    live(&store, &mut ledger, flaw, random, version);
    let events = store.events();
    let life = Cuts {
        initial: medium,
        events: &events,
    };
    let mut second = 0;
    let mut survivor = None;
    let mut dice = random.clone();
    let first = life.each(
        random,
        |at| ledger.is_stricter_at(at),
        |cut| {
            let at = cut.at;
            let (store, found) = judge(cut.medium.clone(), &before, &ledger, at)
                .unwrap_or_else(|e| panic!("{cut}: {e}"));
            // What opening it wrote is cut as well. Most media need the same few writes: some will do.
            let repairs = store.events();
            if !repairs.is_empty() && dice.once_in(4) {
                let recovery = Cuts {
                    initial: cut.medium.clone(),
                    events: &repairs,
                };
                second += recovery.each(
                    &mut dice.clone(),
                    |_| false,
                    |again| {
                        if let Err(e) = judge(again.medium.clone(), &before, &ledger, at) {
                            panic!("{cut}, and while it is opened {again}: {e}");
                        }
                    },
                );
            }
            if survivor.is_none() || dice.once_in(300) {
                survivor = Some((store.medium(), found));
            }
        },
    );
    let (medium, found) = survivor.unwrap();
    (first + second, medium, found)
}

/// Lives of three generations each, the later ones on what a cut left of the one before.
fn cut_lives(seeds: std::ops::Range<u64>, flaw: Flaw, child: bool) -> u64 {
    let mut states = 0;
    for seed in seeds {
        let mut random = Random::new(seed);
        let (mut medium, mut versions) = (small_blocks(child), vec![0; SECTORS as usize]);
        for generation in 0..3 {
            let count;
            (count, medium, versions) =
                cut(medium, versions, flaw, &mut random, 1 + generation * 1000);
            states += count;
        }
    }
    states
}

#[test]
fn no_power_cut_loses_or_mixes_up_a_flushed_sector() {
    // Half of the lives on each of two threads.
    let states: u64 = std::thread::scope(|scope| {
        let halves = [0..6, 100..106];
        let threads = halves.map(|seeds| scope.spawn(|| cut_lives(seeds, Flaw::None, false)));
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    println!("{states} states after power cuts, none violating");
    assert!(
        states >= 100_000,
        "only {states} states: the test lost its teeth"
    );
}

/// Alone, a child reads as if its parent were all zeros, and has to write the zeros that a disk without a
/// parent only notes.
#[test]
fn no_power_cut_harms_a_child() {
    let states = cut_lives(200..202, Flaw::None, true);
    println!("{states} states after power cuts, none violating");
    assert!(states >= 10_000, "only {states} states");
}

/// The test must be able to fail.
fn assert_caught(flaw: Flaw) {
    let caught = std::panic::catch_unwind(|| cut_lives(0..10, flaw, false)).unwrap_err();
    let why = caught.downcast_ref::<String>().unwrap();
    assert!(why.contains("cut after event"), "{why}");
}

#[test]
fn a_store_that_swallows_syncs_is_caught() {
    assert_caught(Flaw::Store(Lie::SwallowsSyncs));
}

#[test]
fn a_store_that_is_late_with_a_write_is_caught() {
    assert_caught(Flaw::Store(Lie::LateWrites));
}

#[test]
fn metadata_that_does_not_wait_for_its_data_is_caught() {
    assert_caught(Flaw::HastyMetadata);
}

#[test]
fn a_fixed_disk_never_reads_differently_under_the_same_timestamp() {
    let store = Recorder::default();
    vhd::create(&store, Kind::Fixed, 16 * SECTOR, None).unwrap();
    let initial = store.medium();
    let before = timestamp(&store);
    let store = Arc::new(Recorder::new(initial.clone()));
    let disk = |store: Arc<dyn Store>| {
        let layer = vhd::open(store, false).unwrap().into_layer();
        Stack::new(vec![StackedLayer::new(layer, None)], false, "fixed").unwrap()
    };
    let stack = disk(store.clone());
    stack.write_at(0, &[7; 4 * SECTOR as usize]).unwrap();
    stack.flush().unwrap();
    stack.write_zeroes(SECTOR, SECTOR).unwrap();
    drop(stack);
    let mut differ = 0;
    let life = Cuts {
        initial,
        events: &store.events(),
    };
    life.each(
        &mut Random::new(3),
        |_| false,
        |cut| {
            let store = Arc::new(Recorder::new(cut.medium.clone()));
            let mut bytes = [0; 16 * SECTOR as usize];
            disk(store.clone()).read_at(0, &mut bytes).unwrap();
            let same = timestamp(&*store) == before;
            assert!(!same || bytes.iter().all(|b| *b == 0), "{cut}");
            differ += u64::from(!same);
        },
    );
    assert!(differ > 0);
}
