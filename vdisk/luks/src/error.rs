//! What can go wrong with a header: a kind for programs, a field and a remedy for people.

use std::fmt;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it is; the set may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No LUKS magic was found where it must be.
    NotLuks,
    /// A LUKS header, but of the other version (LUKS1 given to the LUKS2 reader or the reverse).
    WrongVersion,
    /// The bytes end before the header does.
    Truncated,
    /// A checksum, a field or the JSON text contradicts the format.
    Corrupt,
    /// A valid header that asks for something this crate does not do.
    Unsupported,
    /// No key slot opens with this passphrase.
    WrongPassphrase,
    /// Trying the passphrase would cost more memory or work than [`crate::Limits`] allows.
    TooCostly,
    /// The change would leave no way to open the disk.
    LastKey,
    /// There is no such key slot or token.
    NotFound,
    /// No free slot, token, key-slot area or room in the JSON area is left.
    NoSpace,
    /// The volume key given is not the one this header's digest knows.
    KeyMismatch,
    /// An argument of the caller is out of range.
    Input,
    /// The system gave no random bytes or no memory.
    System,
}

/// A failure with the field it is about, what is wrong there, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    at: String,
    what: String,
    remedy: &'static str,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, at: impl Into<String>, what: impl Into<String>) -> Self {
        let remedy = match kind {
            ErrorKind::NotLuks => "is this the header file, not the disk?",
            ErrorKind::WrongVersion => "",
            ErrorKind::Truncated | ErrorKind::Corrupt => "restore the header from a backup",
            ErrorKind::Unsupported => "open it with cryptsetup",
            ErrorKind::WrongPassphrase => "check the passphrase and the keyboard layout",
            ErrorKind::TooCostly => "raise the limit if this header is trusted",
            ErrorKind::LastKey => "add another key first",
            ErrorKind::NoSpace => "remove an unused key or token first",
            ErrorKind::NotFound | ErrorKind::KeyMismatch | ErrorKind::Input | ErrorKind::System => {
                ""
            }
        };
        Self {
            kind,
            at: at.into(),
            what: what.into(),
            remedy,
        }
    }

    pub(crate) fn corrupt(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, at, what)
    }

    pub(crate) fn unsupported(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, at, what)
    }

    pub(crate) fn input(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, at, what)
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The field it is about: `primary header`, `keyslots.3.area.offset`, …
    pub fn field(&self) -> &str {
        &self.at
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}
