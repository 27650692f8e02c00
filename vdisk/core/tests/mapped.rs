//! Reads that decipher straight from the page cache give what `pread` gives, whatever happens to the file
//! meanwhile; and they are really taken.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::signal::Signal;
use proptest::prelude::*;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{FileStore, MemoryStore, Sharing, Store};
use vdisk::vhd::{self, Kind};
use vdisk::xts::{Xts, XtsKey};
use vdisk::{BlockDevice, Disk, ErrorKind, SECTOR};

const MIB: u64 = 1 << 20;

/// Folders on file systems whose files are mapped: where temporary files go, if that is one, and memory.
fn folders() -> Vec<tempfile::TempDir> {
    let all = [std::env::temp_dir(), "/dev/shm".into()];
    let made = all.iter().filter_map(|dir| tempfile::tempdir_in(dir).ok());
    let mapped = made.filter(|dir| {
        let store = FileStore::unnamed(dir.path()).unwrap();
        store.write_at(0, &[1]).unwrap();
        look(&store, 0, 1).is_some()
    });
    let folders: Vec<_> = mapped.collect();
    assert!(
        !folders.is_empty(),
        "none of {all:?} is on a file system that is mapped"
    );
    folders
}

fn folder() -> tempfile::TempDir {
    folders().swap_remove(0)
}

fn cipher() -> Xts {
    Xts::new(&XtsKey::new(std::array::from_fn(|i| i as u8)).unwrap())
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 16).to_le_bytes()[..4].to_vec()
    });
    words.flatten().take(len).collect()
}

/// An encrypted dynamic VHD in a file, and the file.
fn vhd_in(dir: &Path, size: u64) -> (Stack, Arc<FileStore>) {
    let store = Arc::new(FileStore::create_new(&dir.join("disk.vhd")).unwrap());
    vhd::create(&*store, Kind::Dynamic, size, None).unwrap();
    let layer = vhd::open(store.clone(), false).unwrap().into_layer();
    let layers = vec![StackedLayer::new(layer, Some(cipher()))];
    (Stack::new(layers, false, "mapped").unwrap(), store)
}

fn filled(dir: &Path, size: u64) -> (Disk, Arc<FileStore>, Vec<u8>) {
    let (stack, store) = vhd_in(dir, size);
    let disk = Disk::new(stack);
    let bytes = pattern(1, size as usize);
    disk.write_at(0, &bytes).unwrap();
    (disk, store, bytes)
}

/// What a store shows, or `None`.
fn look(store: &dyn Store, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut seen = vec![0xee; len];
    store
        .show(offset, len, &mut |bytes| bytes.copy_to(&mut seen))
        .then_some(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Written and read in any order at any place, odd ranges among them, the file growing meanwhile: as
    /// a plain array.
    #[test]
    fn as_an_array_would(
        ops in proptest::collection::vec((0..8 * MIB, 0..700_000usize, any::<bool>(), any::<u64>()), 1..30),
    ) {
        for dir in folders() {
            let (stack, store) = vhd_in(dir.path(), 8 * MIB);
            let disk = Disk::new(stack);
            let mut model = vec![0; 8 << 20];
            for &(at, len, write, seed) in &ops {
                let len = len.min((8 * MIB - at) as usize);
                let range = at as usize..at as usize + len;
                if write {
                    let bytes = pattern(seed, len);
                    disk.write_at(at, &bytes).unwrap();
                    model[range].copy_from_slice(&bytes);
                } else {
                    let mut bytes = vec![0xee; len];
                    disk.read_at(at, &mut bytes).unwrap();
                    prop_assert!(bytes == model[range], "{len} bytes at {at}");
                }
            }
            disk.write_at(0, &model).unwrap();
            let (mut bytes, before) = (vec![0; model.len()], store.shown());
            disk.read_at(0, &mut bytes).unwrap();
            prop_assert!(bytes == model);
            // Four blocks, each a run of its own.
            prop_assert_eq!(store.shown(), before + 4);
        }
    }

    #[test]
    fn a_file_shows_what_it_reads(
        len in 1..300_000usize,
        (from, until) in (0.0..1.0f64, 0.0..1.0f64),
        growth in 0..300_000usize,
        seed in any::<u64>(),
    ) {
        for dir in folders() {
            let store = FileStore::create_new(&dir.path().join("file")).unwrap();
            for bytes in [pattern(seed, len), pattern(!seed, len + growth)] {
                store.write_at(0, &bytes).unwrap();
                let place = |part: f64| (part * bytes.len() as f64) as usize;
                let range = place(from.min(until))..place(from.max(until));
                let seen = look(&store, range.start as u64, range.len());
                prop_assert!(seen.unwrap() == bytes[range]);
            }
        }
    }
}

#[test]
fn reads_that_go_on_are_taken_from_the_page_cache_and_short_ones_are_not() {
    let dir = folder();
    let (disk, store, bytes) = filled(dir.path(), 4 * MIB);
    let mut buf = vec![0; 128 << 10];
    disk.read_at(0, &mut buf[..4096]).unwrap();
    disk.read_at(MIB, &mut buf).unwrap();
    assert_eq!(store.shown(), 0, "a short read, or one that jumps");
    for n in 1..=8 {
        let at = (1 << 20) + (n as usize) * (200 << 10);
        disk.read_at(at as u64, &mut buf).unwrap();
        assert!(buf == bytes[at..][..buf.len()]);
        assert!(store.shown() >= n, "read {n}");
    }
}

#[test]
fn bytes_far_away_and_across_a_border_are_right() {
    let dir = folder();
    let store = FileStore::create_new(&dir.path().join("sparse")).unwrap();
    let bytes = pattern(5, 1 << 20);
    for at in [100 << 30, (64 << 30) - 7, 2 << 40] {
        store.write_at(at, &bytes).unwrap();
        // What lies across the border of two mappings is not shown.
        match look(&store, at, bytes.len()) {
            Some(seen) => assert!(seen == bytes),
            None => assert_eq!(at, (64 << 30) - 7),
        }
    }
    assert_eq!(look(&store, u64::MAX - 5, 10), None);
    assert_eq!(look(&store, (3 << 40) - 5, 10), None);
}

#[test]
fn what_is_in_memory_or_not_a_plain_file_is_not_shown() {
    assert_eq!(look(&MemoryStore::new(vec![1; 100]), 0, 10), None);
    let procfs = FileStore::open_unlocked(Path::new("/proc/self/maps")).unwrap();
    assert_eq!(look(&procfs, 0, 10), None);
}

/// Holes of a disk without metadata would take memory where they are looked at.
#[test]
fn holes_are_not_looked_at() {
    let dir = folder();
    let store = Arc::new(FileStore::unnamed(dir.path()).unwrap());
    store.set_len(4 * MIB).unwrap();
    let flat = vdisk::flat::Flat::new(store.clone(), 4 * MIB / SECTOR);
    let stack = Stack::new(vec![StackedLayer::encrypted(flat, cipher())], false, "flat");
    stack.unwrap().read_at(0, &mut vec![0; 1 << 20]).unwrap();
    assert_eq!(store.shown(), 0);
    assert_eq!(store.allocated(0, 4 * MIB).unwrap(), (false, 4 * MIB));
}

#[test]
fn readers_beside_a_writer_of_other_sectors() {
    let dir = folder();
    let (disk, store, bytes) = filled(dir.path(), 8 * MIB);
    let done = AtomicBool::new(false);
    let shown = store.shown();
    std::thread::scope(|scope| {
        let (disk, bytes, done) = (&disk, &bytes, &done);
        // Even stretches of 128 KiB are written all the time, odd ones stay.
        scope.spawn(move || {
            for round in 0..400u64 {
                let at = round * 7 % 32 * (256 << 10);
                disk.write_at(at, &pattern(round, 128 << 10)).unwrap();
            }
            done.store(true, SeqCst);
        });
        for reader in 0..4u64 {
            scope.spawn(move || {
                let mut buf = vec![0; 128 << 10];
                let mut round = reader;
                while !done.load(SeqCst) {
                    let at = (round * 5 % 32 * (256 << 10) + (128 << 10)) as usize;
                    disk.read_at(at as u64, &mut buf).unwrap();
                    assert!(buf == bytes[at..][..buf.len()], "reader {reader}, at {at}");
                    round += 1;
                }
            });
        }
    });
    assert!(store.shown() > shown);
}

#[test]
fn a_write_is_seen_at_once() {
    let dir = folder();
    let (disk, store, mut bytes) = filled(dir.path(), 2 * MIB);
    let mut buf = vec![0; bytes.len()];
    for round in 0..50u8 {
        let at = usize::from(round) * 11 * 512;
        disk.write_at(at as u64, &[round; 3 * 512]).unwrap();
        bytes[at..][..3 * 512].fill(round);
        disk.read_at(0, &mut buf).unwrap();
        assert!(buf == bytes, "round {round}");
    }
    assert!(store.shown() >= 50);
}

/// Somebody cuts the file under a mapping: an error that says so, and what is left reads right.
#[test]
fn a_file_cut_under_its_mapping_is_an_error_and_no_crash() {
    for dir in folders() {
        cut_under_its_mapping(&dir);
    }
}

fn cut_under_its_mapping(dir: &tempfile::TempDir) {
    let (disk, store, bytes) = filled(dir.path(), 8 * MIB);
    let mut buf = vec![0; 8 << 20];
    disk.read_at(0, &mut buf).unwrap();
    assert!(buf == bytes);
    let shown = store.shown();
    assert!(shown > 0);

    let mut options = OpenOptions::new();
    let file = options.write(true).open(dir.path().join("disk.vhd"));
    let file = file.unwrap();
    file.set_len(3 * MIB).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut buf = vec![0; 8 << 20];
                for _ in 0..10 {
                    let error = disk.read_at(0, &mut buf).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                    assert!(error.to_string().contains("disk.vhd"), "{error}");
                }
            });
        }
    });
    disk.read_at(0, &mut buf[..2 << 20]).unwrap();
    assert!(buf[..2 << 20] == bytes[..2 << 20]);
    disk.read_at(0, &mut buf[..2 << 20]).unwrap();
    let after = store.shown();
    disk.read_at(0, &mut buf[..2 << 20]).unwrap();
    assert_eq!(store.shown(), after, "a spoiled mapping is used again");
    assert_eq!(look(&*store, 0, 10), None);
}

/// The file comes back longer: the mapping that was spoiled stays out of use, its zeros are never shown.
#[test]
fn zeros_of_a_mended_page_are_never_data() {
    let dir = folder();
    let path = dir.path().join("file");
    let store = FileStore::create_new(&path).unwrap();
    let bytes = pattern(8, 1 << 20);
    store.write_at(0, &bytes).unwrap();
    assert!(look(&store, 0, bytes.len()).unwrap() == bytes);
    store.set_len(4096).unwrap();
    assert_eq!(look(&store, 0, bytes.len()), None);
    store.write_at(0, &bytes).unwrap();
    assert_eq!(look(&store, 0, bytes.len()), None);
    let mut buf = vec![0; bytes.len()];
    store.read_at(0, &mut buf).unwrap();
    assert!(buf == bytes);
    // Another handle has a mapping of its own.
    let other = FileStore::open_unlocked(&path).unwrap();
    assert!(look(&other, 0, bytes.len()).unwrap() == bytes);
}

#[test]
fn when_all_places_are_taken_reads_go_on_without() {
    let dir = folder();
    let path = dir.path().join("file");
    let bytes = pattern(9, 1 << 17);
    FileStore::create_new(&path)
        .unwrap()
        .write_at(0, &bytes)
        .unwrap();
    let open = || FileStore::open(&path, Sharing::ReadOnly).unwrap();
    let mut stores: Vec<_> = (0..300).map(|_| open()).collect();
    let shown = |stores: &[FileStore]| {
        let look = |store: &&FileStore| match look(*store, 0, bytes.len()) {
            Some(seen) => seen == bytes,
            None => false,
        };
        stores.iter().filter(look).count()
    };
    let first = shown(&stores);
    assert!((200..300).contains(&first), "{first} of 300");
    // Places that are left are free for others.
    stores.drain(..first);
    stores.extend((0..100).map(|_| open()));
    assert!(shown(&stores[300 - first..]) >= 90);
}

/// Bytes of files that count as this process's memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let counted = |line: &&str| line.starts_with("RssFile:") || line.starts_with("RssShmem:");
    let kib = text.lines().filter(counted).map(|line| {
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap()
    });
    kib.sum::<u64>() << 10
}

#[test]
fn a_large_file_does_not_fill_this_process() {
    let dir = folder();
    let (disk, store, _) = filled(dir.path(), 160 * MIB);
    let before = resident();
    let mut buf = vec![0; 128 << 10];
    let mut most = 0;
    for at in (0..160 * MIB).step_by(buf.len()) {
        disk.read_at(at, &mut buf).unwrap();
        most = most.max(resident());
    }
    // All but the first, which may be a jump.
    assert!(store.shown() >= 160 * 8 - 1);
    let more = most.saturating_sub(before);
    assert!(more > 8 * MIB, "{more} bytes: it was not mapped at all");
    // Other tests of this process may be at it, too.
    assert!(more < 40 * MIB, "{more} bytes");
}

/// Set for the tests below, which most often do not survive: somebody may run all that are ignored.
const CHILD: &str = "MEDLEY_TEST_MAPPED_CHILD";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one of the tests below in a process of its own.
fn apart(name: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command.env(CHILD, "1");
    command.output().unwrap().status
}

/// Makes the handler be there.
fn map_something(dir: &Path) -> FileStore {
    let store = FileStore::create_new(&dir.join("file")).unwrap();
    store.write_at(0, &[7; 5000]).unwrap();
    assert_eq!(look(&store, 0, 5000), Some(vec![7; 5000]));
    store
}

#[test]
fn a_signal_that_is_not_ours_ends_the_process_as_ever() {
    assert_eq!(
        apart("child_sent_a_bus_error").signal(),
        Some(Signal::SIGBUS as i32)
    );
    assert_eq!(
        apart("child_with_a_bus_error_of_its_own").signal(),
        Some(Signal::SIGBUS as i32)
    );
}

#[test]
fn a_thread_that_blocks_all_signals_survives_too() {
    assert_eq!(apart("child_that_blocks_all_signals").code(), Some(0));
}

#[test]
fn who_handled_it_before_is_asked() {
    assert_eq!(apart("child_with_a_handler_of_its_own").code(), Some(42));
}

#[test]
#[ignore = "a part of another test"]
fn child_sent_a_bus_error() {
    if !is_child() {
        return;
    }
    let dir = folder();
    let _store = map_something(dir.path());
    // The standard library's handler, which is asked after ours, lets the first one pass.
    for _ in 0..2 {
        nix::sys::signal::raise(Signal::SIGBUS).unwrap();
    }
}

#[test]
#[ignore = "a part of another test"]
fn child_with_a_bus_error_of_its_own() {
    if !is_child() {
        return;
    }
    let dir = folder();
    let _store = map_something(dir.path());
    outside::touch_what_is_not_there(dir.path());
}

#[test]
#[ignore = "a part of another test"]
fn child_that_blocks_all_signals() {
    if !is_child() {
        return;
    }
    nix::sys::signal::SigSet::all().thread_block().unwrap();
    let dir = folder();
    let store = map_something(dir.path());
    store.set_len(10).unwrap();
    assert_eq!(look(&store, 0, 5000), None);
}

#[test]
#[ignore = "a part of another test"]
fn child_with_a_handler_of_its_own() {
    if !is_child() {
        return;
    }
    outside::handle();
    let dir = folder();
    let store = map_something(dir.path());
    store.set_len(10).unwrap();
    assert_eq!(look(&store, 0, 5000), None, "this one is ours");
    outside::touch_what_is_not_there(dir.path());
}

/// What another part of a program may do.
mod outside {
    use std::num::NonZeroUsize;
    use std::path::Path;

    use nix::libc::{_exit, c_int};
    use nix::sys::mman::{MapFlags, ProtFlags, mmap};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    pub fn touch_what_is_not_there(dir: &Path) {
        std::fs::write(dir.join("other"), "").unwrap();
        let file = std::fs::File::open(dir.join("other")).unwrap();
        let len = NonZeroUsize::new(4096).unwrap();
        // SAFETY: a new mapping; that touching it is a bus error is what the test wants.
        unsafe {
            let at = mmap(
                None,
                len,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                &file,
                0,
            )
            .unwrap();
            at.cast::<u8>().read_volatile();
        }
    }

    pub fn handle() {
        extern "C" fn on_bus_error(_: c_int) {
            // SAFETY: ends the process, as a handler may.
            unsafe { _exit(42) }
        }
        let action = SigAction::new(
            SigHandler::Handler(on_bus_error),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing but end the process.
        unsafe { sigaction(Signal::SIGBUS, &action) }.unwrap();
    }
}

/// What a stack reads from a base that nobody writes: overlays above it, the layer of a session.
#[test]
fn a_base_below_is_read_so_too() {
    let dir = folder();
    let (disk, store, bytes) = filled(dir.path(), 4 * MIB);
    disk.flush().unwrap();
    drop((disk, store));
    let store = Arc::new(FileStore::open(&dir.path().join("disk.vhd"), Sharing::ReadOnly).unwrap());
    let base = vhd::open(store.clone(), true).unwrap().into_layer();
    let file = FileStore::unnamed(dir.path()).unwrap();
    let overlay = vdisk::overlay::Overlay::ephemeral(file, 4 * MIB / SECTOR);
    let stack = Stack::new(
        vec![
            StackedLayer::encrypted(overlay.unwrap(), cipher()),
            StackedLayer::new(base, Some(cipher())),
        ],
        false,
        "session",
    )
    .unwrap();
    stack.write_at(MIB, &bytes[..1 << 20]).unwrap();
    let mut buf = vec![0; 4 << 20];
    stack.read_at(0, &mut buf).unwrap();
    assert!(store.shown() > 0);
    assert!(buf[1 << 20..2 << 20] == bytes[..1 << 20]);
    assert!(buf[..1 << 20] == bytes[..1 << 20] && buf[2 << 20..] == bytes[2 << 20..]);
}
