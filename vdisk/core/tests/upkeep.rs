//! Resize, compact, commit and rebase: what they make reads as it should, and a power cut at any moment
//! leaves a disk that reads as before or after.
#![allow(clippy::unwrap_used)]

mod chain_support;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use chain_support::*;
use proptest::prelude::*;
use vdisk::chain::Parents;
use vdisk::image::{DiskKey, Format, Mode, probe};
use vdisk::layer::Layer;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Store};
use vdisk::upkeep::{Commit, Compact, Rebase, Resize};
use vdisk::vhd::{self, DynamicHeader, Kind, NewParent, check::check_store};
use vdisk::xts::{Xts, XtsKey};
use vdisk::{Disk, ErrorKind, SECTOR};
use vdisk_proving::{Cuts, Event, Medium, Random, Recorder};

const ON: vdisk::progress::Progress<'static> = &|_| ControlFlow::Continue(());
const BLOCK: u64 = 8 << 10;

fn key() -> XtsKey {
    XtsKey::new(std::array::from_fn(|i| i as u8)).unwrap()
}

fn layer(store: &Arc<MemoryStore>, read_only: bool) -> Box<dyn Layer> {
    vhd::open(store.clone(), read_only).unwrap().into_layer()
}

fn disk_of(layers: Vec<StackedLayer>) -> Disk {
    Disk::new(Stack::new(layers, false, "upkeep").unwrap())
}

/// An empty image with blocks of 8 KiB, so that many fit in memory; a child if it has a parent.
fn small(size: u64, parent: Option<&vhd::Footer>) -> Vec<u8> {
    let store = MemoryStore::default();
    let footer = match parent {
        None => vhd::create(&store, Kind::Dynamic, size, None).unwrap(),
        Some(footer) => {
            let parent = NewParent {
                footer,
                path: "/a/base.vhd".as_ref(),
                child_folder: "/a".as_ref(),
            };
            vhd::create_child(&store, &parent, None).unwrap()
        }
    };
    let opened = vhd::open(Arc::new(MemoryStore::new(store.contents())), true).unwrap();
    let vhd::Payload::Dynamic(_, header) = &opened.payload else {
        unreachable!()
    };
    let entries = size.div_ceil(BLOCK) as u32;
    let header = DynamicHeader {
        table_offset: header.table_offset,
        entries,
        block_size: BLOCK as u32,
    };
    let bytes = match &opened.parent {
        None => header.to_bytes(),
        Some(link) => link.header_bytes(&header),
    };
    store.write_at(512, &bytes).unwrap();
    let table_end = header.table_offset + header.table_len();
    store
        .write_at(
            header.table_offset,
            &vec![0xff; header.table_len() as usize],
        )
        .unwrap();
    store.write_at(table_end, &footer.to_bytes()).unwrap();
    store.set_len(table_end + 512).unwrap();
    store.contents()
}

fn sound(bytes: &[u8], context: &str) {
    let report = check_store(&MemoryStore::new(bytes.to_vec())).unwrap();
    assert!(report.is_sound(), "{context}: {:?}", report.findings);
}

fn read_all(store: &Arc<MemoryStore>, key: Option<&XtsKey>) -> Vec<u8> {
    let layer = StackedLayer::new(layer(store, true), key.map(Xts::new));
    contents(&disk_of(vec![layer]))
}

/// Data, holes, zeroed blocks: what a used disk looks like.
fn used(size: u64, key: Option<&XtsKey>, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let store = Arc::new(MemoryStore::new(small(size, None)));
    let disk = disk_of(vec![StackedLayer::new(
        layer(&store, false),
        key.map(Xts::new),
    )]);
    let mut model = vec![0; size as usize];
    live(&disk, &mut model, seed);
    drop(disk);
    (store.contents(), model)
}

fn live(disk: &Disk, model: &mut [u8], seed: u64) {
    let mut random = Random::new(seed);
    let sectors = disk.size() / SECTOR;
    for step in 0..24u8 {
        let first = random.below(sectors);
        let count = (1 + random.below(40)).min(sectors - first);
        let (at, len) = (first * SECTOR, count * SECTOR);
        match random.below(4) {
            0 => {
                disk.write_zeroes(at, len).unwrap();
                model[at as usize..][..len as usize].fill(0);
            }
            1 => {
                // Zeros that nobody said are zeros.
                disk.write_at(at, &vec![0; len as usize]).unwrap();
                model[at as usize..][..len as usize].fill(0);
            }
            _ => write(disk, model, at, len, step | 1),
        }
        if step % 7 == 0 {
            disk.flush().unwrap();
        }
    }
    disk.flush().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn compacted_disks_read_the_same_and_hold_no_empty_block(seed: u64, encrypted: bool) {
        let key = encrypted.then(key);
        let (bytes, model) = used(20 * BLOCK + 5 * SECTOR, key.as_ref(), seed);
        let store = Arc::new(MemoryStore::new(bytes));
        let done = vhd::compact(store.clone(), key.as_ref(), ON).unwrap();
        prop_assert!(done.after <= done.before);
        sound(&store.contents(), "compacted");
        prop_assert_eq!(first_difference(&read_all(&store, key.as_ref()), &model), None);
        let full = model.chunks(BLOCK as usize).filter(|b| b.iter().any(|b| *b != 0)).count() as u64;
        // Metadata, bitmaps, and up to a page before each block.
        prop_assert!(done.after <= 4096 + full * (BLOCK + 4096) + 512, "{:?}, {} blocks", done, full);
        let again = vhd::compact(store.clone(), key.as_ref(), ON).unwrap();
        prop_assert_eq!((again.dropped, again.moved, again.after), (0, 0, done.after));
        // It goes on growing where it was cut.
        let disk = disk_of(vec![StackedLayer::new(layer(&store, false), key.as_ref().map(Xts::new))]);
        let mut model = model;
        live(&disk, &mut model, seed ^ 1);
        prop_assert_eq!(first_difference(&contents(&disk), &model), None);
    }

    #[test]
    fn resized_disks_keep_what_they_still_hold(
        seed: u64,
        sizes in prop::collection::vec(1u64..700, 1..5),
        encrypted: bool,
        fixed: bool,
    ) {
        let key = encrypted.then(key);
        let size = 20 * BLOCK + 5 * SECTOR;
        let (bytes, mut model) = used(size, key.as_ref(), seed);
        let store = Arc::new(match fixed {
            false => MemoryStore::new(bytes),
            true => {
                let store = Arc::new(MemoryStore::default());
                vhd::create(&*store, Kind::Fixed, size, None).unwrap();
                let disk = disk_of(vec![StackedLayer::new(layer(&store, false), key.as_ref().map(Xts::new))]);
                disk.write_at(0, &model).unwrap();
                drop(disk);
                MemoryStore::new(store.contents())
            }
        });
        for sectors in sizes {
            let size = sectors * SECTOR;
            let lost = model.iter().skip(size as usize).any(|b| *b != 0);
            let careful = vhd::resize(store.clone(), size, key.as_ref(), false, ON);
            prop_assert_eq!(careful.is_err(), lost);
            if lost {
                prop_assert_eq!(careful.unwrap_err().kind(), ErrorKind::InvalidRequest);
                vhd::resize(store.clone(), size, key.as_ref(), true, ON).unwrap();
            }
            model.resize(size as usize, 0);
            sound(&store.contents(), "resized");
            prop_assert_eq!(first_difference(&read_all(&store, key.as_ref()), &model), None);
            let disk = disk_of(vec![StackedLayer::new(layer(&store, false), key.as_ref().map(Xts::new))]);
            write(&disk, &mut model, size - SECTOR, SECTOR, 0x55);
        }
        if !fixed {
            vhd::compact(store.clone(), key.as_ref(), ON).unwrap();
            sound(&store.contents(), "compacted");
            prop_assert_eq!(first_difference(&read_all(&store, key.as_ref()), &model), None);
        }
    }
}

fn recorder(bytes: &[u8]) -> Arc<Recorder> {
    Arc::new(Recorder::new(Medium::new(bytes)))
}

/// Tries every cut of `events`, after any of which the same must hold; returns how many states that were.
fn every_cut(
    initial: &[u8],
    events: &[Event],
    mut judge: impl FnMut(Arc<MemoryStore>, &str),
) -> u64 {
    let cuts = Cuts {
        initial: Medium::new(initial),
        events,
    };
    cuts.each(
        &mut Random::new(17),
        |_| false,
        |cut| {
            let store = Arc::new(MemoryStore::new(cut.medium.to_bytes()));
            judge(store, &cut.to_string());
        },
    )
}

#[test]
fn no_power_cut_harms_a_compaction_or_a_resize() {
    let key = key();
    let mut states = 0;
    let size = 10 * BLOCK + 5 * SECTOR;
    for seed in 0..40 {
        let (initial, model) = used(size, Some(&key), seed);
        let store = recorder(&initial);
        vhd::compact(store.clone(), Some(&key), ON).unwrap();
        states += every_cut(&initial, &store.events(), |store, context| {
            layer(&store, false);
            let differs = first_difference(&read_all(&store, Some(&key)), &model);
            assert_eq!(differs, None, "compact, seed {seed}: {context}");
        });
        let smaller = size / 2 / SECTOR * SECTOR;
        for to in [smaller, size - SECTOR, size + SECTOR, size * 3] {
            let store = recorder(&initial);
            vhd::resize(store.clone(), to, Some(&key), true, ON).unwrap();
            let mut resized = model.clone();
            resized.resize(to as usize, 0);
            states += every_cut(&initial, &store.events(), |store, context| {
                // Readers that look only at the copy must get along too.
                let start: [u8; 512] = store.contents()[..512].try_into().unwrap();
                vhd::Footer::parse(&start).unwrap();
                layer(&store, false);
                let now = read_all(&store, Some(&key));
                let expected = match now.len() == model.len() {
                    true => &model,
                    false => &resized,
                };
                let differs = first_difference(&now, expected);
                assert_eq!(differs, None, "resize to {to}, seed {seed}: {context}");
            });
        }
    }
    println!("{states} states after power cuts, none violating");
    assert!(states > 3_000, "only {states} states");
}

#[test]
fn no_power_cut_harms_a_commit_or_a_change_of_parents() {
    let mut states = 0;
    let size = 6 * BLOCK + 5 * SECTOR;
    let child_key = XtsKey::new(std::array::from_fn(|i| i as u8 ^ 0x5a)).unwrap();
    for seed in 0..8 {
        let (base, mut model) = used(size, Some(&key()), seed);
        let base = Arc::new(MemoryStore::new(base));
        let footer = vhd::read_footer(&*base).unwrap().unwrap();
        let child = Arc::new(MemoryStore::new(small(size, Some(&footer))));
        let both = |child: &Arc<MemoryStore>, base: &Arc<MemoryStore>, read_only| {
            disk_of(vec![
                StackedLayer::new(layer(child, read_only), Some(Xts::new(&child_key))),
                StackedLayer::new(layer(base, true), Some(Xts::new(&key()))),
            ])
        };
        live(&both(&child, &base, false), &mut model, seed ^ 77);
        let old = [child.contents(), base.contents()];

        // First the child changes, then the parent, then the child: each is synced before the next.
        let (child_store, base_store) = (recorder(&old[0]), recorder(&old[1]));
        let parent = vhd::open(base_store.clone(), false).unwrap().into_layer();
        let parent = disk_of(vec![StackedLayer::new(parent, Some(Xts::new(&key())))]);
        let turn = std::sync::OnceLock::new();
        let progress = |_| {
            turn.get_or_init(|| {
                assert_eq!(base_store.count(), 0, "the parent came first");
                (child_store.count(), child_store.medium().to_bytes())
            });
            ControlFlow::Continue(())
        };
        let timestamp = || {
            assert_eq!(child_store.count(), turn.get().unwrap().0);
            // After its last sync it only gives back what nothing names.
            let events = base_store.events();
            let last = events.iter().rev().find(|e| !matches!(e, Event::Punch(..)));
            assert_eq!(last, Some(&Event::Sync));
            Ok(vhd::read_footer(&*base_store)?.unwrap().timestamp)
        };
        let done = vhd::commit(
            child_store.clone(),
            Some(&child_key),
            &parent,
            &timestamp,
            &progress,
        );
        assert!(done.unwrap().sectors > 0);
        drop(parent);
        let judge = |child: Arc<MemoryStore>, base: Arc<MemoryStore>, context: &str| {
            let link = vhd::open(child.clone(), false).unwrap().parent.unwrap();
            let parent = vhd::open(base.clone(), false).unwrap().footer;
            let fits = link.timestamp == 0 || link.timestamp == parent.timestamp;
            assert!(link.uuid == parent.uuid && fits, "seed {seed}: {context}");
            let differs = first_difference(&contents(&both(&child, &base, true)), &model);
            assert_eq!(differs, None, "commit, seed {seed}: {context}");
        };
        let store = |bytes: &[u8]| Arc::new(MemoryStore::new(bytes.to_vec()));
        let (first, between) = turn.get().unwrap();
        let events = child_store.events();
        let new_base = base_store.medium().to_bytes();
        assert_eq!(events[first - 1], Event::Sync);
        states += every_cut(&old[0], &events[..*first], |child, context| {
            judge(child, store(&old[1]), context);
        });
        states += every_cut(&old[1], &base_store.events(), |base, context| {
            judge(store(between), base, context);
        });
        states += every_cut(between, &events[*first..], |child, context| {
            judge(child, store(&new_base), context);
        });
        let emptied = child_store.medium().to_bytes();
        sound(&emptied, "an emptied child");
        assert!(
            emptied.len() < 8192,
            "the emptied child has {} bytes",
            emptied.len()
        );

        let stamp_before = vhd::read_footer(&MemoryStore::new(old[0].clone()));
        let stamp_before = stamp_before.unwrap().unwrap().timestamp;
        let relinked = recorder(&old[0]);
        let other = vhd::Footer::new(vhd::DiskType::Dynamic, size);
        let new = NewParent {
            footer: &other,
            path: "/somewhere/else/with a longer name.vhd".as_ref(),
            child_folder: "/a".as_ref(),
        };
        vhd::relink(relinked.clone(), &new, None).unwrap();
        let mut seen = [false; 2];
        states += every_cut(&old[0], &relinked.events(), |child, context| {
            let link = vhd::open(child.clone(), false).unwrap().parent.unwrap();
            let is_new = link.uuid == other.uuid;
            assert!(is_new || link.uuid == footer.uuid, "{context}");
            let stamp = vhd::read_footer(&*child).unwrap().unwrap().timestamp;
            assert!(!is_new || stamp > stamp_before, "{context}");
            seen[usize::from(is_new)] = true;
            let candidates = link.candidates(&*child);
            let name = match is_new {
                true => "longer name.vhd",
                false => "base.vhd",
            };
            let right = |path: &std::path::PathBuf| path.to_str().unwrap().ends_with(name);
            assert!(
                candidates.len() >= 3 && candidates.iter().all(right),
                "{context}"
            );
            let differs = first_difference(&contents(&both(&child, &base, true)), &model);
            assert_eq!(differs, None, "relink, seed {seed}: {context}");
        });
        assert_eq!(seen, [true; 2]);
    }
    println!("{states} states after power cuts, none violating");
    assert!(states > 2_000, "only {states} states");
}

/// A chain of three under three keys, and what its top reads as.
fn chain(folder: &Folder, keys: &[Arc<DiskKey>]) -> Vec<u8> {
    let all: Vec<_> = keys.iter().collect();
    let mut model = vec![0; SIZE as usize];
    let key = |n: usize| keys.get(n).map(|k| &**k);
    let base = folder.image("base.vhd", Format::VhdDynamic, key(0));
    write(&open(&base, Mode::Keep, &all), &mut model, 0, 3 << 20, 1);
    let middle = folder.child("middle.vhd", &base, key(1));
    write(
        &open(&middle, Mode::Keep, &all),
        &mut model,
        1 << 20,
        70 * 512,
        2,
    );
    let top = folder.child("top.vhd", &middle, key(2));
    let disk = open(&top, Mode::Keep, &all);
    write(&disk, &mut model, SIZE - 512, 512, 3);
    disk.write_zeroes(0, 4096).unwrap();
    model[..4096].fill(0);
    model
}

fn with<R>(
    keys: &[Arc<DiskKey>],
    path: &Path,
    run: impl FnOnce(Option<&DiskKey>, Parents<'_>) -> R,
) -> R {
    let header = probe(path).unwrap().footer.unwrap().luks;
    let find = |header| keys.iter().find(|key| Some(key.header) == header);
    let parents = Parents {
        keys: &|_, header| Ok(find(header).cloned()),
        force_parent: false,
    };
    run(find(header).map(|key| &**key), parents)
}

#[test]
fn a_commit_empties_the_child_into_its_parent() {
    for keys in [vec![], vec![new_key(), new_key(), new_key()]] {
        let folder = Folder::new();
        let model = chain(&folder, &keys);
        let all: Vec<_> = keys.iter().collect();
        let top = folder.path("top.vhd");
        // Interrupted half-way, it reads as before, and can be taken up again.
        let calls = std::sync::atomic::AtomicU64::new(0);
        let stop = |_| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..3 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        };
        with(&keys, &top, |key, parents| {
            let commit = Commit {
                path: &top,
                key,
                parents,
                allow_plain: false,
            };
            commit.run(&stop).unwrap_err();
        });
        let disk = open(&top, Mode::ReadOnly, &all);
        assert_eq!(first_difference(&contents(&disk), &model), None);
        drop(disk);
        let done = with(&keys, &top, |key, parents| {
            Commit {
                path: &top,
                key,
                parents,
                allow_plain: false,
            }
            .run(ON)
            .unwrap()
        });
        assert!(
            done.parent.ends_with("middle.vhd") && done.sectors == 9,
            "{done:?}"
        );
        for name in ["top.vhd", "middle.vhd"] {
            let disk = open(&folder.path(name), Mode::ReadOnly, &all);
            assert_eq!(first_difference(&contents(&disk), &model), None, "{name}");
        }
        assert!(std::fs::metadata(&top).unwrap().len() < 8192);
        // And again, as after an interruption, and with nothing left to do.
        let again = with(&keys, &top, |key, parents| {
            Commit {
                path: &top,
                key,
                parents,
                allow_plain: false,
            }
            .run(ON)
            .unwrap()
        });
        assert_eq!(again.sectors, 0);
        let base = folder.path("base.vhd");
        let error = with(&keys, &base, |key, parents| {
            Commit {
                path: &base,
                key,
                parents,
                allow_plain: false,
            }
            .run(ON)
            .unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    }
}

#[test]
fn a_rebase_takes_over_what_differs_and_a_new_name_alone_does_not() {
    for keys in [vec![], vec![new_key(), new_key(), new_key()]] {
        let folder = Folder::new();
        let model = chain(&folder, &keys);
        let all: Vec<_> = keys.iter().collect();
        let (top, base) = (folder.path("top.vhd"), folder.path("base.vhd"));
        let forced = |path: &Path, parent: &Path, name_only, force_parent| {
            with(&keys, path, |key, parents| {
                let parents = Parents {
                    force_parent,
                    ..parents
                };
                Rebase {
                    path,
                    parent,
                    key,
                    parents,
                    name_only,
                }
                .run(ON)
            })
        };
        let rebase = |path: &Path, parent: &Path, name_only| forced(path, parent, name_only, false);
        // Past the middle: what that changed is the top's own then.
        let done = rebase(&top, &base, false).unwrap();
        assert_eq!(done.sectors, 70);
        let opened = try_open(&top, Mode::ReadOnly, &all, false).unwrap();
        assert_eq!(opened.parents.len(), 1);
        assert_eq!(first_difference(&contents(&opened.disk), &model), None);
        drop(opened);
        // The parent moved: only its name changes.
        std::fs::create_dir(folder.path("archive")).unwrap();
        let moved = folder.path("archive/renamed.vhd");
        std::fs::rename(&base, &moved).unwrap();
        assert_eq!(
            rebase(&top, &moved, false).unwrap_err().kind(),
            ErrorKind::Parent
        );
        assert_eq!(rebase(&top, &moved, true).unwrap().sectors, 0);
        let disk = open(&top, Mode::ReadOnly, &all);
        assert_eq!(first_difference(&contents(&disk), &model), None);
        drop(disk);
        rebase(&folder.path("middle.vhd"), &moved, true).unwrap();
        for parent in ["top.vhd", "middle.vhd"] {
            let (middle, parent_path) = (folder.path("middle.vhd"), folder.path(parent));
            rebase(&middle, &parent_path, true).unwrap_err();
            let error = forced(&middle, &parent_path, true, true);
            assert_eq!(error.is_ok(), parent == "top.vhd", "{parent}");
        }
        // The middle above the top, the top above the middle: a loop.
        let error = rebase(&top, &folder.path("middle.vhd"), true).unwrap_err();
        assert!(error.to_string().contains("loop"), "{error}");
    }
}

#[test]
fn upkeep_of_files_says_what_it_did() {
    let folder = Folder::new();
    let key = new_key();
    let path = folder.image("disk.vhd", Format::VhdDynamic, Some(&key));
    let mut model = vec![0; SIZE as usize];
    let disk = open(&path, Mode::Keep, &[&key]);
    write(&disk, &mut model, 3 << 20, 1 << 20, 5);
    disk.write_at(0, &[0; 1 << 20]).unwrap();
    drop(disk);
    let wrong = Compact {
        path: &path,
        key: None,
    }
    .run(ON)
    .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Key);
    let done = Compact {
        path: &path,
        key: Some(&key),
    }
    .run(ON)
    .unwrap();
    assert_eq!((done.dropped, done.moved), (1, 0));
    let stopped = Compact {
        path: &path,
        key: Some(&key),
    }
    .run(&|_| ControlFlow::Break(()));
    assert!(stopped.unwrap_err().to_string().contains("stopped"));
    let resize = |size, force| {
        Resize {
            path: &path,
            size,
            key: Some(&key),
            force,
        }
        .run(ON)
    };
    assert!(
        resize(1 << 20, false)
            .unwrap_err()
            .to_string()
            .contains("not empty")
    );
    let done = resize(8 << 20, false).unwrap();
    assert_eq!((done.before, done.after), (SIZE, 8 << 20));
    model.resize(8 << 20, 0);
    let disk = open(&path, Mode::ReadOnly, &[&key]);
    assert_eq!(first_difference(&contents(&disk), &model), None);
    drop(disk);
    assert_eq!(
        resize(1000, false).unwrap_err().kind(),
        ErrorKind::InvalidRequest
    );
    assert!(vhd::check::check(&path).unwrap().is_sound());
    let child = folder.child("child.vhd", &path, Some(&key));
    let child = Resize {
        path: &child,
        size: 9 << 20,
        key: Some(&key),
        force: true,
    }
    .run(ON);
    assert_eq!(child.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_disk_whose_table_would_be_too_large_stays_as_it_is() {
    let store = Arc::new(MemoryStore::default());
    let footer = vhd::create(&*store, Kind::Dynamic, 1 << 20, None).unwrap();
    let header = DynamicHeader {
        table_offset: 1536,
        entries: 2048,
        block_size: 512,
    };
    store.write_at(512, &header.to_bytes()).unwrap();
    store.write_at(1536, &[0xff; 8192]).unwrap();
    store.write_at(1536 + 8192, &footer.to_bytes()).unwrap();
    let before = store.contents();
    let error = vhd::resize(store.clone(), 1 << 30, None, false, ON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(store.contents() == before);
    vhd::resize(store.clone(), 512 << 20, None, false, ON).unwrap();
    sound(&store.contents(), "the largest");
}

#[test]
fn metadata_moves_to_whole_sectors_only() {
    let mut footer = vhd::Footer::new(vhd::DiskType::Differencing, 1 << 20);
    footer.header_offset = 20480;
    let header = DynamicHeader {
        table_offset: 16384,
        entries: 1,
        block_size: 2 << 20,
    };
    let link = vhd::ParentLink {
        uuid: uuid::Uuid::new_v4(),
        timestamp: 5,
        name: "b.vhd".into(),
        locators: vec![vhd::Locator {
            platform: vhd::Platform::W2ru,
            len: 20,
            offset: 600,
        }],
    };
    let store = Arc::new(MemoryStore::default());
    store.write_at(0, &footer.to_bytes()).unwrap();
    store.write_at(600, &[65; 20]).unwrap();
    store.write_at(16384, &[0xff; 512]).unwrap();
    store.write_at(20480, &link.header_bytes(&header)).unwrap();
    store.write_at(21504, &footer.to_bytes()).unwrap();
    vhd::open(store.clone(), false).unwrap();
    let done = vhd::compact(store.clone(), None, ON).unwrap();
    assert!(done.after < done.before, "{done:?}");
    vhd::open(store.clone(), true).unwrap();
    sound(&store.contents(), "compacted");
}

#[test]
fn an_encrypted_child_goes_into_a_plain_parent_only_when_that_is_allowed() {
    let folder = Folder::new();
    let key = new_key();
    let base = folder.image("base.vhd", Format::VhdDynamic, None);
    let child = folder.child("child.vhd", &base, Some(&key));
    let secret = b"TOPSECRET".repeat(512);
    open(&child, Mode::Keep, &[&key])
        .write_at(0, &secret[..4096])
        .unwrap();
    let commit = |allow_plain| {
        Commit {
            path: &child,
            key: Some(&key),
            parents: Parents::default(),
            allow_plain,
        }
        .run(ON)
    };
    let shown = || {
        let bytes = std::fs::read(&base).unwrap();
        bytes.windows(9).any(|w| w == b"TOPSECRET")
    };
    assert_eq!(commit(false).unwrap_err().kind(), ErrorKind::Key);
    assert!(!shown());
    assert_eq!(commit(true).unwrap().sectors, 8);
    assert!(shown());
}

#[test]
fn a_rebased_disk_keeps_its_children_if_it_reads_the_same() {
    let folder = Folder::new();
    let a = folder.image("a.vhd", Format::VhdDynamic, None);
    let b = folder.image("b.vhd", Format::VhdDynamic, None);
    open(&b, Mode::Keep, &[]).write_at(0, &[9; 512]).unwrap();
    let middle = folder.child("middle.vhd", &a, None);
    let top = folder.child("top.vhd", &middle, None);
    let rebase = |parent, name_only, force_parent| {
        Rebase {
            path: &middle,
            parent,
            key: None,
            parents: Parents {
                force_parent,
                ..Parents::default()
            },
            name_only,
        }
        .run(ON)
    };
    let opens = || try_open(&top, Mode::ReadOnly, &[], false).map(|_| ());
    assert_eq!(rebase(&b, false, false).unwrap().sectors, 1);
    opens().unwrap();
    let other = folder.path("moved.vhd");
    std::fs::rename(&b, &other).unwrap();
    assert_eq!(opens().unwrap_err().kind(), ErrorKind::Parent);
    rebase(&other, true, false).unwrap();
    opens().unwrap();
    assert_eq!(
        rebase(&a, true, false).unwrap_err().kind(),
        ErrorKind::Parent
    );
    opens().unwrap();
    rebase(&a, true, true).unwrap();
    assert_eq!(opens().unwrap_err().kind(), ErrorKind::Parent);
}

#[test]
fn a_rebase_does_not_make_a_chain_too_deep() {
    let folder = Folder::new();
    let base = folder.image("0.vhd", Format::VhdDynamic, None);
    let mut last = base.clone();
    for depth in 1..vdisk::chain::MAX_DEPTH {
        last = folder.child(&format!("{depth}.vhd"), &last, None);
    }
    let child = folder.child("child.vhd", &base, None);
    let error = Rebase {
        path: &child,
        parent: &last,
        key: None,
        parents: Parents::default(),
        name_only: false,
    }
    .run(ON)
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);
    assert!(error.to_string().contains("disk 65"), "{error}");
}

#[test]
fn no_power_cut_harms_a_resize_of_a_fixed_disk() {
    let mut states = 0;
    let size = 12 * SECTOR;
    for key in [None, Some(key())] {
        let key = key.as_ref();
        let store = Arc::new(MemoryStore::default());
        vhd::create(&*store, Kind::Fixed, size, None).unwrap();
        let disk = disk_of(vec![StackedLayer::new(
            layer(&store, false),
            key.map(Xts::new),
        )]);
        let mut model = vec![0; size as usize];
        disk.write_at(0, &model).unwrap();
        write(&disk, &mut model, 0, 5 * SECTOR, 3);
        disk.flush().unwrap();
        drop(disk);
        let initial = store.contents();
        for to in [6 * SECTOR, 11 * SECTOR, 13 * SECTOR, 17 * SECTOR] {
            let store = recorder(&initial);
            vhd::resize(store.clone(), to, key, false, ON).unwrap();
            let mut resized = model.clone();
            resized.resize(to as usize, 0);
            let mut seen = [false; 2];
            states += every_cut(&initial, &store.events(), |store, context| {
                let context = format!("to {to}, encrypted: {}, {context}", key.is_some());
                let now = read_all(&store, key);
                let is_new = now.len() == resized.len();
                seen[usize::from(is_new)] = true;
                assert!(
                    now == if is_new { &resized } else { &model }[..],
                    "{context}"
                );
                // And again, at once or after another size.
                for sizes in [&[to][..], &[14 * SECTOR, to]] {
                    let store = Arc::new(MemoryStore::new(store.contents()));
                    for to in sizes {
                        vhd::resize(store.clone(), *to, key, false, ON).unwrap();
                        let mut model = model.clone();
                        model.resize(*to as usize, 0);
                        assert!(read_all(&store, key) == model, "again: {context}");
                        let len = store.contents().len() as u64;
                        assert_eq!(len, to + 512, "again: {context}");
                    }
                }
            });
            assert_eq!(seen, [true; 2], "to {to}");
        }
    }
    println!("{states} states after power cuts, none violating");
    assert!(states > 30, "only {states} states");
}

#[test]
fn a_stopped_growth_of_a_fixed_disk_is_done_again() {
    let key = key();
    let store = Arc::new(MemoryStore::default());
    vhd::create(&*store, Kind::Fixed, 64 << 10, None).unwrap();
    let size = 8 << 20;
    let calls = std::sync::atomic::AtomicU64::new(0);
    let stop = |_| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0..2 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    vhd::resize(store.clone(), size, Some(&key), false, &stop).unwrap_err();
    let footer = vhd::read_footer(&*store).unwrap().unwrap();
    assert_eq!(footer.current_size, 64 << 10);
    vhd::resize(store.clone(), size, Some(&key), false, ON).unwrap();
    let now = read_all(&store, Some(&key));
    assert!(now[64 << 10..].iter().all(|b| *b == 0));
    assert_eq!(now.len() as u64, size);
}

#[test]
fn images_of_the_first_writers_are_kept_up_too() {
    let store = Arc::new(MemoryStore::default());
    vhd::create(&*store, Kind::Dynamic, 4 << 20, None).unwrap();
    let mut short = store.contents();
    short.pop();
    let store = Arc::new(MemoryStore::new(short.clone()));
    vhd::resize(store.clone(), 8 << 20, None, false, ON).unwrap();
    sound(&store.contents(), "resized");
    let store = Arc::new(MemoryStore::new(short));
    vhd::compact(store.clone(), None, ON).unwrap();
    sound(&store.contents(), "compacted");
}

#[test]
fn a_compaction_keeps_bytes_that_a_bitmap_hides() {
    let store = Arc::new(MemoryStore::new(small(4 * BLOCK, None)));
    let disk = disk_of(vec![StackedLayer::new(layer(&store, false), None)]);
    disk.write_at(0, &[7; BLOCK as usize]).unwrap();
    drop(disk);
    let bytes = store.contents();
    let data = bytes.windows(16).position(|w| w == [7; 16]).unwrap() as u64;
    store.write_at(data - 512, &[0; 512]).unwrap();
    let done = vhd::compact(store.clone(), None, ON).unwrap();
    assert_eq!(done.dropped, 0);
    store.write_at(data, &[0; BLOCK as usize]).unwrap();
    assert_eq!(vhd::compact(store, None, ON).unwrap().dropped, 1);
}

#[test]
fn a_parent_without_a_timestamp_gets_no_child() {
    let folder = Folder::new();
    let base = folder.image("base.vhd", Format::VhdFixed, None);
    let mut footer = vhd::Footer::new(vhd::DiskType::Fixed, SIZE);
    footer.timestamp = 0;
    let mut bytes = std::fs::read(&base).unwrap();
    let end = bytes.len() - 512;
    bytes[end..].copy_from_slice(&footer.to_bytes());
    std::fs::write(&base, bytes).unwrap();
    let path = folder.path("child.vhd");
    let child = || {
        vdisk::chain::NewChild {
            path: &path,
            parent: &base,
            key: None,
        }
        .create()
    };
    assert_eq!(child().unwrap_err().kind(), ErrorKind::Parent);
    open(&base, Mode::Keep, &[]).write_at(0, &[1; 512]).unwrap();
    child().unwrap();
}
