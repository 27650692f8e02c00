//! A guest in a session as it is used: `medley boot --windows`, and apps by `medley run`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use medley_benches::plain::Recipe;
use medley_benches::screen::Screen;
use medley_benches::server::run;
use medley_benches::{interrupt, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Both sides of the comparison get so much; xpra's server needs more than our agent.
const MEMORY_MIB: &str = "768";
/// Emulated processors wait for each other, long where the host's are busy: with two, a terminal took up to four times
/// as long to start.
const CPUS: &str = "1";
/// Software runs the guest, perhaps on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A session with windows. Dropping it ends it.
pub struct Session {
    medley: PathBuf,
    child: Child,
    dir: TempDir,
}

impl Session {
    /// Encrypts the guest, boots it, and waits until it has said which apps it has.
    pub fn boot(medley: &Path, guest: &Path, screen: &Screen) -> Result<Self> {
        let dir = tempfile::tempdir_in("/var/tmp")?;
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("passphrase"), "benchmark")?;
        let mut encrypt = Command::new(medley);
        encrypt.args(["disk", "encrypt", "--kdf-memory", "64M", "--kdf-time", "4"]);
        encrypt.arg("--new-passphrase-file").arg(path("passphrase"));
        run(encrypt.arg(guest).arg(path("office.vhd")))?;
        let said = File::create(path("console"))?;
        let mut boot = Command::new(medley);
        boot.args([
            "boot",
            "--revertible",
            "--windows",
            "--accel",
            "tcg",
            "--grace",
            "5",
        ]);
        boot.args(["--cpus", CPUS, "--memory", MEMORY_MIB, "--session"])
            .arg(path("session"));
        boot.arg("--passphrase-file")
            .arg(path("passphrase"))
            .arg(path("office.vhd"));
        boot.env("DISPLAY", &screen.name).env("TMPDIR", dir.path());
        boot.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::piped());
        boot.stdout(said.try_clone()?).stderr(said);
        let child = boot.spawn().with_context(|| medley.display().to_string())?;
        let mut session = Self {
            medley: medley.to_owned(),
            child,
            dir,
        };
        let apps = session.until_there().and_then(|()| session.apps());
        match apps {
            Ok(apps) => ensure!(apps.contains("XTerm"), "the guest has no XTerm: {apps}"),
            Err(error) => return Err(error.context(session.said())),
        }
        Ok(session)
    }

    fn until_there(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.path("session/windows.sock").exists() {
            interrupt::go_on()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("medley boot ended: {status}");
            }
            ensure!(begun.elapsed() < LIMIT, "the session does not begin");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn apps(&self) -> Result<String> {
        let mut apps = Command::new(&self.medley);
        let limit = LIMIT.as_secs().to_string();
        apps.args(["apps", "--json", "--timeout", &limit]);
        run(apps.arg(self.path("session")))
    }

    /// Runs a command in the guest; what it says.
    pub fn guest(&mut self, command: &str) -> Result<String> {
        let (begin, end) = ("MEDLEY-BEGIN bench", "MEDLEY-END bench 0");
        let keyboard = self.child.stdin.as_mut().context("no keyboard")?;
        keyboard.write_all(format!("bench {command}\n").as_bytes())?;
        let begun = Instant::now();
        loop {
            let said = String::from_utf8_lossy(&std::fs::read(self.path("console"))?).into_owned();
            if let Some((before, _)) = said.split_once(end) {
                let answer = before.rsplit(begin).next().unwrap_or_default();
                return Ok(answer.trim().to_owned());
            }
            interrupt::go_on()?;
            ensure!(begun.elapsed() < LIMIT, "`{command}` does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks for an app, as its menu entry does, and waits until it runs.
    pub fn launch(&self, app: &str) -> Result<()> {
        let mut ask = Command::new(&self.medley);
        ask.arg("run").arg(self.path("session")).arg(app);
        run(&mut ask).map(drop)
    }

    /// How to start a machine that is like this one, on this raw disk, without Medley.
    pub fn twin(&self, raw: &Path, dir: &Path) -> Result<Recipe> {
        let qemu = process::child_of(self.child.id(), "qemu-system")?;
        let theirs = std::fs::read_link(format!("/proc/{qemu}/cwd"))?;
        Recipe::new(qemu, &theirs, raw, dir)
    }

    /// The end of what medley and the guest said.
    pub fn said(&self) -> String {
        let mut said = Vec::new();
        let file = File::open(self.path("console"));
        // What cannot be read is not worth hiding the error that led here.
        let _ = file.and_then(|mut file| file.read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(3000)..]);
        format!("medley said:\n{said}")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let begun = Instant::now();
        // It may have ended by itself, which is as good.
        let _ = kill(pid, Signal::SIGTERM);
        while begun.elapsed() < Duration::from_secs(20) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
