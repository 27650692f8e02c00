//! Every device and stack lives through the same random lives.
#![allow(clippy::unwrap_used)]

mod conformance;

use std::sync::Arc;

use conformance::{check, ops};
use proptest::prelude::*;
use vdisk::flat::Flat;
use vdisk::layer::Layer;
use vdisk::memory::MemoryDisk;
use vdisk::overlay::Overlay;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{FileStore, MemoryStore, Store};
use vdisk::vhd::{self, Kind};
use vdisk::xts::{Xts, XtsKey};
use vdisk::{BlockDevice, Disk, SECTOR};

/// Two whole VHD blocks and a piece of a third, which ends within a cluster.
const SIZE: u64 = (4 << 20) + (96 << 10) + 7 * SECTOR;

fn key(seed: u8) -> Xts {
    let bytes = std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ seed);
    Xts::new(&XtsKey::new(bytes).unwrap())
}

fn cipher(encrypted: bool, seed: u8) -> Option<Xts> {
    encrypted.then(|| key(seed))
}

fn stack(layers: Vec<StackedLayer>) -> Disk {
    Disk::new(Stack::new(layers, false, "test").unwrap())
}

fn vhd_layer(store: &Arc<MemoryStore>, read_only: bool) -> Box<dyn Layer> {
    let opened = vhd::open(store.clone(), read_only).unwrap();
    assert!(opened.troubles.is_empty(), "{:?}", opened.troubles);
    opened.into_layer()
}

fn new_vhd(kind: Kind) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    vhd::create(&*store, kind, SIZE, None).unwrap();
    store
}

/// A base with some data in it, as a store and as the bytes a reader should see.
fn filled_base(encrypted: bool) -> (Arc<MemoryStore>, Vec<u8>) {
    let store = new_vhd(Kind::Dynamic);
    let mut bytes = vec![0; SIZE as usize];
    let disk = stack(vec![StackedLayer::new(
        vhd_layer(&store, false),
        cipher(encrypted, 1),
    )]);
    for (at, len) in [
        (0, 700),
        (100_000, 70_000),
        ((2 << 20) - 5, 10),
        (SIZE - 3 * SECTOR, 3 * SECTOR),
    ] {
        let data: Vec<u8> = (at..at + len).map(|i| (i % 251) as u8 | 1).collect();
        disk.write_at(at, &data).unwrap();
        bytes[at as usize..][..len as usize].copy_from_slice(&data);
    }
    disk.flush().unwrap();
    (store, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn memory(ops in ops(SIZE, 40)) {
        check(vec![0; SIZE as usize], &ops, |old| {
            old.unwrap_or_else(|| Disk::new(MemoryDisk::new(SIZE / SECTOR)))
        });
    }

    #[test]
    fn raw_file(ops in ops(SIZE, 40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        FileStore::create_new(&path).unwrap().set_len(SIZE).unwrap();
        check(vec![0; SIZE as usize], &ops, |old| {
            drop(old);
            let store = FileStore::open(&path, vdisk::store::Sharing::Exclusive).unwrap();
            stack(vec![StackedLayer::plain(Flat::new(Arc::new(store), SIZE / SECTOR))])
        });
    }

    #[test]
    fn vhd_fixed(ops in ops(SIZE, 40)) {
        let store = new_vhd(Kind::Fixed);
        check(vec![0; SIZE as usize], &ops, |old| {
            drop(old);
            stack(vec![StackedLayer::new(vhd_layer(&store, false), None)])
        });
    }

    #[test]
    fn vhd_dynamic(ops in ops(SIZE, 60), encrypted: bool) {
        let store = new_vhd(Kind::Dynamic);
        check(vec![0; SIZE as usize], &ops, |old| {
            drop(old);
            stack(vec![StackedLayer::new(vhd_layer(&store, false), cipher(encrypted, 1))])
        });
    }

    #[test]
    fn vhd_dynamic_in_a_file(ops in ops(SIZE, 60)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.vhd");
        vhd::create(&FileStore::create_new(&path).unwrap(), Kind::Dynamic, SIZE, None).unwrap();
        check(vec![0; SIZE as usize], &ops, |old| {
            drop(old);
            let store = FileStore::open(&path, vdisk::store::Sharing::Exclusive).unwrap();
            let layer = vhd::open(Arc::new(store), false).unwrap().into_layer();
            stack(vec![StackedLayer::new(layer, cipher(true, 1))])
        });
    }

    #[test]
    fn overlay_over_vhd(ops in ops(SIZE, 60), encrypted: bool) {
        let (base, bytes) = filled_base(encrypted);
        let before = base.contents();
        check(bytes, &ops, |old| old.unwrap_or_else(|| {
            let overlay = Overlay::ephemeral(MemoryStore::default(), SIZE / SECTOR).unwrap();
            stack(vec![
                StackedLayer::new(Box::new(overlay), cipher(encrypted, 2)),
                StackedLayer::new(vhd_layer(&base, true), cipher(encrypted, 1)),
            ])
        }));
        prop_assert!(base.contents() == before, "a session wrote to its base");
    }

    #[test]
    fn overlay_over_overlay_over_vhd(ops in ops(SIZE, 60)) {
        let (base, bytes) = filled_base(true);
        check(bytes, &ops, |old| old.unwrap_or_else(|| {
            let overlay = |seed| {
                let layer = Overlay::ephemeral(MemoryStore::default(), SIZE / SECTOR).unwrap();
                StackedLayer::encrypted(layer, key(seed))
            };
            stack(vec![overlay(3), overlay(2), StackedLayer::new(vhd_layer(&base, true), cipher(true, 1))])
        }));
    }
}

#[test]
fn sectors_never_written_read_as_zeros_under_a_key() {
    let store = new_vhd(Kind::Dynamic);
    let disk = stack(vec![StackedLayer::new(
        vhd_layer(&store, false),
        cipher(true, 1),
    )]);
    disk.write_at(10 * SECTOR, &[7; SECTOR as usize]).unwrap();
    let mut all = vec![1; SIZE as usize];
    disk.read_at(0, &mut all).unwrap();
    assert_eq!(all.iter().filter(|b| **b == 7).count() as u64, SECTOR);
    assert_eq!(
        all.iter().filter(|b| **b == 0).count() as u64,
        SIZE - SECTOR
    );
}

#[test]
fn ciphertext_alone_reaches_the_store() {
    let store = new_vhd(Kind::Dynamic);
    let disk = stack(vec![StackedLayer::new(
        vhd_layer(&store, false),
        cipher(true, 1),
    )]);
    let secret = b"a secret that must not be found!".repeat(4096);
    disk.write_at(0, &secret).unwrap();
    disk.flush().unwrap();
    let found = store.contents().windows(16).any(|w| w == &secret[..16]);
    assert!(!found, "plaintext in the image");
    let mut back = vec![0; secret.len()];
    disk.read_at(0, &mut back).unwrap();
    assert!(back == secret);
}

/// Counts what a device does to its store.
struct Counting {
    inner: MemoryStore,
    syncs: std::sync::atomic::AtomicU64,
}

impl Store for Counting {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> vdisk::Result<()> {
        self.inner.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> vdisk::Result<()> {
        self.inner.write_at(offset, buf)
    }
    fn len(&self) -> vdisk::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> vdisk::Result<()> {
        self.inner.set_len(len)
    }
    fn punch(&self, offset: u64, len: u64) -> vdisk::Result<()> {
        self.inner.punch(offset, len)
    }
    fn sync(&self) -> vdisk::Result<()> {
        self.syncs
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_flush_costs_one_sync_or_two() {
    let store = Arc::new(Counting {
        inner: MemoryStore::default(),
        syncs: Default::default(),
    });
    let size = 256 << 21;
    vhd::create(&*store, Kind::Dynamic, size, None).unwrap();
    let layer = vhd::open(store.clone(), false).unwrap().into_layer();
    let stack = Stack::new(vec![StackedLayer::new(layer, Some(key(1)))], false, "test").unwrap();
    let syncs = || store.syncs.swap(0, std::sync::atomic::Ordering::Relaxed);
    syncs();
    for block in 0..200 {
        stack.write_at(block << 21, &[1; 4096]).unwrap();
    }
    assert_eq!(
        syncs(),
        2,
        "both footers, before the session's first change"
    );
    stack.flush().unwrap();
    assert_eq!(syncs(), 2, "200 new blocks");
    stack.write_at(0, &[2; 4096]).unwrap();
    stack.flush().unwrap();
    assert_eq!(syncs(), 1, "nothing new");
    stack.write_at(8192, &[2; 4096]).unwrap();
    stack.flush().unwrap();
    assert_eq!(syncs(), 2, "new sectors in an old block");
}

#[test]
fn many_threads_never_mix_up_sectors() {
    let (base, _) = filled_base(true);
    let file = || FileStore::unnamed(&std::env::temp_dir()).unwrap();
    let over = Stack::new(
        vec![
            StackedLayer::encrypted(Overlay::ephemeral(file(), SIZE / SECTOR).unwrap(), key(2)),
            StackedLayer::new(vhd_layer(&base, true), cipher(true, 1)),
        ],
        false,
        "overlay",
    )
    .unwrap();
    let dynamic = {
        let store = new_vhd(Kind::Dynamic);
        Stack::new(
            vec![StackedLayer::new(vhd_layer(&store, false), cipher(true, 1))],
            false,
            "vhd",
        )
        .unwrap()
    };
    for disk in [Disk::new(over), Disk::new(dynamic)] {
        // Each thread owns every eighth sector, so neighbours in clusters and blocks always race.
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let disk = disk.clone();
                scope.spawn(move || {
                    let sectors = SIZE / SECTOR / 8;
                    let mut state = thread + 1;
                    let mut stamps = vec![None; sectors as usize];
                    for round in 0..4000u64 {
                        state = state
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        let slot = (state >> 33) % sectors;
                        let at = (slot * 8 + thread) * SECTOR;
                        match (state >> 20) % 8 {
                            0 => {
                                disk.write_zeroes(at, SECTOR).unwrap();
                                stamps[slot as usize] = Some(0);
                            }
                            1..5 => {
                                let stamp = (thread << 32 | round) + 1;
                                let sector: Vec<u8> = stamp.to_le_bytes().repeat(64);
                                disk.write_at(at, &sector).unwrap();
                                stamps[slot as usize] = Some(stamp);
                            }
                            5 if round % 64 == 0 => disk.flush().unwrap(),
                            _ => {
                                let mut sector = [0; SECTOR as usize];
                                disk.read_at(at, &mut sector).unwrap();
                                if let Some(stamp) = stamps[slot as usize] {
                                    assert!(
                                        sector.chunks(8).all(|c| c == u64::to_le_bytes(stamp)),
                                        "sector {at}"
                                    );
                                }
                            }
                        }
                    }
                });
            }
        });
    }
}

/// A flush that returns has written the bits of every sector that was acknowledged before it, even when
/// another thread was the one that noted the block.
#[test]
fn many_threads_flush_and_find_their_bits_on_the_medium() {
    const BLOCKS: u64 = 8;
    let block = u64::from(vhd::BLOCK_SIZE);
    let store = Arc::new(MemoryStore::default());
    vhd::create(&*store, Kind::Dynamic, BLOCKS * block, None).unwrap();
    let disk = stack(vec![StackedLayer::new(vhd_layer(&store, false), None)]);
    for at in 0..BLOCKS {
        disk.write_at(at * block, &[1; SECTOR as usize]).unwrap();
    }
    disk.flush().unwrap();
    let slots: Vec<u64> = (0..BLOCKS)
        .map(|at| {
            let mut entry = [0; 4];
            store.read_at(1536 + at * 4, &mut entry).unwrap();
            u64::from(u32::from_be_bytes(entry)) * SECTOR
        })
        .collect();
    let (next, lost) = (
        std::sync::atomic::AtomicU64::new(0),
        std::sync::atomic::AtomicU64::new(0),
    );
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, relaxed);
                    let (at, sector) = (n / 4095, n % 4095 + 1);
                    if at >= BLOCKS {
                        break;
                    }
                    disk.write_at(at * block + sector * SECTOR, &[7; SECTOR as usize])
                        .unwrap();
                    disk.flush().unwrap();
                    let mut byte = [0];
                    store
                        .read_at(slots[at as usize] + sector / 8, &mut byte)
                        .unwrap();
                    lost.fetch_add(u64::from(byte[0] & (0x80 >> (sector % 8)) == 0), relaxed);
                }
            });
        }
    });
    assert_eq!(
        lost.into_inner(),
        0,
        "flushed sectors without their bit on the medium"
    );
}
