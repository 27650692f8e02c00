//! What went wrong in a session, and what to do about it.

use std::fmt;
use std::path::Path;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another process runs this session, or has its disk.
    Busy,
    /// The disk went on without the saved state.
    Outdated,
    /// The folder, or a file in it, is not what it should be.
    Folder,
    /// The disk or its server.
    Disk,
    /// The machine or its hypervisor.
    Machine,
    /// A program that is needed is not installed.
    Missing,
    /// The way to the world.
    Network,
    /// The saved state.
    State,
    /// What was asked for does not fit the session.
    Request,
}

/// A failure: what was tried, why it failed, and the remedy when one is known.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    remedy: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            remedy: None,
            source: None,
        }
    }

    pub(crate) fn because(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// For `map_err`: something about a file did not work.
    pub(crate) fn file(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{}: {what}", path.display());
        move |error| Self::new(ErrorKind::Folder, what).because(error)
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The remedy, if one is known.
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl From<medley_network::Error> for Error {
    fn from(error: medley_network::Error) -> Self {
        let kind = match error.kind() {
            medley_network::ErrorKind::BadPolicy => ErrorKind::Request,
            medley_network::ErrorKind::Missing => ErrorKind::Missing,
            _ => ErrorKind::Network,
        };
        Self::new(kind, "the network").because(error)
    }
}

impl From<medley_hypervisor::Error> for Error {
    fn from(error: medley_hypervisor::Error) -> Self {
        Self::new(ErrorKind::Machine, "the machine").because(error)
    }
}
