//! What a session does with a machine: figures with goals, peers in the same run.

mod boots;
mod naps;
mod sealing;
mod workspace;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use medley_benches::rows::{Report, Row};
use medley_benches::server::find;

use workspace::Workspace;

/// Measures machines.
#[derive(Parser)]
struct Args {
    /// Which part to measure; everything if not given.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Also write the rows to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The `medley` to measure.
    #[arg(long, default_value = "target/release/medley")]
    medley: PathBuf,
    /// The guest that boots, sleeps and wakes; else `MEDLEY_GUEST_TINY` says which.
    #[arg(long)]
    guest: Option<PathBuf>,
    /// Rounds with guests; the best of each counts, since the machine may be shared.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// The stage that seals a machine's state, alone.
    Sealing,
    /// Guests that sleep and wake.
    Naps,
    /// Guests that boot.
    Boots,
}

fn guest_rows(args: &Args) -> Result<Vec<Row>> {
    let skipped = |why: String| Ok(vec![Row::skipped("guests", "s", why)]);
    let guest = args.guest.clone();
    let guest = guest.or_else(|| Some(std::env::var_os("MEDLEY_GUEST_TINY")?.into()));
    let Some(guest) = guest else {
        return skipped("no guest: give --guest or set MEDLEY_GUEST_TINY".into());
    };
    for tool in ["qemu-system-x86_64", "qemu-img"] {
        if find(tool).is_none() {
            return skipped(format!("not installed: {tool}"));
        }
    }
    let workspace = Workspace::new(&args.medley, &guest)?;
    let mut rows = Vec::new();
    if args.only != Some(Part::Boots) {
        rows.extend(naps::rows(&workspace, args.rounds)?);
    }
    if args.only != Some(Part::Naps) {
        rows.extend(boots::rows(&workspace, args.rounds)?);
    }
    Ok(rows)
}

fn main() -> Result<()> {
    let args = Args::parse();
    medley_benches::interrupt::catch()?;
    let mut rows = Vec::new();
    if matches!(args.only, None | Some(Part::Sealing)) {
        rows.extend(sealing::rows()?);
    }
    if args.only != Some(Part::Sealing) {
        rows.extend(guest_rows(&args)?);
    }
    Report::new(rows).finish(args.json.as_deref())
}
