//! One shape for the errors of the hypervisor family: what was tried, why it failed, and the remedy.
//!
//! Each crate brings its own kinds and gives the type a name of its own:
//!
//! ```
//! #[derive(Clone, Copy, Debug, PartialEq, Eq)]
//! pub enum ErrorKind {
//!     Missing,
//!     Io,
//! }
//!
//! impl medley_error::Kind for ErrorKind {
//!     const IO: ErrorKind = ErrorKind::Io;
//! }
//!
//! pub type Error = medley_error::Error<ErrorKind>;
//!
//! let error = Error::new(ErrorKind::Missing, "find QEMU", "not in PATH").remedy("install it");
//! assert_eq!(error.to_string(), "find QEMU: not in PATH (install it)");
//! ```
#![forbid(unsafe_code)]

use std::fmt;

/// The kinds of failure that a crate tells apart.
pub trait Kind: Copy + fmt::Debug {
    /// The operating system refused something.
    const IO: Self;
}

/// A failure: what was tried, why it failed, and the remedy when one is known.
#[derive(Debug)]
pub struct Error<K> {
    kind: K,
    operation: String,
    detail: String,
    remedy: Option<String>,
    source: Option<std::io::Error>,
}

impl<K: Kind> Error<K> {
    /// A failure of `operation` (`start machine office`) because of `detail`.
    pub fn new(kind: K, operation: impl Into<String>, detail: impl Into<String>) -> Error<K> {
        Error {
            kind,
            operation: operation.into(),
            detail: detail.into(),
            remedy: None,
            source: None,
        }
    }

    /// What the operating system refused while `operation` was tried.
    pub fn io(operation: impl Into<String>, source: std::io::Error) -> Error<K> {
        let detail = source.to_string();
        Error {
            source: Some(source),
            ..Error::new(K::IO, operation, detail)
        }
    }

    /// The same failure with what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Error<K> {
        Error {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// The kind of failure.
    pub fn kind(&self) -> K {
        self.kind
    }
}

impl<K> fmt::Display for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl<K: fmt::Debug> std::error::Error for Error<K> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kinds {
        Own,
        Io,
    }

    impl Kind for Kinds {
        const IO: Kinds = Kinds::Io;
    }

    #[test]
    fn it_says_what_why_and_what_to_do() {
        let plain = Error::new(Kinds::Own, "try", "it is late");
        assert_eq!(
            (plain.kind(), plain.to_string().as_str()),
            (Kinds::Own, "try: it is late")
        );
        assert!(plain.source().is_none());
        let refused = std::io::Error::from_raw_os_error(2);
        let words = refused.to_string();
        let error: Error<Kinds> = Error::io("open x", refused).remedy("make it");
        assert_eq!(error.kind(), Kinds::Io);
        assert_eq!(error.to_string(), format!("open x: {words} (make it)"));
        assert!(error.source().is_some());
    }
}
