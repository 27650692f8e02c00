//! The two traits every hypervisor fulfils, and the words for a machine's life.

use crate::{Acceleration, AcceleratorChoice, Events, MachineSpec, Network, Result};
use serde::Serialize;
use std::fmt;
use std::io::{PipeReader, PipeWriter};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
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

    /// What this hypervisor's machines can do on this host.
    fn capabilities(&self) -> Capabilities;

    /// Makes a machine that goes on where [`Machine::save`] left another: like
    /// [`Hypervisor::create`], and then reads the state from `from` to its end. The machine is
    /// [`State::Paused`] until [`Machine::resume`]; it has not run, so a reader that finds out
    /// late that the state is forged still may drop it.
    ///
    /// `spec` must describe the same machine; paths, accelerator and MiB of balloon may differ.
    /// The disk must hold what it held when the state was saved: that is the caller's to ensure.
    fn restore(&self, spec: &MachineSpec, from: PipeReader) -> Result<Box<dyn Machine>>;

    /// Machines of this hypervisor that a process of ours left behind, and that nobody steers any
    /// more. Ends them, and returns their names. Machines that die with their maker leave none.
    fn end_orphans(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// What a hypervisor's machines can do, to be asked before it is tried: what is false here fails
/// with [`crate::ErrorKind::Unsupported`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// [`Machine::save`] and [`Hypervisor::restore`].
    pub suspend: bool,
    /// [`crate::DiskEndpoint::VhostUserBlk`].
    pub vhost_user_disk: bool,
    /// Requests wait for an NBD server that went away, as long as
    /// [`crate::DiskEndpoint::NbdUnix`] says. Without it the machine halts at once, and goes on
    /// by [`Machine::resume`].
    pub disk_reconnect: bool,
    /// [`Machine::set_balloon`] and [`Machine::memory`].
    pub balloon: bool,
    /// The guest's kernel tells which pages it freed, and the host gets them back by itself.
    pub free_page_reporting: bool,
    /// [`Machine::plug_network`] and [`Machine::unplug_network`].
    pub network_hotplug: bool,
    /// [`crate::Network::TapDevice`].
    pub tap_device: bool,
    /// [`crate::MachineSpec::channels`].
    pub channels: bool,
    /// [`crate::MachineSpec::shared_memory`].
    pub shared_memory: bool,
    /// [`crate::MachineSpec::folders`].
    pub shared_folders: bool,
    /// [`crate::Screen`].
    pub screen: bool,
    /// The machine dies with the process that made it, whatever ends that.
    pub dies_with_maker: bool,
}

/// One machine, from its creation to its end.
///
/// Every call returns within a bounded time, whatever guest, disk server and hypervisor do. Any
/// number of threads may share a machine. Dropping it ends it like [`Machine::kill`]; and if this
/// process dies, by whatever signal, the machine dies with it, or is left to
/// [`Hypervisor::end_orphans`] ([`Capabilities::dies_with_maker`]).
pub trait Machine: Send + Sync {
    /// The name from its specification.
    fn name(&self) -> &str;

    /// What runs its code, and why.
    fn acceleration(&self) -> &Acceleration;

    /// The hypervisor's process, if it has one of its own; not to be used after the end.
    fn process_id(&self) -> Option<u32>;

    /// A connection to [`crate::Serial::socket`], which has one client at a time.
    ///
    /// A restored machine's first one is older than its state: a transmitter that was saved while
    /// its reader was slow goes on through a reader that is there, and waits for ever for one that
    /// comes later. So nobody else gets through to such a machine's socket until this was taken
    /// and dropped. It is read from until then, or dropped: a guest whose reader does not read waits.
    ///
    /// Fails with [`crate::ErrorKind::Timeout`] while others hold the port and wait for it.
    #[cfg(unix)]
    fn serial(&self) -> Result<UnixStream>;

    /// Lets a created machine's processor run.
    fn start(&self) -> Result<()>;

    /// Makes the processor stand still. No effect on a paused machine.
    fn pause(&self) -> Result<()>;

    /// Lets a paused or faulted machine run on; failed disk requests are tried again.
    fn resume(&self) -> Result<()>;

    /// Presses the power button: asks the guest to shut down. Returns at once.
    fn powerdown(&self) -> Result<()>;

    /// Pauses the machine and writes its state into `to`; the caller reads the other end
    /// meanwhile, to its end. It holds the guest's memory in clear: it must not reach a disk
    /// unencrypted.
    ///
    /// The disk's requests have been answered when this returns; the machine stays paused, to be
    /// ended or, if the state came to nothing, resumed. Fails if the reader goes away, or takes
    /// nothing for half a minute.
    fn save(&self, to: PipeWriter) -> Result<()>;

    /// Asks the guest to live with so much RAM, in MiB, at most what its specification says. The
    /// guest complies in its own time; [`Machine::memory`] tells.
    fn set_balloon(&self, mib: u32) -> Result<()>;

    /// What the guest's RAM looks like now, from inside where the guest says so.
    fn memory(&self) -> Result<GuestMemory>;

    /// Gives a running machine a network card, in place of the one it has.
    fn plug_network(&self, network: &Network) -> Result<()>;

    /// Takes the network card away. No effect on a machine without one. Returns when the guest
    /// has let go of it.
    fn unplug_network(&self) -> Result<()>;

    /// Pulls the network card's cable, or plugs it in again: what a guest should see when its
    /// host changes networks.
    fn set_link(&self, up: bool) -> Result<()>;

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

/// A guest's RAM, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GuestMemory {
    /// What the balloon leaves the guest.
    pub actual_mib: u32,
    /// What the guest's kernel could still hand out; unknown until its balloon driver has spoken.
    pub available_mib: Option<u32>,
    /// What the guest's kernel manages in all; a little less than `actual_mib`.
    pub total_mib: Option<u32>,
    /// Major page faults since the guest's start: growing, it wants more.
    pub major_faults: Option<u64>,
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
