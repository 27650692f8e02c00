//! What may go wrong, and the exit code that tells it.
use std::io;
use std::path::PathBuf;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no window, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's display cannot be used.
    #[error("the display: {0}")]
    Display(String),
    /// Nobody shows a screen there.
    #[error("{}: the machine's screen cannot be reached: {source}", socket.display())]
    Reach {
        /// Where it should be.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection failed, or what came is not what a screen says.
    #[error("the machine's screen: {0}")]
    Screen(#[from] medley_rfb::Error),
    /// The machine took nothing of what was typed.
    #[error("the machine takes no keys: a thousand wait to be taken")]
    Deaf,
    /// The system failed us.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// The program's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::System { .. } => 1,
            Self::Display(_) => 3,
            Self::Reach { .. } => 4,
            Self::Screen(medley_rfb::Error::Lost { .. }) | Self::Deaf => 5,
            Self::Screen(medley_rfb::Error::Fault(_)) => 6,
        }
    }
}
