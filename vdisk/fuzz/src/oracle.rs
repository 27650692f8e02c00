//! A disk beside a model of it: operations are read from the fuzzer's bytes and done to both.
//!
//! Every write stamps its sectors with its own number and their place, so a sector that is read tells who
//! wrote it. The model knows for each sector which writers may be found there: one, after a plain write;
//! several, after a write that failed, a discard, or a crash before a flush.

use std::collections::BTreeMap;

use vdisk::{Disk, ErrorKind, SECTOR};

use crate::input::Input;

/// Who wrote a sector: 0 for nobody (zeros).
pub type Stamp = u32;

/// Zeros.
pub const ZERO: Stamp = 0;
/// The stamp of a base that was there before.
pub const BASE: Stamp = u32::MAX;

const LEN: usize = SECTOR as usize;

/// The sector that `stamp` writes at `lba`.
pub fn sector(stamp: Stamp, lba: u64) -> [u8; LEN] {
    if stamp == ZERO {
        return [0; LEN];
    }
    let mut bytes = [stamp as u8 | 1; LEN];
    bytes[..4].copy_from_slice(&stamp.to_le_bytes());
    bytes[4..12].copy_from_slice(&lba.to_le_bytes());
    bytes
}

/// Who wrote these bytes at `lba`; `None` if nobody did.
fn author(bytes: &[u8], lba: u64) -> Option<Stamp> {
    let stamp = Stamp::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (bytes == sector(stamp, lba)).then_some(stamp)
}

/// What a base that nobody has written to holds: near its beginning, two of three sectors of every
/// other 64 KiB.
pub fn base_stamp(lba: u64) -> Stamp {
    match lba < 3_000 && (lba >> 7) & 1 == 1 && !lba.is_multiple_of(3) {
        true => BASE,
        false => ZERO,
    }
}

/// A disk that can be closed and opened again.
pub trait World {
    /// Closes the disk that is open, if any, and opens it again. With `crash`, nothing more is written
    /// before that: what was not flushed may be lost.
    fn reopen(&mut self, crash: bool) -> Disk;

    /// Whether something other than a bug may keep a write from being done.
    fn may_fail(&self) -> bool {
        false
    }
}

/// What is known of one sector.
#[derive(Default)]
struct Known {
    /// Who may be found there.
    now: Vec<Stamp>,
    /// Who may be found there after a crash, beside `now`.
    unflushed: Vec<Stamp>,
    /// Who was ever there: what a discard may bring back.
    ever: Vec<Stamp>,
}

/// The model.
pub struct Model {
    sectors: u64,
    base: fn(u64) -> Stamp,
    touched: BTreeMap<u64, Known>,
    next: Stamp,
}

/// Operations of one run; more take time and show nothing new.
const MOST: usize = 48;
/// Sectors whose whole contents are looked at by one read.
const WINDOW: u64 = 64;

fn add(set: &mut Vec<Stamp>, stamp: Stamp) {
    if !set.contains(&stamp) {
        set.push(stamp);
    }
}

impl Model {
    /// A model of a disk of `sectors` sectors that holds what `base` says.
    pub fn new(sectors: u64, base: fn(u64) -> Stamp) -> Self {
        Self {
            sectors,
            base,
            touched: BTreeMap::new(),
            next: 1,
        }
    }

    /// Does what the input says until it ends.
    pub fn run(&mut self, world: &mut impl World, input: &mut Input<'_>) {
        let mut disk = world.reopen(false);
        assert_eq!(disk.size(), self.sectors * SECTOR);
        for _ in 0..MOST {
            if input.is_empty() {
                break;
            }
            let what = input.u8();
            let first = (u64::from(input.u16()) * self.sectors) >> 16;
            // Mostly short, now and then across blocks.
            let len = match input.u8() {
                n @ 0..0xf0 => u64::from(n) % 80 + 1,
                n => u64::from(n - 0xef) * 700,
            };
            let len = len.min(self.sectors - first);
            match what % 10 {
                0..4 => self.write(world, &disk, first, len),
                4 => {
                    let done = disk.write_zeroes(first * SECTOR, len * SECTOR);
                    self.wrote(world, first, len, ZERO, done);
                }
                5 => self.discard(world, &disk, first, len),
                6 => {
                    disk.flush().expect("a flush failed");
                    for known in self.touched.values_mut() {
                        known.unflushed.clear();
                    }
                }
                7 => self.look(&disk, first, len.min(WINDOW)),
                8 => {
                    drop(disk);
                    disk = world.reopen(false);
                    for known in self.touched.values_mut() {
                        known.unflushed.clear();
                    }
                    self.look_everywhere(&disk);
                }
                _ => {
                    drop(disk);
                    disk = world.reopen(true);
                    for known in self.touched.values_mut() {
                        for stamp in std::mem::take(&mut known.unflushed) {
                            add(&mut known.now, stamp);
                        }
                    }
                    self.look_everywhere(&disk);
                }
            }
        }
        self.look_everywhere(&disk);
        drop(disk);
        let disk = world.reopen(false);
        self.look_everywhere(&disk);
    }

    fn write(&mut self, world: &impl World, disk: &Disk, first: u64, len: u64) {
        let stamp = self.next;
        self.next += 1;
        let mut bytes = Vec::with_capacity((len * SECTOR) as usize);
        for lba in first..first + len {
            bytes.extend(sector(stamp, lba));
        }
        let done = disk.write_at(first * SECTOR, &bytes);
        self.wrote(world, first, len, stamp, done);
    }

    fn known(&mut self, lba: u64) -> &mut Known {
        let base = (self.base)(lba);
        self.touched.entry(lba).or_insert_with(|| Known {
            now: vec![base],
            unflushed: Vec::new(),
            ever: vec![base],
        })
    }

    fn wrote(
        &mut self,
        world: &impl World,
        first: u64,
        len: u64,
        stamp: Stamp,
        done: vdisk::Result<()>,
    ) {
        let failed = match done {
            Ok(()) => false,
            Err(e) if world.may_fail() && e.kind() == ErrorKind::NoSpace => true,
            Err(e) => panic!("a write failed: {e}"),
        };
        for lba in first..first + len {
            let known = self.known(lba);
            add(&mut known.ever, stamp);
            if failed {
                add(&mut known.now, stamp);
            } else {
                for old in std::mem::replace(&mut known.now, vec![stamp]) {
                    add(&mut known.unflushed, old);
                }
            }
        }
    }

    fn discard(&mut self, world: &impl World, disk: &Disk, first: u64, len: u64) {
        match disk.discard(first * SECTOR, len * SECTOR) {
            Ok(()) => {}
            Err(e) if world.may_fail() && e.kind() == ErrorKind::NoSpace => {}
            Err(e) => panic!("a discard failed: {e}"),
        }
        for lba in first..first + len {
            let known = self.known(lba);
            add(&mut known.ever, ZERO);
            known.now = known.ever.clone();
        }
    }

    /// Reads sectors and holds them against what is known.
    fn look(&mut self, disk: &Disk, first: u64, len: u64) {
        let mut bytes = vec![0xa5; (len * SECTOR) as usize];
        disk.read_at(first * SECTOR, &mut bytes)
            .expect("a read failed");
        for (lba, found) in (first..first + len).zip(bytes.chunks_exact(LEN)) {
            let author = author(found, lba);
            match self.touched.get(&lba) {
                Some(known) => assert!(
                    author.is_some_and(|a| known.now.contains(&a)),
                    "sector {lba}: {author:?} instead of {:?}",
                    known.now
                ),
                None => assert_eq!(
                    author,
                    Some((self.base)(lba)),
                    "sector {lba}, never written"
                ),
            }
        }
    }

    /// Looks at everything that was ever touched, and a little around it.
    fn look_everywhere(&mut self, disk: &Disk) {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &lba in self.touched.keys() {
            let (from, to) = (lba.saturating_sub(1), (lba + 2).min(self.sectors));
            match runs.last_mut() {
                Some((_, end)) if from <= *end => *end = to,
                _ => runs.push((from, to)),
            }
        }
        for (from, to) in runs {
            self.look(disk, from, to - from);
        }
        // Extents must not call a hole what holds something.
        let mut at = 0;
        let mut holes = Vec::new();
        let extents = disk.extents(0, disk.size(), &mut |extent| {
            assert_eq!(extent.offset, at, "extents with a gap");
            assert!(extent.len > 0);
            at += extent.len;
            if extent.kind == vdisk::ExtentKind::Hole {
                holes.push(extent);
            }
        });
        extents.expect("mapping failed");
        assert_eq!(at, disk.size(), "extents end early");
        for hole in holes {
            let (from, to) = (
                hole.offset.div_ceil(SECTOR),
                (hole.offset + hole.len) / SECTOR,
            );
            for (lba, known) in self.touched.range(from..to.max(from)) {
                assert!(known.now.contains(&ZERO), "sector {lba} is no hole");
            }
        }
    }
}
