//! What a session does with a machine: figures with goals, peers in the same run.

mod sealing;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use medley_benches::rows::Report;

/// Measures machines.
#[derive(Parser)]
struct Args {
    /// Also write the rows to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    medley_benches::interrupt::catch()?;
    let rows = sealing::rows()?;
    Report::new(rows).finish(args.json.as_deref())
}
