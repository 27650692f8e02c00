//! How a command ends: the kinds of failure, their exit codes, and which error of which crate is of
//! which kind. This file is the only place that knows.

use std::fmt::{self, Write};

use serde::Serialize;
use vdisk::luks;

/// Result of every command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What sort of failure it is. Programs may rely on names and codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything without a code of its own.
    Failed,
    /// The command line asks for something that cannot be.
    Usage,
    /// A package, device or terminal that is needed is not there.
    Missing,
    /// No key slot opens with this passphrase, or the key does not fit the disk.
    Key,
    /// The file is damaged, or not of such a format.
    Damaged,
    /// Somebody else has the file open.
    Busy,
    /// No space is left.
    NoSpace,
    /// A valid thing that Medley does not do.
    Unsupported,
    /// The disk below an overlay or a differencing disk is missing, another, or changed.
    Parent,
    /// Damage was found, and is repaired.
    Repaired,
    /// A signal asked to stop.
    Interrupted(i32),
}

/// The kinds with what people are told about them, in order of their codes.
const TABLE: [(Kind, &str); 13] = [
    (Kind::Failed, "failed; the message says why"),
    (
        Kind::Usage,
        "usage: a bad argument, or an output that exists already",
    ),
    (
        Kind::Missing,
        "a package, device or terminal that is needed is missing",
    ),
    (
        Kind::Key,
        "wrong passphrase, or the key does not fit the disk",
    ),
    (Kind::Damaged, "damaged, or not such a format"),
    (Kind::Busy, "another process has the file open"),
    (Kind::NoSpace, "no space left"),
    (
        Kind::Unsupported,
        "a valid file or wish that is not supported",
    ),
    (
        Kind::Parent,
        "the disk below an overlay or a child is missing, is another, or was changed since",
    ),
    (Kind::Repaired, "damage was found and is repaired"),
    (Kind::Interrupted(1), "interrupted (SIGHUP)"),
    (Kind::Interrupted(2), "interrupted (SIGINT, Ctrl-C)"),
    (Kind::Interrupted(15), "interrupted (SIGTERM)"),
];

impl Kind {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Missing => "missing",
            Self::Key => "key",
            Self::Damaged => "damaged",
            Self::Busy => "busy",
            Self::NoSpace => "no-space",
            Self::Unsupported => "unsupported",
            Self::Parent => "parent",
            Self::Repaired => "repaired",
            Self::Interrupted(_) => "interrupted",
        }
    }

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Missing => 3,
            Self::Key => 4,
            Self::Damaged => 5,
            Self::Busy => 6,
            Self::NoSpace => 7,
            Self::Unsupported => 8,
            Self::Parent => 9,
            Self::Repaired => 10,
            Self::Interrupted(signal) => 128u8.saturating_add(signal.clamp(0, 127) as u8),
        }
    }

    /// The kind with this exit code; an unknown code is a failure like any other.
    pub fn from_code(code: u8) -> Self {
        match TABLE.into_iter().find(|(kind, _)| kind.code() == code) {
            Some((kind, _)) => kind,
            None => Self::Failed,
        }
    }
}

/// The table of exit codes, for people.
pub fn table() -> String {
    let mut text = String::from("  0  done\n");
    for (kind, meaning) in TABLE {
        let _ = writeln!(text, "{:>3}  {meaning}", kind.code());
    }
    text
}

/// A row of the table of exit codes, for programs.
#[derive(Debug, Serialize)]
pub struct Row {
    code: u8,
    kind: &'static str,
    meaning: &'static str,
}

/// The table of exit codes, for programs.
pub fn rows() -> Vec<Row> {
    let ok = Row {
        code: 0,
        kind: "ok",
        meaning: "done",
    };
    let row = |(kind, meaning): (Kind, _)| Row {
        code: kind.code(),
        kind: kind.name(),
        meaning,
    };
    std::iter::once(ok)
        .chain(TABLE.into_iter().map(row))
        .collect()
}

/// Why a command failed, in one or a few sentences that name what, where and the remedy.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// A failure without a code of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line asks for something that cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// A failed system call: `what` names the operation and its object.
    pub fn io<E: Into<std::io::Error>>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::from(vdisk::Error::io(what.to_string(), error.into()))
    }

    /// A signal stopped the command.
    pub fn interrupted(signal: i32) -> Self {
        let name = match signal {
            1 => "SIGHUP",
            2 => "SIGINT",
            15 => "SIGTERM",
            _ => "a signal",
        };
        Self::new(Kind::Interrupted(signal), format!("interrupted by {name}"))
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same failure with a remedy behind it.
    #[must_use]
    pub fn remedy(mut self, remedy: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(remedy);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<vdisk::Error> for Failure {
    fn from(error: vdisk::Error) -> Self {
        use vdisk::ErrorKind as K;
        let kind = match error.kind() {
            K::NoSpace => Kind::NoSpace,
            K::InvalidRequest => Kind::Usage,
            K::Corrupt => Kind::Damaged,
            K::Unsupported => Kind::Unsupported,
            K::Busy => Kind::Busy,
            K::Key => Kind::Key,
            K::Parent => Kind::Parent,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<luks::Error> for Failure {
    fn from(error: luks::Error) -> Self {
        use luks::ErrorKind as K;
        let kind = match error.kind() {
            K::WrongPassphrase | K::KeyMismatch | K::LastKey | K::NotFound => Kind::Key,
            K::Unsupported | K::WrongVersion | K::TooCostly => Kind::Unsupported,
            K::Input => Kind::Usage,
            K::NoSpace => Kind::NoSpace,
            K::NotLuks | K::Truncated | K::Corrupt => Kind::Damaged,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<vdisk_frontends::Error> for Failure {
    fn from(error: vdisk_frontends::Error) -> Self {
        use vdisk_frontends::Error as E;
        let kind = match error {
            E::Disk(source) => {
                let failure = Self::from(source);
                let message =
                    format!("the last flush failed, what was written may be lost: {failure}");
                return Self { message, ..failure };
            }
            E::SocketInUse { .. } | E::AlreadyMounted { .. } => Kind::Busy,
            E::NotASocket { .. }
            | E::SocketPathTooLong { .. }
            | E::Options { .. }
            | E::Mountpoint { .. } => Kind::Usage,
            E::NoFuse { .. } => Kind::Missing,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<medley_hypervisor::Error> for Failure {
    fn from(error: medley_hypervisor::Error) -> Self {
        use medley_hypervisor::ErrorKind as K;
        let kind = match error.kind() {
            K::Missing => Kind::Missing,
            K::Unsupported => Kind::Unsupported,
            K::BadSpec => Kind::Usage,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<medley_session::Error> for Failure {
    fn from(error: medley_session::Error) -> Self {
        use medley_session::ErrorKind as K;
        let kind = match error.kind() {
            K::Busy => Kind::Busy,
            K::Request => Kind::Usage,
            K::Missing => Kind::Missing,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<medley_memory::Error> for Failure {
    fn from(error: medley_memory::Error) -> Self {
        use medley_memory::ErrorKind as K;
        let kind = match error.kind() {
            K::BadPolicy => Kind::Usage,
            K::Unsupported => Kind::Unsupported,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_were_promised() {
        let codes: Vec<u8> = TABLE.iter().map(|(kind, _)| kind.code()).collect();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 129, 130, 143]);
        for (kind, _) in TABLE {
            assert_eq!(Kind::from_code(kind.code()), kind);
        }
        assert_eq!(table().lines().count(), rows().len());
    }

    #[test]
    fn errors_of_the_disk_keep_their_kind_and_words() {
        let failure = Failure::from(vdisk::Error::corrupt("footer").at_path("a.vhd".as_ref()));
        assert_eq!(
            (failure.kind(), failure.to_string()),
            (Kind::Damaged, "a.vhd: footer".into())
        );
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(
            Failure::io::<std::io::Error>("write x")(full).kind(),
            Kind::NoSpace
        );
    }
}
