//! Processes as the kernel sees them: time on a processor, how often they fell asleep, memory, children.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// A process that is killed with this: one that leaves nothing to put away.
#[derive(Debug)]
pub struct Killed(Child);

impl Killed {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        // A person's Ctrl-C is for us alone; we end them one by one.
        let child = command.process_group(0).spawn();
        child
            .map(Self)
            .with_context(|| format!("cannot start {}", command.get_program().display()))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The process itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// Then, and only then.
    pub fn lives(&self, name: &str) -> Result<()> {
        // Not yet waited for, it keeps its number.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()));
        let state = stat
            .unwrap_or_default()
            .rsplit(") ")
            .next()
            .and_then(|s| s.chars().next());
        ensure!(!matches!(state, None | Some('Z' | 'X')), "{name} has ended");
        Ok(())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The files of this name of all its threads.
fn of_threads(pid: u32, name: &str) -> Result<Vec<String>> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let threads = std::fs::read_dir(&folder).with_context(|| format!("process {pid} is gone"))?;
    let files = threads.flatten().map(|thread| thread.path().join(name));
    // A thread may end meanwhile.
    Ok(files
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect())
}

/// Time on a processor so far, in all threads that live, to the nanosecond.
///
/// # Errors
/// The process is gone, or the kernel keeps no such account.
pub fn run_time(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for told in of_threads(pid, "schedstat")? {
        let first = told
            .split_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok());
        sum += first.context("the kernel keeps no account of its scheduling")?;
    }
    Ok(Duration::from_nanos(sum))
}

/// How often its threads have waited for something so far; each was woken as often.
///
/// # Errors
/// The process is gone.
pub fn sleeps(pid: u32) -> Result<u64> {
    let told = of_threads(pid, "status")?;
    Ok(told
        .iter()
        .filter_map(|status| field(status, "voluntary_ctxt_switches:"))
        .sum())
}

/// Memory in use, in bytes.
///
/// # Errors
/// The process is gone.
pub fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    field(&status, "VmRSS:")
        .map(|kib| kib << 10)
        .context("the system does not tell")
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The child of a process whose command line holds `word`.
///
/// # Errors
/// There is none.
pub fn child_of(parent: u32, word: &str) -> Result<u32> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        // The name may hold spaces; what follows its closing bracket does not.
        let rest = stat.rsplit(')').next();
        let above = rest.and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if above == Some(parent) && String::from_utf8_lossy(&read("cmdline")).contains(word) {
            return Ok(pid);
        }
    }
    bail!("process {parent} has no child {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_is_seen_asleep() {
        let mut command = Command::new("sh");
        let mut sleeper = Killed::start(command.args(["-c", "sleep 60 & wait"])).unwrap();
        let found = |_| child_of(sleeper.id(), "sleep").ok();
        let sleep = (0..200).find_map(|n| {
            std::thread::sleep(Duration::from_millis(u64::from(n > 0) * 10));
            found(n)
        });
        let sleep = sleep.unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let before = (run_time(sleep).unwrap(), sleeps(sleep).unwrap());
        assert!(before.1 > 0 && memory(sleep).unwrap() > 0);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!((run_time(sleep).unwrap(), sleeps(sleep).unwrap()), before);
        sleeper.lives("sh").unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(sleep.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        sleeper.child().wait().unwrap();
        assert!(sleeper.lives("sh").is_err() && child_of(sleeper.id(), "sleep").is_err());
    }
}
