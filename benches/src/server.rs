//! Servers that a bench starts: they end with it, and their processor time can be read.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::interrupt;

/// A running server. Dropping it ends it.
pub struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts `command` and waits until `ready` says so, at most 20 seconds.
    pub fn start(name: &str, mut command: Command, ready: impl Fn() -> bool) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A person's Ctrl-C is for us alone; we end the servers one by one.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let mut server = Self {
            child,
            name: name.into(),
        };
        let start = Instant::now();
        while !ready() {
            interrupt::go_on()?;
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended before it was ready: {status}");
            }
            if start.elapsed() > Duration::from_secs(20) {
                bail!("{name} was not ready after 20 s");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Who it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Processor time used so far, in all threads.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold spaces; what follows its closing bracket does not.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = rest
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok())
            .sum();
        let hz = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as u64;
        Ok(Duration::from_millis(ticks * 1000 / hz))
    }

    /// Starts [`Server::peak_memory`] anew, from what is in use now.
    pub fn forget_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
            .context("cannot reset the peak of its memory")
    }

    /// The most memory it had in use at once, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).context("the system does not tell")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program is, searching where Debian puts the ones for administrators too.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir: PathBuf| dir.join(program))
        .find(|file| file.is_file())
}

/// Runs a program to its end; its output, or an error with everything it said. A signal that asks us to
/// stop ends it.
pub fn run(command: &mut Command) -> Result<String> {
    interrupt::go_on()?;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    // We wait without polling, since some callers take the time.
    let (ended, until_ended) = channel::<()>();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let pause = Duration::from_millis(50);
            while until_ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if interrupt::raised() {
                    // It may have just ended by itself, which is as good.
                    let _ = kill(pid, Signal::SIGTERM);
                    return;
                }
            }
        });
        let output = child.wait_with_output();
        drop(ended);
        output
    })
    .with_context(|| format!("cannot wait for {:?}", command.get_program()))?;
    interrupt::go_on()?;
    if !output.status.success() {
        bail!(
            "{:?} failed: {}\n{}{}",
            command.get_program(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A path as text, for arguments of programs that take options in words.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
