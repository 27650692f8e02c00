//! The socket file of a server: made for this user alone, taken over from a server that died, never
//! from one that lives, and removed by whoever made it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};

use crate::error::{Error, Result};

/// A socket that clients connect to, and its file.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket file, to remove only what is ours.
    file: (u64, u64),
    closed: AtomicBool,
}

impl Socket {
    /// Makes the socket file, with mode 0600, and listens on it.
    ///
    /// The socket of a server that has died is replaced; that of a living one is left alone
    /// ([`Error::SocketInUse`]).
    pub fn bind(path: &Path) -> Result<Self> {
        // Remembered absolutely: the process may change its directory before it removes the socket.
        let path = std::path::absolute(path).map_err(Error::io(path, "cannot be made absolute"))?;
        let (listener, file) = listen(&path)?;
        Ok(Self {
            listener,
            path,
            file,
            closed: AtomicBool::new(false),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a client; none once it is closed.
    pub fn accept(&self) -> Option<UnixStream> {
        while !self.closed.load(SeqCst) {
            match self.listener.accept() {
                Ok((client, _)) => return Some(client),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.closed.load(SeqCst) => {}
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "accept failed");
                    // Out of descriptors or memory: others may give some back.
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        None
    }

    /// Ends every wait in [`Socket::accept`] and removes the socket file if it is still the one we made.
    /// That under the lock, since a successor may be replacing it right now; without the lock a dead
    /// socket stays, for the next server to replace.
    pub fn close(&self) {
        if self.closed.swap(true, SeqCst) {
            return;
        }
        // A listening socket that is shut down wakes whoever waits in accept.
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        let _lock = match lock_parent(&self.path) {
            Ok(lock) => lock,
            Err(error) => return tracing::warn!(%error, "the socket of a server stays behind"),
        };
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Makes the socket file and listens on it. Returns its device and inode too.
fn listen(path: &Path) -> Result<(UnixListener, (u64, u64))> {
    let address = UnixAddr::new(path).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Error::SocketPathTooLong { path: path.into() },
        errno => Error::io(path, "is no address for a socket")(errno),
    })?;
    // Two servers that start at once must not both find the other's socket dead and remove it.
    let _lock = lock_parent(path)?;
    let fd = new_socket(path, SockFlag::empty())?;
    let bind = || socket::bind(fd.as_raw_fd(), &address);
    match bind() {
        Err(Errno::EADDRINUSE) => {
            remove_dead(path, &address)?;
            bind()
        }
        result => result,
    }
    .map_err(Error::io(path, "cannot make a socket"))?;
    // Nobody can connect before `listen`, so nobody gets in before the mode is set.
    let ready = fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .and_then(|()| Ok(socket::listen(&fd, Backlog::new(64)?)?))
        .and_then(|()| fs::symlink_metadata(path));
    match ready {
        Ok(meta) => Ok((UnixListener::from(fd), (meta.dev(), meta.ino()))),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(Error::io(path, "cannot listen")(error))
        }
    }
}

fn new_socket(path: &Path, flags: SockFlag) -> Result<OwnedFd> {
    socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | flags,
        None,
    )
    .map_err(Error::io(path, "cannot make a socket"))
}

/// Holds the directory of `path` while a socket in it is examined and replaced.
fn lock_parent(path: &Path) -> Result<Flock<File>> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut dir = File::open(parent).map_err(Error::io(parent, "cannot be opened"))?;
    let begin = Instant::now();
    loop {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR))
                if begin.elapsed() < Duration::from_secs(5) =>
            {
                dir = back;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((_, errno)) => return Err(Error::io(parent, "cannot be locked")(errno)),
        }
    }
}

/// Removes a socket that nobody answers at.
fn remove_dead(path: &Path, address: &UnixAddr) -> Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(path, "cannot be examined")(error)),
    };
    if !meta.file_type().is_socket() {
        return Err(Error::NotASocket { path: path.into() });
    }
    // Without waiting: a server that is alive but stuck has a full queue (EAGAIN).
    let probe = new_socket(path, SockFlag::SOCK_NONBLOCK)?;
    match socket::connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => {
            tracing::info!(path = %path.display(), "replacing the socket of a server that died");
            fs::remove_file(path).map_err(Error::io(path, "dead socket cannot be removed"))
        }
        // Whatever else happened, it does not prove that nobody is there.
        _ => Err(Error::SocketInUse { path: path.into() }),
    }
}
