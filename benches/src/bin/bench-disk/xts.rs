//! The cipher alone, beside other people's.

use std::time::Duration;

use anyhow::Result;
use medley_benches::ciphers;
use medley_benches::clock::best_gb_per_s;
use medley_benches::rows::{Goal, Row};
use vdisk_xts::{DataUnit, Kernel, Xts, XtsKey};

const REQUEST: usize = 64 << 10;
const TIME: Duration = Duration::from_millis(400);

/// Every kernel beside every peer.
pub fn rows() -> Result<Vec<Row>> {
    let bytes: [u8; 64] = std::array::from_fn(|i| (i as u8).wrapping_mul(37));
    let key = XtsKey::new(bytes)?;
    let mut buf = vec![0; REQUEST];
    let mut rows = Vec::new();
    for (unit, len) in [(DataUnit::B512, 512), (DataUnit::B4096, 4096)] {
        let mut peers = Vec::new();
        for mut peer in ciphers::all(&bytes) {
            let rate = best_gb_per_s(REQUEST, TIME, |n| peer.encrypt(len, n, &mut buf));
            peers.push((peer.name(), rate));
        }
        for kernel in Kernel::all_available() {
            let xts = Xts::with_kernel(&key, kernel)?;
            let rate = best_gb_per_s(REQUEST, TIME, |n| xts.encrypt(unit, n, &mut buf));
            if (kernel, unit) == (Kernel::Vaes512, DataUnit::B512) {
                let name = "XTS vaes512, 512 B units, 64 KiB requests, by itself";
                rows.push(Row::new(name, rate, "GB/s").goal(Goal::AtLeast(10.0)));
            }
            for (peer, theirs) in &peers {
                let name = format!(
                    "XTS {}, {len} B units, 64 KiB requests, one thread",
                    kernel.name()
                );
                let row = Row::new(name, rate, "GB/s").against(peer.clone(), *theirs);
                let aws = peer == "AWS-LC";
                rows.push(match (kernel, unit) {
                    (Kernel::Vaes512, DataUnit::B512) if aws => row.goal(Goal::RatioAtLeast(1.3)),
                    (Kernel::Vaes512, DataUnit::B4096) if aws => row.goal(Goal::RatioAtLeast(1.0)),
                    (Kernel::AesNi, DataUnit::B512) if aws => row.goal(Goal::AtLeast(4.5)),
                    _ => row,
                });
            }
        }
    }
    if !Kernel::Vaes512.available() {
        rows.push(Row::skipped(
            "XTS vaes512",
            "GB/s",
            "this processor has no AVX-512 with VAES",
        ));
    }
    Ok(rows)
}
