//! Why something was not printed.
use std::path::PathBuf;

/// What this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system failed the guest's printer.
    #[error("the printer on {place}: cannot {doing} ({source})")]
    System {
        /// Where it listens.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A printer is not to be reached by the network.
    #[error("{0}: not an address of this machine; the guest's printer listens on loopback only")]
    NotLoopback(std::net::SocketAddr),
    /// The file cannot be read.
    #[error("{}: cannot {doing} ({source})", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The file is not what it is said to be.
    #[error("{}: does not begin as {expected} does, and is not handed to a printer", path.display())]
    NotTheFormat {
        /// Which.
        path: PathBuf,
        /// What it was said to be.
        expected: &'static str,
    },
    /// No address of a printer.
    #[error("{uri}: {why}; a printer's address is like ipp://localhost/printers/NAME")]
    Uri {
        /// What was given.
        uri: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The printer or print service does not answer.
    #[error("{place}: cannot {doing} ({source}); is the print service running?")]
    Unreachable {
        /// Where.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// It answers, but not in HTTP or IPP.
    #[error("{place}: the answer makes no sense ({why}); this is no IPP printer")]
    Nonsense {
        /// Where.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// HTTP says no.
    #[error("{place}: refused with HTTP status {status}{}", http_remedy(*status))]
    Http {
        /// Where.
        place: String,
        /// HTTP's number.
        status: u16,
    },
    /// The printer says no.
    #[error("{place}: refused with {status:#06x}{}{}", ipp_remedy(*status), said(message))]
    Refused {
        /// Where.
        place: String,
        /// IPP's status.
        status: u16,
        /// What the printer says about it.
        message: String,
    },
}

const fn http_remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => "; it wants a login, which is not supported: let it print for this user",
        404 => "; there is no such printer",
        413 => "; the document is too large for it",
        426 => "; it wants TLS, which is not supported: print through the host's CUPS",
        503 => "; it is busy",
        _ => "",
    }
}

const fn ipp_remedy(status: u16) -> &'static str {
    match status {
        0x0401..=0x0403 => " (not allowed: let it print for this user)",
        0x0406 => " (there is no such printer or job)",
        0x0408 => " (the document is too large for it)",
        0x040a => " (it does not take this format: print through the host's CUPS, which converts)",
        0x0506 => " (it accepts no jobs: see `cupsaccept`)",
        0x0507 => " (busy: try again)",
        _ => "",
    }
}

fn said(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}
