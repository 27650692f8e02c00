//! The host's end of a guest's serial line, with a limit on every wait.

use crate::words::READY;
use anyhow::{Context, Result, bail, ensure};
use medley_hypervisor::Machine;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All that the guests of a bench have said, for the report of a failure.
pub(crate) type Transcript = Arc<Mutex<String>>;

pub(crate) struct Console {
    stream: UnixStream,
    heard: String,
    commands: u32,
    patience: Duration,
    transcript: Transcript,
}

impl Console {
    pub fn of(
        machine: &dyn Machine,
        patience: Duration,
        transcript: Transcript,
    ) -> Result<Console> {
        Ok(Console {
            stream: machine.serial()?,
            heard: String::new(),
            commands: 0,
            patience,
            transcript,
        })
    }

    /// Waits until the guest takes commands.
    pub fn ready(&mut self) -> Result<()> {
        self.wait_for(READY).context("the guest is not ready")?;
        self.wait_for("\n").map(drop)
    }

    /// Runs a command in the guest; what it printed.
    pub fn run(&mut self, command: &str) -> Result<String> {
        let id = self.ask(command)?;
        self.answer(&id)
            .with_context(|| format!("the guest was asked `{command}`"))
    }

    /// Asks, and does not wait for the answer; the question's number.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        // A new machine must not be answered with what the old one's guest still had to say.
        let id = format!("q{}-{}", std::process::id(), self.commands);
        self.stream
            .write_all(format!("{id} {command}\n").as_bytes())?;
        Ok(id)
    }

    /// The answer to a question.
    pub fn answer(&mut self, id: &str) -> Result<String> {
        self.wait_for(&format!("MEDLEY-BEGIN {id}\n"))?;
        let said = self.wait_for(&format!("MEDLEY-END {id} "))?;
        let status = self.wait_for("\n")?;
        let said = said.trim();
        ensure!(status == "0", "it failed with status {status}: {said:?}");
        Ok(said.to_owned())
    }

    /// Goes on with the questions of another console, so that no number is used twice.
    pub fn after(mut self, other: &Console) -> Console {
        self.commands = other.commands;
        self
    }

    /// Nothing comes for so long.
    pub fn silent(&mut self, time: Duration) -> Result<()> {
        match self.hear(Instant::now() + time)? {
            None if self.heard.is_empty() => Ok(()),
            _ => bail!("the guest should stand still, and says {:?}", self.heard),
        }
    }

    fn wait_for(&mut self, end: &str) -> Result<String> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(at) = self.heard.find(end) {
                let before = self.heard[..at].to_owned();
                self.heard.drain(..at + end.len());
                return Ok(before);
            }
            if self.hear(deadline)?.is_none() {
                bail!("no {end:?} within {:?}", self.patience);
            }
        }
    }

    /// Takes what comes next; `None` if nothing does until then.
    fn hear(&mut self, deadline: Instant) -> Result<Option<()>> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the serial line was closed"),
            Ok(n) => {
                let text = String::from_utf8_lossy(&buffer[..n]).replace('\r', "");
                self.heard.push_str(&text);
                let transcript = self.transcript.lock();
                transcript
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
                Ok(Some(()))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error).context("the serial line"),
        }
    }
}
