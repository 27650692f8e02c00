//! The hostile guest: three channels, a word for each thing that an attack says, and somebody who tells it when.

mod heard;
mod places;
mod says;

pub use heard::Heard;
pub use places::Places;
pub use says::{id, rect};

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use medley_link::{End, Error, Greets, Progress};
use medley_wire::{Channel, Features, Hello, Untrusted, WindowId, bulk, control, gui};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::scenarios;

/// How long a host is waited for: it may be started anew, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a hello may stay unanswered.
const UNANSWERED: Duration = Duration::from_secs(10);

/// An open channel.
type Gui = End<gui::FromHost<'static>, gui::FromGuest<'static>>;
type Control = End<control::FromHost<'static>, control::FromGuest<'static>>;
type Bulk = End<bulk::FromHost<'static>, bulk::FromGuest<'static>>;

#[derive(Debug)]
struct Line {
    gui: Gui,
    control: Control,
    bulk: Bulk,
}

/// The host hung up: often what an attack is for.
#[derive(Debug, thiserror::Error)]
#[error("the host hung up")]
pub struct Cut;

/// It.
#[derive(Debug)]
pub struct Guest {
    places: Places,
    line: Option<Line>,
    /// What was heard on this connection.
    pub heard: Heard,
    frames: BTreeMap<WindowId, u32>,
    /// Windows that it has made, and those that it has destroyed and whose numbers are not free yet.
    made: BTreeSet<u32>,
    destroyed: BTreeSet<WindowId>,
    /// Lines that it was told, and the beginning of the next.
    cues: u32,
    begun: Vec<u8>,
}

impl Guest {
    /// One that is connected to nobody yet.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self {
            places,
            line: None,
            heard: Heard::default(),
            frames: BTreeMap::new(),
            made: BTreeSet::new(),
            destroyed: BTreeSet::new(),
            cues: 0,
            begun: Vec::new(),
        }
    }

    /// Does as it is told, until nobody tells it anything.
    ///
    /// # Errors
    /// Standard input or a port failed.
    pub fn obey(mut self) -> Result<()> {
        while let Some(line) = self.cue()? {
            match line.split_once(' ') {
                Some(("play", name)) => self.play(name),
                // A scenario that ended early does not hear the rest.
                _ => println!("idle"),
            }
        }
        Ok(())
    }

    fn play(&mut self, name: &str) {
        let Some(scenario) = scenarios::find(name) else {
            println!("failed there is no scenario {name}");
            return;
        };
        let begun = if self.line.is_some() {
            self.clean()
        } else {
            self.connect()
        };
        let played = begun.and_then(|()| (scenario.play)(self));
        match played {
            Ok(()) => println!("done"),
            Err(error) if error.is::<Cut>() => println!("cut"),
            Err(error) => println!("failed {error:#}"),
        }
    }

    /// Says that it is ready, and waits for the next line; the channels are served meanwhile. Nothing, if there
    /// will be none.
    fn cue(&mut self) -> Result<Option<String>> {
        println!("ready {}", self.cues);
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                self.cues += 1;
                return Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()));
            }
            if self.pump(Duration::from_secs(3600), true)? {
                let mut bytes = [0; 512];
                match nix::unistd::read(std::io::stdin(), &mut bytes) {
                    Ok(0) => return Ok(None),
                    Ok(count) => self.begun.extend_from_slice(&bytes[..count]),
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
    }

    /// Stands still at a step until it is told to go on.
    ///
    /// # Errors
    /// Nobody will tell it; the host hung up.
    pub fn hold(&mut self, step: &str) -> Result<()> {
        println!("hold {step}");
        loop {
            match self.cue()?.as_deref() {
                Some("go") => break,
                Some("tell") => println!("heard {}", self.heard),
                Some(other) => bail!("it was told {other:?} at {step}"),
                None => bail!("nobody tells it anything any more"),
            }
        }
        self.connected()
    }

    /// Takes all windows away, so that the next scenario begins like the first. A guest that came and went all
    /// the time would soon have no presenter any more.
    fn clean(&mut self) -> Result<()> {
        for window in std::mem::take(&mut self.made) {
            match self.destroy(window) {
                // It met its end while it was cleaned: somebody else is there soon.
                Err(error) if error.is::<Cut>() => return self.connect(),
                destroyed => destroyed?,
            }
        }
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.heard = Heard::default();
        self.frames.clear();
        self.destroyed.clear();
        self.made.clear();
    }

    /// Meets the host anew: nothing of what was said before counts any more.
    fn connect(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.hang_up();
            self.forget();
            if self.greet(until)? {
                return self.begin();
            }
            ensure!(Instant::now() < until, "the host does not greet");
        }
    }

    /// Lets go of the channels, and of none in the middle of a message.
    fn hang_up(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.line.as_ref().is_some_and(Line::wants_write) && Instant::now() < until {
            if self.pump(Duration::from_millis(50), false).is_err() {
                break;
            }
        }
        self.line = None;
    }

    fn greet(&mut self, until: Instant) -> Result<bool> {
        let gui = self.places.meet(Channel::Gui, until)?;
        let control = self.places.meet(Channel::Control, until)?;
        let bulk = self.places.meet(Channel::Bulk, until)?;
        self.line = Some(Line {
            gui: end(gui)?,
            control: end(control)?,
            bulk: end(bulk)?,
        });
        let unanswered = Instant::now() + UNANSWERED;
        while Instant::now() < unanswered {
            self.pump(Duration::from_millis(100), false)?;
            match &self.line {
                None => {
                    // A host that is gone stays away for a moment.
                    std::thread::sleep(Duration::from_millis(100));
                    return Ok(false);
                }
                Some(line) if line.is_open() => return Ok(true),
                Some(_) => {}
            }
        }
        Ok(false)
    }

    /// Answers the host's first question: there are no windows.
    fn begin(&mut self) -> Result<()> {
        self.until("a resync", |guest| guest.heard.resync.is_some())?;
        let generation = self.heard.resync.unwrap_or_default();
        self.say(gui::Snapshot {
            generation,
            windows: 0,
        });
        self.say(gui::SnapshotEnd { generation });
        self.connected()
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// It does not become so in time; the host hung up.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            self.connected()?;
            ensure!(Instant::now() < until, "waited in vain for {what}");
            self.pump(Duration::from_millis(50), false)?;
        }
        Ok(())
    }

    /// Waits until the host hangs up.
    ///
    /// # Errors
    /// It did, as was wanted; or it does not.
    pub fn until_cut(&mut self) -> Result<()> {
        self.until("the end", |_| false)
    }

    /// Serves the channels for a time.
    ///
    /// # Errors
    /// The host hung up.
    pub fn rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.pump(Duration::from_millis(20), false)?;
            self.connected()?;
        }
        Ok(())
    }

    fn connected(&self) -> Result<()> {
        match self.line {
            Some(_) => Ok(()),
            None => Err(Cut.into()),
        }
    }

    /// Waits for the channels, and for a cue if that is wanted; tells whether there is one.
    fn pump(&mut self, limit: Duration, cue: bool) -> Result<bool> {
        let stdin = std::io::stdin();
        let mut fds = Vec::new();
        if cue {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        if let Some(line) = &mut self.line {
            if line.flush().is_err() {
                self.line = None;
                return Ok(false);
            }
            fds.push(PollFd::new(line.gui.as_fd(), line.gui.interest()));
            fds.push(PollFd::new(line.control.as_fd(), line.control.interest()));
            fds.push(PollFd::new(line.bulk.as_fd(), line.bulk.interest()));
        }
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let told = cue && fds[0].revents().is_some_and(|events| !events.is_empty());
        drop(fds);
        self.read();
        Ok(told)
    }

    fn read(&mut self) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        let (heard, mut questions) = (&mut self.heard, Vec::new());
        let gui = line.gui.read(|_, received| -> Result<(), Error> {
            questions.extend(heard.gui(&received.message));
            Ok(())
        });
        let control = line.control.read(|out, received| -> Result<(), Error> {
            heard.control(&received.message);
            // A guest that is well: nobody starts it again for another reason than what it does.
            if let control::FromHost::Heartbeat(beat) = &received.message {
                let health = control::Health {
                    sequence: beat.sequence,
                    uptime: 1,
                    memory: 1,
                    load: 0,
                    errors: 0,
                };
                out.send(&health.into())?;
            }
            Ok(())
        });
        let bulk = line.bulk.read(|_, received| -> Result<(), Error> {
            heard.bulk(&received.message);
            Ok(())
        });
        let open = |progress: Result<Progress, Error>| matches!(progress, Ok(Progress::Open));
        if !(open(gui) && open(control) && open(bulk)) {
            return;
        }
        for question in questions {
            // Nothing is said of a window that was destroyed, though the host may not have heard it yet.
            if self.destroyed.contains(&question.window) {
                continue;
            }
            // An honest answer, so that the host does not wait for it.
            let answer = gui::Ask {
                window: question.window,
                rect: Untrusted::claim(question.rect),
                answers: question.serial,
            };
            if line.gui.send(answer).is_err() {
                return;
            }
        }
        self.line = Some(line);
    }
}

impl Line {
    fn is_open(&self) -> bool {
        self.gui.agreed().is_some()
            && self.control.agreed().is_some()
            && self.bulk.agreed().is_some()
    }

    fn wants_write(&self) -> bool {
        self.gui.wants_write() || self.control.wants_write() || self.bulk.wants_write()
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.gui.flush()?;
        self.control.flush()?;
        self.bulk.flush()?;
        Ok(())
    }
}

fn end<In: Greets, Out: Greets>(fd: OwnedFd) -> Result<End<In, Out>> {
    let features = Features::LZ4
        .with(Features::ZSTD)
        .with(Features::SHARED_PIXELS)
        .with(Features::CURSOR_PICTURES);
    let hello = Hello::new(In::CHANNEL, features, [0x66; 32]);
    Ok(End::guest(fd, hello)?)
}
