//! `cargo xtask test`: everything that CI runs, step by step, each with its own time. A failed step
//! does not keep the next ones from running.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use crate::guest::{self, Kind};
use crate::progress::{self, seconds};
use crate::run;
use crate::setup::{self, Purpose};
use crate::{deny, workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                                everything
  cargo xtask test --quick                        everything but the guests
  cargo xtask test --only guests -- guest_boot    the guest tests with this in their names

Guest tests are those of the package medley-tests whose names start with `guest_`; those that start
with `guest_debian_` get the full Debian as well. Tests are told by their environment:
  MEDLEY_BIN              the built `medley`
  MEDLEY_GUEST_TINY       the tiny guest's VHD (guest tests)
  MEDLEY_GUEST_DEBIAN     the debian guest's VHD (when a `guest_debian_` test exists)";

/// Runs everything that CI runs.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this step; may be given more than once.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Step>,
    /// Leave out the guests.
    #[arg(long, conflicts_with = "only")]
    quick: bool,
    /// Arguments for the test runner, such as part of a test's name.
    #[arg(last = true)]
    runner: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Is the code formatted?
    Fmt,
    /// Lints, as errors.
    Clippy,
    /// All tests that need no guest.
    Quick,
    /// The tests that boot guests.
    Guests,
    /// The examples in the documentation.
    Doc,
    /// Licences and origins of the dependencies, where cargo-deny is installed.
    Deny,
}

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

struct Runner {
    nextest: bool,
    args: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let wanted = |step: &Step| {
        if args.only.is_empty() {
            !args.quick || *step != Step::Guests
        } else {
            args.only.contains(step)
        }
    };
    let steps: Vec<_> = Step::value_variants()
        .iter()
        .copied()
        .filter(wanted)
        .collect();
    let tests = steps
        .iter()
        .any(|step| matches!(step, Step::Quick | Step::Guests));
    let started = Instant::now();
    if tests {
        setup::ensure(Purpose::Test)?;
    }
    let runner = Runner {
        nextest: tests && nextest()?,
        args: args.runner.clone(),
    };

    let mut results = vec![("setup", started.elapsed(), Outcome::Passed)];
    for step in steps {
        let started = Instant::now();
        let outcome = match run_step(step, &runner) {
            Ok(outcome) => outcome,
            Err(error) if run::interrupted() => return Err(error),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        if let Outcome::Failed(why) = &outcome {
            eprintln!("{}: {why}", step.name());
        }
        results.push((step.name(), started.elapsed(), outcome));
    }
    summarise(&results, started.elapsed())
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Quick => "quick",
            Self::Guests => "guests",
            Self::Doc => "doc",
            Self::Deny => "deny",
        }
    }
}

fn run_step(step: Step, runner: &Runner) -> Result<Outcome> {
    match step {
        Step::Fmt => show(&mut workspace::cargo(["fmt", "--all", "--check"])?),
        Step::Clippy => {
            let args = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ];
            show(&mut workspace::cargo(args)?)
        }
        Step::Quick => {
            let medley = medley()?;
            show(runner.quick()?.env("MEDLEY_BIN", medley))
        }
        Step::Guests => guests(runner),
        Step::Doc => show(&mut workspace::cargo(["test", "--workspace", "--doc"])?),
        Step::Deny if deny::installed()? => show(&mut deny::check()?),
        Step::Deny => Ok(Outcome::Skipped(
            "cargo-deny is not installed: `cargo xtask deny`",
        )),
    }
}

fn guests(runner: &Runner) -> Result<Outcome> {
    let medley = medley()?;
    let tiny = guest::ensure(Kind::Tiny, None, false)?;
    let mut tests = runner.guests()?;
    tests
        .env("MEDLEY_BIN", medley)
        .env("MEDLEY_GUEST_TINY", tiny.vhd);
    if runner.wants_debian()? {
        let debian = guest::ensure(Kind::Debian, None, false)?;
        tests.env("MEDLEY_GUEST_DEBIAN", debian.vhd);
    }
    show(&mut tests)
}

/// Builds the command line; returns where it lies.
fn medley() -> Result<std::path::PathBuf> {
    run::quiet(&mut workspace::cargo([
        "build",
        "--quiet",
        "--package",
        "medley",
    ])?)
    .context("cannot build medley")?;
    Ok(workspace::target()?.join("debug/medley"))
}

/// Whether cargo-nextest is there, installing it if it can be.
fn nextest() -> Result<bool> {
    let mut version = workspace::cargo(["nextest", "--version"])?;
    if run::succeeds(&mut version) {
        return Ok(true);
    }
    let installed = progress::step("compile cargo-nextest (takes minutes)", || {
        run::quiet(&mut workspace::cargo([
            "install",
            "cargo-nextest",
            "--locked",
        ])?)
    });
    match installed {
        Ok(()) => Ok(true),
        Err(error) if run::interrupted() => Err(error),
        Err(error) => {
            eprintln!("{error:#}\nfalling back to `cargo test`, which knows no time limits");
            Ok(false)
        }
    }
}

impl Runner {
    fn quick(&self) -> Result<Command> {
        if self.nextest {
            self.with_args(workspace::cargo(["nextest", "run", "--workspace"])?)
        } else {
            let args = [
                "test",
                "--workspace",
                "--lib",
                "--bins",
                "--tests",
                "--no-fail-fast",
            ];
            self.with_args(workspace::cargo(
                args.into_iter().chain(["--", "--skip", "guest_"]),
            )?)
        }
    }

    fn guests(&self) -> Result<Command> {
        if self.nextest {
            let args = [
                "nextest",
                "run",
                "--profile",
                "guest",
                "--package",
                "medley-tests",
            ];
            self.with_args(workspace::cargo(args)?)
        } else {
            let args = ["test", "--package", "medley-tests", "--no-fail-fast", "--"];
            self.with_args(workspace::cargo(
                args.into_iter().chain(["--test-threads=1", "guest_"]),
            )?)
        }
    }

    /// Whether any guest test wants the full Debian, which takes a minute or more to make.
    fn wants_debian(&self) -> Result<bool> {
        let args = if self.nextest {
            &[
                "nextest",
                "list",
                "--profile",
                "guest",
                "-p",
                "medley-tests",
                "-T",
                "oneline",
            ][..]
        } else {
            &["test", "--quiet", "-p", "medley-tests", "--", "--list"][..]
        };
        let tests = run::capture(&mut workspace::cargo(args.iter().copied())?)?;
        Ok(tests.contains("guest_debian_"))
    }

    fn with_args(&self, mut command: Command) -> Result<Command> {
        command.args(&self.args);
        Ok(command)
    }
}

/// Runs a step's command in the open: what it prints is for people, and for those who count.
fn show(command: &mut Command) -> Result<Outcome> {
    let words = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>();
    eprintln!("\n── cargo {}", words.join(" "));
    let status = run::attached(command)?;
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(status.to_string())
    })
}

fn summarise(results: &[(&str, Duration, Outcome)], total: Duration) -> Result<()> {
    println!("\n{:<8} {:>12}  result", "step", "time");
    for (name, time, outcome) in results {
        let result = match outcome {
            Outcome::Passed => "ok".to_owned(),
            Outcome::Failed(why) => format!("FAILED: {}", why.lines().next().unwrap_or_default()),
            Outcome::Skipped(why) => format!("skipped: {why}"),
        };
        println!("{name:<8} {:>12}  {result}", seconds(*time));
    }
    println!("{:<8} {:>12}", "all", seconds(total));
    let failed: Vec<_> = results
        .iter()
        .filter(|(.., outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(name, ..)| *name)
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_fails_all_and_is_named() {
        let second = Duration::from_secs(1);
        let mut results = vec![
            ("fmt", second, Outcome::Passed),
            ("deny", second, Outcome::Skipped("not there")),
        ];
        assert!(summarise(&results, second).is_ok());
        results.push(("doc", second, Outcome::Failed("exit status: 1".to_owned())));
        results.push((
            "quick",
            second,
            Outcome::Failed("exit status: 100".to_owned()),
        ));
        let error = summarise(&results, second).unwrap_err().to_string();
        assert_eq!(error, "failed: doc, quick");
    }
}
