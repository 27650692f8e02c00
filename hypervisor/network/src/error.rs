//! What went wrong, where, and what to do about it.

use std::fmt;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The policy asks for something impossible.
    BadPolicy,
    /// A program that is needed is not installed.
    Missing,
    /// Whoever was asked may not, or will not.
    Refused,
    /// A program was started and did not become ready.
    Launch,
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
    pub(crate) fn new(
        kind: ErrorKind,
        operation: impl Into<String>,
        detail: impl Into<String>,
    ) -> Error {
        Error {
            kind,
            operation: operation.into(),
            detail: detail.into(),
            remedy: None,
            source: None,
        }
    }

    pub(crate) fn io(operation: impl Into<String>, source: std::io::Error) -> Error {
        let detail = source.to_string();
        Error {
            source: Some(source),
            ..Error::new(ErrorKind::Io, operation, detail)
        }
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Error {
        Error {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// Which kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}
