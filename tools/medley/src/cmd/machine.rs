//! `medley machine`: machines as such, whatever disk they run from.

mod plan;

use clap::Subcommand;

use crate::exit::Result;
use crate::output::Ui;

/// Verbs of `machine`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
EXAMPLES
  medley machine plan
  medley machine plan --policy office.toml --host-memory 8G")]
pub enum Machine {
    /// Explain how much memory and how many processors a guest gets
    Plan(plan::Plan),
}

/// Runs one.
pub fn run(verb: Machine, ui: Ui) -> Result<()> {
    match verb {
        Machine::Plan(args) => plan::run(args, ui),
    }
}
