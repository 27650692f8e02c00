//! The disk crate by itself: figures with goals, peers in the same run.

mod images;
mod plots;
mod xts;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use medley_benches::rows::Report;

/// Measures the disk crate.
#[derive(Parser)]
struct Args {
    /// Also write the rows to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Instead, measure the stack by request size, threads and overlays, and draw it into this folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    medley_benches::interrupt::catch()?;
    if let Some(dir) = &args.plots {
        return plots::write(dir);
    }
    let mut rows = xts::rows()?;
    rows.extend(images::rows()?);
    Report::new(rows).finish(args.json.as_deref())
}
