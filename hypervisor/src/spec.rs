//! What a machine is made of, in words that every hypervisor understands.

use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest path of a Unix socket, in bytes: `sun_path` less its terminating zero.
const SOCKET_PATH_MAX: usize = 107;

/// A machine to be made. Every path is absolute.
///
/// Nothing here may be secret: command lines are visible to every user of the host.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Shown in process lists and logs: 1 to 64 letters, digits, `-`, `_`, `.` or spaces.
    pub name: String,
    /// The disk the guest sees as its first virtio disk.
    pub disk: DiskEndpoint,
    /// The guest's RAM in MiB, 16 to 1,048,576.
    pub memory_mib: u32,
    /// Processors, 1 to 255.
    pub cpus: u8,
    /// How the guest begins.
    pub boot: Boot,
    /// Where the first serial port goes.
    pub serial: Serial,
    /// Named byte streams between host and guest.
    pub channels: Vec<Channel>,
    /// The guest's way to the world.
    pub network: Network,
    /// Memory that host and guest both see, for the pixels of windows.
    pub shared_memory: Option<SharedMemory>,
    /// Folders of the host that the guest may mount.
    pub folders: Vec<SharedFolder>,
    /// The screen, keyboard and pointer of the whole machine. Without it the machine has none of them.
    pub screen: Option<Screen>,
    /// Which accelerator runs the guest's code.
    pub accelerator: AcceleratorChoice,
    /// What a reboot from inside does.
    pub on_reset: OnReset,
    /// An existing directory of the caller's, private to this machine: its process's working
    /// directory.
    pub run_dir: PathBuf,
}

/// How the machine reaches its disk. The machine is given sectors, never a file format: so the
/// host decides about encryption and overlays, and any machine can be suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskEndpoint {
    /// An NBD export behind a Unix socket. Flushes and discards of the guest reach it.
    NbdUnix {
        /// The server's socket; it must be listening when the machine is created.
        socket: PathBuf,
        /// The export's name; empty means the server's default export.
        export: String,
        /// How long the guest's requests wait, unanswered, for a server that went away and may
        /// come back. After it they fail: the machine halts as [`crate::State::Faulted`].
        /// Whole seconds; zero fails at once.
        reconnect: Duration,
    },
    /// A vhost-user-blk device behind a Unix socket: its server works in the guest's memory, which
    /// is therefore shared with it. The guest's requests wait for as long as the server is away.
    ///
    /// Under TCG use [`Boot::Kernel`]: QEMU's translator does not see that another process writes
    /// over code that it has translated, which boot loaders do when they load each other.
    VhostUserBlk {
        /// The server's socket; it must be listening when the machine is created, and serve no
        /// other machine.
        socket: PathBuf,
        /// Queues for the guest to use, at least 1: as many as it has processors is best.
        queues: u16,
    },
}

impl DiskEndpoint {
    /// A vhost-user-blk device.
    pub fn vhost_user_blk(socket: impl Into<PathBuf>, queues: u16) -> DiskEndpoint {
        DiskEndpoint::VhostUserBlk {
            socket: socket.into(),
            queues,
        }
    }

    /// An NBD export that may be gone for up to 20 seconds before the guest is halted.
    pub fn nbd_unix(socket: impl Into<PathBuf>, export: impl Into<String>) -> DiskEndpoint {
        DiskEndpoint::NbdUnix {
            socket: socket.into(),
            export: export.into(),
            reconnect: Duration::from_secs(20),
        }
    }
}

/// How the guest begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// By the boot loader on its disk.
    Disk,
    /// From a kernel of the host's.
    Kernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initial RAM file system, if any.
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        cmdline: String,
    },
}

/// Where the first serial port goes. With neither field set there is no serial port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serial {
    /// A Unix socket on which the hypervisor listens, for one client at a time. It exists once
    /// the machine is created: a client that connects before the start misses nothing. An
    /// earlier socket at this path is replaced; any other file is refused. [`crate::Machine::serial`]
    /// connects to it, and is the only way to that of a machine that was restored.
    pub socket: Option<PathBuf>,
    /// A file that takes everything the guest writes; what it held before is lost.
    pub log: Option<PathBuf>,
}

impl Serial {
    /// A serial port on a Unix socket.
    pub fn socket(path: impl Into<PathBuf>) -> Serial {
        Serial {
            socket: Some(path.into()),
            log: None,
        }
    }

    /// A serial port that is only written down.
    pub fn log(path: impl Into<PathBuf>) -> Serial {
        Serial {
            socket: None,
            log: Some(path.into()),
        }
    }
}

/// A named byte stream between host and guest (virtio-serial; `/dev/virtio-ports/<name>` in a
/// Linux guest).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The name the guest finds it by: 1 to 31 letters, digits, `.`, `-` or `_`.
    pub name: String,
    /// The Unix socket on which the hypervisor listens, as for [`Serial::socket`].
    pub socket: PathBuf,
}

/// The guest's way to the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// No network card.
    #[default]
    None,
    /// Behind address translation in the hypervisor's own process: needs no privilege.
    User,
    /// A program of the host's takes the frames: passt, which must be listening.
    Stream {
        /// Its Unix socket.
        socket: PathBuf,
    },
    /// A tap device that is there already and that this user may open.
    Tap {
        /// Its name, 1 to 15 characters.
        interface: String,
    },
    /// A tap device that somebody with more rights has opened for us.
    #[cfg(unix)]
    TapDevice(TapDevice),
}

/// An open tap device. Its frames begin with virtio's header of ten bytes (`IFF_VNET_HDR`).
///
/// Every machine that is made of a clone gets the device itself: one machine at a time.
#[cfg(unix)]
#[derive(Clone, Debug)]
pub struct TapDevice(std::sync::Arc<std::os::fd::OwnedFd>);

#[cfg(unix)]
impl TapDevice {
    /// Takes the device over. It is gone with the last clone and the last machine that has it,
    /// unless it was made to stay.
    pub fn new(device: std::os::fd::OwnedFd) -> TapDevice {
        TapDevice(std::sync::Arc::new(device))
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for TapDevice {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Clones are equal, and nothing else is.
#[cfg(unix)]
impl PartialEq for TapDevice {
    fn eq(&self, other: &TapDevice) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(unix)]
impl Eq for TapDevice {}

/// A file that host and guest both map (ivshmem).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// The file, as long as it says; on a file system that lives in memory, such as `/dev/shm`.
    pub file: PathBuf,
    /// Its size in MiB: a power of two, at most 1024.
    pub mib: u32,
}

/// A folder of the host's that another process serves to the guest (virtiofs).
///
/// Whether such a machine can be saved is up to that process: it must know how to hand over its state
/// (virtiofsd does from 1.11 on), and the machine that goes on needs another one that takes it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedFolder {
    /// The name by which the guest mounts it: 1 to 36 letters, digits, `-`, `_` or `.`.
    pub tag: String,
    /// The socket of its server, which must be listening.
    pub socket: PathBuf,
}

/// A machine's own screen with a keyboard and a pointer, from its firmware's first line on. The guest
/// needs no agent for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// The Unix socket on which the hypervisor shows it and takes keys (RFB, without a password), as for
    /// [`Serial::socket`]; but any number of clients may be there at once. Whoever can reach it sees and
    /// types all: its folder must be this user's alone.
    pub socket: PathBuf,
}

impl Screen {
    /// A screen behind this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Screen {
        Screen {
            socket: socket.into(),
        }
    }
}

/// What a reboot from inside the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReset {
    /// The guest starts again.
    #[default]
    Restart,
    /// The machine ends.
    Stop,
}

/// What runs the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself, through the Linux kernel.
    Kvm,
    /// Translation in software: works everywhere, several times slower.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "TCG",
        })
    }
}

/// What the caller wants to run the guest's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// KVM where it is measured to work, TCG otherwise.
    #[default]
    Auto,
    /// KVM or an error.
    Kvm,
    /// TCG.
    Tcg,
}

/// An accelerator and why it was chosen, in a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceleration {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Why this one.
    pub reason: String,
}

impl MachineSpec {
    /// A machine that boots from `disk`, with one processor, 512 MiB, no serial port, no channels,
    /// no network and no screen.
    pub fn new(
        name: impl Into<String>,
        disk: DiskEndpoint,
        run_dir: impl Into<PathBuf>,
    ) -> MachineSpec {
        MachineSpec {
            name: name.into(),
            disk,
            memory_mib: 512,
            cpus: 1,
            boot: Boot::Disk,
            serial: Serial::default(),
            channels: Vec::new(),
            network: Network::default(),
            shared_memory: None,
            folders: Vec::new(),
            screen: None,
            accelerator: AcceleratorChoice::default(),
            on_reset: OnReset::default(),
            run_dir: run_dir.into(),
        }
    }

    /// Refuses what no hypervisor could make, naming the field.
    pub fn validate(&self) -> Result<()> {
        let named = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
        if !(1..=64).contains(&self.name.len()) || !self.name.chars().all(named) {
            return bad(
                "name",
                format!("{:?} is not 1 to 64 of A-Z a-z 0-9 - _ . space", self.name),
            );
        }
        if !(16..=1 << 20).contains(&self.memory_mib) {
            return bad(
                "memory_mib",
                format!("{} is not within 16 to 1048576", self.memory_mib),
            );
        }
        if self.cpus == 0 {
            return bad("cpus", "0 is not within 1 to 255");
        }
        absolute("run_dir", &self.run_dir)?;
        if !self.run_dir.is_dir() {
            return bad(
                "run_dir",
                format!("{} is not a directory", self.run_dir.display()),
            );
        }
        match &self.disk {
            DiskEndpoint::NbdUnix { socket, export, .. } => {
                socket_path("disk.socket", socket)?;
                text("disk.export", export, 4096)?;
            }
            DiskEndpoint::VhostUserBlk { socket, queues } => {
                socket_path("disk.socket", socket)?;
                if !(1..=256).contains(queues) {
                    return bad("disk.queues", format!("{queues} is not within 1 to 256"));
                }
            }
        }
        if let Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } = &self.boot
        {
            readable("boot.kernel", kernel)?;
            initrd
                .iter()
                .try_for_each(|path| readable("boot.initrd", path))?;
            text("boot.cmdline", cmdline, 4096)?;
        }
        if let Some(path) = &self.serial.log {
            absolute("serial.log", path)?;
        }
        for (index, channel) in self.channels.iter().enumerate() {
            let field = format!("channels[{index}].name");
            let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !(1..=31).contains(&channel.name.len()) || !channel.name.chars().all(named) {
                return bad(
                    &field,
                    format!("{:?} is not 1 to 31 of A-Z a-z 0-9 - _ .", channel.name),
                );
            }
            if self.channels[..index]
                .iter()
                .any(|other| other.name == channel.name)
            {
                return bad(&field, format!("{:?} is used twice", channel.name));
            }
        }
        self.network.validate("network")?;
        if let Some(shared) = &self.shared_memory {
            absolute("shared_memory.file", &shared.file)?;
            if !shared.mib.is_power_of_two() || shared.mib > 1024 {
                let why = format!("{} is not a power of two up to 1024", shared.mib);
                return bad("shared_memory.mib", why);
            }
            let length = std::fs::metadata(&shared.file).map(|file| file.len());
            if length.as_ref().ok() != Some(&(u64::from(shared.mib) << 20)) {
                let file = shared.file.display();
                let why = format!("{file} is not a file of {} MiB: {length:?}", shared.mib);
                return bad("shared_memory.file", why);
            }
        }
        for (index, folder) in self.folders.iter().enumerate() {
            let field = format!("folders[{index}].tag");
            let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !(1..=36).contains(&folder.tag.len()) || !folder.tag.chars().all(named) {
                let why = format!("{:?} is not 1 to 36 of A-Z a-z 0-9 - _ .", folder.tag);
                return bad(&field, why);
            }
            if self.folders[..index].iter().any(|f| f.tag == folder.tag) {
                return bad(&field, format!("{:?} is used twice", folder.tag));
            }
            socket_path(&format!("folders[{index}].socket"), &folder.socket)?;
        }
        let listening: Vec<_> = self.listening_sockets().collect();
        for (index, path) in listening.iter().enumerate() {
            socket_path("socket", path)?;
            if listening[..index].contains(path) {
                return bad("socket", format!("{} is used twice", path.display()));
            }
            replaceable(path)?;
        }
        Ok(())
    }

    /// The sockets on which the hypervisor will listen for this machine.
    pub fn listening_sockets(&self) -> impl Iterator<Item = &Path> {
        let channels = self.channels.iter().map(|channel| channel.socket.as_path());
        let screen = self.screen.iter().map(|screen| screen.socket.as_path());
        let serial = self.serial.socket.as_deref().into_iter();
        serial.chain(channels).chain(screen)
    }
}

impl Network {
    /// Refuses what no hypervisor could use, naming the field.
    pub fn validate(&self, field: &str) -> Result<()> {
        match self {
            Network::None | Network::User => Ok(()),
            #[cfg(unix)]
            Network::TapDevice(_) => Ok(()),
            Network::Stream { socket } => socket_path(&format!("{field}.socket"), socket),
            Network::Tap { interface } => {
                let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if (1..=15).contains(&interface.len()) && interface.chars().all(named) {
                    return Ok(());
                }
                let why = format!("{interface:?} is not 1 to 15 of A-Z a-z 0-9 - _ .");
                bad(&format!("{field}.interface"), why)
            }
        }
    }
}

fn bad<T>(field: &str, detail: impl Into<String>) -> Result<T> {
    Err(Error::new(
        ErrorKind::BadSpec,
        format!("machine specification, {field}"),
        detail,
    ))
}

fn absolute(field: &str, path: &Path) -> Result<()> {
    match path.to_str() {
        None => bad(field, format!("{} is not UTF-8", path.display())),
        Some(text) if text.contains(['\0', '\n']) => {
            bad(field, format!("{text:?} holds a zero byte or a newline"))
        }
        Some(_) if !path.is_absolute() => {
            bad(field, format!("{} is not an absolute path", path.display()))
        }
        Some(_) => Ok(()),
    }
}

fn socket_path(field: &str, path: &Path) -> Result<()> {
    absolute(field, path)?;
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        return bad(
            field,
            format!(
                "{} has {length} bytes; a socket's path has at most 107",
                path.display()
            ),
        );
    }
    Ok(())
}

fn readable(field: &str, path: &Path) -> Result<()> {
    absolute(field, path)?;
    match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(error) => bad(field, format!("{}: {error}", path.display())),
    }
}

fn text(field: &str, value: &str, max: usize) -> Result<()> {
    if value.len() > max || value.contains('\0') {
        return bad(
            field,
            format!("it is longer than {max} bytes or holds a zero byte"),
        );
    }
    Ok(())
}

/// A hypervisor unlinks whatever lies where it wants to listen: only ever a socket, then.
fn replaceable(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !is_socket(found.file_type()) => bad(
            "socket",
            format!("{} exists and is no socket", path.display()),
        ),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_socket(file: std::fs::FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&file)
}

/// Nothing can be told apart there, so nothing is replaced.
#[cfg(not(unix))]
fn is_socket(_: std::fs::FileType) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MachineSpec {
        MachineSpec::new("office", DiskEndpoint::nbd_unix("/tmp/disk.sock", ""), "/")
    }

    fn complaint(change: impl FnOnce(&mut MachineSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        let error = spec.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadSpec);
        error.to_string()
    }

    #[test]
    fn a_plain_specification_is_good() {
        spec().validate().unwrap();
    }

    #[test]
    fn every_bad_field_is_named() {
        assert!(complaint(|s| s.name = "a,b".into()).contains("name"));
        assert!(complaint(|s| s.name.clear()).contains("name"));
        assert!(complaint(|s| s.memory_mib = 15).contains("memory_mib"));
        assert!(complaint(|s| s.memory_mib = u32::MAX).contains("memory_mib"));
        assert!(complaint(|s| s.cpus = 0).contains("cpus"));
        assert!(complaint(|s| s.run_dir = "/nonexistent/x".into()).contains("run_dir"));
        assert!(complaint(|s| s.run_dir = "tmp".into()).contains("absolute"));
        assert!(
            complaint(|s| s.disk = DiskEndpoint::nbd_unix("disk.sock", "")).contains("disk.socket")
        );
        let long = format!("/{}", "x".repeat(107));
        assert!(complaint(|s| s.disk = DiskEndpoint::nbd_unix(long, "")).contains("107"));
        assert!(complaint(|s| s.disk = DiskEndpoint::nbd_unix("/d", "\0")).contains("disk.export"));
        let vhost = |socket: &str, queues| DiskEndpoint::vhost_user_blk(socket, queues);
        assert!(complaint(|s| s.disk = vhost("/d", 0)).contains("disk.queues"));
        assert!(complaint(|s| s.disk = vhost("d", 1)).contains("disk.socket"));
        assert!(
            complaint(|s| {
                s.boot = Boot::Kernel {
                    kernel: "/nonexistent/vmlinuz".into(),
                    initrd: None,
                    cmdline: String::new(),
                }
            })
            .contains("boot.kernel")
        );
    }

    #[test]
    fn channels_are_distinct() {
        let channel = |name: &str, socket: &str| Channel {
            name: name.into(),
            socket: socket.into(),
        };
        let twice =
            complaint(|s| s.channels = vec![channel("a", "/tmp/1"), channel("a", "/tmp/2")]);
        assert!(twice.contains("channels[1].name"), "{twice}");
        let shared =
            complaint(|s| s.channels = vec![channel("a", "/tmp/1"), channel("b", "/tmp/1")]);
        assert!(shared.contains("used twice"), "{shared}");
        assert!(complaint(|s| s.channels = vec![channel("a/b", "/tmp/1")]).contains("channels[0]"));
    }

    #[test]
    fn a_screen_has_a_socket_of_its_own() {
        let both = complaint(|s| {
            s.serial = Serial::socket("/tmp/one");
            s.screen = Some(Screen::new("/tmp/one"));
        });
        assert!(both.contains("used twice"), "{both}");
        assert!(complaint(|s| s.screen = Some(Screen::new("screen"))).contains("absolute"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_never_replaced_by_a_socket() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let complaint = complaint(|s| s.serial = Serial::socket(file.path()));
        assert!(complaint.contains("no socket"), "{complaint}");
    }
}
