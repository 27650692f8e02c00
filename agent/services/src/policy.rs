//! What an administrator allows: nothing, unless it is named.
use medley_wire::control::Allowed;
use medley_wire::limits::{FILE_BYTES, PRINT_BYTES};
use std::fmt;
use std::str::FromStr;

/// Something that a guest and its host may do for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Files go to the guest.
    FilesIn,
    /// Files come from the guest.
    FilesOut,
    /// The guest prints on the host's printers.
    Print,
    /// The guest's notifications are shown.
    Notes,
    /// The guest's tray items are shown.
    Tray,
    /// Addresses are opened by the host's browser.
    Urls,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FilesIn,
        Self::FilesOut,
        Self::Print,
        Self::Notes,
        Self::Tray,
        Self::Urls,
    ];

    /// Its policy key.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FilesIn => "files-in",
            Self::FilesOut => "files-out",
            Self::Print => "print",
            Self::Notes => "notes",
            Self::Tray => "tray",
            Self::Urls => "urls",
        }
    }

    /// How a guest is told that it is allowed.
    #[must_use]
    pub const fn bit(self) -> Allowed {
        match self {
            Self::FilesIn => Allowed::FILES_IN,
            Self::FilesOut => Allowed::FILES_OUT,
            Self::Print => Allowed::PRINT,
            Self::Notes => Allowed::NOTES,
            Self::Tray => Allowed::TRAY,
            Self::Urls => Allowed::URLS,
        }
    }

    /// What [`Event::Refused`](crate::Event::Refused) calls it.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::FilesIn | Self::FilesOut => "file",
            Self::Print => "print",
            Self::Notes => "note",
            Self::Tray => "tray",
            Self::Urls => "url",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No service is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no service is called {0:?}: there are files-in, files-out, print, notes, tray and urls")]
pub struct Unknown(pub String);

impl FromStr for Service {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        Self::ALL
            .into_iter()
            .find(|service| service.name() == name)
            .ok_or_else(|| Unknown(name.into()))
    }
}

/// What is allowed, and how large it may be.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    allowed: Allowed,
    /// Bytes of a file, either way.
    pub file_bytes: u64,
    /// Bytes of a print job.
    pub print_bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allowed: Allowed::NONE,
            file_bytes: FILE_BYTES,
            print_bytes: PRINT_BYTES,
        }
    }
}

impl Policy {
    /// These are allowed, and nothing else.
    #[must_use]
    pub fn allowing(services: impl IntoIterator<Item = Service>) -> Self {
        let allowed = services
            .into_iter()
            .fold(Allowed::NONE, |all, service| all.with(service.bit()));
        Self {
            allowed,
            ..Self::default()
        }
    }

    /// Whether it is allowed.
    #[must_use]
    pub const fn allows(&self, service: Service) -> bool {
        self.allowed.has(service.bit())
    }

    /// What the guest is told about it, beside what other parts allow.
    #[must_use]
    pub const fn allowed(&self) -> Allowed {
        self.allowed
    }

    /// The same, but never more than the wire can carry.
    #[must_use]
    pub(crate) fn bounded(self) -> Self {
        Self {
            file_bytes: self.file_bytes.min(FILE_BYTES),
            print_bytes: self.print_bytes.min(PRINT_BYTES),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_that_is_not_named() {
        let policy = Policy::default();
        assert!(Service::ALL.iter().all(|service| !policy.allows(*service)));
        let policy = Policy::allowing([Service::Print, Service::Urls]);
        let allowed: Vec<_> = Service::ALL
            .iter()
            .filter(|service| policy.allows(**service))
            .map(|service| service.name())
            .collect();
        assert_eq!(allowed, ["print", "urls"]);
        assert_eq!(policy.allowed(), Allowed::PRINT.with(Allowed::URLS));
    }

    #[test]
    fn services_are_known_by_their_names() {
        for service in Service::ALL {
            assert_eq!(service.to_string().parse(), Ok(service));
        }
        let unknown = "files".parse::<Service>().unwrap_err();
        assert!(unknown.to_string().contains("files-out"), "{unknown}");
    }

    #[test]
    fn no_policy_exceeds_the_wire() {
        let policy = Policy {
            file_bytes: u64::MAX,
            print_bytes: u64::MAX,
            ..Policy::default()
        };
        let policy = policy.bounded();
        assert_eq!(
            (policy.file_bytes, policy.print_bytes),
            (FILE_BYTES, PRINT_BYTES)
        );
    }
}
