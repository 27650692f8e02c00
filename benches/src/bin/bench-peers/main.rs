//! Ours beside others on the same work in one run: VHDs of ours, encrypted and plain, served over FUSE,
//! NBD and vhost-user-blk, and the same by QEMU's storage daemon, qemu-nbd and nbdkit.

mod disks;
mod fuse;
mod memory;
mod nbd;
mod vhost;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use medley_benches::rows::{Report, Row};
use medley_benches::server::find;

use disks::Disks;

/// Measures ours beside peers.
#[derive(Parser)]
struct Args {
    /// Which part to measure.
    #[arg(long, value_enum, default_value = "disk")]
    only: Part,
    /// Also write the rows to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The `medley` to measure.
    #[arg(long, default_value = "target/release/medley")]
    medley: PathBuf,
    /// Size of each disk in MiB.
    #[arg(long, default_value_t = 512)]
    size: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds; the best of each counts, since the machine may be shared.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Disk,
}

fn disk_rows(args: &Args) -> Result<Vec<Row>> {
    let tools = [
        "qemu-storage-daemon",
        "qemu-img",
        "fio",
        "nbdcopy",
        "fusermount3",
    ];
    let missing: Vec<_> = tools
        .into_iter()
        .filter(|tool| find(tool).is_none())
        .collect();
    if !missing.is_empty() {
        return Ok(vec![Row::skipped(
            "FUSE and NBD",
            "MB/s",
            format!("not installed: {}", missing.join(", ")),
        )]);
    }
    let disks = Disks::new(args)?;
    let mut rows = fuse::rows(&disks)?;
    rows.extend(nbd::rows(&disks)?);
    rows.extend(vhost::rows(&disks)?);
    rows.extend(memory::rows(&disks)?);
    Ok(rows)
}

fn main() -> Result<()> {
    let args = Args::parse();
    medley_benches::interrupt::catch()?;
    let rows = match args.only {
        Part::Disk => disk_rows(&args)?,
    };
    Report::new(rows).finish(args.json.as_deref())
}
