//! `cargo xtask test`: everything that CI runs, step by step, each with its own time. A failed step
//! does not keep the next ones from running.

use std::process::{Command, ExitStatus};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use crate::guest::{self, Kind};
use crate::progress::{self, seconds};
use crate::run;
use crate::setup::{self, Purpose};
use crate::{deny, fuzz, workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                                everything
  cargo xtask test --quick                        everything but the guests and the fuzzers
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
    /// Leave out the guests and the fuzzers.
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
    /// What every hypervisor must do, on QEMU and on libvirt, with a real guest.
    Hypervisor,
    /// The examples in the documentation.
    Doc,
    /// A few seconds of bad input for every parser.
    Fuzz,
    /// Licences and origins of the dependencies, where cargo-deny is installed.
    Deny,
}

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

/// The release that is installed where there is none; it builds with the Rust we build with.
const NEXTEST: &str = "0.9.143";

/// How nextest ends when it ran no test.
const NO_TESTS: i32 = 4;

const NO_MATCH: Outcome = Outcome::Skipped("no test matches");

pub fn run(args: &Args) -> Result<()> {
    let wanted = |step: &Step| {
        if args.only.is_empty() {
            !args.quick || !matches!(step, Step::Guests | Step::Hypervisor | Step::Fuzz)
        } else {
            args.only.contains(step)
        }
    };
    let steps: Vec<_> = Step::value_variants()
        .iter()
        .copied()
        .filter(wanted)
        .collect();
    let started = Instant::now();
    if steps.iter().any(|step| step.compiles()) {
        setup::ensure(Purpose::Test)?;
    }
    if steps.iter().any(|step| step.tests()) {
        ensure_nextest()?;
    }

    let mut results = vec![("setup", started.elapsed(), Outcome::Passed)];
    let mut unmatched = !args.runner.is_empty() && steps.iter().any(|step| step.tests());
    let mut fuzzers = steps.contains(&Step::Fuzz).then_some(fuzz::prepare);
    let mut beside = None;
    for step in steps {
        // An emulated guest leaves a processor idle: time to build what is wanted last.
        if matches!(step, Step::Guests | Step::Hypervisor)
            && let Some(prepare) = fuzzers.take()
        {
            beside = Some(Beside(Some(std::thread::spawn(prepare))));
        }
        let started = Instant::now();
        if step == Step::Fuzz
            && let Some(beside) = beside.take()
        {
            progress::step("the rest of what was built beside the guests", || {
                drop(beside);
                Ok(())
            })?;
        }
        let outcome = match run_step(step, &args.runner) {
            Ok(outcome) => outcome,
            Err(error) if run::interrupted() => return Err(error),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        if let Outcome::Failed(why) = &outcome {
            eprintln!("{}: {why}", step.name());
        }
        unmatched &= !step.tests() || matches!(outcome, Outcome::Skipped(_));
        results.push((step.name(), started.elapsed(), outcome));
    }
    summarise(&results, started.elapsed())?;
    if unmatched {
        bail!("no test matches `{}`", args.runner.join(" "));
    }
    Ok(())
}

/// Work beside the steps; waited for, for it has to end with us. What it could not do, a step tries again, and says.
struct Beside(Option<JoinHandle<Result<()>>>);

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

impl Step {
    /// Whether it builds the workspace, and so needs what that needs.
    fn compiles(self) -> bool {
        !matches!(self, Self::Fmt | Self::Deny)
    }

    /// Whether it runs tests by nextest.
    fn tests(self) -> bool {
        matches!(self, Self::Quick | Self::Guests | Self::Hypervisor)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Quick => "quick",
            Self::Guests => "guests",
            Self::Hypervisor => "hypervisor",
            Self::Doc => "doc",
            Self::Fuzz => "fuzz",
            Self::Deny => "deny",
        }
    }
}

fn run_step(step: Step, filter: &[String]) -> Result<Outcome> {
    match step {
        Step::Fmt => show(&mut workspace::cargo(["fmt", "--all", "--check"])?),
        Step::Clippy => {
            let args = [
                "clippy",
                "--workspace",
                "--all-targets",
                // The fuzzer itself is behind it.
                "--features=vdisk-fuzz/libfuzzer",
                "--",
                "-D",
                "warnings",
            ];
            show(&mut workspace::cargo(args)?)
        }
        Step::Quick => {
            let medley = medley()?;
            let mut tests = workspace::cargo(["nextest", "run", "--workspace"])?;
            show_tests(tests.args(filter).env("MEDLEY_BIN", medley), filter)
        }
        Step::Guests => guests(filter),
        Step::Hypervisor => hypervisor(filter),
        Step::Doc => show(&mut workspace::cargo(["test", "--workspace", "--doc"])?),
        Step::Fuzz => fuzz::briefly().map(|()| Outcome::Passed),
        Step::Deny if deny::installed()? => show(&mut deny::check()?),
        Step::Deny => Ok(Outcome::Skipped(
            "licences NOT checked; `cargo xtask deny` compiles cargo-deny (minutes) and checks them",
        )),
    }
}

fn guests(filter: &[String]) -> Result<Outcome> {
    let names = guest_tests(filter)?;
    if names.trim().is_empty() && !filter.is_empty() {
        return Ok(NO_MATCH);
    }
    let medley = medley()?;
    let tiny = guest::ensure(Kind::Tiny, None, false)?;
    let mut tests = nextest_guests("run", filter)?;
    tests
        .env("MEDLEY_BIN", medley)
        .env("MEDLEY_GUEST_TINY", tiny.vhd);
    // It takes a minute or more to make.
    if names.contains("guest_debian_") {
        let debian = guest::ensure(Kind::Debian, None, false)?;
        tests.env("MEDLEY_GUEST_DEBIAN", debian.vhd);
    }
    show_tests(&mut tests, filter)
}

/// The conformance suite on QEMU and on libvirt, inside of the tests and on a libvirtd of their own.
fn hypervisor(filter: &[String]) -> Result<Outcome> {
    let tiny = guest::ensure(Kind::Tiny, None, false)?;
    let args = [
        "nextest",
        "run",
        "--profile",
        "hypervisor",
        "--run-ignored",
        "all",
    ];
    let mut tests = workspace::cargo(args)?;
    tests.args([
        "--package",
        "medley-conformance",
        "--package",
        "medley-libvirt",
    ]);
    show_tests(
        tests.args(filter).env("MEDLEY_GUEST_TINY", tiny.vhd),
        filter,
    )
}

/// Builds the command line; returns where it lies.
fn medley() -> Result<std::path::PathBuf> {
    run::quiet(&mut workspace::cargo([
        "build",
        "--quiet",
        "--package",
        "medley",
        // Which medley finds beside itself.
        "--package",
        "medley-bridge",
        "--package",
        "medley-presenter",
        "--package",
        "medley-viewer",
    ])?)
    .context("cannot build medley")?;
    Ok(workspace::target()?.join("debug/medley"))
}

/// Makes sure that cargo-nextest is there: it knows time limits and which tests want guests.
pub fn ensure_nextest() -> Result<()> {
    if run::succeeds(&mut workspace::cargo(["nextest", "--version"])?) {
        return Ok(());
    }
    let mut install =
        workspace::cargo(["install", "cargo-nextest", "--locked", "--version", NEXTEST])?;
    progress::step("compile cargo-nextest (takes minutes)", || {
        run::quiet(&mut install)
    })
    .with_context(|| {
        format!("the tests need cargo-nextest: `cargo install cargo-nextest --locked --version {NEXTEST}`")
    })
}

/// `cargo nextest VERB` for the guest tests that `filter` lets through.
fn nextest_guests(verb: &str, filter: &[String]) -> Result<Command> {
    let args = [
        "nextest",
        verb,
        "--profile",
        "guest",
        "--package",
        "medley-tests",
    ];
    let mut command = workspace::cargo(args)?;
    command.args(filter);
    Ok(command)
}

/// The names of the guest tests that will run; an option that only a run understands hides none.
fn guest_tests(filter: &[String]) -> Result<String> {
    let list = |filter: &[String]| {
        let mut command = nextest_guests("list", &[])?;
        run::capture(command.args(["--message-format", "oneline"]).args(filter))
    };
    match list(filter) {
        Err(_) if !filter.is_empty() && !run::interrupted() => list(&[]),
        names => names,
    }
}

/// Runs nextest in the open. It has a status of its own for no tests, which a filter may well mean in
/// one step of several.
fn show_tests(command: &mut Command, filter: &[String]) -> Result<Outcome> {
    match attached(command)? {
        status if status.success() => Ok(Outcome::Passed),
        status if status.code() == Some(NO_TESTS) && !filter.is_empty() => Ok(NO_MATCH),
        status => Ok(Outcome::Failed(status.to_string())),
    }
}

/// Runs a step's command in the open: what it prints is for people, and for those who count.
fn show(command: &mut Command) -> Result<Outcome> {
    let status = attached(command)?;
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(status.to_string())
    })
}

fn attached(command: &mut Command) -> Result<ExitStatus> {
    let words = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>();
    eprintln!("\n── cargo {}", words.join(" "));
    run::attached(command)
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
