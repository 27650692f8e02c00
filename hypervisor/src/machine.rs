//! The two traits every hypervisor fulfils, and the words for a machine's life.

use crate::{Acceleration, AcceleratorChoice, Events, MachineSpec, Result};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Makes machines.
pub trait Hypervisor: Send + Sync {
    /// Name and version, for logs: `QEMU 10.0.2`.
    fn describe(&self) -> String;

    /// The accelerator that a machine with this choice gets on this host, and why. The first call
    /// may measure for up to two seconds; later ones answer from memory.
    fn acceleration(&self, choice: AcceleratorChoice) -> Result<Acceleration>;

    /// Makes a machine: checks the specification, connects the disk, opens the sockets. The
    /// processor stands still until [`Machine::start`].
    ///
    /// Fails if the disk cannot be reached, a field is bad or the hypervisor gives up, with its
    /// own last words in the error; nothing of the machine is left behind then.
    fn create(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>>;
}

/// One machine, from its creation to its end.
///
/// Every call returns within a bounded time, whatever guest, disk server and hypervisor do. Any
/// number of threads may share a machine. Dropping it ends it like [`Machine::kill`]; and if this
/// process dies, by whatever signal, the machine dies with it.
pub trait Machine: Send + Sync {
    /// The name from its specification.
    fn name(&self) -> &str;

    /// What runs its code, and why.
    fn acceleration(&self) -> &Acceleration;

    /// The hypervisor's process, if it has one of its own; not to be used after the end.
    fn process_id(&self) -> Option<u32>;

    /// Lets a created machine's processor run.
    fn start(&self) -> Result<()>;

    /// Makes the processor stand still. No effect on a paused machine.
    fn pause(&self) -> Result<()>;

    /// Lets a paused or faulted machine run on; failed disk requests are tried again.
    fn resume(&self) -> Result<()>;

    /// Presses the power button: asks the guest to shut down. Returns at once.
    fn powerdown(&self) -> Result<()>;

    /// Pulls the plug in good order: what the guest flushed is on its disk. A hypervisor that has
    /// not ended within `grace` is killed. Returns how the machine ended, also if it had before.
    fn stop(&self, grace: Duration) -> Result<Exit>;

    /// Ends the machine now, like a power failure.
    fn kill(&self) -> Result<Exit>;

    /// The state as last heard of.
    fn state(&self) -> State;

    /// Waits until the machine is in this state. Fails when the time is over and, at once, when
    /// the machine ends in the meantime and never can be.
    fn wait_state(&self, wanted: State, timeout: Duration) -> Result<()>;

    /// Waits for the end; `None` if the time is over before.
    fn wait_exit(&self, timeout: Duration) -> Option<Exit>;

    /// The events from now on. Subscribe before [`Machine::start`] to miss none.
    fn events(&self) -> Events;
}

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Made, not yet started.
    Created,
    /// The processor runs.
    Running,
    /// Paused by its owner.
    Paused,
    /// Halted by a failure: of the disk (then `resume` tries again) or of the hypervisor.
    Faulted,
    /// Ended; see [`Exit`].
    Stopped,
}

/// Why a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// The guest shut down.
    GuestShutdown,
    /// The guest rebooted, and [`crate::OnReset::Stop`] was asked for.
    GuestReset,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// [`Machine::stop`].
    Asked,
    /// [`Machine::kill`], a `stop` that took too long, or the machine was dropped.
    Killed,
    /// Somebody else told the hypervisor to end, in good order.
    HostSignal,
    /// The hypervisor died: a crash, an error of its own, or a signal from outside.
    Died,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// Why.
    pub reason: StopReason,
    /// The exit code of the hypervisor's process, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended the hypervisor's process.
    pub signal: Option<i32>,
    /// The last of what the hypervisor complained, at most 8 KiB; often empty.
    pub stderr: String,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            StopReason::GuestShutdown => "the guest shut down",
            StopReason::GuestReset => "the guest rebooted",
            StopReason::GuestPanicked => "the guest's kernel panicked",
            StopReason::Asked => "stopped",
            StopReason::Killed => "killed",
            StopReason::HostSignal => "the hypervisor was told to end from outside",
            StopReason::Died => "the hypervisor died",
        })?;
        match (self.signal, self.code) {
            (Some(_), _) if self.reason == StopReason::Killed => {}
            (Some(signal), _) => write!(f, " (signal {signal})")?,
            (None, Some(code)) if code != 0 => write!(f, " (exit code {code})")?,
            _ => {}
        }
        match self.stderr.trim() {
            "" => Ok(()),
            words => write!(f, ": {words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_reads_as_a_sentence() {
        let exit = |reason, code, signal, stderr: &str| {
            Exit {
                reason,
                code,
                signal,
                stderr: stderr.into(),
            }
            .to_string()
        };
        assert_eq!(
            exit(StopReason::GuestShutdown, Some(0), None, ""),
            "the guest shut down"
        );
        assert_eq!(exit(StopReason::Killed, None, Some(9), ""), "killed");
        assert_eq!(
            exit(StopReason::Died, None, Some(11), "oops\n"),
            "the hypervisor died (signal 11): oops"
        );
        assert_eq!(
            exit(StopReason::Died, Some(1), None, ""),
            "the hypervisor died (exit code 1)"
        );
    }
}
