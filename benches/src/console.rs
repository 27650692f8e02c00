//! A guest's serial console, on which it says that it is ready and then runs commands.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::interrupt;
use anyhow::{Context, Result, ensure};

/// What a guest says when it takes commands.
const READY: &str = "MEDLEY-GUEST-READY";
/// Software runs these guests, perhaps on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A connection to a guest.
pub struct Console {
    stream: UnixStream,
    heard: String,
    commands: u32,
}

impl Console {
    /// A console on the machine's serial port.
    ///
    /// # Errors
    /// It cannot be told to wait.
    pub fn on(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self {
            stream,
            heard: String::new(),
            commands: 0,
        })
    }

    /// Waits until the guest takes commands.
    ///
    /// # Errors
    /// It does not within three minutes, or the console ended.
    pub fn ready(&mut self) -> Result<()> {
        self.wait_for(READY).map(drop)
    }

    /// Runs a shell command, which must succeed; what it says.
    ///
    /// # Errors
    /// It fails, or does not end.
    pub fn run(&mut self, command: &str) -> Result<String> {
        let id = self.ask(command)?;
        self.answer(&id, command)
    }

    /// Asks for a shell command and does not wait; what to ask [`Console::answer`] for.
    ///
    /// # Errors
    /// The console broke.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        // An answer of before a sleep is none to what was asked after it.
        let id = format!("{:p}-{}", &self.heard, self.commands);
        self.stream
            .write_all(format!("{id} {command}\n").as_bytes())?;
        Ok(id)
    }

    /// Waits for the end of a command that was asked for; what it says.
    ///
    /// # Errors
    /// It fails, or does not end.
    pub fn answer(&mut self, id: &str, command: &str) -> Result<String> {
        let said = self.wait_for(&format!("MEDLEY-END {id} "))?;
        let status = self.wait_for("\n")?;
        ensure!(status == "0", "`{command}` ended with {status}: {said}");
        Ok(said)
    }

    /// Waits until the guest has said `end`; what it said before.
    fn wait_for(&mut self, end: &str) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.heard.find(end) {
                let before = self.heard[..at].to_owned();
                self.heard.drain(..at + end.len());
                return Ok(before);
            }
            interrupt::go_on()?;
            let heard = &self.heard;
            ensure!(Instant::now() < deadline, "no {end:?}, but:\n{heard}");
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => anyhow::bail!("the console ended:\n{heard}"),
                Ok(n) => self
                    .heard
                    .push_str(&String::from_utf8_lossy(&buffer[..n]).replace('\r', "")),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e).context("the console broke"),
            }
        }
    }
}
