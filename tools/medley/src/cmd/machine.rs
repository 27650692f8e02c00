//! `medley machine`: machines as such, whatever disk they run from.

mod asleep;
mod plan;

use clap::Subcommand;

use crate::exit::Result;
use crate::output::Ui;

/// Verbs of `machine`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
EXAMPLES
  medley machine plan
  medley machine plan --policy office.toml --host-memory 8G
  medley boot office.vhd --session office.session   # and, in another terminal:
  medley machine suspend office.session")]
pub enum Machine {
    /// Explain how much memory and how many processors a guest gets
    Plan(plan::Plan),
    /// Tell whether a session runs, sleeps or neither
    Status(asleep::Status),
    /// Put a session's machine to sleep, memory and disk together
    Suspend(asleep::Suspend),
    /// Ask a session's guest to shut down
    Stop(asleep::Stop),
}

/// Runs one.
pub fn run(verb: Machine, ui: Ui) -> Result<()> {
    match verb {
        Machine::Plan(args) => plan::run(args, ui),
        Machine::Status(args) => asleep::status(&args, ui),
        Machine::Suspend(args) => asleep::suspend(&args, ui),
        Machine::Stop(args) => asleep::stop(&args, ui),
    }
}
