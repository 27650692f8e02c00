//! Measured rows: a figure of ours, the peer's in the same run, the goal, and whether it holds.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Our figure; absent when nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// Whom we compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Their figure in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
    /// Ours by theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What is asked, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// Whether it holds in this run; rows without a goal only inform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// What a figure has to reach.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At least this much.
    AtLeast(f64),
    /// At most this much.
    AtMost(f64),
    /// At least this many times the peer's.
    RatioAtLeast(f64),
    /// At most this many times the peer's.
    RatioAtMost(f64),
}

impl Row {
    /// A figure alone.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value: Some(value),
            unit,
            peer: None,
            peer_value: None,
            ratio: None,
            goal: None,
            ok: None,
            skipped: None,
        }
    }

    /// A row that could not be measured, and so is not ok.
    pub fn skipped(name: impl Into<String>, unit: &'static str, why: impl Into<String>) -> Self {
        Self {
            value: None,
            ok: Some(false),
            skipped: Some(why.into()),
            ..Self::new(name, 0.0, unit)
        }
    }

    /// The peer's figure beside ours.
    #[must_use]
    pub fn against(mut self, peer: impl Into<String>, value: f64) -> Self {
        self.peer = Some(peer.into());
        self.peer_value = Some(value);
        self.ratio = self.value.map(|own| own / value);
        self
    }

    /// What is asked, and whether this run gave it.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        let (text, ok) = match goal {
            Goal::AtLeast(n) => (
                format!("≥ {n} {}", self.unit),
                self.value.is_some_and(|v| v >= n),
            ),
            Goal::AtMost(n) => (
                format!("≤ {n} {}", self.unit),
                self.value.is_some_and(|v| v <= n),
            ),
            Goal::RatioAtLeast(n) => (format!("≥ {n} × peer"), self.ratio.is_some_and(|r| r >= n)),
            Goal::RatioAtMost(n) => (format!("≤ {n} × peer"), self.ratio.is_some_and(|r| r <= n)),
        };
        self.goal = Some(text);
        self.ok = Some(ok);
        self
    }
}

/// The machine the rows were measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|l| l.starts_with(name));
            line.and_then(|l| l.split(':').nth(1))
                .unwrap_or("unknown")
                .trim()
                .to_owned()
        };
        let memory = field(&file("/proc/meminfo"), "MemTotal");
        let kib = memory
            .split(' ')
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
        Self {
            cpu: field(&file("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory_mib: kib / 1024,
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// A run's rows and the machine they hold for.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

impl Report {
    /// A report of this machine.
    pub fn new(rows: Vec<Row>) -> Self {
        Self {
            machine: Machine::here(),
            rows,
        }
    }

    /// Prints the rows for people and, where asked, writes them for programs.
    pub fn finish(&self, json: Option<&Path>) -> Result<()> {
        println!(
            "{} · {} cores · Linux {}\n",
            self.machine.cpu, self.machine.cores, self.machine.kernel
        );
        let cells: Vec<[String; 5]> = self.rows.iter().map(cells).collect();
        let width = |i: usize| {
            cells
                .iter()
                .map(|c| c[i].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        for c in &cells {
            let line: Vec<String> = c
                .iter()
                .zip(widths)
                .map(|(cell, w)| format!("{cell}{}", " ".repeat(w - cell.chars().count())))
                .collect();
            println!("{}", line.join("  ").trim_end());
        }
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self)?;
            std::fs::write(path, text + "\n")
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 5] {
    let number = |n: f64| match n.abs() {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    };
    let value = row
        .value
        .map_or("-".into(), |v| format!("{} {}", number(v), row.unit));
    let peer = match (&row.peer, row.peer_value, row.ratio) {
        (Some(peer), Some(value), Some(ratio)) => {
            format!("{peer} {} (× {ratio:.2})", number(value))
        }
        _ => String::new(),
    };
    let goal = row.skipped.clone().or(row.goal.clone()).unwrap_or_default();
    let mark = match row.ok {
        Some(true) => "ok",
        Some(false) => "MISSED",
        None => "",
    };
    [row.name.clone(), value, peer, goal, mark.into()]
}
