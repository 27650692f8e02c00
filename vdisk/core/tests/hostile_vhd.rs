//! Images that are damaged or meant to do harm: a clear error or a safe reading, never a panic, and
//! nothing that was right is made wrong.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Store};
use vdisk::vhd::check::{RepairOptions, repair_store};
use vdisk::vhd::{self, DiskType, DynamicHeader, Footer, Kind, NewParent};
use vdisk::{Disk, ErrorKind, Result, SECTOR};

const SIZE: u64 = 7 << 20;

fn open(bytes: Vec<u8>, read_only: bool) -> Result<(Disk, Vec<String>)> {
    let opened = vhd::open(Arc::new(MemoryStore::new(bytes)), read_only)?;
    let troubles = opened.troubles.clone();
    let stack = Stack::new(
        vec![StackedLayer::new(opened.into_layer(), None)],
        read_only,
        "hostile",
    )?;
    Ok((Disk::new(stack), troubles))
}

/// A dynamic image with three of its four blocks written, the last one partly.
fn image() -> Vec<u8> {
    let store = Arc::new(MemoryStore::default());
    vhd::create(&*store, Kind::Dynamic, SIZE, None).unwrap();
    let layer = vhd::open(store.clone(), false).unwrap().into_layer();
    let disk = Disk::new(Stack::new(vec![StackedLayer::new(layer, None)], false, "x").unwrap());
    disk.write_at(0, &[0x11; 2 << 20]).unwrap();
    disk.write_at(2 << 20, &[0x22; 2 << 20]).unwrap();
    disk.write_at(6 << 20, &[0x33; 9 * SECTOR as usize])
        .unwrap();
    disk.flush().unwrap();
    drop(disk);
    store.contents()
}

/// Reads and writes everything; errors are fine, panics are not.
fn exercise(bytes: Vec<u8>) {
    for read_only in [true, false] {
        if let Ok((disk, _)) = open(bytes.clone(), read_only) {
            let mut buf = vec![0; 1 << 20];
            let size = disk.size().min(64 << 20);
            for at in (0..size).step_by(1 << 20) {
                let n = (size - at).min(1 << 20) as usize;
                let _ = disk.read_at(at, &mut buf[..n]);
                let _ = disk.write_at(at, &buf[..n.min(4096)]);
            }
            let _ = disk.extents(0, size, &mut |_| {});
            let _ = disk.discard(0, size / 2);
            let _ = disk.flush();
        }
    }
}

#[test]
fn every_truncation_is_an_error_or_readable() {
    let whole = image();
    let metadata = 0..4096;
    // A footer without its last byte, which is always zero, is what the first writers of the format wrote.
    let tail = whole.len() - 600..whole.len() - 1;
    let steps = metadata
        .chain((4096..whole.len() - 600).step_by(100_003))
        .chain(tail);
    for len in steps {
        match open(whole[..len].to_vec(), true) {
            Ok((disk, troubles)) => {
                assert!(
                    !troubles.is_empty(),
                    "cut to {len} of {} and nobody noticed",
                    whole.len()
                );
                let mut first = [0; 512];
                if disk.read_at(0, &mut first).is_ok() {
                    assert_eq!(first, [0x11; 512], "cut to {len}");
                }
            }
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
}

#[test]
fn a_lost_footer_is_found_in_its_copy_and_written_anew() {
    let mut bytes = image();
    let end = bytes.len() - 512;
    bytes[end..].fill(0);
    let store = Arc::new(MemoryStore::new(bytes.clone()));
    let opened = vhd::open(store.clone(), false).unwrap();
    assert_eq!(opened.troubles.len(), 1, "{:?}", opened.troubles);
    drop(opened);
    let again = vhd::open(store.clone(), true).unwrap();
    assert!(again.troubles.is_empty(), "{:?}", again.troubles);
    assert_eq!(
        store.contents()[..end],
        bytes[..end],
        "the repair touched something else"
    );
}

#[test]
fn a_lost_copy_is_written_anew() {
    let mut bytes = image();
    bytes[..512].fill(0xAA);
    let store = Arc::new(MemoryStore::new(bytes));
    assert_eq!(vhd::open(store.clone(), false).unwrap().troubles.len(), 1);
    assert!(vhd::open(store, true).unwrap().troubles.is_empty());
}

#[test]
fn both_footers_lost_is_not_a_vhd() {
    let mut bytes = image();
    bytes[..512].fill(0);
    let end = bytes.len() - 512;
    bytes[end..].fill(0);
    assert_eq!(open(bytes, true).err().unwrap().kind(), ErrorKind::Corrupt);
}

fn patched_table(block: usize, entry: u32) -> Vec<u8> {
    let mut bytes = image();
    bytes[1536 + block * 4..][..4].copy_from_slice(&entry.to_be_bytes());
    bytes
}

#[test]
fn blocks_that_overlap_or_lie_outside_are_refused_for_writing() {
    let first = u32::from_be_bytes(image()[1536..1540].try_into().unwrap());
    for (entry, word) in [
        (first, "overlap"),
        (first + 1, "overlap"),
        (0x7000_0000, "past the end"),
        (1, "metadata"),
    ] {
        let error = open(patched_table(2, entry), false).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(word), "{error}");
        // Reading still saves what is right.
        let (disk, troubles) = open(patched_table(2, entry), true).unwrap();
        assert!(!troubles.is_empty());
        let mut sector = [0; 512];
        disk.read_at(6 << 20, &mut sector).unwrap();
        assert_eq!(sector, [0x33; 512]);
    }
}

#[test]
fn hostile_sizes_cost_no_memory() {
    // A table of four thousand million entries, a disk of two tebibytes in blocks of 512 bytes.
    let mut footer = Footer::new(DiskType::Dynamic, vhd::MAX_SIZE);
    footer.header_offset = 512;
    let header = DynamicHeader {
        table_offset: 1536,
        entries: u32::MAX,
        block_size: 512,
    };
    let mut bytes = footer.to_bytes().to_vec();
    bytes.extend(header.to_bytes());
    bytes.extend([0xff; 4096]);
    bytes.extend(footer.to_bytes());
    assert_eq!(
        open(bytes, true).err().unwrap().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_table_full_of_nonsense_is_told_in_a_few_words() {
    let size = 128 << 20;
    let footer = Footer::new(DiskType::Dynamic, size);
    let header = DynamicHeader {
        table_offset: 1536,
        entries: 1 << 18,
        block_size: 512,
    };
    let mut bytes = footer.to_bytes().to_vec();
    bytes.extend(header.to_bytes());
    bytes.resize(2 << 20, 0);
    bytes.extend(footer.to_bytes());
    let (_, troubles) = open(bytes, true).unwrap();
    assert_eq!(troubles.len(), 17, "{:?}", &troubles[..2]);
    assert!(troubles[16].contains("more"), "{}", troubles[16]);
}

#[test]
fn a_table_over_the_header_is_refused() {
    let footer = Footer::new(DiskType::Dynamic, SIZE);
    for table_offset in [0, 512, 1024] {
        let header = DynamicHeader {
            table_offset,
            entries: 4,
            block_size: 2 << 20,
        };
        let mut bytes = footer.to_bytes().to_vec();
        bytes.extend(header.to_bytes());
        bytes.extend([0xff; 512]);
        bytes.extend(footer.to_bytes());
        let error = open(bytes, true).err().unwrap().to_string();
        assert!(error.contains("lies over"), "{table_offset}: {error}");
    }
}

/// An empty child whose first locator names other bytes of the file.
fn child(offset: impl Fn(u64) -> u64, len: u32) -> Vec<u8> {
    let store = MemoryStore::default();
    let footer = vhd::create(&MemoryStore::default(), Kind::Dynamic, SIZE, None).unwrap();
    let parent = NewParent {
        footer: &footer,
        path: "/a/base.vhd".as_ref(),
        child_folder: "/a".as_ref(),
    };
    vhd::create_child(&store, &parent, None).unwrap();
    let mut bytes = store.contents();
    let end = bytes.len() as u64 - 512;
    let locator = 512 + 576;
    bytes[locator + 8..][..4].copy_from_slice(&len.to_be_bytes());
    bytes[locator + 16..][..8].copy_from_slice(&offset(end).to_be_bytes());
    mend_checksum(&mut bytes[512..1536], 36);
    bytes
}

/// What is metadata must not depend on how long the file is: a locator past its end came to lie under the
/// first new block, and the disk was refused the next time (found by fuzzing).
#[test]
fn no_new_block_lies_where_a_locator_leads() {
    type Place = (&'static str, fn(u64) -> u64, u32);
    let places: [Place; 5] = [
        ("across the footer", |end| end - 512, 1024),
        ("where the next block goes", |end| end + 4096, 24),
        ("within the next block", |end| end + (1 << 20) + 77, 300),
        ("in a block after that", |end| end + (5 << 20), 64 << 10),
        ("nowhere", |_| u64::MAX - 3, 24),
    ];
    for (place, offset, len) in places {
        let store = Arc::new(MemoryStore::new(child(offset, len)));
        for round in 1..=3 {
            let opened = vhd::open(store.clone(), false).expect(place);
            assert!(opened.troubles.is_empty(), "{place}: {:?}", opened.troubles);
            let layer = StackedLayer::new(opened.into_layer(), None);
            let disk = Disk::new(Stack::new(vec![layer], false, "child").unwrap());
            let mut old = [9; 512];
            for block in 1..round {
                disk.read_at(block << 21, &mut old).unwrap();
                assert_eq!(old, [block as u8; 512], "{place}");
            }
            disk.write_at(round << 21, &[round as u8; 512]).unwrap();
            disk.flush().unwrap();
        }
        let opened = vhd::open(store.clone(), true).unwrap();
        assert!(opened.troubles.is_empty(), "{place}: {:?}", opened.troubles);
        let lies = |end: u64| offset(end)..offset(end).saturating_add(u64::from(len));
        let claimed = lies(child(offset, len).len() as u64 - 512);
        let bytes = store.contents();
        let table = be64(&bytes, 512 + 16) as usize;
        for block in 1..=3 {
            let entry = &bytes[table + block * 4..][..4];
            let start = u64::from(u32::from_be_bytes(entry.try_into().unwrap())) * SECTOR;
            let end = start + SECTOR + (2 << 20);
            assert!(end <= claimed.start || claimed.end <= start, "{place}");
        }
    }
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The footer is written anew before the first change, and the header would have been with it.
#[test]
fn a_header_over_the_footer_is_refused() {
    let mut bytes = image();
    let end = bytes.len() - 512;
    let mut header = bytes[512..1536].to_vec();
    let mut footer = bytes[end..].to_vec();
    footer[16..24].copy_from_slice(&(end as u64 - 512).to_be_bytes());
    mend_checksum(&mut footer, 64);
    header[512..].copy_from_slice(&footer);
    mend_checksum(&mut header, 36);
    bytes[..512].copy_from_slice(&footer);
    bytes[end - 512..].copy_from_slice(&header);
    for read_only in [true, false] {
        let error = open(bytes.clone(), read_only).err().unwrap();
        assert!(error.to_string().contains("over the footer"), "{error}");
    }
}

/// Some writers put the footer right after the table's last entry, not at the next sector. The image, and
/// where its table lies.
fn without_padding() -> (Vec<u8>, usize) {
    let mut bytes = image();
    let footer = bytes.split_off(bytes.len() - 512);
    let table = bytes.len();
    let entries = bytes[1536..1536 + 16].to_vec();
    bytes[512 + 16..][..8].copy_from_slice(&(table as u64).to_be_bytes());
    mend_checksum(&mut bytes[512..1536], 36);
    bytes.extend(entries);
    bytes.extend(&footer);
    (bytes, table)
}

#[test]
fn a_table_without_padding_leaves_the_footer_alone() {
    let (bytes, table) = without_padding();
    let store = Arc::new(MemoryStore::new(bytes));
    let layer = vhd::open(store.clone(), false).unwrap().into_layer();
    let disk = Disk::new(Stack::new(vec![StackedLayer::new(layer, None)], false, "x").unwrap());
    disk.discard(2 << 20, 2 << 20).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let opened = vhd::open(store.clone(), true).unwrap();
    assert!(opened.troubles.is_empty(), "{:?}", opened.troubles);
    assert_eq!(store.contents()[table + 4..table + 8], [0xff; 4]);
}

#[test]
fn footers_behind_a_table_without_padding_are_repaired() {
    let (whole, _) = without_padding();
    let mut bytes = whole.clone();
    for at in [0, whole.len() - 512] {
        bytes[at + 58] ^= 1;
        mend_checksum(&mut bytes[at..at + 512], 64);
    }
    let store = MemoryStore::new(bytes);
    let done = repair_store(&store, RepairOptions::default()).unwrap();
    assert_eq!(done.repaired.len(), 1);
    assert!(done.after.is_sound(), "{:?}", done.after.findings);
    assert!(store.contents() == whole);
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(
        vdisk::image::probe(&path).unwrap_err().kind(),
        ErrorKind::InvalidRequest
    );
}

#[test]
fn a_fixed_disk_cut_short_is_refused() {
    let store = MemoryStore::default();
    vhd::create(&store, Kind::Fixed, SIZE, None).unwrap();
    let mut bytes = store.contents();
    let footer = bytes.split_off(SIZE as usize);
    bytes.truncate(1 << 20);
    bytes.extend(footer);
    let error = open(bytes, true).err().unwrap();
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn slack_is_given_back_and_nothing_else() {
    let mut bytes = image();
    let footer = bytes.split_off(bytes.len() - 512);
    let end = bytes.len();
    bytes.resize(end + (5 << 20), 0x77);
    bytes.extend(&footer);
    let store = Arc::new(MemoryStore::new(bytes.clone()));
    assert_eq!(vhd::open(store.clone(), true).unwrap().slack, 5 << 20);
    assert_eq!(
        store.len().unwrap(),
        bytes.len() as u64,
        "a reader changed the file"
    );
    drop(vhd::open(store.clone(), false).unwrap());
    let after = store.contents();
    assert_eq!(after.len(), end + 512);
    assert!(after[..end] == bytes[..end] && after[end..] == footer);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random damage to the metadata, checksums made right again so that it is not stopped at the door.
    #[test]
    fn random_damage_never_panics(
        hits in prop::collection::vec((0usize..3072, any::<u8>()), 1..6),
        mend: bool,
    ) {
        let mut bytes = image();
        for (at, value) in hits {
            bytes[at] = value;
        }
        if mend {
            mend_checksum(&mut bytes[..512], 64);
            mend_checksum(&mut bytes[512..1536], 36);
            let copy = bytes[..512].to_vec();
            let end = bytes.len() - 512;
            bytes[end..].copy_from_slice(&copy);
        }
        exercise(bytes);
    }
}

fn mend_checksum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = !bytes
        .iter()
        .fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)));
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}
