//! Where a host is met: behind the ports of a virtual machine, or at sockets that it connects to.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_link::{Door, ports};
use medley_wire::Channel;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How often a port without anything to poll is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// One of them.
#[derive(Debug)]
enum Place {
    Port(Door),
    Socket(UnixListener),
}

/// All three, in the order of [`Channel::ALL`].
#[derive(Debug)]
pub struct Places([Place; 3]);

const CHANNELS: [Channel; 3] = [Channel::Gui, Channel::Control, Channel::Bulk];

impl Places {
    /// The ports of this machine.
    #[must_use]
    pub fn ports() -> Self {
        Self(CHANNELS.map(|channel| Place::Port(Door::new(ports::device(channel)))))
    }

    /// Sockets in a folder.
    ///
    /// # Errors
    /// One cannot be made.
    pub fn listening(folder: &Path) -> Result<Self> {
        let listen = |name: &str| {
            let path = folder.join(name);
            let listener = UnixListener::bind(&path)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
            listener
                .map(Place::Socket)
                .with_context(|| format!("{}: cannot listen", path.display()))
        };
        Ok(Self([listen("gui")?, listen("control")?, listen("bulk")?]))
    }

    /// Waits for a host at one of them.
    pub(super) fn meet(&mut self, channel: Channel, until: Instant) -> Result<OwnedFd> {
        let place = &mut self.0[channel as usize];
        loop {
            let met = match place {
                Place::Port(door) => door.knock()?,
                Place::Socket(listener) => match listener.accept() {
                    Ok((stream, _)) => Some(stream.into()),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
                    Err(error) => return Err(error.into()),
                },
            };
            if let Some(fd) = met {
                return Ok(fd);
            }
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no host at the {channel:?} channel");
            let fd = match &*place {
                Place::Port(door) => door.as_fd(),
                Place::Socket(listener) => Some(listener.as_fd()),
            };
            let pause = if fd.is_some() { left } else { left.min(PAUSE) };
            let mut asked: Vec<_> = fd
                .into_iter()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
            match poll(&mut asked, pause) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
