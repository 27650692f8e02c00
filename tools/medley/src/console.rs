//! A machine's life at the console: the guest's serial port on one side, the keyboard or a script on the
//! other, and everything that can end it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use medley_hypervisor::{Event, Events, Exit, Machine, State, StopReason};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::{Failure, Result};
use crate::outlet::{Outlet, To};
use crate::output::Ui;
use crate::script::{Next, Player};
use crate::signals::{self, Asked};

/// The key that ends the machine: Ctrl-].
const END_KEY: u8 = 0x1d;
/// How long to wait for something to happen before looking around.
const TICK: u16 = 100;
/// The same while the guest's words pile up.
const FULL_TICK: u16 = 10;
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
    fn outlet(&self) -> Result<Outlet> {
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
        let console = match self {
            Self::Stdout => own(io::stdout().as_fd()),
            Self::Stderr => own(io::stderr().as_fd()),
            Self::File(file) => file.try_clone(),
        };
        console
            .and_then(|console| Outlet::start(console, own(io::stderr().as_fd())?))
            .map_err(Failure::io("cannot write the guest's console"))
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
    /// The machine, created but not started, or paused.
    pub machine: &'a dyn Machine,
    /// Its events from the beginning.
    pub events: Events,
    /// Its serial port.
    pub serial: UnixStream,
    /// Where its words go.
    pub sink: &'a Sink,
    /// What it is told; goes on where another console left it.
    pub source: &'a mut Source,
    /// Signals.
    pub watch: &'a signals::Watch,
    /// How long a guest may take to shut down when asked.
    pub grace: Duration,
    /// When all must be over.
    pub timeout: Option<Duration>,
    /// What the guest says when it is ready.
    pub marker: Option<String>,
    /// What the machine's session can do beside; none for a machine that is gone at the end.
    pub session: Option<&'a dyn Sleeper>,
    /// For notes.
    pub ui: Ui,
}

/// A session that sleeps instead of ending, and starts again what died.
pub trait Sleeper {
    /// Whether the guest has been silent for too long.
    fn is_silent(&self) -> bool;

    /// The guest is ready, for the first time.
    fn ready(&self) -> Result<()>;
}

/// How a console ended.
pub enum End {
    /// The machine ended as somebody wanted.
    Exit(Exit),
    /// The machine ended as nobody wanted, and has a session that may start it again.
    Unwanted(Exit),
    /// The machine runs, and is to fall asleep; until it stands still its guest may say more.
    Sleep(LastWords),
}

/// How it went.
pub struct Outcome {
    /// Why it is over.
    pub end: End,
    /// From its start until the marker came.
    pub ready: Option<Duration>,
    /// From its start to its end.
    pub total: Duration,
}

/// The end of a console whose machine still runs: what its guest says goes nowhere until somebody takes it.
pub struct LastWords {
    serial: UnixStream,
    outlet: Outlet,
    /// The last byte that the guest said.
    last: u8,
    /// Whether words of ours follow the guest's, on a line of their own.
    shared: bool,
    until: Option<Instant>,
}

impl LastWords {
    /// Passes on what the guest has said meanwhile, and waits for whoever reads it, as a console does at its end:
    /// until a signal comes or the time is over. Gives the connection back, for a machine that goes on.
    pub fn pass_on(mut self, watch: &signals::Watch, ui: Ui) -> UnixStream {
        let mut buffer = [0; 16 << 10];
        // A guest that did not fall asleep could go on for ever.
        while !self.outlet.is_full() {
            match self.serial.read(&mut buffer) {
                Ok(count @ 1..) => {
                    self.outlet.write(To::Console, &buffer[..count]);
                    self.last = buffer[count - 1];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        if self.last != b'\n' && self.shared {
            self.outlet.write(To::Console, b"\r\n");
        }
        while self.outlet.stuck().is_some() {
            let late = self.until.is_some_and(|until| Instant::now() > until);
            if late || watch.take() == Some(Asked::End) {
                ui.note("medley: nobody took what the guest said at last; it is lost");
                break;
            }
            self.outlet.wait(Duration::from_millis(TICK.into()));
        }
        self.serial
    }
}

impl Console<'_> {
    /// Starts the machine and stays with it to its end, or until it is to sleep. An end that nobody wanted
    /// is an error, unless there is a session.
    pub fn run(self) -> Result<Outcome> {
        self.serial
            .set_nonblocking(true)
            .map_err(Failure::io("the guest's console"))?;
        let outlet = self.sink.outlet()?;
        match self.machine.state() {
            State::Created => self.machine.start()?,
            State::Paused => self.machine.resume()?,
            _ => {}
        }
        let began = Instant::now();
        let marker = self.marker.as_ref().map(|text| Marker::new(text));
        let mut run = Run {
            began,
            announce: false,
            asleep: false,
            open: true,
            typed: Vec::new(),
            ending: None,
            marker,
            ready: None,
            // One that was halted before anybody listened.
            halted: (self.machine.state() == State::Faulted).then(Instant::now),
            last: b'\n',
            input_open: true,
            outlet,
            cut: None,
            console: self,
        };
        let end = run.until_end();
        let total = began.elapsed();
        // A guest that falls asleep in the middle of a line may say the rest of it yet.
        if !matches!(end, Ok(None)) {
            run.end_line();
        }
        let cut = run.drain();
        let end = end?;
        let Run {
            ending,
            ready,
            console,
            outlet,
            last,
            ..
        } = run;
        if let Some(Ending {
            reason: Reason::Failure(failure),
            ..
        }) = ending
        {
            return Err(failure);
        }
        let Some(exit) = end else {
            let words = LastWords {
                serial: console.serial,
                outlet,
                last,
                shared: !matches!(console.sink, Sink::File(_)),
                until: console.timeout.map(|timeout| began + timeout),
            };
            return Ok(Outcome {
                end: End::Sleep(words),
                ready,
                total,
            });
        };
        let wanted = match exit.reason {
            StopReason::GuestShutdown => true,
            StopReason::Asked | StopReason::Killed => ending.is_some(),
            _ => false,
        };
        let end = match (wanted, &console.session) {
            (true, _) => End::Exit(exit),
            (false, Some(_)) => End::Unwanted(exit),
            (false, None) => return Err(Failure::failed(format!("the machine ended: {exit}"))),
        };
        if wanted
            && let Source::Script(player) = &*console.source
            && let Some(missed) = player.missed()
        {
            return Err(missed);
        }
        if let Some(cut) = cut {
            return Err(cut);
        }
        Ok(Outcome { end, ready, total })
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
    /// Whether the session has still to be told that the guest is ready.
    announce: bool,
    /// Whether the machine is to fall asleep.
    asleep: bool,
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
    /// What the guest said and nobody has taken yet.
    outlet: Outlet,
    /// Why the last words are no longer waited for.
    cut: Option<Failure>,
}

impl Run<'_> {
    /// How the machine ended; `None` when it is to sleep.
    fn until_end(&mut self) -> Result<Option<Exit>> {
        let mut ended: Option<(Exit, Instant)> = None;
        loop {
            self.wait()?;
            self.listen();
            if let Some((exit, since)) = &ended {
                let late = match self.outlet.is_full() {
                    true => self.gives_up(),
                    false => since.elapsed() > LAST_WORDS,
                };
                if !self.open || late {
                    return Ok(Some(exit.clone()));
                }
                continue;
            }
            self.type_ahead();
            self.events();
            match self.console.watch.take() {
                Some(Asked::End) => self.end(Reason::Failure(stopped_by_signal()))?,
                Some(Asked::Sleep) => self.sleep(),
                None => {}
            }
            if std::mem::take(&mut self.announce)
                && let Some(session) = self.console.session
            {
                session.ready()?;
            }
            self.play()?;
            self.deadlines()?;
            self.listen_for_life()?;
            if self.asleep && self.ending.is_none() {
                return Ok(None);
            }
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
        // A guest that nobody listens to waits, and so do its words.
        let full = self.outlet.is_full();
        if self.open && !(full && self.typed.is_empty()) {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, !full);
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
        let tick = if full { FULL_TICK } else { TICK };
        match poll(&mut fds, PollTimeout::from(tick)) {
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
        while self.open && !self.outlet.is_full() {
            let bytes = match self.console.serial.read(&mut buffer) {
                Ok(count @ 1..) => &buffer[..count],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => {
                    self.open = false;
                    return;
                }
            };
            self.outlet.write(To::Console, bytes);
            self.last = bytes.last().copied().unwrap_or(self.last);
            if self.ready.is_none()
                && self
                    .marker
                    .as_mut()
                    .is_some_and(|marker| marker.seen(bytes))
            {
                self.ready = Some(self.began.elapsed());
                self.announce = true;
            }
            if let Source::Script(player) = &mut *self.console.source {
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
        let count = match nix::unistd::read(io::stdin(), &mut buffer) {
            Ok(count) => count,
            // Nothing yet, which is not the end.
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(()),
            Err(_) => 0,
        };
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
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.typed.clear(),
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
            && let Source::Script(player) = &mut *self.console.source
        {
            match player.next(Instant::now()) {
                Ok(Next::Wait) => break,
                Ok(Next::Send(bytes)) => self.typed.extend(bytes),
                Ok(Next::Sleep) => {
                    self.sleep();
                    break;
                }
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

    /// Ends a machine whose guest is dead inside; its session starts it again.
    fn listen_for_life(&mut self) -> Result<()> {
        if self.ending.is_none() && self.console.session.is_some_and(Sleeper::is_silent) {
            self.note("medley: the guest is silent; ending the machine");
            self.console.machine.kill()?;
        }
        Ok(())
    }

    /// Lets the console end with the machine running, for the session to put it to sleep.
    fn sleep(&mut self) {
        match self.console.session {
            Some(_) => self.asleep = true,
            None => {
                self.note("medley: this machine cannot sleep: it was started without --session")
            }
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
        self.end_line();
        let end = if raw { "\r\n" } else { "\n" };
        self.outlet
            .write(To::Notes, format!("{text}{end}").as_bytes());
    }

    /// Ends the line that the guest left open, so that ours begins on its own.
    fn end_line(&mut self) {
        if self.last != b'\n' && !matches!(self.console.sink, Sink::File(_)) {
            self.outlet.write(To::Console, b"\r\n");
        }
        self.last = b'\n';
    }

    /// Until everything the guest said is written, or nobody takes it and there is a reason to go; that
    /// is returned then.
    fn drain(&mut self) -> Option<Failure> {
        while self.outlet.stuck().is_some() {
            if self.gives_up() {
                return self.cut.take();
            }
            self.outlet.wait(Duration::from_millis(TICK.into()));
        }
        None
    }

    /// Whether nobody takes the words of a machine that has ended, and something asks to go on.
    fn gives_up(&mut self) -> bool {
        let late = |timeout| self.began.elapsed() > timeout;
        if self.console.watch.take() == Some(Asked::End) {
            self.cut = Some(stopped_by_signal());
        } else if self.cut.is_none() && self.console.timeout.is_some_and(late) {
            self.cut = Some(Failure::failed(
                "the machine ended, but nobody reads what it said at the end",
            ));
        }
        let failed = matches!(
            self.ending,
            Some(Ending {
                reason: Reason::Failure(_),
                ..
            })
        );
        (failed || self.cut.is_some()) && self.outlet.stuck().is_some_and(|time| time > LAST_WORDS)
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
