//! A channel that comes and goes: a door while nobody is there, an end while somebody is. What is said into a
//! channel that is not open is lost, as it should be: the host asks for everything again when it is back.
use anyhow::Result;
use medley_link::{Door, End, Error, Greets, Outgoing, Progress};
use medley_wire::{Features, Hello, Reason};
use nix::poll::PollFlags;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long a hello may stay unanswered before the port is opened anew: the host's end may have been
/// exchanged while nobody looked.
const UNANSWERED: Duration = Duration::from_secs(10);

/// What is said to the host, if anybody listens.
#[derive(Debug)]
pub struct Say<'o, Out: Greets> {
    out: Option<&'o mut Outgoing<Out>>,
    failed: Option<Error>,
}

impl<Out: Greets> Say<'_, Out> {
    /// To nobody: what is said is lost.
    #[must_use]
    pub const fn to_nobody() -> Self {
        Self {
            out: None,
            failed: None,
        }
    }

    /// Says it. A message that breaks a limit is left out, with a line in the log: the agent cuts what it
    /// says to size, so that is a mistake of its own. Any other failure ends the channel.
    pub fn say<'m>(&mut self, message: impl Into<Out::Message<'m>>) {
        let Some(out) = self.out.as_mut().filter(|_| self.failed.is_none()) else {
            return;
        };
        match out.send(&message.into()) {
            Ok(()) => {}
            Err(error @ Error::Refused { .. }) => tracing::warn!(%error, "not said"),
            Err(error) => self.failed = Some(error),
        }
    }

    /// Bytes that the host has not read yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.queued())
    }

    /// Whether both sides have all of `features`.
    #[must_use]
    pub fn have(&self, features: Features) -> bool {
        self.out.as_ref().is_some_and(|out| out.have(features))
    }

    /// Whether both have greeted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.out.as_ref().is_some_and(|out| out.agreed().is_some())
    }
}

/// Either the channel fails, and it is opened anew; or the agent does, and it ends.
enum Failure {
    Channel(Error),
    Agent(anyhow::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Channel(error)
    }
}

/// What became of a channel since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// Both sides have greeted.
    Open,
    /// It is gone; whatever was agreed over it is void.
    Lost,
}

/// One of the three channels.
#[derive(Debug)]
pub struct Channel<In: Greets, Out: Greets> {
    door: Door,
    hello: Hello,
    end: Option<End<In, Out>>,
    /// When to knock, or when an unanswered hello is too old.
    deadline: Option<Instant>,
    open: bool,
    news: News,
}

impl<In: Greets, Out: Greets> Channel<In, Out> {
    /// A channel behind that door.
    #[must_use]
    pub fn new(door: Door, hello: Hello) -> Self {
        Self {
            door,
            hello,
            end: None,
            deadline: Some(Instant::now()),
            open: false,
            news: News::None,
        }
    }

    /// What to poll, and for what.
    #[must_use]
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.end {
            Some(end) => Some((end.as_fd(), end.interest())),
            None => self.door.as_fd().map(|fd| (fd, PollFlags::POLLIN)),
        }
    }

    /// When to come back in any case.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What became of it since this was last asked.
    pub fn news(&mut self) -> News {
        if !self.open && self.end.as_ref().is_some_and(|end| end.agreed().is_some()) {
            self.open = true;
            self.deadline = None;
            self.news = News::Open;
        }
        std::mem::replace(&mut self.news, News::None)
    }

    /// Says something with what `speak` does.
    ///
    /// # Errors
    /// What `speak` says; a channel that fails is only closed.
    pub fn speak<R>(&mut self, speak: impl FnOnce(&mut Say<'_, Out>) -> Result<R>) -> Result<R> {
        let mut say = Say {
            out: self.end.as_mut().map(End::outgoing),
            failed: None,
        };
        let result = speak(&mut say);
        if let Some(error) = say.failed {
            self.lose(Some(&error));
        }
        result
    }

    /// Knocks, or reads what is there and hands it out.
    ///
    /// # Errors
    /// What `hand` says, or a door that can never open; a channel that fails is only closed.
    pub fn step(
        &mut self,
        mut hand: impl FnMut(&mut Say<'_, Out>, In::Message<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(end) = &mut self.end else {
            return self.knock();
        };
        let progress = end.read(|out, received| {
            let mut say = Say {
                out: Some(out),
                failed: None,
            };
            hand(&mut say, received.message).map_err(Failure::Agent)?;
            say.failed.map_or(Ok(()), |error| Err(error.into()))
        });
        match progress {
            Ok(Progress::Open) if self.is_unanswered() => {
                tracing::info!(channel = ?In::CHANNEL, "the host does not answer; begun anew");
                self.lose(None);
            }
            Ok(Progress::Open) => {}
            Ok(Progress::Ended) => self.lose(None),
            Err(Failure::Channel(error)) => self.lose(Some(&error)),
            Err(Failure::Agent(error)) => return Err(error),
        }
        Ok(())
    }

    /// Writes what goes.
    pub fn flush(&mut self) {
        if let Some(Err(error)) = self.end.as_mut().map(End::flush) {
            self.lose(Some(&error));
        }
    }

    /// Ends it well.
    pub fn close(&mut self, reason: Reason, words: &str) {
        if let Some(end) = self.end.take() {
            end.close(reason, words);
        }
    }

    fn knock(&mut self) -> Result<()> {
        match self.door.knock()? {
            Some(fd) => {
                self.end = Some(End::guest(fd, self.hello.clone())?);
                self.deadline = Some(Instant::now() + UNANSWERED);
            }
            None if self.door.as_fd().is_some() => self.deadline = None,
            None => self.deadline = Some(Instant::now() + self.door.pause()),
        }
        Ok(())
    }

    fn is_unanswered(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.agreed().is_none())
            && self.deadline.is_some_and(|at| at <= Instant::now())
    }

    fn lose(&mut self, why: Option<&Error>) {
        match why {
            Some(error) => tracing::warn!(channel = ?In::CHANNEL, %error, "lost"),
            None => tracing::info!(channel = ?In::CHANNEL, "the host is gone"),
        }
        self.end = None;
        self.open = false;
        self.news = News::Lost;
        self.deadline = Some(Instant::now() + self.door.pause());
    }
}
