//! What went wrong, in which file and where in it, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What the caller asked for is impossible.
    Input,
    /// The stream that was to be sealed could not be read.
    Source,
    /// The receiver of an unsealed stream did not take it.
    Sink,
    /// The operating system refused something on the file.
    Io,
    /// There is no room for the file.
    NoSpace,
    /// The file is not a saved state.
    Foreign,
    /// The file was written by a newer version.
    Unsupported,
    /// The file was sealed under another key.
    Key,
    /// The file was changed or damaged.
    Corrupt,
    /// The end of the file is missing.
    Truncated,
    /// The file is whole, but belongs to something else than what it is wanted for.
    Stale,
    /// The work was cancelled.
    Cancelled,
    /// A fault of this program.
    Internal,
}

impl ErrorKind {
    fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::NoSpace => "free some space and suspend again; the machine's state is not lost",
            Self::Foreign => "name a file that a suspend wrote",
            Self::Unsupported => {
                "resume with the version of Medley that suspended it, or a newer one"
            }
            Self::Key => "use the key of the workspace that it was suspended from",
            Self::Corrupt | Self::Truncated => {
                "put an intact copy back, or discard the saved state and start the machine afresh"
            }
            Self::Stale => "discard the saved state and start the machine from its disk",
            Self::Internal => "try again; if it persists, report it",
            Self::Source => "the hypervisor's log says why; nothing was saved",
            Self::Sink => "the hypervisor's log says why; the saved state is unharmed",
            Self::Io => "see that the folder is there, may be used, and its disk is in order",
            Self::Input | Self::Cancelled => return None,
        })
    }
}

/// An error with its place. Printed as `<file>: <what> (at offset N): <cause>; <remedy>`.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    cause: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            path: None,
            offset: None,
            cause: None,
        }
    }

    /// A failed system call on the file.
    pub(crate) fn io(what: impl Into<String>, cause: io::Error) -> Self {
        let kind = match cause.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => ErrorKind::NoSpace,
            // We read only what was there when the file was opened.
            io::ErrorKind::UnexpectedEof => ErrorKind::Truncated,
            _ => ErrorKind::Io,
        };
        Self::new(kind, what).because(cause)
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, what)
    }

    /// A failure that only a fault of this program, or a system without randomness, explains.
    pub(crate) fn internal(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, what)
    }

    pub(crate) fn because(self, cause: io::Error) -> Self {
        Self {
            cause: Some(cause),
            ..self
        }
    }

    pub(crate) fn at_offset(self, offset: u64) -> Self {
        Self {
            offset: self.offset.or(Some(offset)),
            ..self
        }
    }

    pub(crate) fn at_path(self, path: &Path) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..self
        }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file it is about.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Where in the file, in bytes; of a [`ErrorKind::Source`] or [`ErrorKind::Sink`], where in the stream.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.what)?;
        if let Some(offset) = self.offset {
            write!(f, " (at offset {offset})")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(remedy) = self.kind.remedy() {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}
