//! Differencing disks: chains that read right under any keys, and parents that are found, or refused
//! with a reason.
#![allow(clippy::unwrap_used)]

mod chain_support;
mod conformance;

use std::sync::Arc;

use chain_support::*;
use proptest::prelude::*;
use vdisk::chain::{MAX_DEPTH, NewChild};
use vdisk::image::{Format, Mode, OpenImage, probe};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{FileStore, MemoryStore, Sharing, Store};
use vdisk::vhd::{self, Kind, NewParent};
use vdisk::{Disk, ErrorKind};

fn refusal(path: &std::path::Path) -> (ErrorKind, String) {
    let error = try_open(path, Mode::ReadOnly, &[], false).err().unwrap();
    (error.kind(), error.to_string())
}

#[test]
fn a_chain_reads_from_the_nearest_that_has_a_sector() {
    for encrypted in [false, true] {
        for format in [Format::VhdFixed, Format::VhdDynamic] {
            let folder = Folder::new();
            let keys: Vec<_> = (0..3).map(|_| new_key()).collect();
            let all: Vec<_> = keys.iter().collect();
            let key = |n: usize| encrypted.then(|| &*keys[n]);
            let mut model = vec![0; SIZE as usize];
            let base = folder.image("base.vhd", format, key(0));
            write(&open(&base, Mode::Keep, &all), &mut model, 0, 3 << 20, 1);
            let middle = folder.child("middle.vhd", &base, key(1));
            let below = model.clone();
            let disk = open(&middle, Mode::Keep, &all);
            assert_eq!(first_difference(&contents(&disk), &model), None);
            write(&disk, &mut model, 1 << 20, 70_000 / 512 * 512, 2);
            disk.write_zeroes(2 << 20, 1 << 20).unwrap();
            model[2 << 20..3 << 20].fill(0);
            drop(disk);
            let top = folder.child("top.vhd", &middle, key(2));
            let disk = open(&top, Mode::Keep, &all);
            write(&disk, &mut model, SIZE - 512, 512, 3);
            write(&disk, &mut model, (2 << 20) - 512, 1024, 4);
            assert_eq!(first_difference(&contents(&disk), &model), None);
            drop(disk);
            let opened = try_open(&top, Mode::ReadOnly, &all, false).unwrap();
            assert_eq!(opened.parents.len(), 2);
            assert_eq!(first_difference(&contents(&opened.disk), &model), None);
            drop(opened);
            let session = Mode::Revertible {
                dir: folder.0.path().to_owned(),
            };
            let disk = open(&top, session, &all);
            disk.write_at(0, &[9; 4096]).unwrap();
            drop(disk);
            assert_eq!(
                first_difference(&contents(&open(&top, Mode::ReadOnly, &all)), &model),
                None
            );
            assert_eq!(
                first_difference(&contents(&open(&base, Mode::ReadOnly, &all)), &below),
                None
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_child_is_a_disk_like_any_other(ops in conformance::ops(SIZE, 60), encrypted: bool) {
        let cipher = |seed: u8| encrypted.then(|| {
            let bytes = std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ seed);
            vdisk::xts::Xts::new(&vdisk::xts::XtsKey::new(bytes).unwrap())
        });
        let layer = |store: &Arc<MemoryStore>, read_only| vhd::open(store.clone(), read_only).unwrap().into_layer();
        let base = Arc::new(MemoryStore::default());
        let footer = vhd::create(&*base, Kind::Dynamic, SIZE, None).unwrap();
        let mut model = vec![0; SIZE as usize];
        let disk = Disk::new(Stack::new(vec![StackedLayer::new(layer(&base, false), cipher(1))], false, "base").unwrap());
        write(&disk, &mut model, 1 << 20, 2 << 20, 7);
        drop(disk);
        let child = Arc::new(MemoryStore::default());
        let parent = NewParent { footer: &footer, path: "/a/base.vhd".as_ref(), child_folder: "/a".as_ref() };
        vhd::create_child(&*child, &parent, None).unwrap();
        let before = base.contents();
        conformance::check(model, &ops, |old| {
            drop(old);
            let layers = vec![
                StackedLayer::new(layer(&child, false), cipher(2)),
                StackedLayer::new(layer(&base, true), cipher(1)),
            ];
            Disk::new(Stack::new(layers, false, "child").unwrap())
        });
        prop_assert!(base.contents() == before, "a child wrote to its parent");
    }
}

#[test]
fn a_parent_is_found_after_both_moved_and_where_it_was() {
    let folder = Folder::new();
    let base = folder.image("base.vhd", Format::VhdDynamic, None);
    std::fs::create_dir_all(folder.path("a/b")).unwrap();
    let child = folder.child("a/b/child.vhd", &base, None);
    open(&child, Mode::ReadOnly, &[]);
    // The child alone moved: the absolute name still holds.
    std::fs::create_dir(folder.path("c")).unwrap();
    let moved = folder.path("c/child.vhd");
    std::fs::rename(&child, &moved).unwrap();
    open(&moved, Mode::ReadOnly, &[]);
    // Both moved together: the relative one does.
    std::fs::rename(&moved, &child).unwrap();
    std::fs::create_dir(folder.path("elsewhere")).unwrap();
    std::fs::rename(folder.path("a"), folder.path("elsewhere/a")).unwrap();
    std::fs::rename(&base, folder.path("elsewhere/base.vhd")).unwrap();
    open(&folder.path("elsewhere/a/b/child.vhd"), Mode::ReadOnly, &[]);
    // Both in one new folder: by its name.
    std::fs::rename(folder.path("elsewhere/a/b/child.vhd"), &moved).unwrap();
    std::fs::rename(folder.path("elsewhere/base.vhd"), folder.path("c/base.vhd")).unwrap();
    open(&moved, Mode::ReadOnly, &[]);
    std::fs::remove_file(folder.path("c/base.vhd")).unwrap();
    let (kind, error) = refusal(&moved);
    assert_eq!(kind, ErrorKind::Parent);
    assert!(
        error.contains("base.vhd") && error.contains("not there"),
        "{error}"
    );
}

#[test]
fn a_parent_that_was_written_to_is_refused_until_it_is_forced() {
    for format in [Format::VhdFixed, Format::VhdDynamic] {
        let folder = Folder::new();
        let base = folder.image("base.vhd", format, None);
        let child = folder.child("child.vhd", &base, None);
        // Opening it, even for writing, changes nothing.
        drop(open(&base, Mode::Keep, &[]));
        open(&child, Mode::ReadOnly, &[]);
        open(&base, Mode::Keep, &[]).write_at(0, &[1; 512]).unwrap();
        let (kind, error) = refusal(&child);
        assert_eq!(kind, ErrorKind::Parent);
        assert!(error.contains("written to"), "{error}");
        try_open(&child, Mode::ReadOnly, &[], true).unwrap();
    }
}

#[test]
fn another_disk_in_the_parents_place_is_refused_until_it_is_forced() {
    let folder = Folder::new();
    let base = folder.image("base.vhd", Format::VhdDynamic, None);
    let child = folder.child("child.vhd", &base, None);
    std::fs::remove_file(&base).unwrap();
    folder.image("base.vhd", Format::VhdDynamic, None);
    let (kind, error) = refusal(&child);
    assert_eq!(kind, ErrorKind::Parent);
    assert!(error.contains("is disk"), "{error}");
    try_open(&child, Mode::ReadOnly, &[], true).unwrap();
}

#[test]
fn locators_lead_to_regular_vhds_of_the_right_size_only() {
    let folder = Folder::new();
    let base = folder.image("base.vhd", Format::VhdDynamic, None);
    let child = folder.child("child.vhd", &base, None);
    std::fs::remove_file(&base).unwrap();
    nix::unistd::mkfifo(&base, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (_, error) = refusal(&child);
    assert!(error.contains("not a regular file"), "{error}");
    std::fs::remove_file(&base).unwrap();
    std::fs::write(&base, [7; 100_000]).unwrap();
    let (_, error) = refusal(&child);
    assert!(error.contains("not a VHD"), "{error}");
    std::fs::remove_file(&base).unwrap();
    let store = FileStore::create_new(&base).unwrap();
    vhd::create(&store, Kind::Dynamic, 1 << 20, None).unwrap();
    drop(store);
    let error = try_open(&child, Mode::ReadOnly, &[], true).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Parent);
    assert!(error.to_string().contains("cannot be the child"), "{error}");
}

/// What was looked at is what is opened: a pipe that takes the parent's name in between is refused as one,
/// and never waited for.
#[test]
fn a_parents_name_may_change_hands_at_any_moment() {
    let folder = Folder::new();
    let base = folder.image("base.vhd", Format::VhdDynamic, None);
    let child = folder.child("child.vhd", &base, None);
    let (keeper, pipe, next) = (
        folder.path("keeper"),
        folder.path("pipe"),
        folder.path("next"),
    );
    std::fs::rename(&base, &keeper).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let ended = || done.load(std::sync::atomic::Ordering::Relaxed);
    let mut seen = [0; 2];
    std::fs::hard_link(&keeper, &base).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for whose in [&pipe, &keeper]
                .into_iter()
                .cycle()
                .take_while(|_| !ended())
            {
                std::fs::hard_link(whose, &next).unwrap();
                std::fs::rename(&next, &base).unwrap();
            }
        });
        for _ in 0..2000 {
            match try_open(&child, Mode::ReadOnly, &[], false) {
                Ok(_) => seen[0] += 1,
                Err(error) => {
                    seen[1] += 1;
                    let text = error.to_string();
                    if !text.contains("is not a regular file") {
                        done.store(true, std::sync::atomic::Ordering::Relaxed);
                        panic!("{text}");
                    }
                }
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(seen.iter().all(|n| *n > 0), "nothing was raced: {seen:?}");
}

#[test]
fn loops_and_depths_end() {
    let folder = Folder::new();
    let base = folder.image("base.vhd", Format::VhdDynamic, None);
    let child = folder.child("child.vhd", &base, None);
    // The base gives way to its own child under the base's name, which names itself then.
    std::fs::remove_file(&base).unwrap();
    std::fs::rename(&child, &base).unwrap();
    let (kind, error) = refusal(&base);
    assert_eq!(kind, ErrorKind::Parent);
    assert!(error.contains("loop"), "{error}");

    let mut last = folder.image("0.vhd", Format::VhdDynamic, None);
    let mut model = vec![0; SIZE as usize];
    for n in 1..MAX_DEPTH {
        last = folder.child(&format!("{n}.vhd"), &last, None);
        let disk = open(&last, Mode::Keep, &[]);
        write(&disk, &mut model, n as u64 * 512, 1024, n as u8);
    }
    let disk = open(&last, Mode::ReadOnly, &[]);
    assert_eq!(first_difference(&contents(&disk), &model), None);
    let path = folder.path("too-deep.vhd");
    let one_more = NewChild {
        path: &path,
        parent: &last,
        key: None,
    };
    let error = one_more.create().unwrap_err();
    assert!(error.to_string().contains("disk 65"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_parent_in_use_and_a_parent_without_its_key_are_told() {
    let folder = Folder::new();
    let (own, other) = (new_key(), new_key());
    let base = folder.image("base.vhd", Format::VhdDynamic, Some(&own));
    let path = folder.path("bare.vhd");
    let bare = NewChild {
        path: &path,
        parent: &base,
        key: None,
    };
    assert_eq!(bare.create().unwrap_err().kind(), ErrorKind::Key);
    let child = folder.child("child.vhd", &base, Some(&other));
    let alone = OpenImage {
        path: &child,
        format: None,
        mode: Mode::ReadOnly,
        key: Some(&other),
    };
    let error = alone.open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert!(error.to_string().contains("base.vhd"), "{error}");

    let writer = open(&base, Mode::Keep, &[&own]);
    let busy = |path: &_| {
        try_open(path, Mode::ReadOnly, &[&own, &other], false)
            .err()
            .map(|e| e.kind())
    };
    assert_eq!(busy(&child), Some(ErrorKind::Busy));
    drop(writer);
    let reader = open(&child, Mode::Keep, &[&own, &other]);
    let error = try_open(&base, Mode::Keep, &[&own], false).err().unwrap();
    assert_eq!(
        error.kind(),
        ErrorKind::Busy,
        "a parent in use was opened for writing"
    );
    drop(reader);
    assert_eq!(probe(&child).unwrap().format, Format::VhdDifferencing);
}

#[test]
fn every_locator_of_every_platform_leads_to_the_parent() {
    let le = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>()
    };
    let be = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect::<Vec<u8>>()
    };
    let folder = Folder::new();
    std::fs::create_dir(folder.path("sub")).unwrap();
    let base = folder.image("sub/parent disk.vhd", Format::VhdDynamic, None);
    let absolute = base.canonicalize().unwrap();
    let windows = absolute.to_str().unwrap().replace('/', "\\");
    let url = format!("file://{}", absolute.to_str().unwrap().replace(' ', "%20"));
    let locators: [(&[u8; 4], Vec<u8>); 8] = [
        (b"W2ru", le(r".\sub\parent disk.vhd")),
        (b"W2ru", be(r"sub\parent disk.vhd")),
        (b"W2ku", le(&windows)),
        (b"W2ku", be(&windows)),
        (b"MacX", url.clone().into()),
        (b"MacX", url.replace("file://", "file://localhost").into()),
        (b"Wi2r", br".\sub\parent disk.vhd".to_vec()),
        (b"Wi2k", windows.clone().into()),
    ];
    let template = folder.child("child.vhd", &base, None);
    for (code, text) in locators {
        let path = folder.path("edited.vhd");
        std::fs::copy(&template, &path).unwrap();
        let store = FileStore::open(&path, Sharing::Exclusive).unwrap();
        let mut header = [0; 1024];
        store.read_at(512, &mut header).unwrap();
        // One locator in the second place, its text where the first was; no name to fall back on.
        header[64..768].fill(0);
        header[600..604].copy_from_slice(code);
        header[608..612].copy_from_slice(&(text.len() as u32).to_be_bytes());
        header[616..624].copy_from_slice(&1536u64.to_be_bytes());
        header[36..40].fill(0);
        let sum = !header.iter().fold(0u32, |sum, b| sum + u32::from(*b));
        header[36..40].copy_from_slice(&sum.to_be_bytes());
        store.write_at(512, &header).unwrap();
        store.write_at(1536, &text).unwrap();
        drop(store);
        let opened = try_open(&path, Mode::ReadOnly, &[], false)
            .unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(code)));
        assert_eq!(opened.parents[0].0, absolute);
        std::fs::remove_file(&path).unwrap();
    }
}

/// The process is killed before its first flush: what it wrote is in the file, so that the footer must
/// say so too.
#[test]
fn a_parent_that_was_written_to_and_never_flushed_is_refused() {
    for format in [Format::VhdFixed, Format::VhdDynamic] {
        let folder = Folder::new();
        let base = folder.image("base.vhd", format, None);
        open(&base, Mode::Keep, &[])
            .write_at(0, &[1; 4096])
            .unwrap();
        for zeroes in [false, true] {
            let child = folder.child(&format!("{zeroes}.vhd"), &base, None);
            try_open(&child, Mode::ReadOnly, &[], false).unwrap();
            let disk = open(&base, Mode::Keep, &[]);
            match zeroes {
                false => disk.write_at(0, &[2; 4096]).unwrap(),
                true => disk.write_zeroes(0, 4096).unwrap(),
            }
            let copy = folder.path("copy.vhd");
            std::fs::copy(&base, &copy).unwrap();
            drop(disk);
            std::fs::rename(&copy, &base).unwrap();
            let refused = try_open(&child, Mode::ReadOnly, &[], false);
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::Parent, "{format}");
        }
    }
}
