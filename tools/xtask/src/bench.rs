//! `cargo xtask bench`: rows with goals, peers measured in the same run. The measuring is done by the
//! programs in `benches/`; here they get what they need and are built as they would be shipped.

mod xpra;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::guest::{self, Kind};
use crate::progress::step;
use crate::setup::{self, Purpose};
use crate::{run, workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench disk                              ciphers, growth, overlays, beside AWS-LC and others
  cargo xtask bench peers --only disk --json r.json   FUSE, NBD and vhost-user-blk beside QEMU and nbdkit
  cargo xtask bench machine --json m.json             suspend, resume and boot, beside plain QEMU
  cargo xtask bench windows --json w.json             repaints, keys and launches, beside xpra
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
    /// Windows: how long a repaint, a key and a launch take to be seen, beside xpra in the same guest.
    Windows {
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
        let packages: &[&str] = match &args.what {
            What::Windows { .. } => &["-p", "medley-guest", "-p", "medley-presenter"],
            _ => &[],
        };
        let args = ["build", "--release", "--quiet"];
        let all = ["-p", "medley", "-p", "medley-benches"];
        run::quiet(workspace::cargo(args)?.args(all).args(packages))
    })?;
    let built = workspace::target()?.join("release");
    let (program, json) = match &args.what {
        What::Disk { json } => ("bench-disk", json.as_ref()),
        What::Peers { json, .. } => ("bench-peers", json.as_ref()),
        What::Machine { json } => ("bench-machine", json.as_ref()),
        What::Windows { json } => ("bench-windows", json.as_ref()),
        What::Plots { .. } => ("bench-disk", None),
    };
    let mut command = run::command(&built.join(program).to_string_lossy(), [""; 0]);
    if let What::Peers { only, .. } = &args.what {
        command
            .args(["--only", only])
            .arg("--medley")
            .arg(built.join("medley"));
    }
    if let What::Windows { .. } = &args.what {
        let guest = guest::ensure(Kind::Debian, None, false)?;
        command.arg("--programs").arg(&built);
        command.arg("--guest").arg(guest.vhd);
        match xpra::ensure() {
            Ok(xpra) => {
                command.arg("--xpra-tree").arg(xpra.tree);
                command.arg("--xpra-disk").arg(xpra.disk);
            }
            Err(error) if run::interrupted() => return Err(error),
            // Ours is worth measuring without it; its rows say why.
            Err(error) => {
                command.arg(format!("--no-xpra={error:#}"));
            }
        }
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
