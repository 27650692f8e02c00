//! Power cuts: everything a medium may hold after one, tried out.
//!
//! A store notes every write and every sync. A cut may come after any of them; of the writes since the
//! last sync, any may have reached the medium and any may not, in whole or in sectors. For each such
//! medium the image must open, hold every sector that was flushed before the cut (or what was written to
//! it later), and nowhere show a sector of another place.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Store};
use vdisk::vhd::{self, Kind};
use vdisk::xts::{Xts, XtsKey};
use vdisk::{BlockDevice, Result, SECTOR};

/// What happened to a store.
#[derive(Clone)]
enum Event {
    Write(u64, Vec<u8>),
    Length(u64),
    Punch(u64, u64),
    Sync,
}

impl Event {
    fn apply(&self, store: &MemoryStore) -> Result<()> {
        match self {
            Self::Write(at, bytes) => store.write_at(*at, bytes),
            Self::Length(len) => store.set_len(*len),
            Self::Punch(at, len) => store.punch(*at, *len),
            Self::Sync => Ok(()),
        }
    }
}

/// A store that notes what is done to it.
#[derive(Default)]
struct Noting {
    now: MemoryStore,
    events: Mutex<Vec<Event>>,
}

impl Noting {
    fn note(&self, event: Event) -> Result<()> {
        event.apply(&self.now)?;
        self.events.lock().unwrap().push(event);
        Ok(())
    }

    fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }
}

impl Store for Noting {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.now.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.note(Event::Write(offset, buf.to_vec()))
    }
    fn len(&self) -> Result<u64> {
        self.now.len()
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.note(Event::Length(len))
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.note(Event::Punch(offset, len))
    }
    fn sync(&self) -> Result<()> {
        self.note(Event::Sync)
    }
}

/// A small generator: tests must be the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// Sectors of the disk under test: three blocks, small ones so that many images fit in memory.
const SECTORS: u64 = 3 * 64;

fn cipher() -> Xts {
    Xts::new(&XtsKey::new(std::array::from_fn(|i| i as u8)).unwrap())
}

/// A sector's contents: where it belongs and which write it was. Version 0 is zeros.
fn stamp(sector: u64, version: u64) -> [u8; SECTOR as usize] {
    let mut bytes = [0; SECTOR as usize];
    if version > 0 {
        for chunk in bytes.chunks_exact_mut(16) {
            chunk[..8].copy_from_slice(&sector.to_le_bytes());
            chunk[8..].copy_from_slice(&version.to_le_bytes());
        }
    }
    bytes
}

/// What one sector may hold after a cut.
#[derive(Clone, Default)]
struct Allowed {
    /// The version that the last flush made certain.
    flushed: u64,
    /// Versions written or zeroed since.
    since: Vec<u64>,
}

/// A life of a disk: its store's events, and after each how many of them there were, what may be there.
struct Life {
    initial: Vec<u8>,
    events: Vec<Event>,
    /// `(events so far, what each sector may hold from then on)`.
    allowed: Vec<(usize, Vec<Allowed>)>,
}

/// An image with blocks of 32 KiB, as our own writer makes them but for the size.
fn small_blocks() -> Vec<u8> {
    let store = MemoryStore::default();
    let footer = vhd::create(&store, Kind::Dynamic, SECTORS * SECTOR, None).unwrap();
    let header = vhd::DynamicHeader {
        table_offset: 1536,
        entries: 3,
        block_size: 64 * SECTOR as u32,
    };
    store.write_at(512, &header.to_bytes()).unwrap();
    store.write_at(1536, &[0xff; 512]).unwrap();
    store.write_at(2048, &footer.to_bytes()).unwrap();
    store.contents()
}

fn live(seed: u64, steps: usize) -> Life {
    let initial = small_blocks();
    let store = Arc::new(Noting {
        now: MemoryStore::new(initial.clone()),
        events: Mutex::default(),
    });
    let layer = vhd::open(store.clone(), false).unwrap().into_layer();
    let stack = Stack::new(
        vec![StackedLayer::new(layer, Some(cipher()))],
        false,
        "powercut",
    )
    .unwrap();
    let mut random = Random(seed);
    let mut now = vec![Allowed::default(); SECTORS as usize];
    let mut latest = vec![0; SECTORS as usize];
    let mut allowed = vec![(0, now.clone())];
    for version in 1..=steps as u64 {
        let first = random.below(SECTORS);
        let count = (1 + random.below(12)).min(SECTORS - first);
        let range = first..first + count;
        match random.below(10) {
            0..5 => {
                // From the first write on, the new version may be there.
                range
                    .clone()
                    .for_each(|s| now[s as usize].since.push(version));
                allowed.push((store.count(), now.clone()));
                let bytes: Vec<u8> = range.clone().flat_map(|s| stamp(s, version)).collect();
                stack.write_at(first * SECTOR, &bytes).unwrap();
                range.for_each(|s| latest[s as usize] = version);
            }
            5 => {
                range.clone().for_each(|s| now[s as usize].since.push(0));
                allowed.push((store.count(), now.clone()));
                stack.write_zeroes(first * SECTOR, count * SECTOR).unwrap();
                range.for_each(|s| latest[s as usize] = 0);
            }
            6 => {
                // A whole block, which frees it.
                let block = random.below(3) * 64;
                (block..block + 64).for_each(|s| now[s as usize].since.push(0));
                allowed.push((store.count(), now.clone()));
                stack.write_zeroes(block * SECTOR, 64 * SECTOR).unwrap();
                (block..block + 64).for_each(|s| latest[s as usize] = 0);
            }
            _ => {
                stack.flush().unwrap();
                for (sector, state) in now.iter_mut().enumerate() {
                    *state = Allowed {
                        flushed: latest[sector],
                        since: Vec::new(),
                    };
                }
                allowed.push((store.count(), now.clone()));
            }
        }
    }
    // The clean close is an event like any other.
    drop(stack);
    let events = store.events.lock().unwrap().clone();
    Life {
        initial,
        events,
        allowed,
    }
}

/// Opens what a cut left, and judges every sector.
fn judge(medium: Vec<u8>, allowed: &[Allowed], context: &str) {
    let store = Arc::new(MemoryStore::new(medium));
    let opened =
        vhd::open(store, false).unwrap_or_else(|e| panic!("{context}: does not open: {e}"));
    let stack = Stack::new(
        vec![StackedLayer::new(opened.into_layer(), Some(cipher()))],
        false,
        "after",
    )
    .unwrap();
    let mut bytes = vec![0; (SECTORS * SECTOR) as usize];
    stack
        .read_at(0, &mut bytes)
        .unwrap_or_else(|e| panic!("{context}: cannot be read: {e}"));
    for (sector, (found, allowed)) in bytes.chunks_exact(SECTOR as usize).zip(allowed).enumerate() {
        let fits = |version: &u64| found == stamp(sector as u64, *version);
        let ok = fits(&allowed.flushed) || allowed.since.iter().any(fits);
        assert!(
            ok,
            "{context}: sector {sector} holds {:02x?}…, allowed are version {} and {:?}",
            &found[..16],
            allowed.flushed,
            allowed.since
        );
    }
}

/// One event as the medium may have taken it: all, or of a write only some sectors.
fn torn(event: &Event, random: &mut Random) -> Vec<Event> {
    match event {
        Event::Write(at, bytes) if bytes.len() > SECTOR as usize => {
            let keep = random.below(u64::MAX >> 34);
            let sectors = bytes.chunks(SECTOR as usize).enumerate();
            sectors
                .filter(|(i, _)| keep >> (i % 30) & 1 == 1)
                .map(|(i, sector)| Event::Write(at + i as u64 * SECTOR, sector.to_vec()))
                .collect()
        }
        whole => vec![whole.clone()],
    }
}

/// Tries every cut of a life; returns how many media that were.
fn cut(life: &Life, random: &mut Random) -> u64 {
    let mut states = 0;
    let durable = MemoryStore::new(life.initial.clone());
    let mut pending: Vec<Event> = Vec::new();
    let mut era = 0;
    for at in 0..=life.events.len() {
        while life
            .allowed
            .get(era + 1)
            .is_some_and(|(from, _)| *from <= at)
        {
            era += 1;
        }
        let allowed = &life.allowed[era].1;
        let exhaustive = pending.len() <= 6;
        let subsets: Vec<u64> = if exhaustive {
            (0..1 << pending.len()).collect()
        } else {
            (0..48)
                .map(|_| random.below(1 << 31) << 31 | random.below(1 << 31))
                .collect()
        };
        for subset in subsets {
            for tear in [false, true] {
                let medium = MemoryStore::new(durable.contents());
                for (i, event) in pending.iter().enumerate() {
                    if subset >> (i % 62) & 1 == 1 {
                        let parts = if tear {
                            torn(event, random)
                        } else {
                            vec![event.clone()]
                        };
                        parts.iter().for_each(|part| part.apply(&medium).unwrap());
                    }
                }
                judge(
                    medium.contents(),
                    allowed,
                    &format!("cut after event {at}, writes {subset:b}, torn {tear}"),
                );
                states += 1;
            }
        }
        match life.events.get(at) {
            Some(Event::Sync) => pending
                .drain(..)
                .for_each(|event| event.apply(&durable).unwrap()),
            Some(event) => pending.push(event.clone()),
            None => {}
        }
    }
    states
}

#[test]
fn no_power_cut_loses_or_mixes_up_a_flushed_sector() {
    let mut random = Random(7);
    let mut states = 0;
    for seed in 0..40 {
        let life = live(seed, 40);
        states += cut(&life, &mut random);
    }
    println!("{states} states after power cuts, none violating");
    assert!(
        states > 20_000,
        "only {states} states: the test lost its teeth"
    );
}

/// The test must be able to fail: a life whose syncs are not real is caught.
#[test]
#[should_panic(expected = "cut after event")]
fn a_disk_without_syncs_is_caught() {
    let mut random = Random(7);
    for seed in 0..40 {
        let mut life = live(seed, 40);
        let kept: Vec<usize> = (0..life.events.len())
            .filter(|i| !matches!(life.events[*i], Event::Sync))
            .collect();
        life.allowed
            .iter_mut()
            .for_each(|(at, _)| *at = kept.partition_point(|i| i < at));
        life.events = kept.iter().map(|i| life.events[*i].clone()).collect();
        cut(&life, &mut random);
    }
}
