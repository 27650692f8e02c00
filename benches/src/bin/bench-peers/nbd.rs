//! Disks over NBD, copied out by nbdcopy.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use medley_benches::rows::{Goal, Row};
use medley_benches::server::{find, run, text};

use crate::disks::{Disk, Disks};

/// All figures over NBD.
pub fn rows(disks: &Disks) -> Result<Vec<Row>> {
    let mut all = vec![Disk::Ours, Disk::OursPlain, Disk::QemuLuks, Disk::QemuRaw];
    for (disk, program) in [
        (Disk::QemuNbdLuks, "qemu-nbd"),
        (Disk::NbdkitLuks, "nbdkit"),
    ] {
        if find(program).is_some() {
            all.push(disk);
        }
    }
    let (mut rate, mut cpu) = (vec![0.0f64; all.len()], vec![f64::MAX; all.len()]);
    // One server at a time: some lock the file that another serves.
    for (i, disk) in all.iter().enumerate() {
        let (server, socket) = disks.nbd(*disk)?;
        let uri = format!("nbd+unix:///?socket={}", text(&socket));
        for _ in 0..disks.args.rounds {
            let (start, before) = (Instant::now(), server.cpu()?);
            run(Command::new("nbdcopy").args([&uri, "null:"]))?;
            let took = start.elapsed().max(Duration::from_millis(1));
            rate[i] = rate[i].max((disks.args.size << 20) as f64 / took.as_secs_f64() / 1e6);
            cpu[i] = cpu[i].min((server.cpu()? - before).as_secs_f64() * 1e3);
        }
    }
    let mut rows = Vec::new();
    for (i, disk) in all.iter().enumerate().skip(1) {
        let row = Row::new("NBD copy out", rate[0], "MB/s").against(disk.name(), rate[i]);
        rows.push(match disk {
            Disk::QemuLuks => row.goal(Goal::RatioAtLeast(3.0)),
            _ => row,
        });
        let row = Row::new("NBD copy out, server CPU", cpu[0], "ms").against(disk.name(), cpu[i]);
        rows.push(match disk {
            Disk::NbdkitLuks => row.goal(Goal::RatioAtMost(0.5)),
            Disk::QemuNbdLuks => row.goal(Goal::RatioAtMost(0.25)),
            _ => row,
        });
    }
    for (disk, program) in [
        (Disk::QemuNbdLuks, "qemu-nbd"),
        (Disk::NbdkitLuks, "nbdkit"),
    ] {
        if !all.contains(&disk) {
            let why = format!("{program} is not installed");
            rows.push(Row::skipped("NBD copy out, server CPU", "ms", why));
        }
    }
    Ok(rows)
}
