//! A machine's life at the console: the guest's serial port on one side, the keyboard or a script on the
//! other, and everything that can end it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use medley_hypervisor::{Event, Events, Exit, Machine, State, StopReason};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::{Failure, Result};
use crate::output::Ui;
use crate::script::{Next, Player};
use crate::signals;

/// The key that ends the machine: Ctrl-].
const END_KEY: u8 = 0x1d;
/// How long to wait for something to happen before looking around.
const TICK: u16 = 100;
/// Keys that wait for a guest that does not read.
const TYPED_AHEAD: usize = 4096;
/// How long the last words may take to arrive when the machine has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a hypervisor may take to end in good order before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How often a machine that its disk halted is let run again.
const RETRY: Duration = Duration::from_secs(5);

/// Where the guest's words go.
pub enum Sink {
    /// To standard output.
    Stdout,
    /// To standard error, because the result goes to standard output.
    Stderr,
    /// To a file.
    File(File),
}

impl Sink {
    /// Ends the line that the guest left open, so that ours begins on its own.
    fn finish(&mut self, last: u8) {
        if last != b'\n' && !matches!(self, Self::File(_)) {
            let _ = self.write(b"\r\n");
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout()
                .write_all(bytes)
                .and_then(|()| io::stdout().flush()),
            Self::Stderr => io::stderr().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
        }
    }
}

/// Where the guest's input comes from.
pub enum Source {
    /// Nowhere.
    Nothing,
    /// Standard input; `raw` if it is a terminal that was made so.
    Keyboard {
        /// Whether every key arrives, Ctrl-] among them.
        raw: bool,
    },
    /// A script.
    Script(Box<Player>),
}

/// Why somebody other than the guest ends the machine.
enum Reason {
    /// The user or the script asked for it: as good as a shutdown.
    Asked,
    /// It ends because of this.
    Failure(Failure),
}

/// A machine that was told to shut down.
struct Ending {
    reason: Reason,
    deadline: Instant,
}

/// A machine and those who watch it.
pub struct Console<'a> {
    /// The machine, created but not started.
    pub machine: &'a dyn Machine,
    /// Its events from the beginning.
    pub events: Events,
    /// Its serial port.
    pub serial: UnixStream,
    /// Where its words go.
    pub sink: Sink,
    /// What it is told.
    pub source: Source,
    /// Signals.
    pub watch: &'a signals::Watch,
    /// How long a guest may take to shut down when asked.
    pub grace: Duration,
    /// When all must be over.
    pub timeout: Option<Duration>,
    /// What the guest says when it is ready.
    pub marker: Option<String>,
    /// For notes.
    pub ui: Ui,
}

/// How it went.
pub struct Outcome {
    /// How the machine ended.
    pub exit: Exit,
    /// From its start until the marker came.
    pub ready: Option<Duration>,
    /// From its start to its end.
    pub total: Duration,
}

impl Console<'_> {
    /// Starts the machine and stays with it to its end. An end that nobody wanted is an error.
    pub fn run(self) -> Result<Outcome> {
        self.serial
            .set_nonblocking(true)
            .map_err(Failure::io("the guest's console"))?;
        self.machine.start()?;
        let began = Instant::now();
        let marker = self.marker.as_ref().map(|text| Marker::new(text));
        let mut run = Run {
            began,
            open: true,
            typed: Vec::new(),
            ending: None,
            marker,
            ready: None,
            halted: None,
            last: b'\n',
            input_open: true,
            console: self,
        };
        let exit = run.until_end();
        run.console.sink.finish(run.last);
        let exit = exit?;
        let total = began.elapsed();
        let Run {
            ending,
            ready,
            console,
            ..
        } = run;
        match (ending, exit.reason) {
            (
                Some(Ending {
                    reason: Reason::Failure(failure),
                    ..
                }),
                _,
            ) => return Err(failure),
            (Some(_), StopReason::Asked | StopReason::Killed) => {}
            (_, StopReason::GuestShutdown) => {}
            _ => return Err(Failure::failed(format!("the machine ended: {exit}"))),
        }
        if let Source::Script(player) = &console.source
            && let Some(missed) = player.missed()
        {
            return Err(missed);
        }
        Ok(Outcome { exit, ready, total })
    }
}

/// A text that is looked for in a stream.
struct Marker {
    text: Vec<u8>,
    tail: Vec<u8>,
}

impl Marker {
    fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            tail: Vec::new(),
        }
    }

    fn seen(&mut self, bytes: &[u8]) -> bool {
        self.tail.extend_from_slice(bytes);
        let seen = self
            .tail
            .windows(self.text.len().max(1))
            .any(|window| window == self.text);
        let surplus = (self.tail.len() + 1).saturating_sub(self.text.len());
        self.tail.drain(..surplus);
        seen
    }
}

/// A run of a machine.
struct Run<'a> {
    console: Console<'a>,
    began: Instant,
    /// Whether the serial port is still connected.
    open: bool,
    /// Whether there may be more input.
    input_open: bool,
    /// What the guest has still to read.
    typed: Vec<u8>,
    ending: Option<Ending>,
    marker: Option<Marker>,
    ready: Option<Duration>,
    /// Since the disk halted the machine: when to let it run again.
    halted: Option<Instant>,
    /// The last byte the guest said.
    last: u8,
}

impl Run<'_> {
    fn until_end(&mut self) -> Result<Exit> {
        let mut ended: Option<(Exit, Instant)> = None;
        loop {
            self.wait()?;
            self.listen();
            if let Some((exit, since)) = &ended {
                if !self.open || since.elapsed() > LAST_WORDS {
                    return Ok(exit.clone());
                }
                continue;
            }
            self.type_ahead();
            self.events();
            if self.console.watch.take() {
                self.end(Reason::Failure(stopped_by_signal()))?;
            }
            self.play()?;
            self.deadlines()?;
            ended = self
                .console
                .machine
                .wait_exit(Duration::ZERO)
                .map(|exit| (exit, Instant::now()));
            if ended.is_none() && !self.open {
                // The port closes a moment before the end is known.
                std::thread::sleep(Duration::from_millis(TICK.into()));
            }
        }
    }

    /// Until something happens or a tick has gone by; takes what was typed.
    fn wait(&mut self) -> Result<()> {
        let keyboard = matches!(self.console.source, Source::Keyboard { .. })
            && self.input_open
            && self.typed.len() < TYPED_AHEAD;
        let stdin = io::stdin();
        let mut wanted: Vec<(BorrowedFd<'_>, PollFlags)> =
            vec![(self.console.watch.as_fd(), PollFlags::POLLIN)];
        if self.open {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !self.typed.is_empty());
            wanted.push((self.console.serial.as_fd(), flags));
        }
        if keyboard {
            wanted.push((stdin.as_fd(), PollFlags::POLLIN));
        }
        let mut fds: Vec<PollFd<'_>> = wanted
            .into_iter()
            .map(|(fd, flags)| PollFd::new(fd, flags))
            .collect();
        match poll(&mut fds, PollTimeout::from(TICK)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Failure::io("cannot wait for the guest's console")(error)),
        }
        let typed = keyboard && fds.last().and_then(PollFd::any).unwrap_or(false);
        drop(fds);
        if typed { self.keys() } else { Ok(()) }
    }

    /// Takes what the guest said.
    fn listen(&mut self) {
        let mut buffer = [0; 16 << 10];
        while self.open {
            let bytes = match self.console.serial.read(&mut buffer) {
                Ok(count @ 1..) => &buffer[..count],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => {
                    self.open = false;
                    return;
                }
            };
            if let Err(error) = self.console.sink.write(bytes) {
                // The guest goes on, whoever listens.
                tracing::debug!(%error, "the guest's words cannot be written");
            }
            self.last = bytes.last().copied().unwrap_or(self.last);
            if self.ready.is_none()
                && self
                    .marker
                    .as_mut()
                    .is_some_and(|marker| marker.seen(bytes))
            {
                self.ready = Some(self.began.elapsed());
            }
            if let Source::Script(player) = &mut self.console.source {
                player.heard(bytes);
            }
            if bytes.len() < buffer.len() {
                return;
            }
        }
    }

    /// Takes what the user typed.
    fn keys(&mut self) -> Result<()> {
        let mut buffer = [0; 1024];
        // Not through `Stdin`, whose buffer `poll` does not know.
        let count = nix::unistd::read(io::stdin(), &mut buffer).unwrap_or(0);
        let raw = matches!(self.console.source, Source::Keyboard { raw: true });
        self.input_open = count > 0;
        let keys = &buffer[..count];
        match keys.iter().position(|key| raw && *key == END_KEY) {
            Some(at) => {
                self.typed.extend_from_slice(&keys[..at]);
                self.end(Reason::Asked)
            }
            None => {
                self.typed.extend_from_slice(keys);
                Ok(())
            }
        }
    }

    /// Hands the guest as much as it takes.
    fn type_ahead(&mut self) {
        while self.open && !self.typed.is_empty() {
            match self.console.serial.write(&self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn events(&mut self) {
        while let Ok(event) = self.console.events.try_recv() {
            tracing::debug!(?event, "machine");
            if let Event::DiskError {
                write,
                halted: true,
                reason,
            } = event
                && self.halted.is_none()
            {
                let what = if write { "write" } else { "read" };
                self.note(&format!(
                    "medley: the machine is halted: its disk cannot {what} ({reason}); trying again"
                ));
                self.halted = Some(Instant::now() + RETRY);
            }
        }
        if self.halted.is_some_and(|at| Instant::now() > at) {
            if self.console.machine.state() == State::Faulted {
                let resumed = self.console.machine.resume();
                tracing::info!(?resumed, "letting the halted machine run again");
                self.halted = Some(Instant::now() + RETRY);
            } else {
                self.note("medley: the machine runs again");
                self.halted = None;
            }
        }
    }

    /// Goes on with the script.
    fn play(&mut self) -> Result<()> {
        while self.ending.is_none()
            && let Source::Script(player) = &mut self.console.source
        {
            match player.next(Instant::now()) {
                Ok(Next::Wait) => break,
                Ok(Next::Send(bytes)) => self.typed.extend(bytes),
                Ok(Next::PowerOff | Next::Done) => self.end(Reason::Asked)?,
                Ok(Next::Stop) => {
                    self.end(Reason::Asked)?;
                    self.end(Reason::Asked)?;
                }
                Err(failure) => {
                    self.end(Reason::Failure(failure))?;
                    // It may be stuck, and nobody is there to see it shut down.
                    self.end(Reason::Asked)?;
                }
            }
            self.type_ahead();
        }
        Ok(())
    }

    fn deadlines(&mut self) -> Result<()> {
        let now = Instant::now();
        match (&self.ending, self.console.timeout) {
            (Some(ending), _) if now > ending.deadline => self.end(Reason::Asked),
            (None, Some(timeout)) if now > self.began + timeout => {
                let missing = match (&self.marker, self.ready, &self.console.marker) {
                    (Some(_), None, Some(marker)) => format!(", and `{marker}` never came"),
                    _ => String::new(),
                };
                let what = format!(
                    "the machine still ran after {} s{missing}",
                    timeout.as_secs_f64()
                );
                self.end(Reason::Failure(Failure::failed(what)))
            }
            _ => Ok(()),
        }
    }

    /// Ends the machine: politely the first time, at once the second.
    fn end(&mut self, reason: Reason) -> Result<()> {
        if self.ending.is_none() {
            let deadline = Instant::now() + self.console.grace;
            self.ending = Some(Ending { reason, deadline });
            match self.console.machine.powerdown() {
                Ok(()) => {
                    self.note("medley: asked the guest to shut down; once more ends it at once");
                    return Ok(());
                }
                // It stands still, or has ended: no guest to ask.
                Err(error) => tracing::debug!(%error, "powerdown"),
            }
        }
        self.console.machine.stop(STOP_WITHIN)?;
        Ok(())
    }

    /// Says something on a line of its own, whatever the guest has on its line.
    fn note(&mut self, text: &str) {
        if !self.console.ui.notes() {
            return;
        }
        let raw = matches!(self.console.source, Source::Keyboard { raw: true });
        self.console.sink.finish(self.last);
        self.last = b'\n';
        let end = if raw { "\r" } else { "" };
        self.console.ui.note(format_args!("{text}{end}"));
    }
}

fn stopped_by_signal() -> Failure {
    Failure::interrupted(signals::received().unwrap_or(signal_hook::consts::SIGTERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_seen_across_pieces() {
        for split in 0..=9 {
            let mut marker = Marker::new("ready");
            let text = b"xxreadyxx";
            assert!(
                marker.seen(&text[..split]) | marker.seen(&text[split..]),
                "{split}"
            );
        }
        let mut marker = Marker::new("ready");
        assert!(!marker.seen(b"rea") && !marker.seen(b"xdy"));
        assert!(marker.tail.len() < 5);
    }
}
