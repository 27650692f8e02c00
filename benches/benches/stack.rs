//! The stack without a frontend: moving bytes through layers and keys, finding them, making room for
//! them. Images lie in memory where the machine has a file system there.

use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vdisk::flat::Flat;
use vdisk::image::random_key;
use vdisk::layer::Layer;
use vdisk::overlay::Overlay;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{FileStore, Store};
use vdisk::vhd::{self, Kind};
use vdisk::{BlockDevice, SECTOR};
use vdisk_xts::Xts;

const SIZE: u64 = 256 << 20;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a folder")
}

fn file(dir: &Path) -> Arc<dyn Store> {
    let store = FileStore::unnamed(dir).expect("a file");
    store.set_len(SIZE).expect("room");
    Arc::new(store)
}

fn raw(dir: &Path) -> Box<dyn Layer> {
    Box::new(Flat::new(file(dir), SIZE / SECTOR))
}

fn dynamic(dir: &Path) -> Box<dyn Layer> {
    let store: Arc<dyn Store> = Arc::new(FileStore::unnamed(dir).expect("a file"));
    vhd::create(&*store, Kind::Dynamic, SIZE, None).expect("an image");
    vhd::open(store, false).expect("the image").into_layer()
}

fn overlay(dir: &Path) -> Box<dyn Layer> {
    let store = FileStore::unnamed(dir).expect("a file");
    Box::new(Overlay::ephemeral(store, SIZE / SECTOR))
}

fn stack(layers: Vec<Box<dyn Layer>>, encrypted: bool) -> Stack {
    let key = || encrypted.then(|| Xts::new(&random_key().expect("a key")));
    let layers = layers
        .into_iter()
        .map(|layer| StackedLayer::new(layer, key()))
        .collect();
    Stack::new(layers, false, "bench").expect("a stack")
}

fn fill(disk: &Stack) {
    let buf = vec![0x5a; 1 << 20];
    for at in (0..SIZE).step_by(buf.len()) {
        disk.write_at(at, &buf).expect("a write");
    }
}

/// Places all over the disk for requests of `len` bytes.
fn places(len: u64) -> impl FnMut() -> u64 {
    let mut state = 1u64;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 20) % (SIZE / len) * len
    }
}

fn moving(c: &mut Criterion) {
    let dir = folder();
    for (name, encrypted) in [("plain", false), ("encrypted", true)] {
        let disks = [
            ("raw", stack(vec![raw(dir.path())], encrypted)),
            ("vhd", stack(vec![dynamic(dir.path())], encrypted)),
            (
                "overlay",
                stack(vec![overlay(dir.path()), dynamic(dir.path())], encrypted),
            ),
        ];
        for (layers, disk) in &disks {
            fill(disk);
            for len in [4 << 10, 64 << 10, 1 << 20] {
                let mut group = c.benchmark_group(format!("{layers} {name}/{} KiB", len >> 10));
                group.throughput(Throughput::Bytes(len));
                let mut buf = vec![0x33; len as usize];
                let mut place = places(len);
                group.bench_function("write", |b| {
                    b.iter(|| disk.write_at(place(), &buf).expect("a write"));
                });
                group.bench_function("read", |b| {
                    b.iter(|| disk.read_at(place(), &mut buf).expect("a read"));
                });
            }
        }
    }
}

fn mapping(c: &mut Criterion) {
    let dir = folder();
    let mut group = c.benchmark_group("map 4 KiB");
    let (vhd, cow) = (dynamic(dir.path()), overlay(dir.path()));
    for (name, layer) in [("vhd", vhd), ("overlay", cow)] {
        let disk = stack(vec![layer], false);
        fill(&disk);
        let mut place = places(4096);
        // Finding is all that an extent costs where nothing is sparse.
        group.bench_function(name, |b| {
            b.iter(|| disk.extents(place(), 4096, &mut |_| ()).expect("an extent"));
        });
    }
}

fn allocating(c: &mut Criterion) {
    let dir = folder();
    let mut group = c.benchmark_group("first touch, 64 x 4 KiB and a flush");
    for (name, make) in [
        ("vhd", dynamic as fn(&Path) -> Box<dyn Layer>),
        ("overlay", overlay),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || stack(vec![make(dir.path())], true),
                |disk| {
                    for n in 0..64 {
                        disk.write_at(n * SIZE / 64, &[7; 4096]).expect("a write");
                    }
                    disk.flush().expect("a flush");
                    disk
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
}

fn depth(c: &mut Criterion) {
    let dir = folder();
    let mut group = c.benchmark_group("4 KiB reads through overlays to the base");
    let base: Arc<dyn Store> = Arc::new(FileStore::unnamed(dir.path()).expect("a file"));
    vhd::create(&*base, Kind::Dynamic, SIZE, None).expect("an image");
    let open = |read_only| {
        vhd::open(base.clone(), read_only)
            .expect("the image")
            .into_layer()
    };
    fill(&stack(vec![open(false)], false));
    for overlays in [0, 1, 2, 4, 8, 16] {
        let mut layers: Vec<_> = (0..overlays).map(|_| overlay(dir.path())).collect();
        layers.push(open(true));
        let disk = stack(layers, true);
        let (mut place, mut buf) = (places(4096), vec![0; 4096]);
        group.bench_function(BenchmarkId::from_parameter(overlays), |b| {
            b.iter(|| disk.read_at(place(), &mut buf).expect("a read"));
        });
    }
}

criterion_group!(benches, moving, mapping, allocating, depth);
criterion_main!(benches);
