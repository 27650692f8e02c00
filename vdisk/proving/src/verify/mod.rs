//! The verifier: many threads on one disk, each sector of which says whose it is and how new.
//!
//! Every thread that writes owns some sectors, scattered among those of the others, so that it knows what
//! is there without asking anybody; what it wrote it reads again a few operations later, while the others
//! go on (the pipeline). Another reads anybody's sectors and holds them against the books. One flushes,
//! and now and then holds a copy of the files that was taken after the flush against what was written
//! before it. What no thread may ever see is in [`Damage`].

mod books;
mod faults;
mod sector;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use vdisk::{Disk, Result, SECTOR};

pub use books::{Books, Kind, Mismatch};
pub use faults::{Fault, Faulty};
pub use sector::{Damage, Stamp};

use crate::Random;

/// Sectors next to each other that have the same owner.
const RUN: u64 = 8;
/// Most mismatches that a report lists.
const MOST: usize = 20;
/// Operations until what was written is read again.
const PIPELINE: usize = 16;
/// Threads that write; with the one that reads and the one that flushes it is eight.
pub const WRITERS: u64 = 6;

/// How a disk is verified.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// For how long; the first mismatch ends it.
    pub time: Duration,
    /// What makes the threads do other things.
    pub seed: u64,
}

/// What was done, and what was found wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls of each kind.
    pub writes: u64,
    /// Zeroings.
    pub zeroes: u64,
    /// Discards.
    pub discards: u64,
    /// Reads whose every sector was judged.
    pub reads: u64,
    /// Flushes.
    pub flushes: u64,
    /// Copies taken after a flush whose every sector was judged.
    pub copies: u64,
    /// Sectors that were found mixed while somebody was writing them, and sound when read again at rest.
    pub mixed: u64,
    /// What was wrong, at most twenty.
    pub mismatches: Vec<Mismatch>,
}

/// Takes a copy of the files that the disk lies in, opened as a disk. Nobody writes meanwhile.
pub type Copy<'a> = &'a (dyn Fn() -> Result<Disk> + Sync);

#[derive(Default)]
struct Counts {
    writes: AtomicU64,
    zeroes: AtomicU64,
    discards: AtomicU64,
    reads: AtomicU64,
    flushes: AtomicU64,
    copies: AtomicU64,
    mixed: AtomicU64,
}

/// What the threads share.
struct Run<'a> {
    disk: &'a Disk,
    books: Books,
    /// Shared by who writes; exclusive while files are copied.
    gate: RwLock<()>,
    end: Instant,
    stop: AtomicBool,
    mismatches: Mutex<Vec<Mismatch>>,
    counts: Counts,
}

/// Writes the first generation of every sector, which everything that follows builds on.
pub fn fill(disk: &Disk) -> Result<()> {
    for first in (0..disk.size() / SECTOR).step_by(1024) {
        let end = (first + 1024).min(disk.size() / SECTOR);
        let bytes: Vec<u8> = (first..end)
            .flat_map(|s| Stamp::first(s).to_bytes())
            .collect();
        disk.write_at(first * SECTOR, &bytes)?;
    }
    disk.flush()
}

impl Verifier {
    /// Verifies a disk that was [filled](fill). Errors of the disk are mismatches too.
    pub fn run(&self, disk: &Disk, copy: Option<Copy<'_>>) -> Report {
        let run = Run {
            disk,
            books: Books::filled(disk.size() / SECTOR),
            gate: RwLock::default(),
            end: Instant::now() + self.time,
            stop: AtomicBool::new(false),
            mismatches: Mutex::default(),
            counts: Counts::default(),
        };
        let random = |thread: u64| Random::new(self.seed.wrapping_mul(1000) + thread);
        std::thread::scope(|scope| {
            for thread in 0..WRITERS {
                let run = &run;
                scope.spawn(move || run.attempt("write", run.write(thread, random(thread))));
            }
            scope.spawn(|| run.attempt("read", run.read(random(WRITERS))));
            scope.spawn(|| run.attempt("flush", run.flush(copy)));
        });
        if !run.stop.load(Ordering::Relaxed) {
            run.attempt("read", run.judge_all(disk, &run.books.acknowledged()));
        }
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Report {
            writes: count(&run.counts.writes),
            zeroes: count(&run.counts.zeroes),
            discards: count(&run.counts.discards),
            reads: count(&run.counts.reads),
            flushes: count(&run.counts.flushes),
            copies: count(&run.counts.copies),
            mixed: count(&run.counts.mixed),
            mismatches: run
                .mismatches
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Run<'_> {
    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.end
    }

    fn found(&self, mismatch: Mismatch) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = self
            .mismatches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST {
            all.push(mismatch);
        }
    }

    fn attempt(&self, what: &str, result: Result<()>) {
        if let Err(e) = result {
            self.found(Mismatch::failed(what, &e));
        }
    }

    /// Reads sectors and holds each against what it held at least before and at most after.
    fn judge(&self, disk: &Disk, first: u64, floors: &[u64]) -> Result<()> {
        let mut bytes = vec![0; floors.len() * SECTOR as usize];
        disk.read_at(first * SECTOR, &mut bytes)?;
        for ((sector, bytes), floor) in (first..).zip(bytes.chunks(SECTOR as usize)).zip(floors) {
            if let Err(mismatch) = self.books.judge(sector, bytes, *floor) {
                let mixed = matches!(mismatch.damage, Some(Damage::Torn(_) | Damage::Noise));
                match mixed && self.books.issued(sector) != *floor {
                    true => self.judge_at_rest(disk, sector)?,
                    false => self.found(mismatch),
                }
            }
        }
        Ok(())
    }

    /// A sector that is read while it is written may come out as a mix of both: a host's file promises no
    /// more, and nor does a disk. Read with no writer about, it must be one or the other.
    fn judge_at_rest(&self, disk: &Disk, sector: u64) -> Result<()> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; SECTOR as usize];
        disk.read_at(sector * SECTOR, &mut bytes)?;
        let floor = self.books.floors(sector..sector + 1)[0];
        match self.books.judge(sector, &bytes, floor) {
            Ok(_) => self.counts.mixed.fetch_add(1, Ordering::Relaxed),
            Err(mismatch) => {
                self.found(mismatch);
                0
            }
        };
        Ok(())
    }

    fn judge_all(&self, disk: &Disk, floors: &[u64]) -> Result<()> {
        let parts = (0u64..).step_by(256).zip(floors.chunks(256));
        parts
            .into_iter()
            .try_for_each(|(first, floors)| self.judge(disk, first, floors))
    }

    /// A writer's life: new generations in its own sectors, read again when the pipeline is full.
    fn write(&self, thread: u64, mut random: Random) -> Result<()> {
        let runs = self.disk.size() / SECTOR / RUN;
        let mut pipeline = VecDeque::new();
        while !self.ends() {
            // Owners take turns, so that neighbours in a cluster are always somebody else's.
            let run = random.below(runs / WRITERS) * WRITERS + thread;
            let first = run * RUN + random.below(RUN);
            let sectors = first..first + 1 + random.below((run + 1) * RUN - first);
            let kind = match (thread, random.below(10)) {
                (0 | 1, 0..4) => Kind::Discard,
                (_, 0) => Kind::Zeroes,
                _ => Kind::Data,
            };
            let (at, len) = (first * SECTOR, (sectors.end - first) * SECTOR);
            let generation = self.books.issue(sectors.clone(), kind);
            let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            let count = match kind {
                Kind::Data => {
                    let stamp = |s| Stamp::new(s, generation, thread).to_bytes();
                    let bytes: Vec<u8> = sectors.clone().flat_map(stamp).collect();
                    self.disk.write_at(at, &bytes)?;
                    &self.counts.writes
                }
                Kind::Zeroes => {
                    self.disk.write_zeroes(at, len)?;
                    &self.counts.zeroes
                }
                Kind::Discard => {
                    self.disk.discard(at, len)?;
                    &self.counts.discards
                }
            };
            count.fetch_add(1, Ordering::Relaxed);
            self.books.acknowledge(sectors.clone(), generation);
            drop(_open);
            pipeline.push_back(sectors);
            if pipeline.len() > PIPELINE
                && let Some(sectors) = pipeline.pop_front()
            {
                self.judge(self.disk, sectors.start, &self.books.floors(sectors))?;
                self.counts.reads.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The reader's life: anybody's sectors.
    fn read(&self, mut random: Random) -> Result<()> {
        let all = self.disk.size() / SECTOR;
        while !self.ends() {
            let first = random.below(all);
            let floors = self
                .books
                .floors(first..all.min(first + 1 + random.below(256)));
            self.judge(self.disk, first, &floors)?;
            self.counts.reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The flusher's life.
    fn flush(&self, copy: Option<Copy<'_>>) -> Result<()> {
        while !self.ends() {
            let floors = self.books.acknowledged();
            self.disk.flush()?;
            if let Some(copy) = copy
                && self
                    .counts
                    .flushes
                    .load(Ordering::Relaxed)
                    .is_multiple_of(8)
            {
                let alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                let copied = copy()?;
                drop(alone);
                self.judge_all(&copied, &floors)?;
                self.counts.copies.fetch_add(1, Ordering::Relaxed);
            }
            self.counts.flushes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
