//! What a session did by itself, for whoever watches: one stable code per cause.

use serde::Serialize;
use std::fmt;

/// A cause, as logs and servers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// The session went on where it slept.
    Resumed,
    /// The session went on from the desktop that was kept right after a boot.
    FromBooted,
    /// A kept boot was dropped, since it does not fit any more.
    BootedDropped,
    /// A saved state was dropped, since the disk went on without it.
    StateOutdated,
    /// A saved state was dropped, since it is damaged, cut short or forged.
    StateRefused,
    /// What a revertible session that was killed left behind was forgotten.
    LeftoverReverted,
    /// The disk's server ended by itself.
    DiskServerDied,
    /// The disk's server serves again.
    DiskServerRestarted,
    /// The disk's server died too often; the machine has no disk any more.
    DiskServerGaveUp,
    /// The host came into another network, and the guest was told.
    NetworkChanged,
    /// The hypervisor ended by itself.
    MachineDied,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// The guest's heartbeat stopped.
    GuestSilent,
    /// The machine was started again.
    MachineRestarted,
    /// The machine ended too often and is left alone.
    MachineGaveUp,
}

impl Code {
    /// The code as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::FromBooted => "from-booted",
            Self::BootedDropped => "booted-dropped",
            Self::StateOutdated => "state-outdated",
            Self::StateRefused => "state-refused",
            Self::LeftoverReverted => "leftover-reverted",
            Self::DiskServerDied => "disk-server-died",
            Self::DiskServerRestarted => "disk-server-restarted",
            Self::DiskServerGaveUp => "disk-server-gave-up",
            Self::NetworkChanged => "network-changed",
            Self::MachineDied => "machine-died",
            Self::GuestPanicked => "guest-panicked",
            Self::GuestSilent => "guest-silent",
            Self::MachineRestarted => "machine-restarted",
            Self::MachineGaveUp => "machine-gave-up",
        }
    }
}

/// Something that happened, for people and for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Which cause.
    pub code: Code,
    /// In words.
    pub text: String,
}

impl Notice {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        let text = text.into();
        tracing::info!(code = code.word(), text, "session");
        Self { code, text }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.code.word())
    }
}
