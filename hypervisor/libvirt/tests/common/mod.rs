//! What the tests share.

use medley_hypervisor::{
    Acceleration, AcceleratorChoice, Capabilities, Hypervisor, Machine, MachineSpec, Result,
};
use medley_libvirt::Libvirt;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::{Pid, User, getuid};
use std::io::PipeReader;
use std::path::{Path, PathBuf};

/// A folder for what libvirt found out about QEMU, which takes it seconds: it is kept from one test
/// to the next, and libvirt sees for itself whether it still holds.
pub fn cache(of: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("libvirt")
        .join(of);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// As root, libvirt looks for a user of its own by name, even to use another. Where a host has none,
/// this thread and what it starts see one: in a mount namespace of their own.
pub fn with_libvirts_user(folder: &Path) {
    if !getuid().is_root() || User::from_name("libvirt-qemu").unwrap().is_some() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for (file, line) in [
        (
            "passwd",
            "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin\n",
        ),
        ("group", "libvirt-qemu:x:64055:\n"),
    ] {
        let (ours, theirs) = (folder.join(file), Path::new("/etc").join(file));
        std::fs::write(&ours, std::fs::read_to_string(&theirs).unwrap() + line).unwrap();
        mount(Some(&ours), &theirs, none, MsFlags::MS_BIND, none).unwrap();
    }
}

/// Starts a libvirt on the host's first processor. Where processors tell of themselves differently,
/// libvirt on another one takes the host for another, and what it kept of QEMU for outdated.
pub fn on_one_processor<T>(start: impl FnOnce() -> T) -> T {
    let ourselves = Pid::from_raw(0);
    let before = sched_getaffinity(ourselves).unwrap();
    let first = (0..CpuSet::count())
        .find(|n| before.is_set(*n).unwrap())
        .unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(ourselves, &one).unwrap();
    let started = start();
    sched_setaffinity(ourselves, &before).unwrap();
    started
}

/// A libvirt, and what it needs as long as it is used.
pub struct Kept<T> {
    // Dropped first.
    libvirt: Libvirt,
    _needs: T,
}

impl<T> Kept<T> {
    pub fn new(libvirt: Libvirt, needs: T) -> Kept<T> {
        Kept {
            libvirt,
            _needs: needs,
        }
    }
}

impl<T: Send + Sync> Hypervisor for Kept<T> {
    fn describe(&self) -> String {
        self.libvirt.describe()
    }

    fn acceleration(&self, choice: AcceleratorChoice) -> Result<Acceleration> {
        self.libvirt.acceleration(choice)
    }

    fn create(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        self.libvirt.create(spec)
    }

    fn capabilities(&self) -> Capabilities {
        self.libvirt.capabilities()
    }

    fn restore(&self, spec: &MachineSpec, from: PipeReader) -> Result<Box<dyn Machine>> {
        self.libvirt.restore(spec, from)
    }

    fn end_orphans(&self) -> Result<Vec<String>> {
        self.libvirt.end_orphans()
    }
}
