//! Any bytes as a VHD: opened read-only and to be kept, read, mapped, written, followed to its parents.
//!
//! An input is either an image as it is, or its parts: footer, header and the rest, which are put where
//! they belong and get their checksums, since no mutation would ever guess these.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use uuid::Uuid;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::Store;
use vdisk::vhd::{self, FOOTER_LEN, Footer, HEADER_LEN, Kind, Opened};
use vdisk::{Disk, SECTOR, chain};

use super::Target;
use crate::input::Input;
use crate::sparse::SparseStore;

pub const TARGET: Target = Target {
    name: "vhd_open",
    about: "bytes as a VHD: refused, or readable all over; what is written to it stays, and nothing else changes",
    max_len: 6144,
    run,
};

/// Bits of the first byte.
const RAW: u8 = 1;
const UNSEALED: u8 = 2;
const NO_COPY: u8 = 4;
/// Bytes of a footer that mean something.
const FOOTER_USED: usize = 88;
/// The UUID of the only parent there is.
const PARENT: Uuid = Uuid::from_u128(0x4d45_444c_4559_5041_5245_4e54_0000_0001);
/// Places that are looked at.
const PROBES: u64 = 24;

fn run(bytes: &[u8]) {
    let image = image(bytes);
    let footer = vhd::read_footer(&image);
    let before = open(&image, true).map(|opened| look(opened, &image));
    if before.is_ok() {
        assert!(matches!(footer, Ok(Some(_))), "opened without a footer");
    }
    let kept = image.fork();
    match (open(&kept, false), before) {
        (Ok(opened), Ok(before)) => write(opened, &kept, before),
        (Ok(_), Err(e)) => panic!("opened for writing, but not for reading: {e}"),
        (Err(_), _) => {}
    }
}

/// The image that an input stands for.
pub fn image(bytes: &[u8]) -> SparseStore {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    match flags & RAW {
        0 => assemble(flags, &mut input),
        _ => SparseStore::with(input.rest()),
    }
}

/// Puts footer, header and the rest where they belong.
fn assemble(flags: u8, input: &mut Input<'_>) -> SparseStore {
    let gap = u64::from(input.u16()) << 16;
    let mut footer = [0; FOOTER_LEN];
    footer[..FOOTER_USED].copy_from_slice(&input.array::<FOOTER_USED>());
    let mut header: [u8; HEADER_LEN] = input.array();
    if flags & UNSEALED == 0 {
        seal(&mut footer, 64);
        seal(&mut header, 36);
    }
    let store = SparseStore::default();
    let put = |at: u64, bytes: &[u8]| store.write_at(at, bytes).expect("memory takes it");
    if flags & NO_COPY == 0 {
        put(0, &footer);
    }
    put(FOOTER_LEN as u64, &header);
    let rest = input.rest();
    put((FOOTER_LEN + HEADER_LEN) as u64, rest);
    let end = (FOOTER_LEN + HEADER_LEN + rest.len()) as u64;
    put(end.next_multiple_of(SECTOR) + gap, &footer);
    store
}

/// Writes the checksum that lies at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = bytes
        .iter()
        .fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)));
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}

pub fn open(store: &SparseStore, read_only: bool) -> vdisk::Result<Opened> {
    vhd::open(Arc::new(store.clone()), read_only)
}

/// The sectors that are looked at: both ends, and what lies evenly between them.
fn probes(sectors: u64) -> impl Iterator<Item = u64> {
    let between =
        (0..PROBES).map(move |n| (u128::from(sectors) * u128::from(n) / u128::from(PROBES)) as u64);
    between.chain([sectors - 1])
}

/// Sectors and what was read there, `None` where that failed.
pub type Seen = Vec<(u64, Option<[u8; SECTOR as usize]>)>;

/// What some sectors of an image hold.
pub fn seen(opened: Opened) -> Seen {
    sample(&disk(opened, true))
}

fn sample(disk: &Disk) -> Seen {
    let read = |lba| {
        let mut bytes = [0; SECTOR as usize];
        let read = disk.read_at(lba * SECTOR, &mut bytes);
        (lba, read.ok().map(|()| bytes))
    };
    probes(disk.size() / SECTOR).map(read).collect()
}

fn disk(opened: Opened, read_only: bool) -> Disk {
    let layer = StackedLayer::new(opened.into_layer(), None);
    Disk::new(Stack::new(vec![layer], read_only, "fuzz").expect("one layer is a stack"))
}

/// Reads here and there, maps everything, follows the parents.
fn look(opened: Opened, store: &SparseStore) -> Seen {
    assert!(opened.footer.current_size.is_multiple_of(SECTOR));
    assert!((1..=vhd::MAX_SIZE).contains(&opened.footer.current_size));
    if let Some(link) = &opened.parent {
        assert!(link.candidates(store).len() <= 32);
        if let Some(family) = family() {
            for force in [false, true] {
                if let Ok(found) = chain::ancestors(&family.child, store, &opened, force) {
                    assert_eq!(found.len(), 1, "there is but one parent");
                }
            }
        }
    }
    let disk = disk(opened, true);
    if disk.size() > 0 {
        let mut end = 0;
        let mapped = disk.extents(0, disk.size().min(64 << 30), &mut |extent| {
            assert_eq!(extent.offset, end);
            end += extent.len;
        });
        assert!(mapped.is_err() || end == disk.size().min(64 << 30));
    }
    let mut long = vec![0; (300 << 10).min(disk.size() as usize)];
    let _ = disk.read_at(0, &mut long);
    let _ = disk.read_at(disk.size() - long.len() as u64, &mut long);
    sample(&disk)
}

/// Writes some sectors, then zeros over the first ones: what was written is there afterwards and after a
/// reopening, and all others are unchanged.
fn write(opened: Opened, store: &SparseStore, before: Seen) {
    // Zeros that hide a parent's bytes are written one by one.
    let zeros = if opened.parent.is_some() {
        64 << 10
    } else {
        2 << 20
    };
    let mut seen = before;
    let writable = disk(opened, false);
    let sectors = writable.size() / SECTOR;
    let bytes = [0x5a; SECTOR as usize];
    for lba in [0, sectors / 2, sectors - 1] {
        let done = writable.write_at(lba * SECTOR, &bytes);
        expect(&mut seen, lba..lba + 1, done.is_ok().then_some(bytes));
    }
    compare(&seen, &writable);
    let Some(reopened) = close(writable, store, &seen) else {
        return;
    };
    let len = zeros.min(reopened.size());
    let done = reopened.write_zeroes(0, len);
    let zero = done.is_ok().then_some([0; SECTOR as usize]);
    expect(&mut seen, 0..len / SECTOR, zero);
    compare(&seen, &reopened);
    close(reopened, store, &seen);
}

/// Notes what sectors hold from now on; those whose writing failed are watched no more.
fn expect(seen: &mut Seen, sectors: Range<u64>, bytes: Option<[u8; SECTOR as usize]>) {
    match bytes {
        Some(_) => {
            let those = seen.iter_mut().filter(|(lba, _)| sectors.contains(lba));
            those.for_each(|(_, held)| *held = bytes);
        }
        None => seen.retain(|(lba, _)| !sectors.contains(lba)),
    }
}

fn compare(seen: &Seen, disk: &Disk) {
    for (lba, held) in seen {
        let mut bytes = [0; SECTOR as usize];
        let read = disk.read_at(lba * SECTOR, &mut bytes).ok();
        assert_eq!(read.map(|()| bytes), *held, "sector {lba}");
    }
}

/// Flushes a disk and opens it again, where it can be flushed.
fn close(disk: Disk, store: &SparseStore, seen: &Seen) -> Option<Disk> {
    disk.flush().ok()?;
    drop(disk);
    let opened = open(store, false).expect("a disk that was written opens again");
    let troubles = &opened.troubles;
    assert!(troubles.is_empty(), "mended once: {troubles:?}");
    let disk = self::disk(opened, false);
    compare(seen, &disk);
    Some(disk)
}

/// A folder with a parent in it.
struct Family {
    child: PathBuf,
    _dir: tempfile::TempDir,
}

fn family() -> Option<&'static Family> {
    static FAMILY: OnceLock<Option<Family>> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().ok()?;
        let child = dir.path().join("child.vhd");
        std::fs::write(&child, b"").ok()?;
        write_parent(&dir.path().join("parent.vhd"))?;
        Some(Family { child, _dir: dir })
    };
    FAMILY.get_or_init(make).as_ref()
}

/// Bytes in the parent, and in a child that can be its own.
const SIZE: u64 = 5 << 20;

fn write_parent(path: &Path) -> Option<()> {
    let store = SparseStore::default();
    vhd::create(&store, Kind::Dynamic, SIZE, None).ok()?;
    let mut bytes = vec![0; store.len().ok()? as usize];
    store.read_at(0, &mut bytes).ok()?;
    let mut footer = Footer::parse(bytes.first_chunk()?).ok()?;
    footer.uuid = PARENT;
    footer.timestamp = 1;
    let end = bytes.len() - FOOTER_LEN;
    for at in [0, end] {
        bytes[at..at + FOOTER_LEN].copy_from_slice(&footer.to_bytes());
    }
    std::fs::write(path, bytes).ok()
}
