//! The stack without a frontend: moving bytes through layers and keys, finding them, making room for
//! them.

use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use medley_benches::stacks::{SIZE, above, dynamic, fill, folder, overlay, places, raw, stack};
use vdisk::BlockDevice;
use vdisk::layer::Layer;

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
    for overlays in [0, 1, 2, 4, 8, 16] {
        let disk = above(dir.path(), overlays);
        let (mut place, mut buf) = (places(4096), vec![0; 4096]);
        group.bench_function(BenchmarkId::from_parameter(overlays), |b| {
            b.iter(|| disk.read_at(place(), &mut buf).expect("a read"));
        });
    }
}

criterion_group!(benches, moving, mapping, allocating, depth);
criterion_main!(benches);
