//! Any bytes as the file of a durable overlay, with checksums set right: opened, read, written, checked.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use uuid::Uuid;
use vdisk::flat::Flat;
use vdisk::overlay::{self, Base, OpenOverlay, OverlayOptions};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{Sharing, Store};
use vdisk::{Disk, SECTOR};

use super::Target;
use crate::input::Input;
use crate::sparse::SparseStore;

pub const TARGET: Target = Target {
    name: "overlay_file",
    about: "superblocks and words of an overlay: refused, or readable and writable; sound ones work all over",
    max_len: 2048,
    run,
};

/// Bits of the first byte.
const UNSEALED: u8 = 1;
const SECOND: u8 = 2;
const CHECK: u8 = 4;
const READ_ONLY: u8 = 8;
const RESUME: u8 = 16;
const STRICT: u8 = 32;

const COPY: usize = 4096;
/// Bytes of a superblock that mean something.
const USED: usize = 212;
/// Where the words begin.
const INDEX: u64 = 2 * COPY as u64;
const MIB: u64 = 1 << 20;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let first = input.array::<USED>();
    let store = SparseStore::default();
    let put = |at: u64, bytes: &[u8]| store.write_at(at, bytes).expect("memory takes it");
    put(0, &superblock(&first, flags));
    if flags & SECOND != 0 {
        // The other copy is the same but for some bytes.
        let mut second = first;
        for _ in 0..input.u8() % 4 {
            let at = usize::from(input.u8());
            second[at.min(USED - 1)] = input.u8();
        }
        put(COPY as u64, &superblock(&second, flags));
    }
    let sectors = u64::from_le_bytes(*first[40..].first_chunk().expect("long enough"));
    let clusters = input.u8();
    for _ in 0..input.u8() % 32 {
        // Mostly near the beginning, where words meet.
        let at = u64::from(input.u16());
        put(
            INDEX + at % 600 * 8 + (at >> 15) * 4096 * 600,
            &input.u64().to_le_bytes(),
        );
    }
    // Where clusters begin, for a disk of that size, and some of them.
    let index = sectors
        .div_ceil(32)
        .saturating_mul(8)
        .next_multiple_of(4096);
    let len = (INDEX.saturating_add(index)).next_multiple_of(MIB);
    let len = len
        .saturating_add(u64::from(clusters) * overlay::CLUSTER)
        .min(1 << 50);
    if store.len().is_ok_and(|now| now < len) {
        store.set_len(len).expect("memory grows");
    }

    let sound = flags & CHECK != 0 && check(&store);
    let base = Base {
        id: Uuid::from_bytes(*first[72..].first_chunk().expect("long enough")),
        sectors,
        file_len: u64::from_le_bytes(*first[88..].first_chunk().expect("long enough")),
        modified: i64::from_le_bytes(*first[96..].first_chunk().expect("long enough")),
    };
    let options = OverlayOptions {
        quota: None,
        force_base: flags & STRICT == 0,
        resume: (flags & RESUME != 0).then(|| *first[180..].first_chunk().expect("long enough")),
        ..OverlayOptions::default()
    };
    let open = |sharing| {
        OpenOverlay {
            path: Path::new("fuzz"),
            base,
            base_key: None,
            sharing,
            options: &options,
        }
        .open_store(store.clone())
    };
    let sharing = match flags & READ_ONLY {
        0 => Sharing::Exclusive,
        _ => Sharing::ReadOnly,
    };
    let Ok((overlay, _)) = open(sharing) else {
        return;
    };
    assert!(
        overlay
            .superblock()
            .is_some_and(|found| found.base.sectors == sectors)
    );
    let _ = overlay.used();
    let below = SparseStore::default();
    if sectors == 0 || sectors > 1 << 40 || below.set_len(sectors * SECTOR).is_err() {
        return;
    }
    let layers = vec![
        StackedLayer::plain(overlay.clone()),
        StackedLayer::plain(Flat::new(Arc::new(below), sectors)),
    ];
    let Ok(stack) = Stack::new(layers, sharing == Sharing::ReadOnly, "fuzz") else {
        return;
    };
    use_it(&Disk::new(stack), sound, &mut input);
    if sharing == Sharing::Exclusive {
        let _ = overlay.suspend([1; 32]);
        let _ = overlay.resume();
    }
}

fn use_it(disk: &Disk, sound: bool, input: &mut Input<'_>) {
    let sectors = disk.size() / SECTOR;
    let mut bytes = vec![0; (64 << 10).min(disk.size() as usize)];
    for part in 0..8 {
        let at = (disk.size() - bytes.len() as u64) / 8 * part / SECTOR * SECTOR;
        let read = disk.read_at(at, &mut bytes);
        assert!(
            !sound || read.is_ok(),
            "a sound overlay cannot be read: {read:?}"
        );
    }
    let mut end = 0;
    let some = disk.size().min(1 << 34);
    let mapped = disk.extents(0, some, &mut |extent| {
        assert_eq!(extent.offset, end);
        end += extent.len;
    });
    assert!(mapped.is_err() || end == some);
    for _ in 0..12 {
        if input.is_empty() {
            break;
        }
        let (what, at) = (input.u8(), u64::from(input.u16()) % sectors);
        let len = (u64::from(input.u8()) + 1).min(sectors - at);
        let (at, len) = (at * SECTOR, len * SECTOR);
        match what % 5 {
            0 | 1 => {
                let stamp = vec![what; len as usize];
                if disk.write_at(at, &stamp).is_ok() {
                    let mut found = vec![0; stamp.len()];
                    disk.read_at(at, &mut found)
                        .expect("what was written can be read");
                    assert!(found == stamp, "what was written is not there");
                }
            }
            2 => drop(disk.write_zeroes(at, len)),
            3 => drop(disk.discard(at, len)),
            _ => drop(disk.flush()),
        }
    }
}

/// One copy of a superblock, sealed.
fn superblock(used: &[u8; USED], flags: u8) -> Vec<u8> {
    let mut copy = vec![0; COPY];
    copy[..USED].copy_from_slice(used);
    if flags & UNSEALED == 0 {
        let sum = Sha256::digest(&copy[..COPY - 32]);
        copy[COPY - 32..].copy_from_slice(&sum);
    }
    copy
}

/// Whether the checker, which takes a path, finds nothing wrong.
fn check(store: &SparseStore) -> bool {
    static DIR: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().ok()).as_ref();
    let path: PathBuf = dir.expect("a folder can be made").path().join("overlay");
    let file = std::fs::File::create(&path).expect("a file can be made");
    let len = store.len().expect("memory has a length");
    // Not every file system takes what memory takes.
    if file.set_len(len).is_err() {
        return false;
    }
    for (at, page) in store.pages() {
        let n = (len - at).min(page.len() as u64) as usize;
        file.write_all_at(&page[..n], at)
            .expect("the file can be written");
    }
    drop(file);
    overlay::check(&path).is_ok_and(|report| report.troubles.is_empty())
}
