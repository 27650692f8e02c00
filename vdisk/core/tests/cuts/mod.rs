//! What media may hold after a power cut: stores that note every write and every sync, and all the states
//! that a cut between them can leave. Of the writes since a store's last sync any may have reached its
//! medium and any may not, in whole or in sectors.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};

use vdisk::store::{MemoryStore, Store};
use vdisk::{Result, SECTOR};

/// What happened to a store.
#[derive(Clone)]
pub enum Event {
    Write(u64, Vec<u8>),
    Length(u64),
    Punch(u64, u64),
    Sync,
}

impl Event {
    pub fn apply(&self, store: &MemoryStore) -> Result<()> {
        match self {
            Self::Write(at, bytes) => store.write_at(*at, bytes),
            Self::Length(len) => store.set_len(*len),
            Self::Punch(at, len) => store.punch(*at, *len),
            Self::Sync => Ok(()),
        }
    }
}

/// What happened to which store, in order.
pub type Events = Vec<(usize, Event)>;

/// A store that notes what is done to it.
pub struct Noting {
    number: usize,
    now: MemoryStore,
    events: Arc<Mutex<Events>>,
}

/// Stores that hold these bytes and note in one log what is done to them.
pub fn noting<const N: usize>(initial: [Vec<u8>; N]) -> ([Arc<Noting>; N], Arc<Mutex<Events>>) {
    let events = Arc::default();
    let mut number = 0..;
    let stores = initial.map(|bytes| {
        Arc::new(Noting {
            number: number.next().unwrap(),
            now: MemoryStore::new(bytes),
            events: Arc::clone(&events),
        })
    });
    (stores, events)
}

impl Noting {
    fn note(&self, event: Event) -> Result<()> {
        event.apply(&self.now)?;
        self.events.lock().unwrap().push((self.number, event));
        Ok(())
    }

    /// Events so far, of all stores of the log.
    pub fn count(&self) -> usize {
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
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
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

/// Tries every cut of what happened to the stores that at first held `initial`: `judge` is given how many
/// events there were before the cut, and what the media hold. Up to `exhaustive` unsynced writes every
/// subset is tried, beyond that 48 samples. Returns how many states that were.
pub fn every_cut(
    initial: &[Vec<u8>],
    events: &Events,
    exhaustive: usize,
    random: &mut Random,
    mut judge: impl FnMut(usize, Vec<Vec<u8>>, &str),
) -> u64 {
    let mut states = 0;
    let durable: Vec<MemoryStore> = initial
        .iter()
        .map(|bytes| MemoryStore::new(bytes.clone()))
        .collect();
    let mut pending: Events = Vec::new();
    for at in 0..=events.len() {
        let subsets: Vec<u64> = match pending.len() <= exhaustive {
            true => (0..1 << pending.len()).collect(),
            false => (0..48)
                .map(|_| random.below(1 << 31) << 31 | random.below(1 << 31))
                .collect(),
        };
        for subset in subsets {
            for tear in [false, true] {
                let media: Vec<_> = durable
                    .iter()
                    .map(|store| MemoryStore::new(store.contents()))
                    .collect();
                for (i, (store, event)) in pending.iter().enumerate() {
                    if subset >> (i % 62) & 1 == 1 {
                        let parts = match tear {
                            true => torn(event, random),
                            false => vec![event.clone()],
                        };
                        parts
                            .iter()
                            .for_each(|part| part.apply(&media[*store]).unwrap());
                    }
                }
                let context = format!("cut after event {at}, writes {subset:b}, torn {tear}");
                let media = media.iter().map(MemoryStore::contents).collect();
                judge(at, media, &context);
                states += 1;
            }
        }
        match events.get(at) {
            Some((store, Event::Sync)) => {
                let (synced, rest): (Events, Events) =
                    pending.into_iter().partition(|(of, _)| of == store);
                for (_, event) in synced {
                    event.apply(&durable[*store]).unwrap();
                }
                pending = rest;
            }
            Some(event) => pending.push(event.clone()),
            None => {}
        }
    }
    states
}
