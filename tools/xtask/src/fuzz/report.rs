//! What fuzzers said, as figures: read from libFuzzer's words, shown as a table.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::progress::seconds;

/// The figures of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub executions: u64,
    /// Edges of the code that some input takes.
    pub edges: u64,
    /// Inputs that take different ones.
    pub inputs: u64,
    pub peak_mib: u64,
    /// The file with the input that crashed.
    pub input: Option<PathBuf>,
}

impl Figures {
    /// Finds them in what libFuzzer printed. A fuzzer that crashed prints no final figures; those of its
    /// last line of progress are taken then.
    pub fn read(said: &str) -> Self {
        let mut found = Self::default();
        for line in said.lines() {
            if let Some(path) = line.split("Test unit written to ").nth(1) {
                found.input = Some(path.trim().into());
            } else if let Some((name, value)) = line
                .strip_prefix("stat::")
                .and_then(|figure| figure.split_once(':'))
            {
                let value = value.trim().parse().unwrap_or_default();
                match name {
                    "number_of_executed_units" => found.executions = value,
                    "peak_rss_mb" => found.peak_mib = value,
                    _ => {}
                }
            } else if let Some(progress) = line.strip_prefix('#') {
                found.progress(progress);
            }
        }
        found
    }

    /// `1234\tNEW    cov: 512 ft: 900 corp: 40/1200b …`
    fn progress(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |word: &str| word.split('/').next().and_then(|n| n.parse().ok());
        if let Some(n) = words.first().and_then(|word| number(word)) {
            self.executions = self.executions.max(n);
        }
        for pair in words.windows(2) {
            match (pair[0], number(pair[1])) {
                ("cov:", Some(n)) => self.edges = n,
                ("corp:", Some(n)) => self.inputs = n,
                _ => {}
            }
        }
    }
}

/// What is told of one target.
#[derive(Debug, Serialize)]
pub struct Row {
    target: String,
    executions: u64,
    per_second: u64,
    edges: u64,
    inputs: u64,
    peak_mib: u64,
    seconds: f64,
    /// What was said at the end, if that was a crash.
    pub crash: Option<String>,
}

impl Row {
    pub fn new(target: &str, figures: &Figures, time: Duration, crash: Option<String>) -> Self {
        let per_second = figures.executions as f64 / time.as_secs_f64().max(0.001);
        Self {
            target: target.to_owned(),
            executions: figures.executions,
            per_second: per_second as u64,
            edges: figures.edges,
            inputs: figures.inputs,
            peak_mib: figures.peak_mib,
            seconds: time.as_secs_f64(),
            crash,
        }
    }
}

/// Prints a table; fails if a target crashed.
pub fn show(rows: &[Row]) -> Result<()> {
    println!(
        "\n{:<16} {:>12} {:>9} {:>7} {:>7} {:>9} {:>9}  result",
        "target", "executions", "a second", "edges", "inputs", "peak MiB", "time"
    );
    let line = |row: &Row, result: &str| {
        println!(
            "{:<16} {:>12} {:>9} {:>7} {:>7} {:>9} {:>9}  {result}",
            row.target,
            row.executions,
            row.per_second,
            row.edges,
            row.inputs,
            row.peak_mib,
            seconds(Duration::from_secs_f64(row.seconds)),
        );
    };
    for row in rows {
        line(row, if row.crash.is_some() { "CRASHED" } else { "ok" });
    }
    println!(
        "{:<16} {:>12}",
        "all",
        rows.iter().map(|row| row.executions).sum::<u64>()
    );
    let crashed: Vec<_> = rows.iter().filter(|row| row.crash.is_some()).collect();
    if !crashed.is_empty() {
        let names: Vec<_> = crashed.iter().map(|row| &*row.target).collect();
        bail!("crashed: {}", names.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_run_to_its_end() {
        let said = "INFO: seed corpus: files: 9 min: 1b\n\
            #10\tINITED cov: 100 ft: 120 corp: 9/90b exec/s: 0 rss: 40Mb\n\
            #900\tREDUCE cov: 512 ft: 900 corp: 40/1200b lim: 4 exec/s: 450 rss: 44Mb L: 3/9 MS: 1\n\
            Done 1000 runs in 2 second(s)\n\
            stat::number_of_executed_units: 1000\nstat::peak_rss_mb:              44\n";
        let expected = Figures {
            executions: 1000,
            edges: 512,
            inputs: 40,
            peak_mib: 44,
            input: None,
        };
        assert_eq!(Figures::read(said), expected);
    }

    #[test]
    fn figures_of_a_crash_name_its_input() {
        let said = "#64\tpulse  cov: 7 ft: 8 corp: 2/3b\nthread panicked\n\
            artifact_prefix='/x/'; Test unit written to /x/crash-0a\nBase64: AA==\n";
        let found = Figures::read(said);
        assert_eq!((found.executions, found.edges), (64, 7));
        assert_eq!(found.input, Some("/x/crash-0a".into()));
    }

    #[test]
    fn one_crash_fails_all_and_is_named() {
        let row = |name, crash| Row::new(name, &Figures::default(), Duration::from_secs(1), crash);
        assert!(show(&[row("one", None)]).is_ok());
        let rows = [row("one", None), row("two", Some("why".to_owned()))];
        assert_eq!(show(&rows).unwrap_err().to_string(), "crashed: two");
    }
}
