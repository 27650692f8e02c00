//! What waits to be written. It is bounded: who does not read is cut off, and does not make this side grow.
use crate::error::{Error, Result};
use medley_wire::limits::IDLE_BYTES;
use medley_wire::{Agreed, Encoder, Features, HEADER, Refused, Set};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The least that may wait: all streams of the bulk channel, as far as they go unacknowledged, twice.
const LEAST: usize = 16 << 20;
/// The most that may wait: the frames of the gui channel that go unacknowledged, if half are large.
const MOST: usize = 64 << 20;

/// Bytes of one write. The virtio driver takes 32 KiB at a time; a socket takes more.
const WRITE: usize = 256 << 10;

/// The writing half of an [`End`](crate::End).
#[derive(Debug)]
pub struct Outgoing<Out: Set> {
    fd: Arc<OwnedFd>,
    encoder: Encoder<Out>,
    waiting: Vec<u8>,
    /// Bytes at the front of `waiting` that are written.
    written: usize,
    bound: usize,
    pub(crate) agreed: Option<Agreed>,
}

impl<Out: Set> Outgoing<Out> {
    pub(crate) fn new(fd: Arc<OwnedFd>) -> Self {
        let largest = Out::TABLE.iter().map(|entry| entry.max).max().unwrap_or(0);
        Self {
            fd,
            encoder: Encoder::new(),
            waiting: Vec::new(),
            written: 0,
            bound: (4 * largest).clamp(LEAST, MOST),
            agreed: None,
        }
    }

    pub(crate) const fn set_bound(&mut self, bytes: usize) {
        self.bound = bytes;
    }

    /// What both sides came to; nothing before both have said hello.
    #[must_use]
    pub const fn agreed(&self) -> Option<Agreed> {
        self.agreed
    }

    /// Whether both sides have all of `features`.
    #[must_use]
    pub fn have(&self, features: Features) -> bool {
        self.agreed
            .is_some_and(|agreed| agreed.features.has(features))
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub const fn queued(&self) -> usize {
        self.waiting.len() - self.written
    }

    /// Queues a message. It leaves with [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`Error::Refused`] if it breaks a limit of the protocol, and then nothing changes; [`Error::Full`] if
    /// too much waits already.
    pub fn send(&mut self, message: &Out::Message<'_>) -> Result<()> {
        let length = HEADER + Out::len(message);
        if self.queued() + length > self.bound {
            return Err(Error::Full {
                channel: Out::CHANNEL,
                waiting: self.queued(),
            });
        }
        if self.written > 0 && self.waiting.len() + length > self.waiting.capacity() {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
        let start = self.waiting.len();
        self.waiting.resize(start + length, 0);
        match self.encoder.encode(message, &mut self.waiting[start..]) {
            Ok(_) => Ok(()),
            Err(refused) => {
                self.waiting.truncate(start);
                let fault = match refused {
                    Refused::Fault(fault) => fault,
                    // The room is as long as the message says it is.
                    Refused::Room(_) => return Err(Error::Misfit(length)),
                };
                Err(Error::Refused {
                    channel: Out::CHANNEL,
                    fault,
                })
            }
        }
    }

    /// Writes what goes without waiting; tells whether all went.
    ///
    /// # Errors
    /// The descriptor failed; a broken pipe is one.
    pub fn flush(&mut self) -> Result<bool> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            match nix::unistd::write(&*self.fd, &rest[..rest.len().min(WRITE)]) {
                // A port that takes nothing has nobody on the other side; its hang-up is seen by reading.
                Ok(0) | Err(Errno::EAGAIN) => return Ok(false),
                Ok(count) => self.written += count,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::Io {
                        channel: Out::CHANNEL,
                        doing: "write",
                        source: errno.into(),
                    });
                }
            }
        }
        self.waiting.clear();
        self.written = 0;
        self.waiting.shrink_to(IDLE_BYTES);
        Ok(true)
    }
}
