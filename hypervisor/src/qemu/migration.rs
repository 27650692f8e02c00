//! A machine's state on its way out of one QEMU and into another: through a pipe, never a file.

use super::machine::QemuMachine;
use crate::{Error, ErrorKind, Machine, Result};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long nothing may move before a migration is given up: whoever is at the other end of the
/// pipe may have a slow disk, or may be gone for good.
const STALL: Duration = Duration::from_secs(30);
/// How long a machine may take in a state, which QEMU tells nothing of on the way.
const INCOMING_WITHIN: Duration = Duration::from_secs(600);
/// How often it is looked whether anything moves.
const GLANCE: Duration = Duration::from_secs(1);
/// As much as an unprivileged user may ask of a pipe: fewer turns between the two processes.
const PIPE: i32 = 1 << 20;
/// What QEMU calls the descriptor.
const NAME: &str = "state";

impl QemuMachine {
    /// Writes the state of the machine, which is paused.
    pub(super) fn hand_out(&self, to: PipeWriter) -> Result<()> {
        self.hand(to.as_fd())?;
        // QEMU has its own now: when it ends, the reader sees the end.
        drop(to);
        self.migrate("migrate", "save", STALL)
    }

    /// Takes in the state of another machine.
    pub fn take_in(&self, from: PipeReader) -> Result<()> {
        self.expect_something(&from)?;
        // QEMU takes it in before it answers what follows.
        self.listen_to_serial()?;
        self.hand(from.as_fd())?;
        drop(from);
        self.migrate("migrate-incoming", "restore", INCOMING_WITHIN)?;
        self.life.restored();
        Ok(())
    }

    /// Waits for the first byte: QEMU waits for ever where the pipe ends before it.
    fn expect_something(&self, from: &PipeReader) -> Result<()> {
        let mut pipe = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(STALL).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut pipe, limit)
            .map_err(|error| Error::io(format!("restore machine {}", self.name()), error.into()))?;
        let has = |flag| pipe[0].revents().is_some_and(|found| found.contains(flag));
        match ready {
            0 => Err(self.failed(ErrorKind::Timeout, "restore", "no state came")),
            _ if has(PollFlags::POLLIN) => Ok(()),
            _ => Err(self.failed(ErrorKind::State, "restore", "its state is empty")),
        }
    }

    fn hand(&self, pipe: std::os::fd::BorrowedFd<'_>) -> Result<()> {
        // A wish: it works with less.
        let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE));
        self.hold.hand_over(NAME, pipe, GLANCE * 5)
    }

    fn migrate(&self, command: &str, what: &str, stall: Duration) -> Result<()> {
        self.life.migrating();
        self.tell(command, json!({"uri": format!("fd:{NAME}")}))?;
        let (mut moved, mut since) = (Value::Null, Instant::now());
        loop {
            let over = self.life.wait_migration(GLANCE);
            if over.as_deref() == Some("completed") {
                return Ok(());
            }
            // A machine that ended says so here.
            let now = match self.tell("query-migrate", Value::Null) {
                // It may wait for whoever is at the other end of the pipe, like the machine.
                Err(error) if error.kind() == ErrorKind::Timeout && since.elapsed() < stall => {
                    continue;
                }
                now => now?,
            };
            if let Some(status) = over {
                let words = now["error-desc"].as_str().unwrap_or(&status);
                return Err(self.failed(ErrorKind::State, what, words));
            }
            if now["ram"]["transferred"] != moved {
                (moved, since) = (now["ram"]["transferred"].clone(), Instant::now());
            } else if since.elapsed() > stall {
                drop(self.tell("migrate_cancel", Value::Null));
                let words = format!("nothing moved for {} s", stall.as_secs());
                return Err(self.failed(ErrorKind::Timeout, what, &words));
            }
        }
    }

    fn failed(&self, kind: ErrorKind, what: &str, words: &str) -> Error {
        Error::new(kind, format!("{what} machine {}", self.name()), words)
    }
}
