//! `cargo xtask fuzz`: libFuzzer on whatever is read from strangers, with the stable compiler.
//!
//! The targets and their corpora are packages of their own. They are built here with coverage counters and
//! checks, in a build folder of its own, so that nothing else is ever compiled anew because of it. What a
//! run finds worth keeping stays in that folder and is where the next run goes on.

mod package;
mod report;

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::progress::{self, step};
use crate::setup::{self, Purpose};
use crate::{run, workspace};
use package::{PACKAGES, Package};
use report::{Figures, Row};

const EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz                              every target for ten seconds
  cargo xtask fuzz --seconds 3600               every target for an hour
  cargo xtask fuzz vhd_open --runs 1000000      one target, a million times
  cargo xtask fuzz nbd --reproduce FILE         runs one input, such as one that crashed

An input that crashes is kept, and the way to run it again is printed. Fixed bugs become regression
tests by copying their input to the corpus of its target: vdisk/fuzz/corpus/TARGET for the disk's,
agent/fuzz/corpus/TARGET for the others.";

/// Fuzzes whatever reads what strangers write, and operations beside models.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The targets; all of them if none is named.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "runs")]
    seconds: u64,
    /// How often each target runs, instead of how long.
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Also write the results to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many targets run at a time, each with up to 1 GiB of memory; as many as there are processors, but 8, if
    /// not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Only say which targets there are.
    #[arg(long)]
    list: bool,
    /// Run this input once instead, and show what it does.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "runs", "json", "list"])]
    reproduce: Option<PathBuf>,
}

/// Seconds that the tests give each target.
const IN_TESTS: u64 = 2;
/// Seconds that one input may take before it counts as a hang, on the busiest of machines.
const TIMEOUT: u64 = 25;
/// MiB that a fuzzer may take in all.
const MEMORY: u64 = 1024;

/// Instructions that count which edges of the code were taken and what was compared with what.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    let fuzzer = Fuzzer::build()?;
    let all = fuzzer.targets()?;
    if args.list {
        for target in &all {
            println!("{:<16} {}", target.name, target.about);
        }
        return Ok(());
    }
    let chosen = choose(&all, &args.targets)?;
    if let Some(input) = &args.reproduce {
        let [target] = chosen[..] else {
            bail!("name the one target that {} is for", input.display());
        };
        return fuzzer.reproduce(target, input);
    }
    let length = match args.runs {
        Some(runs) => Length::Runs(runs),
        None => Length::Seconds(args.seconds),
    };
    let rows = fuzzer.fuzz(&chosen, length, args.jobs.unwrap_or_else(processors))?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&rows)?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    report::show(&rows)
}

/// A short run of every target, for the tests.
pub fn briefly() -> Result<()> {
    let fuzzer = Fuzzer::build()?;
    let all = fuzzer.targets()?;
    let (chosen, length) = (choose(&all, &[])?, Length::SameSeconds(IN_TESTS));
    let rows = fuzzer.fuzz(&chosen, length, processors())?;
    report::show(&rows)
}

/// A target as its fuzzer describes it.
struct Target {
    package: &'static Package,
    name: String,
    max_len: String,
    about: String,
}

fn processors() -> usize {
    thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(8)
}

fn choose<'a>(all: &'a [Target], names: &[String]) -> Result<Vec<&'a Target>> {
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let find = |name: &String| {
        let known = || all.iter().map(|t| &*t.name).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|target| target.name == *name);
        found.with_context(|| format!("`{name}` is no target; there are {}", known()))
    };
    names.iter().map(find).collect()
}

#[derive(Clone, Copy)]
enum Length {
    Seconds(u64),
    /// The same inputs in the same order every time: a test must not fail by chance.
    SameSeconds(u64),
    Runs(u64),
}

/// The built fuzzers, and the folder they work in.
struct Fuzzer {
    programs: PathBuf,
    work: PathBuf,
    /// Where targets put their own files; a fuzzer ends without tidying up.
    scratch: tempfile::TempDir,
}

/// Builds the fuzzers with one processor and only the time that nobody else wants. Whoever wants them afterwards
/// builds what is missing, and hears what is wrong.
pub fn prepare() -> Result<()> {
    let work = workspace::target()?.join("fuzz");
    let mut build = Fuzzer::build_command(&work, &triple()?)?;
    run::quiet(&mut run::gently(build.arg("--jobs=1")))
}

/// The kind of machine that we are, as compilers call it.
fn triple() -> Result<String> {
    let triple = run::capture(&mut run::command("rustc", ["--print", "host-tuple"]))?;
    Ok(triple.trim().to_owned())
}

impl Fuzzer {
    fn build_command(work: &Path, triple: &str) -> Result<Command> {
        // With a target named, build scripts and macros are left as they are.
        let mut build =
            workspace::cargo(["build", "--quiet", "--profile", "fuzz", "--target", triple])?;
        for package in PACKAGES {
            build
                .args(["--package", package.name])
                .args(["--features", &package.feature()]);
        }
        build
            .env("CARGO_TARGET_DIR", work)
            .env("RUSTFLAGS", INSTRUMENTED)
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        Ok(build)
    }

    fn build() -> Result<Self> {
        let work = workspace::target()?.join("fuzz");
        let triple = triple()?;
        let mut build = Self::build_command(&work, &triple)?;
        step("build the fuzzers (minutes when they are new)", || {
            run::quiet(&mut build)
        })
        .context("cannot build the fuzzers; libFuzzer is C++ and needs g++")?;
        Ok(Self {
            programs: work.join(triple).join("fuzz"),
            work,
            scratch: tempfile::tempdir().context("cannot make a temporary folder")?,
        })
    }

    fn command(&self, package: &Package, target: &str) -> Command {
        let program = self.programs.join(package.name);
        let mut command = run::command(&program.to_string_lossy(), [""; 0]);
        command
            .env(package.variable, target)
            .env("TMPDIR", self.scratch.path())
            .arg(format!("-timeout={TIMEOUT}"))
            .arg(format!("-rss_limit_mb={MEMORY}"));
        command
    }

    fn targets(&self) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for package in PACKAGES {
            let list = run::capture(&mut self.command(package, "list"))?;
            let target = |line: &str| {
                let mut fields = line.split('\t').map(str::to_owned);
                Some(Target {
                    package,
                    name: fields.next()?,
                    max_len: fields.next()?,
                    about: fields.next()?,
                })
            };
            let listed: Option<Vec<_>> = list.lines().map(target).collect();
            let listed = listed
                .with_context(|| format!("the list of targets of {} makes no sense", package.name));
            targets.extend(listed?);
        }
        Ok(targets)
    }

    /// So many targets at a time; the rows are in the targets' order.
    fn fuzz(&self, targets: &[&Target], length: Length, jobs: usize) -> Result<Vec<Row>> {
        let next = AtomicUsize::new(0);
        let lane = || -> Result<Vec<(usize, Row)>> {
            let mut rows = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(target) = targets.get(at) else {
                    return Ok(rows);
                };
                let begun = Instant::now();
                let row = self.fuzz_one(target, length);
                progress::told(
                    &format!("fuzz {}", target.name),
                    begun.elapsed(),
                    row.is_ok(),
                );
                // What one cannot do, the others need not try.
                let row = row.inspect_err(|_| next.store(targets.len(), Ordering::Relaxed))?;
                if let Some(crash) = &row.crash {
                    eprintln!("{crash}");
                }
                rows.push((at, row));
            }
        };
        let rows: Result<Vec<_>> = thread::scope(|scope| {
            let lanes: Vec<_> = (0..jobs.clamp(1, targets.len().max(1)))
                .map(|_| scope.spawn(lane))
                .collect();
            let ended = lanes.into_iter().map(|lane| lane.join());
            let rows =
                ended.map(|rows| rows.unwrap_or_else(|_| bail!("a fuzzer's thread panicked")));
            rows.collect()
        });
        let mut rows: Vec<_> = rows?.into_iter().flatten().collect();
        rows.sort_by_key(|(at, _)| *at);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn fuzz_one(&self, target: &Target, length: Length) -> Result<Row> {
        let folder = |kind: &str| {
            let folder = self.work.join(kind).join(&target.name);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            anyhow::Ok(folder)
        };
        let (grown, crashes) = (folder("corpus")?, folder("crashes")?);
        let package = workspace::root()?.join(target.package.folder);
        let mut fuzz = self.command(target.package, &target.name);
        fuzz.arg("-print_final_stats=1")
            .arg(format!("-max_len={}", target.max_len))
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .arg(match length {
                Length::Seconds(n) | Length::SameSeconds(n) => format!("-max_total_time={n}"),
                Length::Runs(n) => format!("-runs={n}"),
            });
        if let Length::SameSeconds(_) = length {
            fuzz.arg("-seed=1");
        }
        let words = package.join("dict").join(&target.name);
        if words.exists() {
            fuzz.arg(format!("-dict={}", words.display()));
        }
        // The first folder is written to.
        fuzz.arg(grown)
            .arg(package.join("corpus").join(&target.name));
        let started = Instant::now();
        let (ended, said) = match run::both(&mut fuzz) {
            Ok((_, said)) => (true, said),
            Err(error) if run::interrupted() => return Err(error),
            Err(error) => (false, format!("{error:#}")),
        };
        let found = Figures::read(&said);
        let crash = (!ended).then(|| explain(target, &said, found.input.as_deref()));
        Ok(Row::new(&target.name, &found, started.elapsed(), crash))
    }

    fn reproduce(&self, target: &Target, input: &Path) -> Result<()> {
        // Taken from where the person is, not from the workspace's root.
        let input =
            fs::canonicalize(input).with_context(|| format!("cannot find {}", input.display()))?;
        let mut command = self.command(target.package, &target.name);
        let status = run::attached(command.arg(&input))?;
        if !status.success() {
            bail!("{} fails on {}: {status}", target.name, input.display());
        }
        println!("{} takes it", target.name);
        Ok(())
    }
}

/// What to tell of a crash.
fn explain(target: &Target, said: &str, input: Option<&Path>) -> String {
    match input {
        Some(input) => format!(
            "{said}\n\nRun it again with:\n  cargo xtask fuzz {} --reproduce {}",
            target.name,
            input.display()
        ),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_name() {
        let target = |name: &str| Target {
            package: &PACKAGES[0],
            name: name.to_owned(),
            max_len: "9".to_owned(),
            about: String::new(),
        };
        let all = [target("one"), target("two")];
        assert_eq!(choose(&all, &[]).unwrap().len(), 2);
        assert_eq!(choose(&all, &["two".to_owned()]).unwrap()[0].name, "two");
        let Err(error) = choose(&all, &["tow".to_owned()]) else {
            panic!("`tow` is a target");
        };
        assert_eq!(error.to_string(), "`tow` is no target; there are one, two");
    }
}
