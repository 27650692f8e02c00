//! Why the presenter cannot go on: one error, and one exit code for each cause, so that whoever started it
//! knows whether to start it again.
use crate::model::Violation;
use std::path::PathBuf;
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};

/// What went wrong, where, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's display cannot be opened.
    #[error("cannot open the X display {name}; is it running, and may this user use it?")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        source: ConnectError,
    },
    /// The host's display is not one that windows can be shown on.
    #[error("the X display cannot be used: {what}")]
    Unfit {
        /// What is missing.
        what: &'static str,
    },
    /// The host's display is gone.
    #[error("the X display failed while {doing}; start the presenter again once it is back")]
    Display {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: Box<ReplyOrIdError>,
    },
    /// The host's compositor cannot be reached.
    #[error("cannot reach the Wayland compositor {name}; is it running, and may this user use it?")]
    Compositor {
        /// Its socket's name.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host's compositor lacks what windows are made of.
    #[error("the Wayland compositor cannot be used: it has no {what}; show the windows on X11")]
    Bare {
        /// What is missing.
        what: &'static str,
    },
    /// The host's compositor is gone, or took something amiss.
    #[error(
        "the Wayland compositor failed while {doing}; start the presenter again once it is back"
    )]
    Wayland {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file cannot be used.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A channel cannot be opened.
    #[error("cannot reach the guest's {channel} channel at {path}; does the machine run?")]
    Reach {
        /// Which.
        channel: &'static str,
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A channel failed, or the guest broke the wire's rules on it.
    #[error(transparent)]
    Channel(#[from] medley_link::Error),
    /// The guest broke a rule.
    #[error("the guest broke a rule")]
    Violation(#[from] Violation),
    /// The guest broke a rule of a service's.
    #[error("the guest broke a rule of the {service} service; stop the workspace, and report it")]
    Service {
        /// Which.
        service: &'static str,
    },
    /// The guest broke a rule of files, print jobs, notes or tray items.
    #[error(transparent)]
    Gate(#[from] medley_services::Violation),
    /// The process cannot be locked in.
    #[error(
        "the sandbox cannot be set up: {what}; a kernel with landlock and seccomp is needed, or --no-sandbox"
    )]
    Sandbox {
        /// What failed.
        what: String,
    },
    /// A call of the system's failed.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// What most of this crate gives back.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The exit code: 3 the host's display, 4 a channel or file cannot be opened, 5 a channel failed, 6 the
    /// guest broke a rule, 7 no common version, 8 no sandbox, 1 anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Open { .. } | Self::Unfit { .. } | Self::Display { .. } => 3,
            Self::Compositor { .. } | Self::Bare { .. } | Self::Wayland { .. } => 3,
            Self::File { .. } | Self::Reach { .. } => 4,
            Self::Channel(medley_link::Error::Fault { .. }) => 6,
            Self::Channel(medley_link::Error::Disagree { .. }) => 7,
            Self::Channel(_) => 5,
            Self::Violation(_) | Self::Service { .. } | Self::Gate(_) => 6,
            Self::Sandbox { .. } => 8,
            Self::System { .. } => 1,
        }
    }

    pub(crate) fn wayland(
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Wayland {
            doing,
            source: Box::new(source),
        }
    }

    pub(crate) fn display(doing: &'static str, source: impl Into<ReplyOrIdError>) -> Self {
        Self::Display {
            doing,
            source: Box::new(source.into()),
        }
    }
}

/// Requests fail one by one only when the connection is gone; what was being done then matters little.
impl From<ConnectionError> for Error {
    fn from(source: ConnectionError) -> Self {
        Self::display("a request was sent", source)
    }
}

impl From<ReplyError> for Error {
    fn from(source: ReplyError) -> Self {
        Self::display("an answer was awaited", source)
    }
}

impl From<ReplyOrIdError> for Error {
    fn from(source: ReplyOrIdError) -> Self {
        Self::display("something was made", source)
    }
}
