//! What may go wrong here; how it is told is [`medley_error`]'s.

/// A failure: what was tried, why it failed, and the remedy when one is known.
pub type Error = medley_error::Error<ErrorKind>;

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

impl medley_error::Kind for ErrorKind {
    const IO: ErrorKind = ErrorKind::Io;
}
