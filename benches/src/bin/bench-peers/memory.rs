//! What serving a large disk takes of the host's memory.

use std::process::Command;

use anyhow::{Context, Result};
use medley_benches::rows::{Goal, Row};
use medley_benches::server::{Server, run, text};

use crate::disks::Disks;

/// A session on a disk of 127 GiB, written at random places of its first 32 GiB and read all over.
pub fn rows(disks: &Disks) -> Result<Vec<Row>> {
    disks.create("large.vhd", "127G", true)?;
    let mountpoint = disks.path("large.mnt");
    std::fs::create_dir(&mountpoint)?;
    let mut command = disks.medley("mount", "large.vhd");
    command
        .args(["--revertible", "--foreground"])
        .arg(&mountpoint);
    let file = mountpoint.join("disk.raw");
    let shown = file.clone();
    let server = Server::start("medley", command, move || shown.exists())?;
    // The key derivation takes what the header asks for, and gives it back.
    server.forget_peak()?;
    for (pattern, size) in [("randwrite", "32G"), ("randread", "127G")] {
        run(Command::new("fio")
            .args(["--name=job", "--direct=1", "--ioengine=psync", "--thread"])
            .args(["--bs=4k", "--time_based", "--runtime=3", "--numjobs=2"])
            .arg(format!("--filename={}", text(&file)))
            .arg(format!("--rw={pattern}"))
            .arg(format!("--size={size}")))?;
    }
    let peak = server.peak_memory().context("how much memory it took")?;
    drop(server);
    let name = "serving 127 GiB with an overlay, most memory: 4 KiB writes all over 32 GiB, reads all over";
    Ok(vec![
        Row::new(name, peak as f64 / f64::from(1 << 20), "MiB").goal(Goal::AtMost(64.0)),
    ])
}
