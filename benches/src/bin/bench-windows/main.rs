//! A guest's windows on the host: what agent and presenter cost by themselves, and with a guest beside xpra.

mod keys;
mod launch;
mod machine;
mod native;
mod painter;
mod relay;
mod session;
mod stack;
mod xpra;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use medley_benches::rows::{Report, Row};
use medley_benches::server::find;

use native::Counts;
use stack::Programs;
use xpra::Installed;

/// Measures windows.
#[derive(Parser)]
struct Args {
    /// Which part to measure; everything if not given.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Also write the rows to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where `medley`, `medley-guest` and `medley-presenter` are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// The guest whose apps are shown; else `MEDLEY_GUEST_DEBIAN` says which.
    #[arg(long)]
    guest: Option<PathBuf>,
    /// The peer: a file tree in which xpra is installed.
    #[arg(long, requires = "xpra_disk")]
    xpra_tree: Option<PathBuf>,
    /// The same as a disk for the guest.
    #[arg(long, requires = "xpra_tree")]
    xpra_disk: Option<PathBuf>,
    /// Why there is no peer, for its rows.
    #[arg(
        long,
        default_value = "give --xpra-tree and --xpra-disk",
        conflicts_with = "xpra_tree"
    )]
    no_xpra: String,
    /// Small repaints.
    #[arg(long, default_value_t = 2000)]
    repaints: usize,
    /// Repaints of a whole window.
    #[arg(long, default_value_t = 600)]
    full_repaints: usize,
    /// Keys that are typed into a guest's terminal.
    #[arg(long, default_value_t = 200)]
    keys: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// Agent and presenter without a machine.
    Native,
    /// A guest's apps.
    Guest,
}

/// The programs that are not there.
fn missing(wanted: &[&str]) -> Option<String> {
    let missing: Vec<_> = wanted
        .iter()
        .copied()
        .filter(|name| find(name).is_none())
        .collect();
    (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
}

fn guest_rows(args: &Args) -> Result<Vec<Row>> {
    let skipped = |why: String| {
        Ok(vec![Row::skipped(
            "key to pixel, emulated guest",
            "ms",
            why,
        )])
    };
    let guest = args.guest.clone();
    let guest = guest.or_else(|| Some(std::env::var_os("MEDLEY_GUEST_DEBIAN")?.into()));
    let Some(guest) = guest else {
        return skipped("no guest: give --guest or set MEDLEY_GUEST_DEBIAN".into());
    };
    if let Some(missing) = missing(&["Xvfb", "openbox", "qemu-system-x86_64", "qemu-img"]) {
        return skipped(missing);
    }
    let installed = match (&args.xpra_tree, &args.xpra_disk) {
        (Some(tree), Some(disk)) => Ok(Installed {
            tree: tree.clone(),
            disk: std::path::absolute(disk)?,
        }),
        _ => Err(args.no_xpra.as_str()),
    };
    let medley = std::path::absolute(args.programs.join("medley"))?;
    machine::rows(
        &medley,
        &guest,
        installed.as_ref().map_err(|why| *why),
        args.keys,
    )
}

fn native_rows(args: &Args) -> Result<Vec<Row>> {
    if let Some(missing) = missing(&["Xvfb", "openbox", "xterm"]) {
        return Ok(vec![Row::skipped(
            "small repaint without a VM",
            "ms",
            missing,
        )]);
    }
    let programs = Programs {
        agent: args.programs.join("medley-guest"),
        presenter: args.programs.join("medley-presenter"),
    };
    let counts = Counts {
        small: args.repaints,
        full: args.full_repaints,
    };
    native::rows(&programs, counts)
}

fn main() -> Result<()> {
    let args = Args::parse();
    medley_benches::interrupt::catch()?;
    let mut rows = Vec::new();
    if args.only != Some(Part::Guest) {
        rows.extend(native_rows(&args)?);
    }
    if args.only != Some(Part::Native) {
        rows.extend(guest_rows(&args)?);
    }
    Report::new(rows).finish(args.json.as_deref())
}
