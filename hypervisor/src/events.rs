//! What a machine tells those who listen.

use crate::Exit;
use serde::Serialize;
use std::sync::mpsc::Receiver;

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The processor runs for the first time.
    Started,
    /// The processor stands still; [`Event::DiskError`] says so before if that is the cause.
    Paused,
    /// The processor runs again.
    Resumed,
    /// The power button was pressed; what follows is the guest's choice.
    PowerDown,
    /// The machine was reset.
    Reset {
        /// True if the guest asked for it.
        by_guest: bool,
    },
    /// The disk failed a request.
    DiskError {
        /// True for a write, false for a read.
        write: bool,
        /// True if the machine halts because of it ([`crate::State::Faulted`]): the request is
        /// tried again by `resume`, and the guest never sees the failure.
        halted: bool,
        /// The hypervisor's words.
        reason: String,
    },
    /// The guest's kernel reported its own end.
    GuestPanicked,
    /// The balloon gave the guest RAM or took some.
    Balloon {
        /// What the guest has now, in MiB.
        actual_mib: u32,
    },
    /// A program in the guest opened or closed its end of a channel. Reported at most about once
    /// a second; the last state always is.
    Channel {
        /// The channel's name.
        name: String,
        /// True if it is open now.
        open: bool,
    },
    /// The listener was too slow and this many events are lost.
    Missed {
        /// How many.
        count: u64,
    },
    /// The machine has ended. The last event: the channel closes after it.
    Stopped(Exit),
}

/// The events of one machine, from the moment of asking. The channel closes when the machine has
/// ended: a receiver that sees it closed can rely on it, even when it missed [`Event::Stopped`].
pub type Events = Receiver<Event>;
