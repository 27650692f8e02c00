//! Disks as a virtual machine sees them: vhost-user-blk, driven from the host by a client of our own.

use std::time::Duration;

use anyhow::{Context, Result};
use medley_benches::rows::{Goal, Row};
use vdisk_vhost_client::{Load, Pattern, bench};

use crate::disks::{Disk, Disks};

/// All figures over vhost-user-blk.
pub fn rows(disks: &Disks) -> Result<Vec<Row>> {
    let all = [Disk::Ours, Disk::QemuLuks, Disk::QemuRaw];
    let time = Duration::from_secs(disks.args.seconds);
    let (small, large) = (Load::small(time), Load::large(time));
    let work = [
        (Pattern::SequentialWrite, large, "sequential writes, 1 MiB"),
        (Pattern::SequentialRead, large, "sequential reads, 1 MiB"),
        (Pattern::RandomRead, small, "random reads, 4 KiB"),
        (Pattern::RandomWrite, small, "random writes, 4 KiB"),
    ];
    let mut best = [[0.0f64; 3]; 4];
    for (d, disk) in all.into_iter().enumerate() {
        // A server of each at a time: they poll, and would take the other's processor.
        let (_server, socket) = disks.vhost_user(disk)?;
        for (best, (pattern, load, what)) in best.iter_mut().zip(&work) {
            for _ in 0..disks.args.rounds {
                let figures = bench(&socket, *pattern, load)
                    .with_context(|| format!("{what} from {}", disk.name()))?;
                let value = match load.block {
                    4096 => figures.iops,
                    _ => figures.mb_per_s,
                };
                best[d] = best[d].max(value);
            }
        }
    }
    let mut rows = Vec::new();
    for (best, (_, load, what)) in best.iter().zip(&work) {
        let unit = if load.block == 4096 { "ops/s" } else { "MB/s" };
        for (d, disk) in all.into_iter().enumerate().skip(1) {
            let row = Row::new(format!("vhost-user-blk {what}"), best[0], unit)
                .against(disk.name(), best[d]);
            rows.push(match disk {
                Disk::QemuLuks => row.goal(Goal::RatioAtLeast(1.0)),
                _ => row,
            });
        }
    }
    Ok(rows)
}
