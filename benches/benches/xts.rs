//! AES-256-XTS: our kernels beside other people's, in units of 512 and 4096 bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use medley_benches::ciphers;
use vdisk_xts::{DataUnit, Kernel, Xts, XtsKey};

fn xts(c: &mut Criterion) {
    let bytes: [u8; 64] = std::array::from_fn(|i| (i as u8).wrapping_mul(37));
    let key = XtsKey::new(bytes).expect("halves differ");
    for request in [4 << 10, 64 << 10] {
        for (unit, len) in [(DataUnit::B512, 512), (DataUnit::B4096, 4096)] {
            let mut group =
                c.benchmark_group(format!("xts/{len}-byte units/{} KiB", request >> 10));
            group.throughput(Throughput::Bytes(request as u64));
            let mut buf = vec![0; request];
            for kernel in Kernel::all_available() {
                let xts = Xts::with_kernel(&key, kernel).expect("available");
                group.bench_function(kernel.name(), |b| b.iter(|| xts.encrypt(unit, 7, &mut buf)));
            }
            for mut peer in ciphers::all(&bytes) {
                group.bench_function(peer.name(), |b| b.iter(|| peer.encrypt(len, 7, &mut buf)));
            }
        }
    }
}

criterion_group!(benches, xts);
criterion_main!(benches);
