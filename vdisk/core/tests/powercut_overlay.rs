//! Power cuts of a durable overlay, and of a commit.
//!
//! Whatever a cut leaves of an overlay that was made must open above its base, hold every sector that was
//! flushed (or what was written to it later), nowhere show a sector of another place, and be sound in the
//! eyes of `check`. A suspended overlay is suspended wholly or not at all.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use vdisk::convert::NewImage;
use vdisk::flat::Flat;
use vdisk::image::{DiskKey, Format, Mode, OpenImage};
use vdisk::overlay::{self, Base, CommitOverlay, OpenOverlay, Overlay, OverlayOptions};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Sharing, Store};
use vdisk::xts::{DataUnit, Xts, XtsKey};
use vdisk::{BlockDevice, ErrorKind, Result, SECTOR};
use vdisk_proving::{Cuts, Eras, Ledger, Lie, Medium, Random, Recorder, stamp};

/// Six clusters, the last of them not whole.
const SECTORS: u64 = 5 * CLUSTER + 7;
const CLUSTER: u64 = overlay::CLUSTER / SECTOR;

/// The version of every sector of the base.
const BELOW: u64 = 1;

/// Whether the overlay belongs to a saved machine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Saved {
    No,
    Maybe([u8; 32]),
    Yes([u8; 32]),
}

/// A disk of stamped sectors below, and how it is opened with an overlay.
struct Bench {
    key: XtsKey,
    base: Base,
    below: Arc<MemoryStore>,
    dir: tempfile::TempDir,
}

/// A recorder that several own.
struct Shared(Arc<Recorder>);

impl Store for Shared {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.0.write_at(offset, buf)
    }
    fn len(&self) -> Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len)
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.0.punch(offset, len)
    }
    fn allocated(&self, offset: u64, len: u64) -> Result<(bool, u64)> {
        self.0.allocated(offset, len)
    }
    fn sync(&self) -> Result<()> {
        self.0.sync()
    }
}

impl Bench {
    fn new() -> Self {
        let key = XtsKey::new(std::array::from_fn(|i| i as u8)).unwrap();
        let mut below: Vec<u8> = (0..SECTORS).flat_map(|s| stamp(s, BELOW)).collect();
        Xts::new(&key).encrypt(DataUnit::B512, 0, &mut below);
        Self {
            key,
            base: Base {
                id: Uuid::nil(),
                sectors: SECTORS,
                file_len: SECTORS * SECTOR,
                modified: 0,
            },
            below: Arc::new(MemoryStore::new(below)),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn opening<'a>(&'a self, path: &'a Path, options: &'a OverlayOptions) -> OpenOverlay<'a> {
        OpenOverlay {
            path,
            base: self.base,
            base_key: Some(&self.key),
            sharing: Sharing::Exclusive,
            options,
        }
    }

    /// An overlay as it is when it was just made.
    fn made(&self) -> Medium {
        let path = self.dir.path().join("made");
        self.opening(&path, &OverlayOptions::default())
            .open()
            .unwrap();
        let made = Medium::new(&std::fs::read(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        made
    }

    fn open(&self, store: &Arc<Recorder>, resume: Option<[u8; 32]>) -> Result<(Overlay, Stack)> {
        let options = OverlayOptions {
            resume,
            ..OverlayOptions::default()
        };
        let opening = self.opening(Path::new("recorded"), &options);
        let (overlay, key) = opening.open_store(Shared(store.clone()))?;
        let base = Flat::new(self.below.clone(), SECTORS);
        let layers = vec![
            StackedLayer::new(Box::new(overlay.clone()), key.as_ref().map(Xts::new)),
            StackedLayer::encrypted(base, Xts::new(&self.key)),
        ];
        Ok((overlay, Stack::new(layers, false, "powercut")?))
    }

    /// `check` wants a file.
    fn check(&self, medium: &Medium) -> std::result::Result<(), String> {
        let path = self
            .dir
            .path()
            .join(format!("check-{:?}", std::thread::current().id()));
        std::fs::write(&path, medium.to_bytes()).unwrap();
        let report = overlay::check(&path).map_err(|e| format!("cannot be checked: {e}"))?;
        match report.troubles.is_empty() {
            true => Ok(()),
            false => Err(format!("{:?}", report.troubles)),
        }
    }
}

struct Life {
    ledger: Ledger,
    saved: Eras<Saved>,
}

fn disk(stack: &Stack) -> Result<Vec<u8>> {
    let mut disk = vec![0; (SECTORS * SECTOR) as usize];
    stack.read_at(0, &mut disk)?;
    Ok(disk)
}

fn live(bench: &Bench, store: &Arc<Recorder>, life: &mut Life, random: &mut Random, version: u64) {
    let (mut overlay, mut stack) = bench.open(store, None).unwrap();
    let Life { ledger, saved } = life;
    for version in version..version + 40 {
        let first = random.below(SECTORS);
        let mut range = first..SECTORS.min(first + 1 + random.below(40));
        if random.once_in(3) {
            // Whole clusters, as file systems like them.
            let cluster = first / CLUSTER * CLUSTER;
            range = cluster..SECTORS.min(cluster + CLUSTER);
        }
        let (at, len) = (range.start * SECTOR, (range.end - range.start) * SECTOR);
        match random.below(24) {
            0..11 => {
                ledger.may_become(store.count(), range.clone(), &[version]);
                let bytes: Vec<u8> = range.clone().flat_map(|s| stamp(s, version)).collect();
                stack.write_at(at, &bytes).unwrap();
                ledger.became(range, version);
            }
            11..13 => {
                ledger.may_become(store.count(), range.clone(), &[0]);
                stack.write_zeroes(at, len).unwrap();
                ledger.became(range, 0);
            }
            13..16 => {
                // What nobody wants any more is the base's again, or zeros.
                ledger.may_become(store.count(), range.clone(), &[0, BELOW]);
                stack.discard(at, len).unwrap();
                let found = ledger.judge(store.count(), &disk(&stack).unwrap()).unwrap();
                for sector in range {
                    ledger.became(sector..sector + 1, found[sector as usize]);
                }
            }
            16 => {
                drop((stack, overlay));
                ledger.flushed(store.count());
                (overlay, stack) = bench.open(store, None).unwrap();
            }
            17..19 => {
                stack.flush().unwrap();
                ledger.flushed(store.count());
                let machine = [version as u8; 32];
                saved.loosen(store.count(), Saved::Maybe(machine));
                overlay.suspend(machine).unwrap();
                saved.tighten(store.count(), Saved::Yes(machine));
                assert!(stack.write_at(at, &vec![1; len as usize]).is_err());
                if random.once_in(2) {
                    saved.loosen(store.count(), Saved::Maybe(machine));
                    overlay.resume().unwrap();
                } else {
                    drop((stack, overlay));
                    saved.loosen(store.count(), Saved::Maybe(machine));
                    (overlay, stack) = bench.open(store, Some(machine)).unwrap();
                }
                saved.tighten(store.count(), Saved::No);
            }
            _ => {
                stack.flush().unwrap();
                ledger.flushed(store.count());
            }
        }
    }
    drop((stack, overlay));
    ledger.flushed(store.count());
}

/// What a medium turned out to be.
struct Found {
    store: Arc<Recorder>,
    versions: Vec<u64>,
}

/// Opens what a cut left, and judges it.
fn judge(
    bench: &Bench,
    medium: &Medium,
    life: &Life,
    at: usize,
) -> std::result::Result<Found, String> {
    let attempt = |resume| {
        let store = Arc::new(Recorder::new(medium.clone()));
        bench.open(&store, resume).map(|opened| (store, opened))
    };
    let saved = *life.saved.at(at);
    let opened = match (attempt(None), saved) {
        (Ok(opened), Saved::No | Saved::Maybe(_)) => Ok(opened),
        (Err(e), Saved::Yes(machine) | Saved::Maybe(machine)) if e.kind() == ErrorKind::Busy => {
            match attempt(Some(machine.map(|byte| !byte))) {
                Ok(_) => return Err("opens for another machine than the one saved".into()),
                Err(e) if e.kind() == ErrorKind::Busy => attempt(Some(machine)),
                Err(e) => Err(e),
            }
        }
        (Ok(_), Saved::Yes(_)) => return Err("suspended, but opens without its machine".into()),
        (Err(e), _) => Err(e),
    };
    let (store, (overlay, stack)) =
        opened.map_err(|e| format!("does not open ({saved:?}): {e}"))?;
    let disk = disk(&stack).map_err(|e| format!("cannot be read: {e}"))?;
    drop((overlay, stack));
    let versions = life.ledger.judge(at, &disk)?;
    Ok(Found { store, versions })
}

/// Lives of three generations each, the later ones on what a cut left of the one before. Answers how many
/// media that were.
fn cut_lives(seeds: std::ops::Range<u64>, lie: Option<Lie>) -> u64 {
    let bench = Bench::new();
    let mut states = 0;
    for seed in seeds {
        let mut random = Random::new(seed);
        let (mut initial, mut versions) = (bench.made(), vec![BELOW; SECTORS as usize]);
        for generation in 0..3 {
            let mut life = Life {
                ledger: Ledger::new(versions.clone()),
                saved: Eras::new(Saved::No),
            };
            let store = Arc::new(match lie {
                Some(lie) => Recorder::lying(initial.clone(), lie),
                None => Recorder::new(initial.clone()),
            });
            live(
                &bench,
                &store,
                &mut life,
                &mut random,
                2 + generation * 1000,
            );
            let events = store.events();
            let cuts = Cuts {
                initial: initial.clone(),
                events: &events,
            };
            let mut dice = random.clone();
            let mut again = 0;
            let stricter = |at| life.ledger.is_stricter_at(at) || life.saved.is_stricter_at(at);
            states += cuts.each(&mut random, stricter, |cut| {
                let found = judge(&bench, &cut.medium, &life, cut.at)
                    .unwrap_or_else(|e| panic!("{cut}: {e}"));
                if dice.once_in(32) {
                    bench
                        .check(&cut.medium)
                        .unwrap_or_else(|e| panic!("{cut}: {e}"));
                    // The superblocks that opening and closing wrote are cut as well.
                    let events = found.store.events();
                    let recovery = Cuts {
                        initial: cut.medium.clone(),
                        events: &events,
                    };
                    // The machine that it may have been opened for has left its mark.
                    let opened = Life {
                        ledger: life.ledger.clone(),
                        saved: Eras::new(match *life.saved.at(cut.at) {
                            Saved::Yes(machine) => Saved::Maybe(machine),
                            other => other,
                        }),
                    };
                    again += recovery.each(
                        &mut dice.clone(),
                        |_| false,
                        |second| {
                            if let Err(e) = judge(&bench, &second.medium, &opened, cut.at) {
                                panic!("{cut}, and while it is opened {second}: {e}");
                            }
                        },
                    );
                }
                if dice.once_in(300) || cut.at == 0 {
                    (initial, versions) = (found.store.medium(), found.versions);
                }
            });
            states += again;
        }
    }
    states
}

#[test]
fn no_power_cut_hurts_an_overlay() {
    let states: u64 = std::thread::scope(|scope| {
        let halves = [0..1, 100..101];
        let threads = halves.map(|seeds| scope.spawn(|| cut_lives(seeds, None)));
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    println!("{states} states after power cuts, none violating");
    assert!(
        states >= 50_000,
        "only {states} states: the test lost its teeth"
    );
}

fn assert_caught(lie: Lie) {
    let caught = std::panic::catch_unwind(|| cut_lives(0..10, Some(lie))).unwrap_err();
    let why = caught.downcast_ref::<String>().unwrap();
    assert!(why.contains("cut after event"), "{why}");
}

#[test]
fn a_store_that_swallows_syncs_is_caught() {
    assert_caught(Lie::SwallowsSyncs);
}

#[test]
fn a_store_that_is_late_with_a_write_is_caught() {
    assert_caught(Lie::LateWrites);
}

/// While a commit moves sectors nothing is synced, so at its every step any sectors that the base gained
/// may be on the medium and any not. It must then be refused as a disk, and be done by committing again.
#[test]
fn a_commit_that_is_cut_anywhere_is_finished_by_the_next() {
    const SIZE: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let (base, session) = (dir.path().join("base"), dir.path().join("session"));
    let key = DiskKey {
        key: XtsKey::new(std::array::from_fn(|i| i as u8)).unwrap(),
        header: Uuid::from_u128(1),
    };
    let open = |mode| {
        let image = OpenImage {
            path: &base,
            format: None,
            mode,
            key: Some(&key),
        };
        image.open()
    };
    let durable = || Mode::Durable {
        overlay: session.clone(),
        options: OverlayOptions::default(),
    };
    let read = |mode| -> Result<Vec<u8>> {
        let mut bytes = vec![0; SIZE as usize];
        open(mode)?.disk.read_at(0, &mut bytes)?;
        Ok(bytes)
    };
    let commit = |progress: &mut dyn FnMut()| {
        let commit = CommitOverlay {
            base: &base,
            format: None,
            key: Some(&key),
            overlay: &session,
            parents: vdisk::chain::Parents::default(),
            force_base: false,
        };
        commit.run(&mut |_| {
            progress();
            ControlFlow::Continue(())
        })
    };

    NewImage::create(&base, Format::VhdDynamic, SIZE, Some(&key))
        .unwrap()
        .finish()
        .unwrap();
    let mut random = Random::new(3);
    let write = |mode, random: &mut Random, version| {
        let disk = open(mode).unwrap().disk;
        for _ in 0..20 {
            let first = random.below(SIZE / SECTOR - 80);
            let sectors = first..first + 1 + random.below(80);
            let bytes: Vec<u8> = sectors.clone().flat_map(|s| stamp(s, version)).collect();
            match random.below(4) {
                0 => disk
                    .write_zeroes(first * SECTOR, bytes.len() as u64)
                    .unwrap(),
                _ => disk.write_at(first * SECTOR, &bytes).unwrap(),
            }
        }
        disk.flush().unwrap();
    };
    write(Mode::Keep, &mut random, 1);
    write(durable(), &mut random, 2);
    let wanted = read(durable()).unwrap();

    let before = std::fs::read(&base).unwrap();
    let mut steps = Vec::new();
    commit(&mut || steps.push([&base, &session].map(|path| std::fs::read(path).unwrap()))).unwrap();
    assert_eq!(read(Mode::ReadOnly).unwrap(), wanted);
    let mut states = 0;
    for [after, overlay] in steps {
        let sector = SECTOR as usize;
        for keep in [0, 1, 2] {
            let mut medium = Medium::new(&before);
            for (n, bytes) in after.chunks(sector).enumerate() {
                if before.get(n * sector..(n + 1) * sector) != Some(bytes) && random.below(2) < keep
                {
                    medium.write((n * sector) as u64, bytes);
                }
            }
            std::fs::write(&base, medium.to_bytes()).unwrap();
            std::fs::write(&session, &overlay).unwrap();
            let refused = read(durable()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
            commit(&mut || ()).unwrap();
            assert!(!session.exists());
            assert_eq!(
                read(Mode::ReadOnly).unwrap(),
                wanted,
                "step {states}, keep {keep}"
            );
            states += 1;
        }
    }
    assert!(states > 60, "only {states} states");
}
