//! The tiny guest: Debian's kernel, busybox, an X server and a few apps, copied from the packages
//! that are installed on this machine.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::cpio::Archive;
use super::image::{self, Boot, MIB};
use super::kernel::Kernel;
use super::tree::{self, Tree};
use super::{Built, MEDLEY_SH, Recipe};
use crate::progress::step;
use crate::run;

const BUSYBOX: &str = "/bin/busybox";

const PROGRAMS: &[&str] = &[
    "Xvfb",
    "xterm",
    "xcalc",
    "xclock",
    "xeyes",
    "xwininfo",
    "xprop",
    "xwd",
    "xlsclients",
    "xdpyinfo",
    "xkbcomp",
];

/// Folders that the X server and its clients read; without the keyboard geometry and the locales
/// the server does not start.
const X_DATA: &[&str] = &[
    "/usr/share/X11/xkb",
    "/usr/share/X11/locale",
    "/etc/X11/app-defaults",
];
const X_FONTS: &str = "/usr/share/fonts/X11/misc";
const FONTS: &[&str] = &[
    "5x7", "6x10", "6x13", "7x13", "8x13", "9x15", "cursor", "fonts.",
];
/// Large, and useless without fonts for them.
const SKIPPED_LOCALES: &[&str] = &["ja", "zh", "ko", "th", "vi", "am", "km"];

/// Empty folders; the last two are followed through links, which need their targets.
const FOLDERS: &[&str] = &[
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/tmp",
    "/mnt",
    "/var/log",
    "/var/lib/xkb",
    "/usr/lib",
    "/usr/lib64",
];

/// The disk controller that we give our machines.
const USUAL_DISKS: &[&str] = &["virtio_pci", "virtio_mmio", "virtio_blk"];
/// Those that others may give it.
const OTHER_DISKS: &[&str] = &["virtio_scsi", "sd_mod", "ata_piix", "ahci"];
const MODULES: &[&str] = &[
    "button",
    "evdev",
    "virtio_console",
    "virtio_balloon",
    "virtio_net",
    "virtio_mem",
    "virtiofs",
];

const INIT: &str = include_str!("../../guest/tiny/init");
const INITTAB: &str = include_str!("../../guest/tiny/inittab");
const RC: &str = include_str!("../../guest/tiny/rc");
const RC_STOP: &str = include_str!("../../guest/tiny/rc.stop");
const POWER_BUTTON: &str = include_str!("../../guest/tiny/power-button");

pub struct Tiny {
    kernel: Kernel,
    files: Vec<PathBuf>,
}

impl Tiny {
    /// Finds out what the guest will be made of. `cache` keeps the unpacked kernel.
    pub fn new(cache: &Path) -> Result<Self> {
        let mut programs: Vec<_> = PROGRAMS
            .iter()
            .map(|name| Path::new("/usr/bin").join(name))
            .collect();
        let libraries = tree::closure(&programs)?;
        programs.push(BUSYBOX.into());
        let files = programs
            .into_iter()
            .chain(libraries)
            .collect::<std::collections::BTreeSet<_>>();
        Ok(Self {
            kernel: Kernel::find(cache)?,
            files: files.into_iter().collect(),
        })
    }

    fn populate(&self, tree: &Tree) -> Result<()> {
        for folder in FOLDERS {
            tree.directory(folder)?;
        }
        for (link, target) in [
            ("/lib", "usr/lib"),
            ("/lib64", "usr/lib64"),
            ("/var/run", "/run"),
        ] {
            tree.link(link, target)?;
        }
        for file in &self.files {
            tree.copy(file)?;
        }
        for applet in run::capture(&mut run::command(BUSYBOX, ["--list-full"]))?.lines() {
            // The real programs of Debian win over busybox's.
            let name = Path::new(applet)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let taken = ["/bin", "/usr/bin"]
                .iter()
                .any(|dir| tree.has(&format!("{dir}/{name}")));
            if !taken && !tree.has(&format!("/{applet}")) {
                tree.link(&format!("/{applet}"), BUSYBOX)?;
            }
        }
        for folder in X_DATA {
            tree.copy_folder(Path::new(folder), |path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                path.is_dir()
                    && SKIPPED_LOCALES
                        .iter()
                        .any(|locale| name.starts_with(locale))
            })?;
        }
        tree.copy_folder(Path::new(X_FONTS), |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !FONTS.iter().any(|font| name.starts_with(font))
        })?;

        let early = names(&self.kernel.modules(USUAL_DISKS)?);
        let mut order = String::new();
        for (name, module) in self.kernel.modules(&[USUAL_DISKS, MODULES].concat())? {
            tree.file(&format!("/lib/modules/{name}"), 0o644, &module)?;
            // The initramfs has inserted the early ones already.
            if !early.contains(&name) {
                order += &format!("{name}\n");
            }
        }
        tree.file("/lib/modules/order", 0o644, order)?;

        tree.file("/etc/inittab", 0o644, INITTAB)?;
        tree.file("/sbin/rc", 0o755, RC)?;
        tree.file("/sbin/rc.stop", 0o755, RC_STOP)?;
        tree.file("/sbin/medley-sh", 0o755, MEDLEY_SH)?;
        tree.file("/etc/acpi/PWRF/00000080", 0o755, POWER_BUTTON)?;
        tree.file("/etc/hostname", 0o644, "medley-tiny\n")?;
        tree.file("/etc/hosts", 0o644, "127.0.0.1 localhost medley-tiny\n")?;
        tree.file("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")?;
        tree.file("/etc/group", 0o644, "root:x:0:\ntty:x:5:\nutmp:x:43:\n")?;
        tree.file(
            "/etc/nsswitch.conf",
            0o644,
            "passwd: files\ngroup: files\nhosts: files dns\n",
        )?;
        tree.file("/root/.profile", 0o644, "PS1='medley-tiny:\\w# '\n")?;
        tree.copy(Path::new("/etc/os-release"))?;
        run::quiet(run::command("ldconfig", ["-X", "-r"]).arg(tree.path()))
    }

    fn initramfs(&self, to: PathBuf) -> Result<PathBuf> {
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "proc", "root", "modules"] {
            archive.directory(folder);
        }
        archive.file("bin/busybox", &std::fs::read(BUSYBOX)?);
        archive.file("init", INIT.as_bytes());
        let usual = self.kernel.modules(USUAL_DISKS)?;
        let mut all = self.kernel.modules(&[USUAL_DISKS, OTHER_DISKS].concat())?;
        for (name, module) in &all {
            archive.file(&format!("modules/{name}"), module);
        }
        let others = names(&all.split_off(usual.len()));
        for (list, names) in [("usual", names(&usual)), ("others", others)] {
            archive.file(
                &format!("modules/{list}"),
                (names.join("\n") + "\n").as_bytes(),
            );
        }
        image::gzip(&archive.finish(), to)
    }
}

fn names(modules: &[(String, Vec<u8>)]) -> Vec<String> {
    modules.iter().map(|(name, _)| name.clone()).collect()
}

impl Recipe for Tiny {
    const NAME: &'static str = "tiny";
    const VIRTUAL_SIZE: u64 = 128 * MIB;
    const MEMORY_MIB: u32 = 192;
    const CMDLINE: &'static str =
        "root=LABEL=medley-root rw console=ttyS0 quiet nokaslr mitigations=off no_timer_check";

    fn inputs(&self, hash: &mut Sha256) -> Result<()> {
        for part in [
            include_str!("tiny.rs"),
            INIT,
            INITTAB,
            RC,
            RC_STOP,
            POWER_BUTTON,
        ] {
            hash.update(part);
        }
        hash.update(&self.kernel.package);
        hash.update(&self.kernel.version);
        for file in self
            .files
            .iter()
            .map(PathBuf::as_path)
            .chain(X_DATA.iter().map(Path::new))
        {
            let metadata = file
                .metadata()
                .with_context(|| format!("cannot read {}", file.display()))?;
            hash.update(file.as_os_str().as_encoded_bytes());
            hash.update(metadata.len().to_le_bytes());
            hash.update(metadata.mtime().to_le_bytes());
        }
        Ok(())
    }

    fn build(&self, scratch: &Path) -> Result<Built> {
        step("unpack the kernel", || self.kernel.unpack(scratch))?;
        let tree = Tree::create(scratch.join("tree"))?;
        step("collect the files", || self.populate(&tree))?;
        let initramfs = step("pack the initramfs", || {
            self.initramfs(scratch.join("initrd"))
        })?;
        let raw = scratch.join("disk.raw");
        let root = scratch.join("root.ext4");
        let root = step("make the disk", || {
            image::root_file_system(tree.path(), &root, Self::VIRTUAL_SIZE)?;
            let kernel = self.kernel.image()?;
            let boot = Boot {
                kernel: &kernel,
                initramfs: &initramfs,
                cmdline: Self::CMDLINE,
            };
            image::assemble(&raw, Self::VIRTUAL_SIZE, &root, &boot)
        })?;
        let data = X_DATA.iter().map(Path::new).chain([Path::new(X_FONTS)]);
        let mut packages = tree::owners(self.files.iter().map(PathBuf::as_path).chain(data))?;
        packages.insert(self.kernel.package.clone(), self.kernel.version.clone());
        Ok(Built {
            raw,
            root,
            packages,
        })
    }
}
