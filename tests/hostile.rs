//! A guest that was taken over: the agent in a real machine is replaced by one that means harm, and the host is
//! looked at while that one tries everything it knows. The attacks are `medley-hostile`'s.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use medley_hostile::judge::{Court, Desktop, Stage};
use medley_hostile::scenarios::{ALL, Outcome};
use medley_tests::{READY, Running, Workspace, run};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

/// An emulated guest on a busy host.
const LIMIT: Duration = Duration::from_secs(300);
/// The same, once it runs.
const PATIENCE: Duration = Duration::from_secs(60);
const WORKSPACE: &str = "office";
const HOSTILE: &str = "medley-hostile";

/// A presenter that ends because of its guest is started again eight times in this time, and then no more.
const BUDGET: (usize, Duration) = (8, Duration::from_secs(60));
/// What happens again sooner is not reported again.
const PACE: Duration = Duration::from_secs(6);

/// The debian guest's disk with the hostile program in it, encrypted.
fn workspace() -> Result<Workspace> {
    let workspace = Workspace::empty("1M")?;
    let (disk, raw) = (workspace.disk(), workspace.path("guest.raw"));
    for file in [disk.clone(), vdisk::keys::beside(&disk)] {
        std::fs::remove_file(file)?;
    }
    let guest = std::env::var_os("MEDLEY_GUEST_DEBIAN");
    let guest = guest.context("run these tests with `cargo xtask test --only guests`")?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "vpc", "-O", "raw"]);
    run(convert.arg(guest).arg(&raw))?;
    add(&hostile_program()?, &workspace, &raw)?;
    let mut encrypt = workspace.medley(&["disk", "encrypt"]);
    encrypt
        .args(["--kdf-memory", "64M", "--kdf-time", "4"])
        .arg("--new-passphrase-file")
        .arg(workspace.path("passphrase"));
    run(encrypt.arg(&raw).arg(&disk))?;
    std::fs::remove_file(raw)?;
    Ok(workspace)
}

/// The program, built beside `medley`. A guest of this machine's release has the same libraries.
fn hostile_program() -> Result<PathBuf> {
    let medley = std::env::var_os("MEDLEY_BIN").context("MEDLEY_BIN is not set")?;
    let medley = std::fs::canonicalize(medley)?;
    let program = medley.with_file_name(HOSTILE);
    let target = program.parent().and_then(Path::parent);
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "-p", HOSTILE])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target.context("no target folder")?);
    run(&mut build)?;
    Ok(program)
}

/// Puts the program into the guest's root file system, which is the second partition.
fn add(program: &Path, workspace: &Workspace, raw: &Path) -> Result<()> {
    let small = workspace.path(HOSTILE);
    run(Command::new("strip").arg("-o").arg(&small).arg(program))?;
    let script = workspace.path("debugfs");
    let requests = format!(
        "cd /usr/bin\nwrite {} {HOSTILE}\nset_inode_field {HOSTILE} mode 0100755\n\
         set_inode_field {HOSTILE} uid 0\nset_inode_field {HOSTILE} gid 0\n",
        small.display()
    );
    std::fs::write(&script, requests)?;
    let mut table = [0; 512];
    std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::open(raw)?, &mut table, 0)?;
    let first = table[446 + 16 + 8..]
        .first_chunk()
        .copied()
        .unwrap_or_default();
    let offset = u64::from(u32::from_le_bytes(first)) * 512;
    let mut debugfs = Command::new("debugfs");
    debugfs.arg("-w").arg("-f").arg(&script);
    let (said, _) = run(debugfs.arg(format!("{}?offset={offset}", raw.display())))?;
    ensure!(said.contains("Allocated inode"), "debugfs said: {said}");
    Ok(())
}

/// A machine whose guest is hostile, and what was reported of it.
struct Machine<'w> {
    workspace: &'w Workspace,
    session: Running,
    commands: u32,
    cues: u32,
    /// Lines of the hostile program's that were read.
    read: usize,
    /// Where the output stood when the scenario began.
    begun: usize,
    /// When presenters ended because of the guest.
    ended: VecDeque<Instant>,
}

impl<'w> Machine<'w> {
    fn boot(workspace: &'w Workspace, desktop: &Desktop) -> Result<Self> {
        let mut boot = workspace.on_disk(&["boot", "--revertible", "--memory", "512", "--windows"]);
        boot.arg("--session")
            .arg(workspace.path("session"))
            .args(["--clipboard-in", "chord", "--clipboard-out", "chord"])
            .env("DISPLAY", &desktop.name);
        let mut session = Running::start_with_input(boot)?;
        session.wait_for(READY, LIMIT)?;
        Ok(Self {
            workspace,
            session,
            commands: 0,
            cues: 0,
            read: 0,
            begun: 0,
            ended: VecDeque::new(),
        })
    }

    fn ask(&self, verb: &[&str], rest: &[&str]) -> Result<Value> {
        let mut command = self.workspace.medley(verb);
        command
            .arg(self.workspace.path("session"))
            .args(rest)
            .arg("--json");
        Ok(serde_json::from_str(&run(&mut command)?.0)?)
    }

    /// Runs a command on the guest's console; what it printed.
    fn guest(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        let id = format!("h{}", self.commands);
        self.session.type_line(&format!("{id} {command}"))?;
        self.session
            .wait_for(&format!("MEDLEY-END {id} 0"), LIMIT)?;
        let said = self.session.said();
        let from = said.rfind(&format!("MEDLEY-BEGIN {id}"));
        let rest = from.map(|from| &said[from..]).unwrap_or_default();
        let lines = rest.lines().skip(1);
        let lines = lines.take_while(|line| !line.starts_with("MEDLEY-END"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Whether something was reported of this scenario.
    fn is_said(&mut self, words: &[&str]) -> bool {
        let said = &self.session.said()[self.begun..];
        said.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// The supervisor and its machine live, whatever the guest has done.
    fn is_well(&self) -> Result<()> {
        kill(self.session.pid(), None).context("medley is gone")?;
        kill(self.session.qemu()?, None).context("the machine is gone")
    }
}

impl Stage for Machine<'_> {
    fn tell(&mut self, cue: &str) -> Result<()> {
        self.cues += 1;
        self.guest(&format!("echo '{cue}' >/run/cue")).map(drop)
    }

    fn wait(&mut self) -> Result<Vec<String>> {
        let (ready, from) = (format!("ready {}", self.cues), self.read + 1);
        let said = self.guest(&format!(
            "until grep -qx '{ready}' /run/said || ! pgrep -x {HOSTILE} >/dev/null; do sleep 0.1; done; \
             sed -n '{from},$ s/^/said /p' /run/said"
        ))?;
        // medley's own notices come between.
        let lines = said.lines().filter_map(|line| line.strip_prefix("said "));
        let mut lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
        self.read += lines.len();
        if lines.pop() != Some(ready) {
            let all = self.guest("tail -n 20 /run/said")?;
            bail!("the hostile guest is gone; it said:\n{all}");
        }
        Ok(lines)
    }

    fn begin(&mut self) -> Result<()> {
        let (most, within) = BUDGET;
        if let Some(last) = self.ended.back() {
            std::thread::sleep(PACE.saturating_sub(last.elapsed()));
        }
        if self.ended.len() >= most {
            let first = self.ended.pop_front();
            let age = first.map_or(within, |first| first.elapsed());
            std::thread::sleep((within + PACE).saturating_sub(age));
        }
        self.begun = self.session.said().len();
        Ok(())
    }

    fn reported(&mut self, outcome: Outcome) -> Result<()> {
        self.ended.push_back(Instant::now());
        let begun = Instant::now();
        let violation = match outcome {
            Outcome::Violation(code) => format!("({code})"),
            _ => String::new(),
        };
        let (code, restarted) = ("windows-violation", "windows-restarted");
        loop {
            let told = violation.is_empty() || self.is_said(&[code, &violation]);
            if told && self.is_said(&[restarted]) {
                return self.is_well();
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{outcome:?} was not reported:\n{}",
                &self.session.said()[self.begun..]
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn lock(&mut self, locked: bool) -> Result<()> {
        let verb = if locked { "lock" } else { "unlock" };
        let obeyed = self.ask(&[verb], &[])?;
        ensure!(obeyed["locked"] == locked, "{obeyed}");
        Ok(())
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

#[test]
fn guest_debian_that_means_harm_gets_nothing() -> Result<()> {
    let workspace = workspace()?;
    let desktop = Desktop::start()?;
    let mut machine = Machine::boot(&workspace, &desktop)?;
    let begun = Instant::now();
    while !workspace.path("session").join("windows.sock").exists() {
        ensure!(begun.elapsed() < LIMIT, "no socket");
        std::thread::sleep(Duration::from_millis(50));
    }

    // An honest agent first: its windows are what must come back.
    machine.ask(&["apps", "--timeout", "300"], &[])?;
    for _ in 0..2 {
        machine.ask(&["run", "--wait-window", "--timeout", "200"], &["XTerm"])?;
    }
    let honest = |what: &str| desktop.until(what, PATIENCE, || Ok(desktop.guests()?.len() == 2));
    honest("two terminals")?;
    // Its windows stay until somebody else greets: no host is told that a port was closed in the guest.
    machine.guest("systemctl stop medley-session")?;
    machine.guest(&format!(
        "mkfifo /run/cue && (setsid {HOSTILE} <>/run/cue >>/run/said 2>&1 &) && \
         until grep -qx 'ready 0' /run/said; do sleep 0.1; done"
    ))?;
    machine.read = 1;

    for scenario in ALL {
        let begun = Instant::now();
        let mut court = Court::new(&desktop, &mut machine, WORKSPACE);
        let result = court.try_one(scenario);
        println!(
            "{:<10} {:>6.1} s, {} windows looked at: {result:?}",
            scenario.name,
            begun.elapsed().as_secs_f64(),
            court.looked_at
        );
        if let Err(error) = result {
            let said = machine.session.said();
            let last: Vec<_> = said.lines().rev().take(25).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            return Err(error.context(format!("{}:\n{}", scenario.name, last.join("\n"))));
        }
        machine.is_well().context(scenario.name)?;
    }

    // The next honest agent finds its apps, and the host shows them.
    let begun = Instant::now();
    machine.guest(&format!(
        "pkill -x {HOSTILE}; systemctl start medley-session"
    ))?;
    honest("the two terminals again")?;
    println!(
        "an honest agent has its windows back after {:.1?}",
        begun.elapsed()
    );
    let first = desktop.guests()?.pop().context("no window")?;
    desktop.activate(first.window)?;
    // mkdir ok
    desktop.keys(&[50, 37, 32, 23, 19, 57, 24, 37, 28])?;
    machine.guest("until test -d ~user/ok; do sleep 0.3; done")?;

    machine.session.signal(Signal::SIGTERM)?;
    machine.session.wait(LIMIT)?;
    workspace.assert_nothing_left()
}
