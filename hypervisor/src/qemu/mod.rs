//! Machines run by QEMU, one process each, steered over QMP.

mod argv;
mod discover;
mod launch;
mod life;
mod lifeline;
mod machine;
mod migration;
mod probe;
mod process;
mod qmp;

pub use discover::Version;

/// What a back end takes whose machines are QEMUs that somebody else started.
pub mod hold {
    pub use super::life::Life;
    pub use super::machine::{Hold, QemuMachine};
    pub use super::process::Ended;
    pub use super::qmp::{QmpEvent, Report};
}

use crate::backend;
use crate::{
    Acceleration, Accelerator, AcceleratorChoice, Capabilities, DiskEndpoint, Error, ErrorKind,
    Hypervisor, Machine, MachineSpec, Result,
};
use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The first QEMU whose chardevs take `reconnect-ms`.
const RECONNECTS: Version = Version {
    major: 9,
    minor: 2,
    micro: 0,
};

/// A QEMU on this host, version 8.2 or newer.
#[derive(Debug)]
pub struct Qemu {
    program: PathBuf,
    version: Version,
    measured: OnceLock<Acceleration>,
}

impl Qemu {
    /// The QEMU that `PATH` leads to.
    ///
    /// Fails with [`ErrorKind::Missing`] and the package to install, or [`ErrorKind::Unsupported`]
    /// if it is too old.
    pub fn find() -> Result<Qemu> {
        Qemu::at(discover::search(
            &std::env::var_os("PATH").unwrap_or_default(),
        )?)
    }

    /// The QEMU at this path (`qemu-system-x86_64`); fails as [`Qemu::find`] does.
    pub fn at(program: impl Into<PathBuf>) -> Result<Qemu> {
        let program = program.into();
        let version = discover::version_of(&program)?;
        tracing::debug!(program = %program.display(), %version, "found QEMU");
        Ok(Qemu {
            program,
            version,
            measured: OnceLock::new(),
        })
    }

    /// Takes an earlier [`Qemu::measure_acceleration`] for granted, which saves its time.
    #[must_use]
    pub fn with_acceleration(mut self, known: Acceleration) -> Qemu {
        self.measured = OnceLock::from(known);
        self
    }

    /// Runs a small guest under KVM, and under TCG to compare: the faster one wins. Takes up to
    /// two seconds, where KVM works some tenths of one; never fails, because TCG always works.
    pub fn measure_acceleration(&self) -> Acceleration {
        let measured = probe::measure(&self.program);
        tracing::info!(accelerator = %measured.accelerator, reason = measured.reason, "measured");
        measured
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The program's version.
    pub fn version(&self) -> Version {
        self.version
    }

    fn make(&self, spec: &MachineSpec, incoming: bool) -> Result<machine::QemuMachine> {
        spec.validate()?;
        self.check_disk(spec)?;
        backend::check_network(&spec.network)?;
        let acceleration = self.acceleration(spec.accelerator)?;
        launch::launch(&self.program, spec, acceleration, incoming)
    }

    /// What QEMU itself would only say by waiting for ever.
    fn check_disk(&self, spec: &MachineSpec) -> Result<()> {
        let DiskEndpoint::VhostUserBlk { socket, .. } = &spec.disk else {
            return Ok(());
        };
        if self.version < RECONNECTS {
            let detail = format!("QEMU {} does not reconnect to it", self.version);
            return Err(
                Error::new(ErrorKind::Unsupported, "use a vhost-user disk", detail)
                    .remedy("install QEMU 9.2 or newer, or use NBD"),
            );
        }
        let connected = std::os::unix::net::UnixStream::connect(socket);
        connected.map(drop).map_err(|error| {
            let operation = format!("reach the disk's server at {}", socket.display());
            Error::new(ErrorKind::Launch, operation, error.to_string())
                .remedy("start the server first")
        })
    }
}

impl Hypervisor for Qemu {
    fn describe(&self) -> String {
        format!("QEMU {}", self.version)
    }

    fn acceleration(&self, choice: AcceleratorChoice) -> Result<Acceleration> {
        if choice == AcceleratorChoice::Tcg {
            let reason = "TCG was asked for".into();
            return Ok(Acceleration {
                accelerator: Accelerator::Tcg,
                reason,
            });
        }
        let measured = self
            .measured
            .get_or_init(|| self.measure_acceleration())
            .clone();
        if choice == AcceleratorChoice::Kvm && measured.accelerator != Accelerator::Kvm {
            return Err(
                Error::new(ErrorKind::Unsupported, "use KVM", measured.reason)
                    .remedy("let the accelerator be chosen, or use TCG"),
            );
        }
        Ok(measured)
    }

    fn create(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        self.make(spec, false).map(|machine| Box::new(machine) as _)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            suspend: true,
            vhost_user_disk: self.version >= RECONNECTS,
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
        }
    }

    fn restore(&self, spec: &MachineSpec, from: PipeReader) -> Result<Box<dyn Machine>> {
        let machine = self.make(spec, true)?;
        machine.take_in(from)?;
        Ok(Box::new(machine))
    }
}
