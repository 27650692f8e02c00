//! A back end whose machines exist only in this process, and fail on demand.
//!
//! Its machines have an imagined guest that answers the suite on a real serial socket. Without a
//! fault it does all that a back end must; with one it does not, in just that way.

mod guest;
mod machine;

use crate::fake::machine::{FakeMachine, Nature};
use medley_hypervisor::backend::{lock, unsupported};
use medley_hypervisor::{
    Acceleration, Accelerator, AcceleratorChoice, Capabilities, DiskEndpoint, Error, ErrorKind,
    Hypervisor, Machine, MachineSpec, Network, Result,
};
use std::collections::{HashMap, VecDeque};
use std::io::{PipeReader, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine dies as soon as it runs.
    DiesAtStart,
    /// The machine dies when it has run for so long.
    DiesAfter(Duration),
    /// The guest never becomes ready.
    NeverReady,
    /// The processor runs on while the machine is said to be paused.
    PauseIgnored,
    /// Half of the state is written, then nothing more; given up after [`Fake::with_stall`].
    SaveStalls,
    /// Half of the state is written, then it fails.
    SaveFails,
    /// Half of the state is written, and called a success.
    SaveLies,
    /// The guest's memory is another after a restore.
    MemoryLost,
    /// A restored machine runs before it is told to.
    RunsUnasked,
    /// Anything at all is taken for a saved state.
    BelievesAnything,
    /// The balloon does nothing.
    BalloonIgnored,
    /// The balloon says it moved, and the guest does not notice.
    BalloonPretended,
    /// A network card that was plugged in is not there.
    CardIgnored,
    /// A network card that was pulled out is still there.
    CardStuck,
    /// A channel loses a bit.
    ChannelGarbles,
    /// Nobody is told that a machine was resumed.
    EventLost,
    /// Stopping takes as long as [`Fake::with_stall`].
    StopsSlowly,
    /// A machine's sockets stay when it ends.
    LeavesSockets,
    /// The guest does not see the power button.
    PowerButtonDead,
    /// A guest that reboots never comes back.
    RebootHangs,
    /// What the guest flushes does not reach the disk.
    FlushLost,
    /// The guest sees the disk's failure, and does not halt.
    DiskErrorShown,
    /// A bad specification is taken for a good one.
    SpecUnchecked,
    /// A disk that nobody serves is taken for one.
    DiskUnchecked,
    /// What it is said to be unable to do works.
    Undeclared,
}

/// The back end.
pub struct Fake {
    can: Capabilities,
    // What is wrong with the next machines, one after the other, and with all after them.
    script: Mutex<VecDeque<Option<Fault>>>,
    always: Option<Fault>,
    stall: Duration,
    disks: Disks,
}

/// What lies on each disk, by its server's socket.
type Disks = Arc<Mutex<HashMap<PathBuf, String>>>;

impl Default for Fake {
    fn default() -> Fake {
        Fake::new()
    }
}

impl Fake {
    /// Without a fault, and able to do everything it can imagine.
    pub fn new() -> Fake {
        Fake {
            can: Capabilities {
                suspend: true,
                vhost_user_disk: true,
                disk_reconnect: true,
                balloon: true,
                free_page_reporting: true,
                network_hotplug: true,
                tap_device: true,
                channels: true,
                shared_memory: true,
                shared_folders: true,
                screen: true,
                dies_with_maker: true,
            },
            script: Mutex::default(),
            always: None,
            stall: Duration::from_secs(30),
            disks: Disks::default(),
        }
    }

    /// Every machine has this fault.
    pub fn always(fault: Fault) -> Fake {
        Fake {
            always: Some(fault),
            ..Fake::new()
        }
    }

    /// The first machine has the first fault, and so on; those after the last have none.
    pub fn scripted(faults: impl IntoIterator<Item = Option<Fault>>) -> Fake {
        Fake {
            script: Mutex::new(faults.into_iter().collect()),
            ..Fake::new()
        }
    }

    /// It can do only this.
    #[must_use]
    pub fn with_capabilities(self, can: Capabilities) -> Fake {
        Fake { can, ..self }
    }

    /// How long it takes over what it should do at once: half a minute unless this is said.
    #[must_use]
    pub fn with_stall(self, stall: Duration) -> Fake {
        Fake { stall, ..self }
    }

    fn make(&self, spec: &MachineSpec, state: Option<PipeReader>) -> Result<Box<dyn Machine>> {
        let fault = lock(&self.script).pop_front().unwrap_or(self.always);
        if fault != Some(Fault::SpecUnchecked) {
            spec.validate()?;
        }
        if fault != Some(Fault::Undeclared) {
            self.check_capabilities(spec, state.is_some())?;
        }
        check_network(&spec.network)?;
        let socket = disk_socket(&spec.disk);
        if fault != Some(Fault::DiskUnchecked)
            && let Err(error) = UnixStream::connect(socket)
        {
            let operation = format!("reach the disk's server at {}", socket.display());
            return Err(Error::new(ErrorKind::Launch, operation, error.to_string()));
        }
        let restored = state.is_some();
        let guest = match state {
            None => guest::Guest::new(spec),
            Some(mut pipe) => {
                let mut state = Vec::new();
                let read = pipe.by_ref().take(STATE_MAX).read_to_end(&mut state);
                read.map_err(|error| Error::io("read the state", error))?;
                guest::Guest::from_state(&state, spec, fault)?
            }
        };
        let nature = Nature {
            acceleration: self.acceleration(spec.accelerator)?,
            can: self.can,
            stall: self.stall,
            fault,
            disks: Arc::clone(&self.disks),
        };
        let machine = FakeMachine::new(spec, nature, guest)?;
        Ok(Box::new(if restored {
            machine.restored()
        } else {
            machine
        }))
    }

    fn check_capabilities(&self, spec: &MachineSpec, restore: bool) -> Result<()> {
        let vhost = matches!(spec.disk, DiskEndpoint::VhostUserBlk { .. });
        for (what, wanted, can) in [
            ("a restore", restore, self.can.suspend),
            ("a vhost-user disk", vhost, self.can.vhost_user_disk),
            ("channels", !spec.channels.is_empty(), self.can.channels),
            (
                "shared memory",
                spec.shared_memory.is_some(),
                self.can.shared_memory,
            ),
            (
                "shared folders",
                !spec.folders.is_empty(),
                self.can.shared_folders,
            ),
            ("a screen", spec.screen.is_some(), self.can.screen),
        ] {
            if wanted && !can {
                let operation = format!("create machine {}", spec.name);
                return Err(unsupported(operation, format!("{what} cannot be had")));
            }
        }
        Ok(())
    }
}

/// More than any imagined guest has.
const STATE_MAX: u64 = 16 << 20;

fn disk_socket(disk: &DiskEndpoint) -> &std::path::Path {
    match disk {
        DiskEndpoint::VhostUserBlk { socket, .. } | DiskEndpoint::NbdUnix { socket, .. } => socket,
        _ => std::path::Path::new(""),
    }
}

fn check_network(network: &Network) -> Result<()> {
    network.validate("network")?;
    match network {
        Network::Tap { interface } => {
            let operation = format!("use the tap device {interface}");
            let detail = "an imagined host has none";
            Err(Error::new(ErrorKind::Missing, operation, detail))
        }
        _ => Ok(()),
    }
}

impl Hypervisor for Fake {
    fn describe(&self) -> String {
        "a fake".into()
    }

    fn acceleration(&self, choice: AcceleratorChoice) -> Result<Acceleration> {
        if choice == AcceleratorChoice::Kvm {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "use KVM",
                "nothing runs here",
            ));
        }
        Ok(Acceleration {
            accelerator: Accelerator::Tcg,
            reason: "an imagined guest takes none".into(),
        })
    }

    fn create(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        self.make(spec, None)
    }

    fn capabilities(&self) -> Capabilities {
        self.can
    }

    fn restore(&self, spec: &MachineSpec, from: PipeReader) -> Result<Box<dyn Machine>> {
        self.make(spec, Some(from))
    }
}
