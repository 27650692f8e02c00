//! Why windows cannot be had.
use std::path::{Path, PathBuf};

/// What failed, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system failed us.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file or socket.
    #[error("{}: {what}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Nobody answers for this session.
    #[error("{}: no session with windows runs here; start it with medley boot --session DIR --windows", .0.display())]
    Nobody(PathBuf),
    /// The policy asks for what cannot be.
    #[error("the policy's printer: {0}; name another, or leave it out for the host's default one")]
    Printer(String),
    /// The session answered with a refusal.
    #[error("{0}")]
    Refused(String),
    /// The session answered something that is no answer.
    #[error("the session's answer makes no sense: {0}; are both of one version?")]
    Nonsense(String),
}

/// What this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }
}
