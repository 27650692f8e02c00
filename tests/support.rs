//! What the end-to-end tests share: the built `medley`, the guests, and a look at what is left behind.
#![forbid(unsafe_code)]

pub mod initrd;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use vdisk::image::DiskKey;
use vdisk::keys::{KeyFile, beside};

/// What a guest says when it takes commands.
pub const READY: &str = "MEDLEY-GUEST-READY";

/// A path the test runner must have set.
fn path_from(variable: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable).with_context(|| {
        format!("{variable} is not set: run these tests with `cargo xtask test --only guests`")
    })?;
    Ok(value.into())
}

/// An encrypted disk made from a guest, in a folder of its own with everything that belongs to it.
pub struct Workspace {
    dir: TempDir,
    medley: PathBuf,
}

impl Workspace {
    /// Encrypts the guest that `variable` names.
    pub fn new(variable: &str) -> Result<Self> {
        let guest = path_from(variable)?;
        let this = Self::folder()?;
        let mut encrypt = this.on_disk_new(&["disk", "encrypt"]);
        run(encrypt.arg(guest).arg(this.disk()))?;
        Ok(this)
    }

    /// An empty encrypted disk.
    pub fn empty(size: &str) -> Result<Self> {
        let this = Self::folder()?;
        let mut create = this.on_disk_new(&["disk", "create", "--encrypt", "--size", size]);
        run(create.arg(this.disk()))?;
        Ok(this)
    }

    fn folder() -> Result<Self> {
        let this = Self {
            dir: tempfile::tempdir()?,
            medley: path_from("MEDLEY_BIN")?,
        };
        std::fs::create_dir(this.path("tmp"))?;
        std::fs::write(this.path("passphrase"), "correct horse battery staple")?;
        Ok(this)
    }

    /// `medley <verb…>` that makes an encrypted disk, at a low price.
    fn on_disk_new(&self, args: &[&str]) -> Command {
        let mut command = self.medley(args);
        command
            .args(["--kdf-memory", "64M", "--kdf-time", "4"])
            .arg("--new-passphrase-file")
            .arg(self.path("passphrase"));
        command
    }

    /// Takes kernel and initrd out of the tiny guest's boot partition: `vmlinuz` and `initrd` here.
    pub fn extract_kernel(&self) -> Result<()> {
        let raw = self.path("guest.raw");
        let mut convert = Command::new("qemu-img");
        convert
            .args(["convert", "-f", "vpc", "-O", "raw"])
            .arg(path_from("MEDLEY_GUEST_TINY")?)
            .arg(&raw);
        run(&mut convert)?;
        let partition = format!("{}@@1048576", raw.display());
        for file in ["vmlinuz", "initrd"] {
            let mut copy = Command::new("mcopy");
            copy.args(["-i", &partition, &format!("::{file}")])
                .arg(self.path(file));
            run(&mut copy)?;
        }
        Ok(std::fs::remove_file(raw)?)
    }

    /// The key of the disk.
    pub fn key(&self) -> Result<DiskKey> {
        let passphrase = std::fs::read(self.path("passphrase"))?;
        Ok(KeyFile::open(&beside(&self.disk()))?.unlock(&passphrase)?)
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The encrypted disk.
    pub fn disk(&self) -> PathBuf {
        self.path("office.vhd")
    }

    /// `medley` with its temporary files in our folder, so that we see what it leaves.
    pub fn medley(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.medley);
        command.args(args).stdin(Stdio::null());
        command
            .env("TMPDIR", self.path("tmp"))
            .env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// `medley <verb…> <disk>` with the right passphrase.
    pub fn on_disk(&self, args: &[&str]) -> Command {
        let mut command = self.medley(args);
        command
            .arg(self.disk())
            .arg("--passphrase-file")
            .arg(self.path("passphrase"));
        command
    }

    /// A session whose console a script drives.
    pub fn boot(&self, mode: &str, steps: &[String]) -> Result<Command> {
        let script = self.path("script");
        std::fs::write(
            &script,
            format!("timeout 300\nwait {READY}\n{}\n", steps.join("\n")),
        )?;
        let mut command = self.on_disk(&["boot", mode, "--memory", "192", "--ready-marker", READY]);
        command.args(["--timeout", "420", "--script"]).arg(script);
        Ok(command)
    }

    /// A session from power-on to power-off; what the guest's commands printed, and the report.
    pub fn session(&self, mode: &str, commands: &[&str]) -> Result<(String, Value)> {
        let mut boot = self.boot(mode, &typed(commands))?;
        let (report, console) = run(boot.arg("--json"))?;
        let report = serde_json::from_str(&report).with_context(|| format!("no JSON: {report}"))?;
        Ok((console, report))
    }

    /// The folder of a session that can sleep.
    pub fn session_folder(&self) -> PathBuf {
        self.path("session")
    }

    /// `medley boot --session` in that folder.
    pub fn booting(&self, extra: &[&str]) -> Command {
        let mut boot = self.on_disk(&["boot", "--ready-marker", READY, "--timeout", "420"]);
        boot.arg("--session").arg(self.session_folder()).args(extra);
        boot
    }

    /// A run of that session that a script drives; what the guest said, and the report.
    pub fn scripted(&self, extra: &[&str], steps: &[String]) -> Result<(String, Value)> {
        let script = self.path("script");
        std::fs::write(&script, format!("timeout 300\n{}\n", steps.join("\n")))?;
        let mut boot = self.booting(extra);
        let (report, console) = run(boot.arg("--json").arg("--script").arg(script))?;
        let report = serde_json::from_str(&report).with_context(|| format!("no JSON: {report}"))?;
        Ok((console, report))
    }

    /// Fails if anything of a session that ended is still there: files, sockets, mounts.
    pub fn assert_nothing_left(&self) -> Result<()> {
        let left: Vec<_> = std::fs::read_dir(self.path("tmp"))?
            .flatten()
            .map(|e| e.path())
            .collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let ours = self.dir.path().display().to_string();
        ensure!(!mounts.contains(&ours), "still mounted:\n{mounts}");
        Ok(())
    }
}

/// Script steps that run commands in the guest, one after the other.
pub fn typed(commands: &[&str]) -> Vec<String> {
    let step = |(i, command): (usize, &&str)| {
        [
            format!("send c{i} {command}"),
            // With what follows: a machine that is put to sleep in the middle of a line ends it after it woke.
            format!("wait MEDLEY-END c{i}\\x20"),
        ]
    };
    commands.iter().enumerate().flat_map(step).collect()
}

/// Runs a program to its end; both streams, or an error with them.
pub fn run(command: &mut Command) -> Result<(String, String)> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    Ok((stdout, stderr))
}

/// A `medley` in the background whose output can be waited for. Dropping it kills it.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Starts it with a keyboard: see [`Running::type_line`].
    pub fn start_with_input(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped());
        Self::start(command)
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("it has no keyboard")?;
        Ok(stdin.write_all(format!("{line}\n").as_bytes())?)
    }

    /// Starts it.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|s| Box::new(s) as _),
            child.stderr.take().map(|s| Box::new(s) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = Vec::new();
                while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    if sender
                        .send(String::from_utf8_lossy(&line).into_owned())
                        .is_err()
                    {
                        break;
                    }
                    line.clear();
                }
            });
        }
        Ok(Self {
            child,
            lines,
            seen: String::new(),
        })
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until it has said `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push_str(&line),
                Err(e) => bail!("{text:?} did not come ({e}); it said:\n{}", self.seen),
            }
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).context("cannot signal medley")
    }

    /// Waits for its end; its status and everything it said.
    pub fn wait(&mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                Instant::now() < end,
                "medley did not end; it said:\n{}",
                self.seen
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(2)) {
            self.seen.push_str(&line);
        }
        Ok((status, self.seen.clone()))
    }

    /// The next line, if one comes in time; `None` when there will be no more.
    pub fn line(&mut self, limit: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => {
                self.seen.push_str(&line);
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("nothing came for {limit:?}; it said:\n{}", self.seen)
            }
        }
    }

    /// Everything it said until now.
    pub fn said(&mut self) -> &str {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// The QEMU it started.
    pub fn qemu(&self) -> Result<Pid> {
        self.child_with("qemu-system")
    }

    /// The child of it whose command line holds `word`.
    pub fn child_with(&self, word: &str) -> Result<Pid> {
        let parent = self.child.id();
        child_of(parent, word).with_context(|| format!("it said:\n{}", self.seen))
    }
}

/// The child of a process whose command line holds `word`.
pub fn child_of(parent: u32, word: &str) -> Result<Pid> {
    let parent = parent.cast_signed();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let ppid = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        if ppid == Some(parent) && String::from_utf8_lossy(&read("cmdline")).contains(word) {
            return Ok(Pid::from_raw(pid));
        }
    }
    bail!("process {parent} has no child {word}")
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the guest said to the command of this number, of [`typed`] ones or of a [`Guest`]'s.
pub fn answer(console: &str, command: usize) -> Result<String> {
    let id = format!("c{command}");
    let text = console.replace('\r', "");
    let (_, after) = text
        .split_once(&format!("MEDLEY-BEGIN {id}\n"))
        .with_context(|| format!("no {id}:\n{console}"))?;
    let end = format!("MEDLEY-END {id} ");
    let (said, _) = after.split_once(&end).context("no end")?;
    Ok(said.trim().to_owned())
}

/// A guest that is typed to.
pub struct Guest {
    /// The medley that runs it.
    pub running: Running,
    commands: usize,
}

impl Guest {
    /// How long it may take over anything.
    const LIMIT: Duration = Duration::from_secs(300);

    /// Starts it; it need not be ready.
    pub fn start(command: Command) -> Result<Self> {
        Ok(Self {
            running: Running::start_with_input(command)?,
            commands: 0,
        })
    }

    /// Starts it, and waits until it takes commands.
    pub fn ready(command: Command) -> Result<Self> {
        let mut guest = Self::start(command)?;
        guest.running.wait_for(READY, Self::LIMIT)?;
        Ok(guest)
    }

    /// What a command says, and its status.
    pub fn try_run(&mut self, command: &str) -> Result<(String, String)> {
        self.commands += 1;
        self.running
            .type_line(&format!("c{} {command}", self.commands))?;
        let end = format!("MEDLEY-END c{} ", self.commands);
        self.running.wait_for(&end, Self::LIMIT)?;
        let said = self.running.said();
        let status = said.split_once(&end).map_or("", |(_, rest)| rest);
        let status = status.split_whitespace().next().unwrap_or_default();
        Ok((answer(said, self.commands)?, status.to_owned()))
    }

    /// What a command says that must not fail.
    pub fn run(&mut self, command: &str) -> Result<String> {
        let (said, status) = self.try_run(command)?;
        ensure!(status == "0", "{command}: {status}\n{said}");
        Ok(said)
    }

    /// Runs a command until it says this.
    pub fn until(&mut self, command: &str, wanted: &str) -> Result<()> {
        let end = Instant::now() + Self::LIMIT;
        loop {
            let (said, _) = self.try_run(command)?;
            if said.contains(wanted) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{command}: {said}");
        }
    }

    /// Ends it by a signal; it says that it was.
    pub fn end(mut self) -> Result<()> {
        self.running.signal(Signal::SIGTERM)?;
        let (status, said) = self.running.wait(Self::LIMIT)?;
        ensure!(status.code() == Some(143), "{status}\n{said}");
        Ok(())
    }
}

/// Whether a process ends within `limit`. One that is dead but not yet reaped has ended.
pub fn ends(pid: Pid, limit: Duration) -> bool {
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    };
    let end = Instant::now() + limit;
    while alive() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
