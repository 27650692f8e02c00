//! `cargo xtask bench`: rows with goals, peers measured in the same run. The measuring is done by the
//! programs in `benches/`; here they get what they need and are built as they would be shipped.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::progress::step;
use crate::setup::{self, Purpose};
use crate::{run, workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench disk                              ciphers, growth, overlays, beside AWS-LC and others
  cargo xtask bench peers --only disk --json r.json   FUSE, NBD and vhost-user-blk beside QEMU and nbdkit
  cargo xtask bench machine --json m.json             suspend, resume and boot, beside plain QEMU
  cargo xtask bench plots docs/plots                  throughput by request size, threads and overlays";

/// Measures, beside peers, and says which goals hold.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The disk crate by itself.
    Disk {
        /// Also write the rows to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Whole paths beside other people's programs.
    Peers {
        /// Which part.
        #[arg(long, value_name = "PART", default_value = "disk")]
        only: String,
        /// Also write the rows to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Machines: how fast they fall asleep and wake, beside plain QEMU.
    Machine {
        /// Also write the rows to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Pictures of the disk crate's throughput.
    Plots {
        /// Where the SVG files go.
        dir: PathBuf,
    },
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Bench)?;
    step("build the benches as they would be shipped", || {
        let args = [
            "build",
            "--release",
            "--quiet",
            "-p",
            "medley",
            "-p",
            "medley-benches",
        ];
        run::quiet(&mut workspace::cargo(args)?)
    })?;
    let built = workspace::target()?.join("release");
    let (program, json) = match &args.what {
        What::Disk { json } => ("bench-disk", json.as_ref()),
        What::Peers { json, .. } => ("bench-peers", json.as_ref()),
        What::Machine { json } => ("bench-machine", json.as_ref()),
        What::Plots { .. } => ("bench-disk", None),
    };
    let mut command = run::command(&built.join(program).to_string_lossy(), [""; 0]);
    if let What::Peers { only, .. } = &args.what {
        command
            .args(["--only", only])
            .arg("--medley")
            .arg(built.join("medley"));
    }
    if let What::Plots { dir } = &args.what {
        command.arg("--plots").arg(dir);
    }
    if let Some(json) = json {
        command.arg("--json").arg(json);
    }
    let status = run::attached(&mut command)?;
    if !status.success() {
        bail!("{program} failed: {status}");
    }
    Ok(())
}
