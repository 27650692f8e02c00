//! A child process with a keeper: a thread that spawns it, waits for it, and ends only after it.

use super::lifeline;
use crate::sync::lock;
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How much of a process's complaints is kept.
const STDERR_TAIL: usize = 8 << 10;

/// A running or ended child. Dropping it kills it.
///
/// The kernel kills the child when the thread that forked it ends (see `lifeline.rs`). That
/// thread is the keeper, which waits for the child and does nothing else: so the child's life is
/// bound to this process's, not to that of whichever thread happened to ask for a machine.
#[derive(Debug)]
pub(super) struct Process {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pid: u32,
    // Held over kill and over the reaping wait: a number that was reaped is never signalled.
    child: Mutex<Child>,
    ended: Mutex<Option<Ended>>,
    changed: Condvar,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last of what it complained.
    pub stderr: String,
}

impl Process {
    /// Spawns the command with nothing on its standard input, the descriptors in `inherit` at
    /// their present numbers, and no share in our terminal's signals. `at_end` runs on the
    /// keeper's thread, before anybody who waits is told.
    pub fn spawn(
        mut command: Command,
        inherit: Vec<OwnedFd>,
        at_end: impl FnOnce(&Ended) + Send + 'static,
    ) -> io::Result<Process> {
        // A group of its own: Ctrl-C is ours to handle, with a shutdown in good order.
        command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let (tell, told) = channel();
        thread::Builder::new()
            .name("machine-keeper".into())
            .spawn(move || {
                lifeline::tie(&mut command, inherit);
                let spawned = command.spawn();
                drop(command); // closes what only the child should hold
                let mut child = match spawned {
                    Ok(child) => child,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                let stderr = collect(child.stderr.take());
                let shared = Arc::new(Shared {
                    pid: child.id(),
                    child: Mutex::new(child),
                    ended: Mutex::new(None),
                    changed: Condvar::new(),
                });
                let handed = tell.send(Ok(Arc::clone(&shared)));
                drop(tell);
                if handed.is_err() {
                    shared.kill();
                }
                shared.keep(stderr, at_end);
            })?;
        let shared = told.recv().map_err(io::Error::other)??;
        Ok(Process { shared })
    }

    pub fn pid(&self) -> u32 {
        self.shared.pid
    }

    /// Sends SIGKILL unless it ended already.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// Waits for the end; `None` if the time is over before.
    pub fn wait(&self, timeout: Duration) -> Option<Ended> {
        let ended = lock(&self.shared.ended);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(ended, timeout, |e| e.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // A killed process is gone in a moment, unless the kernel itself is stuck.
        if self.wait(Duration::from_secs(5)).is_none() {
            tracing::warn!(pid = self.pid(), "process does not end after SIGKILL");
        }
    }
}

impl Shared {
    fn kill(&self) {
        if let Err(error) = lock(&self.child).kill() {
            tracing::warn!(pid = self.pid, %error, "cannot kill the process");
        }
    }

    fn keep(&self, stderr: Receiver<String>, at_end: impl FnOnce(&Ended)) {
        let status = self.reap();
        // Whoever inherited the child's standard error could hold it open: not ours to wait for.
        let stderr = stderr
            .recv_timeout(Duration::from_secs(1))
            .unwrap_or_default();
        let ended = Ended {
            code: status.as_ref().ok().and_then(ExitStatus::code),
            signal: status.as_ref().ok().and_then(ExitStatusExt::signal),
            stderr,
        };
        at_end(&ended);
        *lock(&self.ended) = Some(ended);
        self.changed.notify_all();
    }

    /// Waits without reaping first, so that `kill` needs no lock that a long wait would hold.
    fn reap(&self) -> io::Result<ExitStatus> {
        let pid = Pid::from_raw(self.pid.cast_signed());
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), ended) == Err(Errno::EINTR) {}
        lock(&self.child).wait()
    }
}

/// Reads a process's complaints to their end and sends the tail.
fn collect(stderr: Option<ChildStderr>) -> Receiver<String> {
    let (send, receive) = channel();
    let read = move || {
        let mut tail = VecDeque::new();
        let mut buffer = [0; 1024];
        let mut stderr = stderr.into_iter();
        if let Some(mut stderr) = stderr.next() {
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                tracing::debug!(text = %String::from_utf8_lossy(&buffer[..count]).trim_end(), "stderr");
                tail.extend(&buffer[..count]);
                let surplus = tail.len().saturating_sub(STDERR_TAIL);
                tail.drain(..surplus);
            }
        }
        let tail: Vec<u8> = tail.into();
        drop(send.send(String::from_utf8_lossy(&tail).trim().to_owned()));
    };
    if let Err(error) = thread::Builder::new()
        .name("machine-stderr".into())
        .spawn(read)
    {
        tracing::warn!(%error, "no thread to read the process's complaints");
    }
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn spawn(script: &str) -> Process {
        Process::spawn(shell(script), vec![], |_| {}).unwrap()
    }

    fn alive(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn the_end_is_reported_with_its_last_words() {
        let process = spawn("echo first >&2; echo last >&2; exit 7");
        let ended = process.wait(Duration::from_secs(10)).unwrap();
        assert_eq!((ended.code, ended.signal), (Some(7), None));
        assert_eq!(ended.stderr, "first\nlast");
    }

    #[test]
    fn only_the_tail_of_long_complaints_is_kept() {
        let process = spawn("i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done >&2");
        let ended = process.wait(Duration::from_secs(20)).unwrap();
        assert!(ended.stderr.len() <= STDERR_TAIL && ended.stderr.ends_with("line2999"));
    }

    #[test]
    fn waiting_ends_with_the_time() {
        assert!(
            spawn("exec sleep 60")
                .wait(Duration::from_millis(50))
                .is_none()
        );
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = spawn("exec sleep 60");
        let pid = process.pid();
        assert!(alive(pid));
        drop(process);
        assert!(!alive(pid));
    }

    #[test]
    fn it_outlives_the_thread_that_asked_for_it() {
        let process = thread::spawn(|| spawn("exec sleep 60")).join().unwrap();
        assert!(process.wait(Duration::from_millis(300)).is_none());
    }

    #[test]
    fn killing_an_ended_process_harms_nobody() {
        let process = spawn("exit 0");
        process.wait(Duration::from_secs(10)).unwrap();
        process.kill();
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let missing = Command::new("/nonexistent/qemu");
        assert!(Process::spawn(missing, vec![], |_| {}).is_err());
    }

    #[test]
    fn descriptors_arrive_under_their_numbers() {
        use std::os::fd::AsRawFd;
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let command = shell(&format!("echo hello >&{}", theirs.as_raw_fd()));
        let _process = Process::spawn(command, vec![theirs.into()], |_| {}).unwrap();
        let mut text = String::new();
        ours.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        ours.read_to_string(&mut text).unwrap(); // ends: nobody else holds the other side
        assert_eq!(text, "hello\n");
    }
}
