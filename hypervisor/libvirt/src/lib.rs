//! Machines run by libvirt, on this host.
//!
//! A machine is a transient domain: nothing of it is written into libvirt's configuration, and
//! nothing is left of it when it ends. Its QEMU's monitor is reached through libvirt, so that a
//! machine is steered here by the very code that steers a QEMU of our own; and its state goes
//! through our pipe ([`medley_hypervisor::Machine::save`]), never through libvirt's own save file,
//! which would hold the guest's memory in clear.
#![cfg(target_os = "linux")]

mod api;
mod domain;
mod machine;
mod maker;
mod xml;

use api::Connection;
use domain::{Circumstances, NAMESPACE};
use machine::{Held, bounded};
use maker::Maker;
use medley_hypervisor::backend::{check_network, unsupported};
use medley_hypervisor::qemu::Qemu;
use medley_hypervisor::qemu::hold::{Life, QemuMachine};
use medley_hypervisor::{
    Acceleration, AcceleratorChoice, Capabilities, Error, ErrorKind, Hypervisor, Machine,
    MachineSpec, Result,
};
use std::io::PipeReader;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long libvirt may take to make a domain.
const CREATED_WITHIN: Duration = Duration::from_secs(60);
/// How long libvirt may take to answer about itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The first libvirt that hands a descriptor to QEMU's monitor: 8.2.
const OLDEST: u64 = 8_002_000;

/// The first libvirt with words for a disk that waits for its server: 9.1.
const RECONNECTS: u64 = 9_001_000;

/// A libvirt on this host, version 8.2 or newer, with a QEMU.
#[derive(Debug)]
pub struct Libvirt {
    connection: Arc<Connection>,
    qemu: Qemu,
    description: String,
    /// Whether a daemon watches over our connection, and ends our machines with it.
    watched: bool,
    /// Whether it can have a disk wait for its server.
    reconnects: bool,
}

impl Libvirt {
    /// The libvirt at `qemu:///system`, `qemu:///session` or another URI of this host's.
    ///
    /// Fails with [`ErrorKind::Missing`] if libvirt is not installed or does not run, and with
    /// [`ErrorKind::Unsupported`] if it is too old or another host's.
    pub fn open(uri: &str) -> Result<Libvirt> {
        let (scheme, rest) = uri.split_once("://").unwrap_or((uri, ""));
        let here = rest.starts_with('/') && matches!(scheme, "qemu" | "qemu+unix");
        if !here {
            let operation = format!("use libvirt at {uri}");
            let detail = "disks and channels are sockets, which only QEMU on this host can reach";
            return Err(Error::new(ErrorKind::Unsupported, operation, detail)
                .remedy("use qemu:///system or qemu:///session"));
        }
        let qemu = Qemu::find()?;
        let (opened, told) = (uri.to_owned(), uri.to_owned());
        let (connection, [libvirt, version]) = bounded(ANSWER_WITHIN, move || {
            let connection = Connection::open(&opened)?;
            let versions = connection.versions()?;
            Ok((connection, versions))
        })?;
        if libvirt < OLDEST {
            let detail = format!("libvirt {} hands no descriptors to QEMU", dotted(libvirt));
            let operation = format!("use libvirt at {told}");
            return Err(Error::new(ErrorKind::Unsupported, operation, detail)
                .remedy("install libvirt 8.2 or newer"));
        }
        let reconnects = libvirt >= RECONNECTS;
        let (libvirt, version) = (dotted(libvirt), dotted(version));
        Ok(Libvirt {
            connection,
            qemu,
            description: format!("libvirt {libvirt} at {told}, QEMU {version}"),
            watched: !rest.starts_with("/embed"),
            reconnects,
        })
    }

    /// libvirt inside this process, without a daemon, with all its files in this folder: made if
    /// it is missing, readable by this user alone. One such libvirt is had by a process at a time.
    ///
    /// Fails as [`Libvirt::open`] does.
    pub fn embedded(root: &Path) -> Result<Libvirt> {
        let made = |error| Error::io(format!("make {}", root.display()), error);
        let etc = root.join("etc");
        let mut folders = std::fs::DirBuilder::new();
        folders
            .recursive(true)
            .mode(0o700)
            .create(&etc)
            .map_err(made)?;
        let config = etc.join("qemu.conf");
        if !config.exists() {
            let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
            let ids = format!("user = \"+{user}\"\ngroup = \"+{group}\"\n");
            std::fs::write(&config, ids + EMBEDDED).map_err(made)?;
        }
        let escaped: String = root
            .to_string_lossy()
            .bytes()
            .map(|byte| match byte {
                b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        Libvirt::open(&format!("qemu:///embed?root={escaped}"))
    }

    fn make(&self, spec: &MachineSpec, incoming: bool) -> Result<QemuMachine> {
        spec.validate()?;
        for (what, wanted) in [
            ("shared memory", spec.shared_memory.is_some()),
            ("shared folders", !spec.folders.is_empty()),
            // A screen of libvirt's guesses at locks from what is typed, and cannot be told not to.
            ("screen", spec.screen.is_some()),
        ] {
            if wanted {
                let operation = format!("create machine {}", spec.name);
                return Err(unsupported(
                    operation,
                    format!("libvirt machines have no {what}"),
                ));
            }
        }
        check_network(&spec.network)?;
        let acceleration = self.acceleration(spec.accelerator)?;
        let uuid = uuid::Uuid::new_v4().to_string();
        let xml = domain::domain(
            spec,
            &Circumstances {
                uuid: &uuid,
                maker: Maker::ourselves(),
                emulator: self.qemu.program(),
                accelerator: acceleration.accelerator,
                reconnects: self.reconnects,
                incoming,
            },
        )?;
        tracing::debug!(%xml, "creating");
        let channels = spec.channels.iter().map(|channel| channel.name.clone());
        let sockets = spec.listening_sockets().map(Path::to_path_buf);
        let life = Arc::new(Life::new(channels.collect(), sockets.collect()));
        life.monitored();
        let (connection, bound) = (Arc::clone(&self.connection), self.watched);
        let (xml, watching) = (xml.to_string(), Arc::clone(&life));
        let made = bounded(CREATED_WITHIN, move || {
            let domain = connection.create(&xml, bound)?;
            domain.watch(&uuid, &watching);
            // From here on the domain is ours to end, whatever fails; also if it comes too late.
            Ok(Held::new(domain, uuid, watching))
        });
        let held = made.map_err(|error| {
            let operation = format!("create machine {}", spec.name);
            Error::new(error.kind(), operation, error.to_string())
        })?;
        let machine = QemuMachine::new(spec, acceleration, life, held)?;
        machine.plug(&spec.network)?;
        tracing::info!(name = spec.name, "machine created");
        Ok(machine)
    }
}

/// What libvirt inside a process is told: everything runs as the user that the process is, and
/// nothing is handed to a daemon of libvirt's.
const EMBEDDED: &str = "\
security_driver = \"none\"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = \"file\"
";

fn dotted(version: u64) -> String {
    let (major, minor) = (version / 1_000_000, version / 1000 % 1000);
    format!("{major}.{minor}.{}", version % 1000)
}

impl Hypervisor for Libvirt {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn acceleration(&self, choice: AcceleratorChoice) -> Result<Acceleration> {
        self.qemu.acceleration(choice)
    }

    fn create(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        self.make(spec, false).map(|machine| Box::new(machine) as _)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            disk_reconnect: self.reconnects,
            shared_memory: false,
            shared_folders: false,
            screen: false,
            dies_with_maker: self.watched,
            ..self.qemu.capabilities()
        }
    }

    fn restore(&self, spec: &MachineSpec, from: PipeReader) -> Result<Box<dyn Machine>> {
        let machine = self.make(spec, true)?;
        machine.take_in(from)?;
        Ok(Box::new(machine))
    }

    fn end_orphans(&self) -> Result<Vec<String>> {
        let connection = Arc::clone(&self.connection);
        bounded(ANSWER_WITHIN, move || {
            let mut ended = Vec::new();
            for domain in connection.domains()? {
                let ours = domain.metadata(NAMESPACE);
                let Some((name, maker)) = ours.as_deref().and_then(Maker::read) else {
                    continue;
                };
                if !maker.lives() {
                    tracing::warn!(name, ?maker, "ending a machine whose maker is gone");
                    domain.destroy()?;
                    ended.push(name);
                }
            }
            Ok(ended)
        })
    }
}
