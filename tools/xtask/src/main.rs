//! The one door for people and CI: `cargo xtask <command>` on a machine that has only Rust and git.
//!
//! Every command states the system packages it needs, installs the missing ones when it may, and
//! otherwise prints the one line to type. A command is one module with an `Args` and a `run`.
#![forbid(unsafe_code)]

mod bench;
mod coverage;
mod demo;
mod deny;
mod fuzz;
mod guest;
mod progress;
mod run;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask setup --for test      install what the tests need, or say what to type
  cargo xtask guest tiny --verify   build the small guest and boot it once
  cargo xtask guest debian --json   build the full Debian guest, describe it as JSON
  cargo xtask demo                  the main job, from a new guest to a reverted session
  cargo xtask test                  everything CI runs
  cargo xtask test --quick          without guests, in a minute or two
  cargo xtask bench disk            figures with goals, beside peers
  cargo xtask coverage              how many lines of the disk's code its tests run
  cargo xtask fuzz --seconds 600    ten minutes of bad input for each parser

Exit codes:
  0  done    1  a step failed    2  bad usage    3  packages are missing and may not be installed";

/// Sets up this machine, builds guests and runs the tests.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Guest(guest::Args),
    Test(test::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Deny(deny::Args),
    Coverage(coverage::Args),
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = run::catch_signals().and_then(|()| match cli.command {
        Command::Setup(args) => setup::run(&args),
        Command::Guest(args) => guest::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Deny(args) => deny::run(&args),
        Command::Coverage(args) => coverage::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref::<setup::MayNotInstall>() {
                Some(_) => ExitCode::from(3),
                None => ExitCode::FAILURE,
            }
        }
    }
}
