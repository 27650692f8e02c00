//! What went wrong, where, and what to do about it.

use std::fmt;

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The kinds of failure a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The hypervisor is not installed, or is not where it was said to be.
    Missing,
    /// The hypervisor is installed but too old, or is not what it should be.
    Unsupported,
    /// The machine's specification asks for something impossible.
    BadSpec,
    /// The machine's process could not be started, or ended before it was ready.
    Launch,
    /// The hypervisor answered something that is not its protocol, or hung up in the middle.
    Protocol,
    /// The hypervisor understood the command and refused it.
    Refused,
    /// The operation does not fit the machine's state.
    State,
    /// The machine has ended.
    Ended,
    /// No answer in the time allowed.
    Timeout,
    /// The operating system refused something.
    Io,
}

/// A failure: what was tried, why it failed, and the remedy when one is known.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    operation: String,
    detail: String,
    remedy: Option<String>,
    source: Option<std::io::Error>,
}

impl Error {
    /// A failure of `operation` (`start machine office`) because of `detail`.
    pub fn new(kind: ErrorKind, operation: impl Into<String>, detail: impl Into<String>) -> Error {
        Error {
            kind,
            operation: operation.into(),
            detail: detail.into(),
            remedy: None,
            source: None,
        }
    }

    /// What the operating system refused while `operation` was tried.
    pub fn io(operation: impl Into<String>, source: std::io::Error) -> Error {
        let detail = source.to_string();
        Error {
            source: Some(source),
            ..Error::new(ErrorKind::Io, operation, detail)
        }
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Error {
        Error {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}
