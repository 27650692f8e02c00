//! Every class of damage is found, told alone, and mended where that is safe; and no repair of anything
//! makes a sector worse.
#![allow(clippy::unwrap_used)]

mod peers;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use peers::{arg, have, run};
use proptest::prelude::*;
use vdisk::chain::NewChild;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Store};
use vdisk::vhd::check::{
    Damage, Repair, RepairOptions, Report, check, check_store, repair, repair_store,
};
use vdisk::vhd::{self, Kind, NewParent};
use vdisk::{Disk, SECTOR};
use vdisk_proving::{Cuts, Medium, Random, Recorder};

/// Three whole blocks and a part of a fourth.
const SIZE: u64 = (6 << 20) + (256 << 10);
const BLOCK: u64 = 2 << 20;

fn disk(store: &Arc<MemoryStore>, read_only: bool) -> vdisk::Result<Disk> {
    let layer = vhd::open(store.clone(), read_only)?.into_layer();
    let stack = Stack::new(vec![StackedLayer::new(layer, None)], read_only, "check")?;
    Ok(Disk::new(stack))
}

fn fill(store: &Arc<MemoryStore>) {
    let disk = disk(store, false).unwrap();
    disk.write_at(0, &[0x11; BLOCK as usize]).unwrap();
    disk.write_at(2 * BLOCK + 512, &[0x22; 70_000 / 512 * 512])
        .unwrap();
    disk.write_at(SIZE - 512, &[0x33; 512]).unwrap();
    disk.flush().unwrap();
}

fn dynamic() -> Vec<u8> {
    let store = Arc::new(MemoryStore::default());
    vhd::create(&*store, Kind::Dynamic, SIZE, None).unwrap();
    fill(&store);
    store.contents()
}

fn child() -> Vec<u8> {
    let base = MemoryStore::default();
    let footer = vhd::create(&base, Kind::Dynamic, SIZE, None).unwrap();
    let store = Arc::new(MemoryStore::default());
    let parent = NewParent {
        footer: &footer,
        path: "/a/base.vhd".as_ref(),
        child_folder: "/a".as_ref(),
    };
    vhd::create_child(&*store, &parent, None).unwrap();
    fill(&store);
    store.contents()
}

/// An image by qemu-img, written by qemu-io.
fn by_qemu() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.vhd");
    let size = SIZE.to_string();
    let create = [
        "create",
        "-q",
        "-f",
        "vpc",
        "-o",
        "force_size=on",
        arg(&path),
        &size,
    ];
    run("qemu-img", &create);
    let writes = [
        "-f",
        "vpc",
        "-c",
        "write -P 17 0 2M",
        "-c",
        "write -P 34 4M 64k",
        arg(&path),
    ];
    run("qemu-io", &writes);
    std::fs::read(&path).unwrap()
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn seal(bytes: &mut [u8], sum_at: usize) {
    put32(bytes, sum_at, 0);
    let sum = !bytes
        .iter()
        .fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)));
    put32(bytes, sum_at, sum);
}

fn table(bytes: &[u8]) -> usize {
    be32(bytes, 512 + 20) as usize
}

/// Changes both footers.
fn both_footers(bytes: &mut [u8], change: impl Fn(&mut [u8])) {
    let end = bytes.len() - 512;
    for at in [0, end] {
        change(&mut bytes[at..at + 512]);
        seal(&mut bytes[at..at + 512], 64);
    }
}

fn header(bytes: &mut [u8], change: impl Fn(&mut [u8])) {
    change(&mut bytes[512..1536]);
    seal(&mut bytes[512..1536], 36);
}

/// What the sectors read as, and which can be read; nothing of an image that does not open.
fn sectors(bytes: &[u8]) -> (Vec<u8>, Vec<bool>) {
    let store = Arc::new(MemoryStore::new(bytes.to_vec()));
    let Ok(disk) = disk(&store, true) else {
        return Default::default();
    };
    let mut all = vec![0; disk.size().min(SIZE) as usize];
    let mut readable = Vec::new();
    for (i, run) in all.chunks_mut(64 << 10).enumerate() {
        let at = (i as u64) << 16;
        if disk.read_at(at, run).is_ok() {
            readable.resize(readable.len() + run.len() / 512, true);
            continue;
        }
        for (i, sector) in run.chunks_mut(512).enumerate() {
            readable.push(disk.read_at(at + i as u64 * SECTOR, sector).is_ok());
        }
    }
    (all, readable)
}

fn classes(report: &Report) -> BTreeSet<Damage> {
    report.findings.iter().map(|f| f.damage).collect()
}

/// What was readable still reads the same.
fn no_worse(before: &[u8], after: &[u8], context: &str) {
    let ((was, could), (now, can)) = (sectors(before), sectors(after));
    for sector in (0..could.len()).filter(|sector| could[*sector]) {
        let at = sector * 512..sector * 512 + 512;
        let same = can.get(sector) == Some(&true) && was[at.clone()] == now[at];
        assert!(same, "{context}: sector {sector} changed");
    }
}

type Injection = (Damage, &'static str, fn(&mut Vec<u8>), bool);

/// How each class comes about, and whether it can be repaired.
const INJECTIONS: &[Injection] = &[
    (
        Damage::FooterMissing,
        "zeroed",
        |b| {
            let end = b.len() - 512;
            b[end..].fill(0);
        },
        true,
    ),
    (
        Damage::FooterMissing,
        "cut off",
        |b| b.truncate(b.len() - 512),
        true,
    ),
    (
        Damage::FooterMissing,
        "cut in two",
        |b| b.truncate(b.len() - 100),
        true,
    ),
    (
        Damage::FooterShort,
        "its last byte",
        |b| b.truncate(b.len() - 1),
        true,
    ),
    (Damage::CopyDamaged, "a bit", |b| b[100] ^= 1, true),
    (Damage::CopyDamaged, "zeroed", |b| b[..512].fill(0), true),
    (
        Damage::FootersDiffer,
        "another time",
        |b| {
            b[27] ^= 1;
            seal(&mut b[..512], 64);
        },
        true,
    ),
    (
        Damage::FootersDiffer,
        "the end leads nowhere",
        |b| {
            let end = b.len() - 512;
            put32(b, end + 20, 1024);
            seal(&mut b[end..], 64);
        },
        true,
    ),
    (
        Damage::FootersLost,
        "both",
        |b| {
            let end = b.len() - 512;
            b[end] = 0;
            b[0] = 0;
        },
        false,
    ),
    (
        Damage::UnknownKind,
        "type 9",
        |b| both_footers(b, |f| put32(f, 60, 9)),
        false,
    ),
    (
        Damage::UnknownKind,
        "version 7",
        |b| both_footers(b, |f| put32(f, 12, 7 << 16)),
        false,
    ),
    (
        Damage::GeometryWrong,
        "no heads",
        |b| both_footers(b, |f| f[56..60].fill(0)),
        true,
    ),
    (
        Damage::HeaderDamaged,
        "its checksum",
        |b| b[512 + 36] ^= 1,
        true,
    ),
    (Damage::HeaderDamaged, "its cookie", |b| b[512] ^= 1, false),
    (
        Damage::HeaderDamaged,
        "its block size",
        |b| b[512 + 33] ^= 0x60,
        false,
    ),
    (
        Damage::HeaderDamaged,
        "elsewhere",
        |b| both_footers(b, |f| put32(f, 20, 0x7fff_0000)),
        false,
    ),
    (
        Damage::TableTooSmall,
        "two entries",
        |b| header(b, |h| put32(h, 28, 1)),
        true,
    ),
    (
        Damage::TableMisplaced,
        "past the end",
        |b| header(b, |h| put32(h, 20, 0x7fff_0000)),
        false,
    ),
    (
        Damage::TableMisplaced,
        "over the header",
        |b| header(b, |h| put32(h, 20, 1024)),
        false,
    ),
    (
        Damage::BlockInMetadata,
        "block 0",
        |b| {
            let at = table(b);
            put32(b, at, 1);
        },
        false,
    ),
    (
        Damage::BlocksOverlap,
        "blocks 0 and 1",
        |b| {
            let at = table(b);
            let first = be32(b, at);
            put32(b, at + 4, first);
        },
        false,
    ),
    (
        Damage::BlockPastEnd,
        "block 1",
        |b| {
            let at = table(b);
            put32(b, at + 4, 0x00ff_0000);
        },
        false,
    ),
    (
        Damage::LeakedSpace,
        "a block's worth",
        |b| {
            let end = b.len() - 512;
            let footer = b[end..].to_vec();
            b.resize(end + BLOCK as usize + 4096, 0xaa);
            b.extend(footer);
        },
        true,
    ),
];

#[test]
fn every_injected_class_is_found_alone_and_mended_where_that_is_safe() {
    let mut images = vec![("ours", dynamic()), ("a child", child())];
    if have(&["qemu-img", "qemu-io"]) {
        images.push(("QEMU's", by_qemu()));
    }
    let (mut found, mut mended) = (BTreeSet::new(), BTreeSet::new());
    for (whose, whole) in images {
        let report = check_store(&MemoryStore::new(whole.clone())).unwrap();
        assert!(report.is_sound(), "{whose}: {:?}", report.findings);
        for (class, how, inject, repairable) in INJECTIONS {
            let context = format!("{whose}: {class:?}, {how}");
            let mut bytes = whole.clone();
            inject(&mut bytes);
            let store = MemoryStore::new(bytes.clone());
            let report = check_store(&store).unwrap();
            assert_eq!(
                classes(&report),
                BTreeSet::from([*class]),
                "{context}: {:?}",
                report.findings
            );
            found.insert(*class);
            assert!(store.contents() == bytes, "{context}: a check wrote");
            let done = repair_store(&store, RepairOptions::default()).unwrap();
            no_worse(&bytes, &store.contents(), &context);
            if *repairable {
                assert!(
                    done.after.is_sound(),
                    "{context}: {:?}",
                    done.after.findings
                );
                assert_eq!(done.repaired, [*class], "{context}");
                let now = sectors(&store.contents()).0;
                let then = sectors(&whole).0;
                // What the shorter table did not name is what nobody can know.
                let known = if *class == Damage::TableTooSmall {
                    BLOCK
                } else {
                    SIZE
                };
                assert!(
                    now[..known as usize] == then[..known as usize],
                    "{context}: payload changed"
                );
                let written = disk(&Arc::new(store), false).unwrap();
                written.write_at(BLOCK, &[5; 512]).unwrap();
                written.flush().unwrap();
                mended.insert(*class);
            } else {
                assert!(
                    store.contents() == bytes,
                    "{context}: a refused repair wrote"
                );
                assert!(done.repaired.is_empty());
                assert!(report.findings.iter().all(|f| !f.remedy.is_empty()));
            }
        }
    }
    assert!(
        found.len() >= 12 && mended.len() >= 8,
        "{found:?} {mended:?}"
    );
}

#[test]
fn no_power_cut_harms_a_repair() {
    let (mut states, whole) = (0, dynamic());
    for (class, how, inject, _) in INJECTIONS.iter().filter(|(.., repairable)| *repairable) {
        let mut bytes = whole.clone();
        inject(&mut bytes);
        let store = Recorder::new(Medium::new(&bytes));
        repair_store(&store, RepairOptions::default()).unwrap();
        let cuts = Cuts {
            initial: Medium::new(&bytes),
            events: &store.events(),
        };
        states += cuts.each(
            &mut Random::new(5),
            |_| false,
            |cut| {
                let context = format!("{class:?}, {how}: {cut}");
                let left = cut.medium.to_bytes();
                no_worse(&bytes, &left, &context);
                let store = MemoryStore::new(left);
                let done = repair_store(&store, RepairOptions::default()).unwrap();
                assert!(
                    done.after.is_sound(),
                    "{context}: {:?}",
                    done.after.findings
                );
                no_worse(&bytes, &store.contents(), &context);
            },
        );
    }
    assert!(states > 30, "only {states} states");
}

#[test]
fn lost_blocks_are_given_up_only_when_that_is_accepted() {
    let whole = dynamic();
    let mut bytes = whole.clone();
    let at = table(&bytes);
    put32(&mut bytes, at + 4, 0x00ff_0000);
    // The file's last 100 KB are missing too: the last block is cut, the footer gone.
    bytes.truncate(bytes.len() - 100_000);
    let store = MemoryStore::new(bytes.clone());
    let kept = repair_store(&store, RepairOptions::default()).unwrap();
    assert!(kept.repaired.is_empty() && store.contents() == bytes);
    let report = check_store(&store).unwrap();
    assert!(report.findings.iter().any(|f| f.repair == Repair::Loses));
    let options = RepairOptions { accept_loss: true };
    let done = repair_store(&store, options).unwrap();
    assert!(done.after.is_sound(), "{:?}", done.after.findings);
    no_worse(&bytes, &store.contents(), "accepted loss");
}

#[test]
fn bitmaps_and_tables_of_small_blocks_are_checked() {
    // Blocks of 1 KiB: two sectors, and a bitmap of two bits.
    let store = MemoryStore::default();
    let footer = vhd::create(&store, Kind::Dynamic, 64 << 10, None).unwrap();
    let header = vhd::DynamicHeader {
        table_offset: 1536,
        entries: 128,
        block_size: 1024,
    };
    store.write_at(512, &header.to_bytes()).unwrap();
    store.write_at(1536, &[0xff; 512]).unwrap();
    store.write_at(1536, &4u32.to_be_bytes()).unwrap();
    store.write_at(2048, &[0; 512]).unwrap();
    store.write_at(2048, &[0xc0]).unwrap();
    store.write_at(2560, &[1; 1024]).unwrap();
    store.write_at(3584, &footer.to_bytes()).unwrap();
    let whole = store.contents();
    let report = check_store(&store).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    let cases: [(Damage, u64, &[u8], bool); 5] = [
        (Damage::BitmapPadding, 2048, &[0xc1], true),
        (Damage::BitmapPadding, 2300, &[1], true),
        (Damage::StrayEntries, 1536 + 64 * 4, &[0, 0, 0, 4], true),
        (Damage::BitmapEmpty, 2048, &[0], false),
        (Damage::BitmapEmpty, 2048, &[0; 1536], true),
    ];
    for (class, at, bytes, repairable) in cases {
        let store = MemoryStore::new(whole.clone());
        store.write_at(at, bytes).unwrap();
        let report = check_store(&store).unwrap();
        assert_eq!(
            classes(&report),
            BTreeSet::from([class]),
            "{:?}",
            report.findings
        );
        let before = store.contents();
        let done = repair_store(&store, RepairOptions::default()).unwrap();
        no_worse(&before, &store.contents(), &format!("{class:?}"));
        let left = classes(&done.after);
        let freed = BTreeSet::from([Damage::LeakedSpace]);
        assert_eq!(
            left.is_empty() || left == freed,
            repairable,
            "{class:?}: {left:?}"
        );
    }
}

#[test]
fn fixed_disks_are_checked_too() {
    let store = MemoryStore::default();
    vhd::create(&store, Kind::Fixed, 1 << 20, None).unwrap();
    assert!(check_store(&store).unwrap().is_sound());
    let whole = store.contents();
    let mut cut = whole[4096..].to_vec();
    assert_eq!(
        classes(&check_store(&MemoryStore::new(cut.clone())).unwrap()),
        [Damage::FixedCut].into()
    );
    cut = whole.clone();
    let end = cut.len() - 512;
    cut[end + 58] = 77;
    seal(&mut cut[end..], 64);
    let store = MemoryStore::new(cut);
    assert_eq!(
        classes(&check_store(&store).unwrap()),
        [Damage::GeometryWrong].into()
    );
    let done = repair_store(&store, RepairOptions::default()).unwrap();
    assert!(done.after.is_sound());
    assert!(store.contents() == whole);
}

#[test]
fn a_childs_parent_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (base, path) = (dir.path().join("base.vhd"), dir.path().join("child.vhd"));
    let store = vdisk::store::FileStore::create_new(&base).unwrap();
    vhd::create(&store, Kind::Dynamic, SIZE, None).unwrap();
    drop(store);
    NewChild {
        path: &path,
        parent: &base,
        key: None,
    }
    .create()
    .unwrap();
    assert!(check(&path).unwrap().is_sound());

    // Locators are written anew when the parent is found by another.
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    header(&mut bytes, |h| put32(h, 576 + 24 + 20, 0x7fff_0000));
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(
        classes(&check(&path).unwrap()),
        [Damage::LocatorBroken].into()
    );
    let done = repair(&path, RepairOptions::default()).unwrap();
    assert!(done.after.is_sound(), "{:?}", done.after.findings);
    assert_eq!(done.repaired, [Damage::LocatorBroken]);
    let store: Arc<dyn Store> = Arc::new(vdisk::store::FileStore::open_unlocked(&path).unwrap());
    let link = vhd::open(store, true).unwrap().parent.unwrap();
    assert_eq!(link.locators.len(), 3);
    std::fs::write(&path, &whole).unwrap();

    let pristine = std::fs::read(&base).unwrap();
    let mut other = pristine.clone();
    both_footers(&mut other, |f| f[27] ^= 1);
    std::fs::write(&base, &other).unwrap();
    assert_eq!(
        classes(&check(&path).unwrap()),
        [Damage::ParentModified].into()
    );
    both_footers(&mut other, |f| f[68] ^= 1);
    std::fs::write(&base, &other).unwrap();
    assert_eq!(
        classes(&check(&path).unwrap()),
        [Damage::ParentMismatch].into()
    );
    std::fs::remove_file(&base).unwrap();
    let report = check(&path).unwrap();
    assert_eq!(classes(&report), [Damage::ParentMissing].into());
    assert!(
        report
            .findings
            .iter()
            .all(|f| matches!(f.repair, Repair::Refused(_)))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn repairing_anything_makes_nothing_worse(
        flips in prop::collection::vec((0usize..4096, 1u8..), 1..6),
        in_tail in any::<bool>(),
        sealed in any::<bool>(),
        cut in prop_oneof![3 => Just(0usize), 1 => 1usize..600_000],
        accept_loss: bool,
        of_child: bool,
    ) {
        static IMAGES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [dynamic(), child()]);
        let mut bytes = IMAGES[usize::from(of_child)].clone();
        let len = bytes.len();
        for (i, (at, xor)) in flips.iter().enumerate() {
            let at = if in_tail && i == 0 { len - 1 - at % 512 } else { at % 2100 };
            bytes[at] ^= xor;
        }
        if sealed {
            // Lies with good checksums get further.
            for (range, sum) in [(0..512, 64), (512..1536, 36), (len - 512..len, 64)] {
                seal(&mut bytes[range], sum);
            }
        }
        bytes.truncate(len - cut);
        let store = MemoryStore::new(bytes.clone());
        let report = check_store(&store).unwrap();
        prop_assert!(store.contents() == bytes, "a check wrote");
        if sectors(&bytes).1.is_empty() {
            prop_assert!(!report.is_sound(), "unreadable, but nothing is wrong");
        }
        repair_store(&store, RepairOptions { accept_loss }).unwrap();
        no_worse(&bytes, &store.contents(), "random damage");
        // Whatever is left, a writer is refused or gets along.
        if let Ok(disk) = disk(&Arc::new(store), false) {
            let _ = disk.write_at(0, &[7; 4096]);
            let _ = disk.write_zeroes(0, disk.size());
            let _ = disk.flush();
        }
    }
}

/// Other writers put their next block where the last one ends, whatever else lies there.
#[test]
fn a_mended_header_survives_the_next_block_of_another_writer() {
    if !have(&["qemu-io"]) {
        return;
    }
    for injected in [false, true] {
        let mut bytes = by_qemu();
        if injected {
            bytes[512 + 36] ^= 1;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.vhd");
        std::fs::write(&path, bytes).unwrap();
        let done = vdisk::vhd::check::repair(&path, RepairOptions::default()).unwrap();
        assert_eq!(!done.repaired.is_empty(), injected);
        let wrote = std::process::Command::new("qemu-io")
            .args(["-f", "vpc", "-c", "write -P 34 2M 1M"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(wrote.status.success(), "{wrote:?}");
        let report = vdisk::vhd::check::check(&path).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
    }
}

/// Bytes that only end like a VHD are somebody's data.
#[test]
fn a_footer_that_leads_nowhere_is_no_reason_to_write() {
    let whole = dynamic();
    for geometry in [false, true] {
        let mut bytes = vec![0x5a; 1 << 20];
        let end = bytes.len() - 512;
        bytes[end..].copy_from_slice(&whole[whole.len() - 512..]);
        if geometry {
            bytes[end + 58] = 77;
            seal(&mut bytes[end..], 64);
        }
        let store = MemoryStore::new(bytes.clone());
        let options = RepairOptions { accept_loss: true };
        let done = repair_store(&store, options).unwrap();
        assert!(store.contents() == bytes, "{:?}", done.repaired);
        let refused = |f: &vhd::check::Finding| matches!(f.repair, Repair::Refused(_));
        assert!(done.after.findings.iter().all(refused));
        assert_eq!(
            classes(&done.after).contains(&Damage::GeometryWrong),
            geometry
        );
    }
}

/// Where parts of an image lie over each other, what mends one would change another.
#[test]
fn no_repair_writes_where_a_block_lies_too() {
    let whole = dynamic();
    let at = table(&whole);
    type Harm = (&'static str, Damage, fn(&mut Vec<u8>, usize));
    let harms: [Harm; 3] = [
        ("a block over the copy", Damage::CopyDamaged, |b, table| {
            b[..512].fill(0);
            put32(b, table + 4, 0);
        }),
        (
            "a block over both footers",
            Damage::GeometryWrong,
            |b, table| {
                both_footers(b, |footer| footer[58] ^= 1);
                put32(b, table + 4, 0);
            },
        ),
        (
            "a block behind its end",
            Damage::GeometryWrong,
            |b, table| {
                both_footers(b, |footer| footer[58] ^= 1);
                let last = (b.len() / 512) as u32 - 3;
                put32(b, table + 4, last);
            },
        ),
    ];
    for (name, class, harm) in harms {
        let mut bytes = whole.clone();
        harm(&mut bytes, at);
        let report = check_store(&MemoryStore::new(bytes.clone())).unwrap();
        let found = report.findings.iter().find(|f| f.damage == class).unwrap();
        assert!(matches!(found.repair, Repair::Refused(_)), "{name}");
        let store = MemoryStore::new(bytes.clone());
        repair_store(&store, RepairOptions::default()).unwrap();
        no_worse(&bytes, &store.contents(), name);
        assert!(sectors(&bytes) == sectors(&store.contents()), "{name}");
    }
}

/// Each entry of a table a finding: they are capped, synced together, and mended all the same.
#[test]
fn many_findings_are_mended_with_few_syncs() {
    let store = MemoryStore::default();
    let footer = vhd::create(&store, Kind::Dynamic, 1 << 20, None).unwrap();
    let header = vhd::DynamicHeader {
        table_offset: 1536,
        entries: 100_000,
        block_size: 2 << 20,
    };
    store.write_at(512, &header.to_bytes()).unwrap();
    store
        .write_at(1536, &vec![0; header.table_len() as usize])
        .unwrap();
    store.write_at(1536, &[0xff; 4]).unwrap();
    store
        .write_at(1536 + header.table_len(), &footer.to_bytes())
        .unwrap();
    assert_eq!(check_store(&store).unwrap().findings.len(), 1 << 16);
    let store = Recorder::new(Medium::new(&store.contents()));
    let done = repair_store(&store, RepairOptions::default()).unwrap();
    assert!(done.after.is_sound());
    assert_eq!(done.repaired, [Damage::StrayEntries]);
    let syncs = store.events();
    let syncs = syncs.iter().filter(|e| **e == vdisk_proving::Event::Sync);
    assert_eq!(syncs.count(), 2);
}
