//! What can go wrong when a frontend starts or stops. What goes wrong while it serves is told to the
//! client whose request it was.

use std::io;
use std::path::PathBuf;

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a frontend: what, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another server answers at this socket.
    #[error("{}: another server is serving here; stop it or choose another path", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket lies where the socket should go.
    #[error("{}: exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// A path longer than a Unix socket's address can hold.
    #[error("{}: too long for a Unix socket (at most 107 bytes); choose a shorter path", path.display())]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// An option of the caller that cannot be honoured.
    #[error("{what}")]
    Options {
        /// Which, and what it may be.
        what: &'static str,
    },
    /// The kernel or the machine has no FUSE, or this user may not use it.
    #[error("FUSE cannot be used here ({reason}); {remedy}")]
    NoFuse {
        /// What was missing.
        reason: String,
        /// What to type.
        remedy: &'static str,
    },
    /// The mountpoint cannot be mounted on.
    #[error("{}: {reason}", path.display())]
    Mountpoint {
        /// The mountpoint.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A file system is mounted on the mountpoint already.
    #[error("{}: a {fs} file system is mounted here already; unmount it (`fusermount3 -u`) or choose another directory", path.display())]
    AlreadyMounted {
        /// The mountpoint.
        path: PathBuf,
        /// Type of the file system that is there.
        fs: String,
    },
    /// A system call failed.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// The file or directory it was about.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The last flush of the disk failed: what clients wrote may be lost.
    #[error("the disk could not be flushed when its service ended")]
    Disk(#[from] vdisk::Error),
}

impl Error {
    /// A maker of [`Error::Io`], for `map_err`.
    #[allow(dead_code)] // Nobody calls it where no frontend is compiled in.
    pub(crate) fn io<E: Into<io::Error>>(
        path: impl Into<PathBuf>,
        what: &'static str,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io {
            path,
            what,
            source: source.into(),
        }
    }
}
