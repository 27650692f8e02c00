//! Every attack against a presenter alone: the hostile guest is its guest over three sockets, without a machine
//! between. The same attacks out of a real guest are in the end-to-end tests.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_desktop::Process;
use medley_hostile::judge::{Court, Desktop, Stage};
use medley_hostile::scenarios::{ALL, Outcome, find};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// How a presenter ends: a channel failed, the guest broke a rule.
const BROKEN: [i32; 2] = [5, 6];
const VIOLATION: [i32; 1] = [6];

/// A program whose lines are read.
struct Program {
    process: Process,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Result<Self> {
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let child = &mut process.0;
        let (to, lines) = channel();
        let out = BufReader::new(child.stdout.take().context("no output")?);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            stdin: child.stdin.take().context("no input")?,
            process,
            lines,
        })
    }

    fn line(&self) -> Result<String> {
        Ok(self.lines.recv_timeout(PATIENCE)?)
    }
}

/// The presenter's program: it lies beside ours, and is built if it does not.
fn presenter_program() -> Result<PathBuf> {
    let program =
        Path::new(env!("CARGO_BIN_EXE_medley-hostile")).with_file_name("medley-presenter");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        let built = build.args(["build", "-p", "medley-presenter"]).status()?;
        ensure!(built.success(), "the presenter cannot be built");
    }
    Ok(program)
}

/// A hostile guest and a presenter, side by side.
struct Sockets<'d> {
    folder: tempfile::TempDir,
    desktop: &'d Desktop,
    guest: Program,
    presenter: Option<Program>,
    cues: u32,
}

impl<'d> Sockets<'d> {
    fn new(desktop: &'d Desktop) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut guest = Command::new(env!("CARGO_BIN_EXE_medley-hostile"));
        let guest = Program::start(guest.arg("--sockets").arg(folder.path()))?;
        ensure!(guest.line()? == "ready 0");
        Ok(Self {
            folder,
            desktop,
            guest,
            presenter: None,
            cues: 0,
        })
    }

    fn presenter(&mut self) -> Result<&mut Program> {
        self.presenter.as_mut().context("no presenter")
    }

    /// The presenter's next event of that name.
    fn event(&mut self, name: &str) -> Result<Value> {
        loop {
            let line = self
                .presenter()?
                .line()
                .with_context(|| format!("no {name}"))?;
            let event: Value = serde_json::from_str(&line)?;
            if event["event"] == name {
                return Ok(event);
            }
        }
    }
}

impl Stage for Sockets<'_> {
    fn tell(&mut self, cue: &str) -> Result<()> {
        self.cues += 1;
        Ok(writeln!(self.guest.stdin, "{cue}")?)
    }

    fn wait(&mut self) -> Result<Vec<String>> {
        let ready = format!("ready {}", self.cues);
        let mut said = Vec::new();
        loop {
            match self.guest.lines.recv_timeout(3 * PATIENCE) {
                Ok(line) if line == ready => return Ok(said),
                Ok(line) => said.push(line),
                Err(error) => return Err(error).with_context(|| format!("it said {said:?}")),
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.presenter = None;
        let mut command = Command::new(presenter_program()?);
        command
            .args(["--workspace", "office", "--json", "--commands"])
            .args(["--clipboard-in", "chord", "--clipboard-out", "chord"])
            .args(["--display", &self.desktop.name]);
        for channel in ["gui", "control", "bulk"] {
            command
                .arg(format!("--{channel}"))
                .arg(self.folder.path().join(channel));
        }
        self.presenter = Some(Program::start(&mut command)?);
        self.event("ready").map(drop)
    }

    fn reported(&mut self, outcome: Outcome) -> Result<()> {
        let codes = match outcome {
            Outcome::Violation(code) => {
                let event = self.event("violation")?;
                ensure!(event["code"] == code, "{event}");
                &VIOLATION[..]
            }
            _ => &BROKEN[..],
        };
        let event = self.event("ended")?;
        let status = self.presenter()?.process.0.wait()?;
        let code = status.code().context("it was killed")?;
        ensure!(event["code"] == code && codes.contains(&code), "{event}");
        Ok(())
    }

    fn lock(&mut self, locked: bool) -> Result<()> {
        let word = if locked { "lock" } else { "unlock" };
        writeln!(self.presenter()?.stdin, "{word}")?;
        self.event(&format!("{word}ed")).map(drop)
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// All of them, one after the other; `MEDLEY_SCENARIO` names one.
#[test]
fn no_attack_comes_through() {
    let desktop = Desktop::start().unwrap();
    let mut stage = Sockets::new(&desktop).unwrap();
    let only = std::env::var("MEDLEY_SCENARIO").ok();
    for scenario in ALL {
        if only.as_ref().is_some_and(|only| only != scenario.name) {
            continue;
        }
        let begun = Instant::now();
        let mut court = Court::new(&desktop, &mut stage, "office");
        let result = court.try_one(scenario);
        println!(
            "{:<10} {:>6.2} s, {} windows looked at: {result:?}",
            scenario.name,
            begun.elapsed().as_secs_f64(),
            court.looked_at
        );
        result.with_context(|| scenario.name).unwrap();
    }
}

#[test]
fn scenarios_are_known_by_name() {
    for scenario in ALL {
        assert_eq!(find(scenario.name).unwrap().about, scenario.about);
    }
    assert!(find("kindness").is_none());
}
