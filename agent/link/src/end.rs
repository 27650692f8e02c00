//! One end of a channel: a descriptor, the decoder of what comes and the queue of what goes.
use crate::error::{Error, Result};
use crate::greet::Greets;
use crate::outgoing::Outgoing;
use medley_wire::{
    Agreed, Bye, Decoder, Fault, FaultKind, Hello, Reason, Received, Text, Untrusted,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of one read.
const READ: usize = 64 << 10;

/// Bytes that one call of [`End::read`] takes, so that a busy channel does not keep others waiting.
const TURN: usize = 1 << 20;

/// How a call of [`End::read`] left the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More may come: poll, and read again.
    Open,
    /// The other side is gone, or has begun anew on the same stream. Between two messages this is how a
    /// connection ends well.
    Ended,
}

/// One end: it reads `In` and writes `Out`. Message numbers begin with the end, so a new connection is a new
/// end.
///
/// Both sides greet by themselves: [`End::guest`] says hello at once, [`End::host`] answers it, and
/// [`read`](End::read) hands out only what comes after. Until then [`agreed`](End::agreed) is nothing, and a
/// host sends nothing.
#[derive(Debug)]
pub struct End<In: Greets, Out: Greets> {
    fd: Arc<OwnedFd>,
    decoder: Decoder<In>,
    outgoing: Outgoing<Out>,
    hello: Hello,
    answers: bool,
    input: Box<[u8]>,
}

impl<In: Greets, Out: Greets> AsFd for End<In, Out> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<In: Greets, Out: Greets> End<In, Out> {
    /// The guest's end: it says hello first.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking.
    pub fn guest(fd: OwnedFd, hello: Hello) -> Result<Self> {
        let mut end = Self::new(fd, hello, false)?;
        end.outgoing.send(&Out::greeting(end.hello.clone()))?;
        Ok(end)
    }

    /// The host's end: it waits for the guest's hello and answers.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking.
    pub fn host(fd: OwnedFd, hello: Hello) -> Result<Self> {
        Self::new(fd, hello, true)
    }

    fn new(fd: OwnedFd, hello: Hello, answers: bool) -> Result<Self> {
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        flags
            .and_then(|flags| fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)))
            .map_err(|errno| Self::failed("make it non-blocking", errno))?;
        let fd = Arc::new(fd);
        Ok(Self {
            outgoing: Outgoing::new(Arc::clone(&fd)),
            fd,
            decoder: Decoder::new(),
            hello,
            answers,
            input: vec![0; READ].into_boxed_slice(),
        })
    }

    /// The same end, which lets at most so many bytes wait for the other side.
    #[must_use]
    pub const fn with_queue(mut self, bytes: usize) -> Self {
        self.outgoing.set_bound(bytes);
        self
    }

    /// What both sides came to; nothing before both have said hello.
    #[must_use]
    pub const fn agreed(&self) -> Option<Agreed> {
        self.outgoing.agreed
    }

    /// Whether the descriptor should be polled for writing, too.
    #[must_use]
    pub const fn wants_write(&self) -> bool {
        self.outgoing.queued() > 0
    }

    /// What to poll the descriptor for.
    #[must_use]
    pub fn interest(&self) -> PollFlags {
        if self.wants_write() {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        }
    }

    /// The writing half.
    pub const fn outgoing(&mut self) -> &mut Outgoing<Out> {
        &mut self.outgoing
    }

    /// Queues a message: see [`Outgoing::send`].
    ///
    /// # Errors
    /// It breaks a limit, or too much waits already.
    pub fn send<'m>(&mut self, message: impl Into<Out::Message<'m>>) -> Result<()> {
        self.outgoing.send(&message.into())
    }

    /// Writes what goes without waiting; tells whether all went.
    ///
    /// # Errors
    /// The descriptor failed.
    pub fn flush(&mut self) -> Result<bool> {
        self.outgoing.flush()
    }

    /// Reads what is there, up to a bound, and hands out each message after the hello, with the writing half
    /// for the answer. A farewell is handed out like any other message.
    ///
    /// # Errors
    /// The descriptor failed, the other side broke the protocol or speaks another version, or `hand` said so.
    /// The other side has then been told why, as far as it listens; drop this end.
    pub fn read<E: From<Error>>(
        &mut self,
        mut hand: impl FnMut(&mut Outgoing<Out>, Received<'_, In>) -> Result<(), E>,
    ) -> Result<Progress, E> {
        let mut taken = 0;
        while taken < TURN {
            let count = match nix::unistd::read(&*self.fd, &mut self.input) {
                Ok(0) => return Ok(Progress::Ended),
                Ok(count) => count,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECONNRESET | Errno::ENODEV) => return Ok(Progress::Ended),
                Err(errno) => return Err(Self::failed("read", errno).into()),
            };
            taken += count;
            let mut bytes = &self.input[..count];
            loop {
                let received = match self.decoder.push(&mut bytes) {
                    Ok(Some(received)) => received,
                    Ok(None) => break,
                    // No farewell: it would be the first thing that the next one reads.
                    Err(fault) if begins_anew(&fault) => return Ok(Progress::Ended),
                    Err(fault) => {
                        let error = Error::Fault {
                            channel: In::CHANNEL,
                            fault,
                        };
                        say_bye(&mut self.outgoing, error.reason(), &error.to_string());
                        return Err(error.into());
                    }
                };
                match In::hello(&received.message) {
                    None => hand(&mut self.outgoing, received)?,
                    Some(theirs) => match self.hello.agree(theirs) {
                        Ok(agreed) => {
                            self.outgoing.agreed = Some(agreed);
                            if self.answers {
                                self.outgoing.send(&Out::greeting(self.hello.clone()))?;
                            }
                        }
                        Err(cause) => {
                            let error = Error::Disagree {
                                channel: In::CHANNEL,
                                cause,
                            };
                            say_bye(&mut self.outgoing, Reason::Version, &error.to_string());
                            return Err(error.into());
                        }
                    },
                }
            }
            if count < self.input.len() {
                break;
            }
        }
        Ok(Progress::Open)
    }

    /// Waits until both have said hello, for programs with nothing else to do. What comes after the hello
    /// stays unread unless it came in the same piece; then it is handed out.
    ///
    /// # Errors
    /// As [`read`](Self::read); the time is over; the other side is gone.
    pub fn greet<E: From<Error>>(
        &mut self,
        within: Duration,
        mut hand: impl FnMut(&mut Outgoing<Out>, Received<'_, In>) -> Result<(), E>,
    ) -> Result<Agreed, E> {
        let until = Instant::now() + within;
        loop {
            self.flush()?;
            if let Some(agreed) = self.agreed() {
                return Ok(agreed);
            }
            let left = until.saturating_duration_since(Instant::now());
            // Whole milliseconds, rounded up: poll would round down, and end too early.
            let wait = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let interest = self.interest();
            match poll(&mut [PollFd::new(self.fd.as_fd(), interest)], wait) {
                Ok(0) if left.is_zero() => {
                    return Err(Self::failed("greet in time", Errno::ETIMEDOUT).into());
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Self::failed("poll", errno).into()),
            }
            if self.read(&mut hand)? == Progress::Ended {
                return Err(Self::failed("greet", Errno::ECONNRESET).into());
            }
        }
    }

    /// Says farewell as far as that goes without waiting, and closes.
    pub fn close(mut self, reason: Reason, words: &str) {
        say_bye(&mut self.outgoing, reason, words);
    }

    fn failed(doing: &'static str, errno: Errno) -> Error {
        Error::Io {
            channel: In::CHANNEL,
            doing,
            source: errno.into(),
        }
    }
}

/// Whether somebody on the other side has begun a new connection on the same stream: the hypervisor does not
/// tell the host's end of a port that the guest's agent died and was started again.
fn begins_anew(fault: &Fault) -> bool {
    fault.message == "Hello" && matches!(fault.kind, FaultKind::Serial { got: 0, .. })
}

/// The last word of a side that goes anyway: what stands against it is not worth a second failure.
fn say_bye<Out: Greets>(outgoing: &mut Outgoing<Out>, reason: Reason, words: &str) {
    let bye = Bye {
        reason,
        words: Untrusted::claim(Text::cut(words)),
    };
    let _ = outgoing
        .send(&Out::farewell(bye))
        .and_then(|()| outgoing.flush());
}
