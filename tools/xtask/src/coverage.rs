//! `cargo xtask coverage`: how much of the disk's code its tests run, counted by cargo-llvm-cov.
//!
//! Tests that stand in a source file are no code to be covered: they would all count as run. So the
//! compiler's counts are taken line by line, and those from the file's `#[cfg(test)] mod` on are left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::Serialize;

use crate::progress::step;
use crate::setup::{self, Purpose};
use crate::{run, test, workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask coverage                     the files of vdisk, least covered first
  cargo xtask coverage --lines             and the lines that no test runs
  cargo xtask coverage --json cover.json   the same for machines

Ends with 1 when less than 92 % of the lines are run.";

/// Per cent of lines that the tests of `vdisk` have to run.
const GOAL: f64 = 92.0;

/// The release that is installed where there is none; it builds with the Rust we build with.
const LLVM_COV: &str = "0.9.1";

/// Crates in `vdisk/` that only tests use: they are means of proof, not what is proved.
const MEANS: [&str; 3] = ["fuzz", "proving", "vhost-client"];

/// Runs the tests of `vdisk` and says which of its lines they reach.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Also print, for each file, the lines that no test runs.
    #[arg(long)]
    lines: bool,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// All of it.
#[derive(Serialize)]
struct Report {
    lines: usize,
    covered: usize,
    percent: f64,
    goal: f64,
    ok: bool,
    files: Vec<FileReport>,
}

/// One source file.
#[derive(Debug, PartialEq, Serialize)]
struct FileReport {
    path: PathBuf,
    lines: usize,
    covered: usize,
    percent: f64,
    /// The lines that no test runs, as `3` or `5-9`.
    missed: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    test::ensure_nextest()?;
    ensure_llvm_cov()?;

    let root = workspace::root()?;
    let crates = crates(&root)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let lcov = folder.path().join("lcov");
    let mut tests = workspace::cargo(["llvm-cov", "nextest", "--lcov", "--output-path"])?;
    tests.arg(&lcov);
    for (_, package) in &crates {
        tests.args(["--package", package]);
    }
    let status = run::attached(&mut tests)?;
    ensure!(
        status.success(),
        "the tests failed ({status}); figures of a failed run say nothing"
    );

    let counts = std::fs::read_to_string(&lcov)
        .with_context(|| format!("cargo-llvm-cov left nothing in {}", lcov.display()))?;
    let roots: Vec<_> = crates.iter().map(|(dir, _)| dir.join("src")).collect();
    let mut files = Vec::new();
    for (path, counts) in parse(&counts)? {
        if roots.iter().any(|src| path.starts_with(src)) {
            let source = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.strip_prefix(&root).unwrap_or(&path);
            files.extend(judge(name, &counts, first_test_line(&source)));
        }
    }
    let report = Report::new(files)?;
    report.print(args.lines);
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    ensure!(
        report.ok,
        "{:.2} % of the lines are run by tests, {GOAL} % are wanted",
        report.percent
    );
    Ok(())
}

/// The crates in `vdisk/` that are to be covered: folder and package name.
fn crates(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        manifest_path: PathBuf,
    }
    let text = run::capture(&mut workspace::cargo([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ])?)?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("cargo's metadata is not understood")?;
    let vdisk = root.join("vdisk");
    let found: Vec<_> = metadata
        .packages
        .into_iter()
        .filter_map(|package| Some((package.manifest_path.parent()?.to_owned(), package.name)))
        .filter(|(dir, _)| dir.parent() == Some(&vdisk))
        .filter(|(dir, _)| !MEANS.iter().any(|means| dir.ends_with(means)))
        .collect();
    ensure!(!found.is_empty(), "no crate lies in {}", vdisk.display());
    Ok(found)
}

/// Makes sure that cargo-llvm-cov is there, and the compiler's own tools that it calls.
fn ensure_llvm_cov() -> Result<()> {
    if !run::succeeds(&mut workspace::cargo(["llvm-cov", "--version"])?) {
        let version = LLVM_COV;
        let args = [
            "install",
            "cargo-llvm-cov",
            "--locked",
            "--version",
            version,
        ];
        let mut install = workspace::cargo(args)?;
        step("compile cargo-llvm-cov (takes a minute)", || {
            run::quiet(&mut install)
        })
        .with_context(|| {
            format!("no coverage without it: `cargo install cargo-llvm-cov --locked --version {version}`")
        })?;
    }
    let mut tools = run::command("rustup", ["component", "add", "llvm-tools"]);
    tools.current_dir(workspace::root()?);
    step("find the compiler's llvm-tools", || run::quiet(&mut tools))
        .context("no coverage without them: `rustup component add llvm-tools`")
}

/// How often each line of each file was run, from LCOV's text: `SF:` names a file, and each `DA:`
/// after it a line and its count.
fn parse(text: &str) -> Result<BTreeMap<PathBuf, BTreeMap<usize, u64>>> {
    let mut files: BTreeMap<PathBuf, BTreeMap<usize, u64>> = BTreeMap::new();
    let mut file = PathBuf::new();
    for entry in text.lines() {
        if let Some(path) = entry.strip_prefix("SF:") {
            file = path.into();
        } else if let Some(counted) = entry.strip_prefix("DA:") {
            let mut fields = counted.split(',');
            let mut number = || fields.next()?.parse::<u64>().ok();
            let (Some(line), Some(count)) = (number(), number()) else {
                bail!("not a line of LCOV: `{entry}`");
            };
            *files
                .entry(file.clone())
                .or_default()
                .entry(line as usize)
                .or_default() += count;
        }
    }
    Ok(files)
}

/// The line where a file's own tests begin, which stand at its end.
fn first_test_line(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].starts_with("#[cfg(test)]") && pair[1].trim_start().starts_with("mod ")
    });
    tests.map_or(usize::MAX, |index| index + 1)
}

/// One file's figures; `None` where nothing in it is ever run (only types, say).
fn judge(path: &Path, counts: &BTreeMap<usize, u64>, end: usize) -> Option<FileReport> {
    let code: Vec<_> = counts.range(..end).collect();
    let missed: Vec<usize> = code
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(line, _)| **line)
        .collect();
    let covered = code.len() - missed.len();
    (!code.is_empty()).then(|| FileReport {
        path: path.to_owned(),
        lines: code.len(),
        covered,
        percent: percent(covered, code.len()),
        missed: runs(&missed),
    })
}

/// Ascending numbers as `3` and `5-9`.
fn runs(numbers: &[usize]) -> Vec<String> {
    numbers
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            one => one.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

fn percent(part: usize, all: usize) -> f64 {
    part as f64 * 100.0 / all as f64
}

impl Report {
    fn new(mut files: Vec<FileReport>) -> Result<Self> {
        files.sort_by(|a, b| a.percent.total_cmp(&b.percent));
        let lines = files.iter().map(|file| file.lines).sum();
        let covered = files.iter().map(|file| file.covered).sum();
        ensure!(lines > 0, "no line of vdisk was counted");
        let percent = percent(covered, lines);
        Ok(Self {
            lines,
            covered,
            percent,
            goal: GOAL,
            ok: percent >= GOAL,
            files,
        })
    }

    fn print(&self, lines: bool) {
        let row = |name: &str, covered: usize, lines: usize, percent: f64| {
            println!("{name:<44} {covered:>6} / {lines:<6} {percent:>6.2} %");
        };
        println!();
        for file in &self.files {
            let name = file.path.display().to_string();
            row(&name, file.covered, file.lines, file.percent);
            if lines && !file.missed.is_empty() {
                println!("    {}", file.missed.join(" "));
            }
        }
        row("all", self.covered, self.lines, self.percent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_one_file_are_added_and_its_tests_left_out() {
        let lcov = "SF:/w/a.rs\nDA:1,4\nDA:2,0\nDA:3,0\nDA:5,0\nDA:9,7\nend_of_record\n\
                    SF:/w/a.rs\nDA:5,1\nend_of_record\nSF:/w/b.rs\nDA:1,0\n";
        let files = parse(lcov).unwrap();
        let source = "fn a() {}\n\n\n\n\n\n#[cfg(test)]\nmod tests {\n";
        let report = judge(
            Path::new("a.rs"),
            &files[Path::new("/w/a.rs")],
            first_test_line(source),
        )
        .unwrap();
        assert_eq!(
            report,
            FileReport {
                path: "a.rs".into(),
                lines: 4,
                covered: 2,
                percent: 50.0,
                missed: vec!["2-3".into()],
            }
        );
        assert!(parse("DA:x,1").is_err());
    }

    #[test]
    fn a_file_of_tests_alone_is_no_code() {
        let counts = BTreeMap::from([(3, 1)]);
        let source = "#[cfg(test)]\nmod tests {\n";
        assert_eq!(
            judge(Path::new("t.rs"), &counts, first_test_line(source)),
            None
        );
        assert_eq!(first_test_line("#[cfg(test)]\nuse a::b;\n"), usize::MAX);
    }
}
