//! How a guest breaks a rule of the services. Each ends the connection: a guest's agent that does this is broken
//! or is not the agent.
use medley_wire::bulk::Broken;
use std::fmt;

/// A rule that was broken. The numbers are the guest's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It offers something under a number that is in use.
    Taken(u32),
    /// It sends what it was not told to send.
    Unasked(u32),
    /// It opens a second stream for a transfer.
    Twice(u32),
    /// A stream carries another kind of thing than was offered.
    Kind(u32),
    /// A stream has another size than was offered.
    Size(u32),
    /// A stream breaks the rules of all streams.
    Stream(Broken),
}

impl Violation {
    /// A word for events and scripts. It never changes its meaning.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Taken(_) => "transfer-taken",
            Self::Unasked(_) => "unasked-stream",
            Self::Twice(_) => "stream-twice",
            Self::Kind(_) => "stream-kind",
            Self::Size(_) => "stream-size",
            Self::Stream(_) => "bad-stream",
        }
    }
}

impl From<Broken> for Violation {
    fn from(broken: Broken) -> Self {
        Self::Stream(broken)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(n) => write!(f, "transfer {n} is offered again before it has ended"),
            Self::Unasked(n) => write!(f, "transfer {n} comes before anybody said yes to it"),
            Self::Twice(n) => write!(f, "transfer {n} comes over two streams"),
            Self::Kind(n) => write!(f, "transfer {n} is not of the kind that was offered"),
            Self::Size(n) => write!(f, "transfer {n} does not have the size that was offered"),
            Self::Stream(broken) => return broken.fmt(f),
        }?;
        f.write_str("; the guest's agent is broken or hostile: stop the workspace, and report it")
    }
}

impl std::error::Error for Violation {}
