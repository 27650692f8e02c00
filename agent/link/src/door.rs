//! The way to a connection: a Unix socket, or a virtio-serial port behind which nobody may be yet.
//!
//! A virtio port behaves unlike a socket. What follows is what Linux's driver does, seen with Linux 6.1 under
//! QEMU 10:
//! - It can be opened by one process at a time (`EBUSY` otherwise), also while the host's end is not connected.
//! - While the host's end is not connected, reads return 0, writes say `EAGAIN`, and `poll` says `POLLHUP` and
//!   `POLLIN` at once and for ever. Who polls it then spins. A connection that ends looks the same, so an
//!   [`End`](crate::End) sees an ordinary end of stream.
//! - The driver wakes sleepers once when the host's end comes or goes. An *edge-triggered* epoll descriptor
//!   hears that and nothing else, and such a descriptor can itself be polled: that is [`Door::as_fd`].
//! - What the host sent before it went stays readable. It is thrown away when the port is closed, so a door
//!   opens the port anew for each connection.
//! - A host's end that goes and comes back quickly can be missed. A host therefore stays away for
//!   [`AWAY`] before it connects again, and a guest that hears no answer to its hello opens the port again.
use crate::error::{Error, Result};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a host leaves a port alone between two connections, so that the guest sees the first one end.
pub const AWAY: Duration = Duration::from_millis(200);

/// How long to wait before a socket is tried again: the first pause, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Where the other side will be.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    /// A port that is open while nobody is behind it, and what hears somebody come.
    port: Option<(OwnedFd, Epoll)>,
    pause: Duration,
}

impl Door {
    /// How long a host leaves a port alone between two connections.
    pub const AWAY: Duration = AWAY;

    /// A door at a Unix socket's or a device's path. Nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            port: None,
            pause: PAUSE,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connection, if somebody is behind the door. If not, knock again when [`as_fd`](Self::as_fd) can be
    /// read or, where there is none, after [`pause`](Self::pause).
    ///
    /// # Errors
    /// What is there is no socket and no device, or it must not be opened. A path at which nothing is yet is
    /// no error: it may come.
    pub fn knock(&mut self) -> Result<Option<OwnedFd>> {
        let kind = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self.later()),
            Err(error) => return Err(self.failed("look at it", error)),
        };
        if kind.is_socket() {
            return match UnixStream::connect(&self.path) {
                Ok(stream) => {
                    self.pause = PAUSE;
                    Ok(Some(stream.into()))
                }
                Err(error) if is_passing(&error) => Ok(self.later()),
                Err(error) => Err(self.failed("connect", error)),
            };
        }
        if !kind.is_char_device() {
            return Err(self.failed("use it as a port", ErrorKind::InvalidInput.into()));
        }
        let (port, epoll) = match self.port.take() {
            Some(port) => port,
            None => match self.open() {
                Ok(port) => port,
                Err(error) if is_passing(&error) => return Ok(self.later()),
                Err(error) => return Err(self.failed("open it", error)),
            },
        };
        // Forget what was heard before looking, so that nothing is missed between the two.
        let mut heard = [EpollEvent::empty()];
        let looked = epoll
            .wait(&mut heard, EpollTimeout::ZERO)
            .and_then(|_| has_hung_up(port.as_fd()));
        match looked {
            Ok(false) => {
                self.pause = PAUSE;
                Ok(Some(port))
            }
            Ok(true) => {
                self.port = Some((port, epoll));
                Ok(None)
            }
            Err(errno) => Err(self.failed("poll it", errno.into())),
        }
    }

    /// What can be read when it is worth knocking again. Nothing, if only time can tell.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.as_ref().map(|(_, epoll)| epoll.0.as_fd())
    }

    /// How long to wait before knocking again where there is nothing to poll.
    #[must_use]
    pub const fn pause(&self) -> Duration {
        self.pause
    }

    fn later(&mut self) -> Option<OwnedFd> {
        self.pause = (self.pause * 2).min(LONGEST);
        None
    }

    fn open(&self) -> std::io::Result<(OwnedFd, Epoll)> {
        let port: OwnedFd = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY).bits())
            .open(&self.path)?
            .into();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&port, EpollEvent::new(edges, 0))?;
        Ok((port, epoll))
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> Error {
        Error::Open {
            path: self.path.clone(),
            doing,
            remedy: "it must be a Unix socket or a virtio-serial port that this user may open",
            source,
        }
    }
}

/// Somebody else may be about to leave, or about to listen.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::NotFound
            | ErrorKind::ResourceBusy
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
    )
}

fn has_hung_up(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    let mut asked = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO)?;
    Ok(asked[0]
        .revents()
        .is_some_and(|events| events.contains(PollFlags::POLLHUP)))
}
