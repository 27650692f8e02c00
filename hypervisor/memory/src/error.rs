//! What may go wrong here; how it is told is [`medley_error`]'s.

/// A failure: what was tried, why it failed, and the remedy when one is known.
pub type Error = medley_error::Error<ErrorKind>;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The policy asks for something impossible.
    BadPolicy,
    /// The host has too little memory for a guest.
    TooLittle,
    /// The host does not tell what must be known.
    Unsupported,
    /// The operating system refused something.
    Io,
}

impl medley_error::Kind for ErrorKind {
    const IO: ErrorKind = ErrorKind::Io;
}
