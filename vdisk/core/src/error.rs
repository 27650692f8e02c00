//! The one error type of the crate: a small kind for machines, and what, where and the remedy for
//! people.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in as few words as a frontend needs to answer its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused or failed an operation on a file.
    Io,
    /// There is no space left where the bytes should go.
    NoSpace,
    /// The request lies outside the disk or is malformed.
    InvalidRequest,
    /// The disk, or the way it was opened, does not allow writing.
    ReadOnly,
    /// A file's contents break the rules of its format.
    Corrupt,
    /// The format or a feature of it is known but not supported.
    Unsupported,
    /// Another process has the disk open.
    Busy,
    /// No key slot opens with the given secret, or a key does not fit the disk.
    Key,
    /// A parent of a differencing disk is missing, is another disk, or changed.
    Parent,
    /// An earlier failure made this open disk unusable; it has to be opened again.
    Poisoned,
}

impl ErrorKind {
    /// The errno that frontends of the Unix kind answer with.
    pub fn errno(self) -> i32 {
        use nix::errno::Errno;
        let errno = match self {
            Self::Io | Self::Corrupt | Self::Parent | Self::Poisoned => Errno::EIO,
            Self::NoSpace => Errno::ENOSPC,
            Self::InvalidRequest => Errno::EINVAL,
            Self::ReadOnly => Errno::EROFS,
            Self::Unsupported => Errno::EOPNOTSUPP,
            Self::Busy => Errno::EBUSY,
            Self::Key => Errno::EACCES,
        };
        errno as i32
    }
}

/// An error with its place. Printed as `<file>: <what> (at offset N): <cause>; <remedy>`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    remedy: Option<&'static str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `what` names the operation or the field that is wrong.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            path: None,
            offset: None,
            remedy: None,
            source: None,
        }
    }

    /// A failed system call. Running out of space becomes [`ErrorKind::NoSpace`].
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            // We read only where a format says that there is something.
            io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
            _ => ErrorKind::Io,
        };
        let mut error = Self::new(kind, what).because(source);
        if kind == ErrorKind::NoSpace {
            error.remedy = Some("free some space and try again; nothing that was flushed is lost");
        }
        error
    }

    /// A file whose contents break its format's rules.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, what)
    }

    /// Names the file. The first name given stays: the deepest caller knows best.
    #[must_use]
    pub fn at_path(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// Names the byte offset in the file, or on the disk where no file is named.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.offset.get_or_insert(offset);
        self
    }

    /// Says what the person can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: &'static str) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The kind, for code that has to decide.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file it is about, where one is known.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
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
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(remedy) = self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

// The source is printed by `Display`; handing it out again would make reporters say it twice.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_just_any_failure() {
        let kind = |source: io::ErrorKind| Error::io("cannot write", source.into()).kind();
        assert_eq!(kind(io::ErrorKind::StorageFull), ErrorKind::NoSpace);
        assert_eq!(kind(io::ErrorKind::QuotaExceeded), ErrorKind::NoSpace);
        assert_eq!(kind(io::ErrorKind::ReadOnlyFilesystem), ErrorKind::ReadOnly);
        assert_eq!(kind(io::ErrorKind::UnexpectedEof), ErrorKind::Corrupt);
        assert_eq!(kind(io::ErrorKind::PermissionDenied), ErrorKind::Io);
    }

    #[test]
    fn it_is_told_with_its_place_its_cause_and_the_remedy() {
        let error = Error::io("cannot write", io::Error::from_raw_os_error(28))
            .at_path(Path::new("/a"))
            .at_path(Path::new("/b"))
            .at_offset(7)
            .at_offset(8);
        assert_eq!(
            error.to_string(),
            "/a: cannot write (at offset 7): No space left on device (os error 28); \
             free some space and try again; nothing that was flushed is lost"
        );
        assert_eq!(error.path(), Some(Path::new("/a")));
        assert_eq!(Error::corrupt("bad").to_string(), "bad");
        // Told once, by us.
        assert!(std::error::Error::source(&error).is_none());
    }

    /// What a guest's kernel makes of it depends on these numbers.
    #[test]
    fn clients_get_the_errno_that_fits() {
        use nix::libc;
        for (kind, errno) in [
            (ErrorKind::Io, libc::EIO),
            (ErrorKind::Corrupt, libc::EIO),
            (ErrorKind::Parent, libc::EIO),
            (ErrorKind::Poisoned, libc::EIO),
            (ErrorKind::NoSpace, libc::ENOSPC),
            (ErrorKind::InvalidRequest, libc::EINVAL),
            (ErrorKind::ReadOnly, libc::EROFS),
            (ErrorKind::Unsupported, libc::EOPNOTSUPP),
            (ErrorKind::Busy, libc::EBUSY),
            (ErrorKind::Key, libc::EACCES),
        ] {
            assert_eq!(kind.errno(), errno, "{kind:?}");
        }
    }
}
