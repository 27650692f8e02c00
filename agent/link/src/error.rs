//! Why a channel ends, or why something could not be said on it.
use medley_wire::{Channel, Disagreement, Fault, Reason};
use std::path::PathBuf;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. All but [`Error::Refused`] end the connection: drop the end and open a [`Door`](crate::Door).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The descriptor failed.
    #[error("{channel:?} channel: cannot {doing} ({source}); it must be connected anew")]
    Io {
        /// Which channel.
        channel: Channel,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The other side broke the protocol.
    #[error("{channel:?} channel: {fault}")]
    Fault {
        /// Which channel.
        channel: Channel,
        /// What was wrong.
        fault: Fault,
    },
    /// The two sides have no version in common, or the ports are crossed.
    #[error("{channel:?} channel: {cause}")]
    Disagree {
        /// Which channel.
        channel: Channel,
        /// In what they differ.
        cause: Disagreement,
    },
    /// The other side does not read: more waits for it than may wait.
    #[error(
        "{channel:?} channel: the other side does not read, {waiting} bytes wait for it; it hangs, \
         and the channel must be connected anew"
    )]
    Full {
        /// Which channel.
        channel: Channel,
        /// How many bytes wait.
        waiting: usize,
    },
    /// This side wanted to say something that the protocol does not allow. Nothing was sent.
    #[error("{channel:?} channel: this message breaks a limit and was not sent: {fault}")]
    Refused {
        /// Which channel.
        channel: Channel,
        /// Which limit.
        fault: Fault,
    },
    /// A port, socket or shared memory could not be opened.
    #[error("{}: cannot {doing} ({source}); {remedy}", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What to do about it.
        remedy: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A rectangle and the bytes meant for it do not fit each other or the pool.
    #[error("shared memory: {0} bytes do not fit there; this is a mistake in Medley")]
    Misfit(usize),
}

impl Error {
    /// What to tell the other side with `Bye`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Fault { .. } => Reason::Violation,
            Self::Disagree { .. } => Reason::Version,
            Self::Full { .. } => Reason::Limit,
            _ => Reason::Failure,
        }
    }
}
