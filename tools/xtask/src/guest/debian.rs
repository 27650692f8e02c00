//! The debian guest: a full Debian of this machine's release, with systemd and apt, made by
//! mmdebstrap from the archives that this machine itself uses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};

use super::image::{self, Boot, MIB, Owners};
use super::tree::Tree;
use super::{BUILDER, Built, MEDLEY_SH, Recipe, agent, hex};
use crate::progress::step;
use crate::run;
use crate::setup::{self, DebianSources, StaleLists};

/// Beyond the essential ones. The second half is for apps as windows: an X server that needs no screen, a
/// terminal, and an editor with menus and dialogs.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "initramfs-tools",
    "linux-image-cloud-amd64",
    "iproute2",
    "procps",
    "less",
    "xserver-xorg-core",
    "xserver-xorg-video-dummy",
    "x11-xserver-utils",
    "dbus-user-session",
    "libpam-systemd",
    "fonts-dejavu-core",
    "adwaita-icon-theme",
    "xterm",
    "mousepad",
];

/// Documentation is two thirds of the files and nobody reads it in there.
const LEFT_OUT: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
];

/// How this machine reaches its mirror; the rest of apt's settings are its own business.
const INHERITED_SETTINGS: &[&str] = &[
    "Acquire::Check-Valid-Until ",
    "Acquire::Check-Date ",
    "Acquire::http::",
    "Acquire::https::",
];

/// Work at odd hours, and terminals that are not there: a revertible guest has no use for them.
const MASKED_UNITS: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-pstore.service",
];

const EARLY: &str = include_str!("../../guest/debian/early.sh");
const CUSTOMIZE: &str = include_str!("../../guest/debian/customize.sh");
const UNPACK: &str = include_str!("../../guest/debian/unpack.sh");
const BOOT_HOOK: &str = include_str!("../../guest/debian/boot-hook");
const SERVICE: &str = include_str!("../../guest/debian/medley-sh.service");
const WIRED: &str = include_str!("../../guest/debian/wired.network");
/// The network is a third of the boot's work under emulation, and nobody waits for it.
const NETWORK_LATER: &str = "[Unit]\nAfter=medley-sh.service\n";
/// A unit that is told to stop in the middle of its start may take the whole default of 90 s.
const STOP_SOON: &str = "[Manager]\nDefaultTimeoutStopSec=10s\n";
const FSTAB: &str = "LABEL=medley-root / ext4 noatime,errors=remount-ro 0 1\n\
                     LABEL=MEDLEYBOOT /boot/syslinux vfat noauto 0 0\n";

/// Begins the name of a cached base's folder.
const BASE: &str = ".base-debian-";
/// What a built base holds: the files of the system, its kernel, and its package database.
const ROOT: &str = "root.ext4";
const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initrd";
const STATUS: &str = "status";

pub struct Debian {
    cache: PathBuf,
    release: String,
    candidates: BTreeMap<String, String>,
    agent: PathBuf,
}

impl Debian {
    /// Finds out what the guest will be made of. `cache` keeps the system without our agent, which takes a
    /// minute to make and changes seldom.
    pub fn new(cache: &Path) -> Result<Self> {
        let release = setup::release_codename()?;
        // The essential packages are not named above, but change with the release's updates.
        let asked = PACKAGES
            .iter()
            .copied()
            .chain(["base-files", "bash", "libc6", "apt"]);
        let candidates = setup::candidates(asked.clone())?;
        let unknown: Vec<_> = asked
            .filter(|name| !candidates.contains_key(*name))
            .collect();
        if !unknown.is_empty() {
            return Err(anyhow!("apt does not know {}", unknown.join(", ")).context(StaleLists));
        }
        Ok(Self {
            cache: cache.to_owned(),
            release,
            candidates,
            agent: agent::build()?,
        })
    }

    /// Adds all that the base is made of to the hash.
    fn base_inputs(&self, hash: &mut Sha256) {
        let ours = [
            BUILDER,
            include_str!("debian.rs"),
            EARLY,
            CUSTOMIZE,
            UNPACK,
            BOOT_HOOK,
            SERVICE,
            WIRED,
        ];
        for part in ours {
            hash.update(part);
        }
        hash.update(&self.release);
        for (name, version) in &self.candidates {
            hash.update(format!("{name}={version}\n"));
        }
    }

    /// The system without our agent, built unless it is there.
    fn base(&self, scratch: &Path) -> Result<PathBuf> {
        let mut hash = Sha256::new();
        self.base_inputs(&mut hash);
        let name = format!("{BASE}{}", &hex(&hash.finalize())[..16]);
        let folder = self.cache.join(&name);
        if folder.is_dir() {
            return Ok(folder);
        }
        let archive = scratch.join("debian.tar");
        step(&format!("install Debian {}", self.release), || {
            self.bootstrap(scratch, &archive)
        })?;
        let fresh = scratch.join("base");
        std::fs::create_dir(&fresh)?;
        step("make the root file system", || {
            let script = scratch.join("unpack.sh");
            std::fs::write(&script, UNPACK)?;
            let mut unpack = image::as_root("sh", Owners::Any);
            unpack.arg(&script).arg(&archive).arg(&fresh).arg("mke2fs");
            unpack
                .args(image::mke2fs_args(&fresh.join(ROOT), Self::VIRTUAL_SIZE)?)
                .arg("-d");
            run::quiet(&mut unpack)
        })?;
        let status =
            run::capture(run::command("tar", ["-xO", "./var/lib/dpkg/status", "-f"]).arg(&archive))
                .context("the new system has no package database")?;
        std::fs::write(fresh.join(STATUS), status)?;
        // Those of other inputs will not be wanted again.
        for entry in std::fs::read_dir(&self.cache)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(BASE) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        std::fs::rename(&fresh, &folder)
            .with_context(|| format!("cannot write {}", folder.display()))?;
        Ok(folder)
    }

    /// The files that make it our guest, as a tree to lay over the installed packages.
    fn overlay(&self, tree: &Tree) -> Result<()> {
        tree.file("/etc/hostname", 0o644, "medley-guest\n")?;
        tree.file(
            "/etc/hosts",
            0o644,
            "127.0.0.1 localhost\n127.0.1.1 medley-guest\n",
        )?;
        tree.file("/etc/fstab", 0o644, FSTAB)?;
        // QEMU's user network answers names here.
        tree.file("/etc/resolv.conf", 0o644, "nameserver 10.0.2.3\n")?;
        tree.file("/etc/systemd/network/20-wired.network", 0o644, WIRED)?;
        tree.file("/etc/systemd/system.conf.d/medley.conf", 0o644, STOP_SOON)?;
        let late = "/etc/systemd/system/systemd-networkd.service.d/medley.conf";
        tree.file(late, 0o644, NETWORK_LATER)?;
        tree.file("/usr/local/sbin/medley-sh", 0o755, MEDLEY_SH)?;
        tree.file("/etc/systemd/system/medley-sh.service", 0o644, SERVICE)?;
        for hook in ["/etc/kernel/postinst.d", "/etc/initramfs/post-update.d"] {
            tree.file(&format!("{hook}/zz-medley-boot"), 0o755, BOOT_HOOK)?;
        }
        let wanted = "/etc/systemd/system/multi-user.target.wants";
        tree.link(
            &format!("{wanted}/medley-sh.service"),
            "/etc/systemd/system/medley-sh.service",
        )?;
        let networkd = "systemd-networkd.service";
        tree.link(
            &format!("{wanted}/{networkd}"),
            &format!("/lib/systemd/system/{networkd}"),
        )?;
        tree.link(
            "/etc/systemd/system/default.target",
            "/lib/systemd/system/multi-user.target",
        )?;
        for unit in MASKED_UNITS {
            tree.link(&format!("/etc/systemd/system/{unit}"), "/dev/null")?;
        }
        tree.directory("/boot/syslinux")
    }

    fn bootstrap(&self, scratch: &Path, archive: &Path) -> Result<()> {
        let sources = scratch.join("debian.sources");
        std::fs::write(&sources, DebianSources::read()?.for_release(&self.release)?)?;
        let overlay = Tree::create(scratch.join("overlay"))?;
        self.overlay(&overlay)?;
        let (early, customize) = (scratch.join("early.sh"), scratch.join("customize.sh"));
        std::fs::write(&early, EARLY)?;
        std::fs::write(&customize, CUSTOMIZE)?;

        let mut mmdebstrap = run::command("mmdebstrap", ["--quiet", "--variant=minbase"]);
        mmdebstrap.arg(format!("--include={}", PACKAGES.join(",")));
        mmdebstrap.args(
            inherited_settings()?
                .iter()
                .map(|line| format!("--aptopt={line}")),
        );
        mmdebstrap.args(LEFT_OUT.iter().map(|option| format!("--dpkgopt={option}")));
        mmdebstrap.arg(format!("--essential-hook=sh '{}' \"$1\"", early.display()));
        mmdebstrap.arg(format!(
            "--customize-hook=sync-in '{}' /",
            overlay.path().display()
        ));
        mmdebstrap.arg(format!(
            "--customize-hook=sh '{}' \"$1\"",
            customize.display()
        ));
        run::quiet(mmdebstrap.arg(&self.release).arg(archive).arg(&sources))
    }
}

fn inherited_settings() -> Result<Vec<String>> {
    let dump = run::capture(&mut run::command("apt-config", ["dump"]))?;
    let wanted = |line: &&str| {
        INHERITED_SETTINGS
            .iter()
            .any(|start| line.starts_with(start))
    };
    Ok(dump.lines().filter(wanted).map(str::to_owned).collect())
}

/// Names and versions of the installed packages in dpkg's own database.
fn parse_status(status: &str) -> BTreeMap<String, String> {
    let field = |stanza: &str, name: &str| {
        stanza
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    status
        .split("\n\n")
        .filter(|stanza| stanza.contains("\nStatus: install ok installed"))
        .filter_map(|stanza| Some((field(stanza, "Package:")?, field(stanza, "Version:")?)))
        .collect()
}

impl Recipe for Debian {
    const NAME: &'static str = "debian";
    const VIRTUAL_SIZE: u64 = 1024 * MIB;
    const MEMORY_MIB: u32 = 512;
    // no_timer_check: a kernel that is emulated on a busy host may find its timer too slow, and panic before
    // it can say so.
    const CMDLINE: &'static str = "root=LABEL=medley-root rw console=ttyS0 quiet nokaslr mitigations=off no_timer_check \
         systemd.show_status=0 loglevel=1";

    fn inputs(&self, hash: &mut Sha256) -> Result<()> {
        self.base_inputs(hash);
        hash.update(std::fs::read(&self.agent)?);
        Ok(())
    }

    fn build(&self, scratch: &Path) -> Result<Built> {
        let base = self.base(scratch)?;
        let root = scratch.join(ROOT);
        step("install our agent", || {
            let tree = Tree::create(scratch.join("agent"))?;
            agent::install(&self.agent, &tree)?;
            let mut copy = run::command("cp", ["--sparse=always", "--reflink=auto"]);
            run::quiet(copy.arg(base.join(ROOT)).arg(&root))?;
            image::add(&root, &tree)
        })?;
        let raw = scratch.join("disk.raw");
        let boot = Boot {
            kernel: &base.join(KERNEL),
            initramfs: &base.join(INITRAMFS),
            cmdline: Self::CMDLINE,
        };
        let root = step("make the disk", || {
            image::assemble(&raw, Self::VIRTUAL_SIZE, &root, &boot)
        })?;
        let status = std::fs::read_to_string(base.join(STATUS))?;
        Ok(Built {
            raw,
            root,
            packages: parse_status(&status),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_are_listed() {
        let status = "\
Package: bash
Status: install ok installed
Version: 5.2-1

Package: gone
Status: deinstall ok config-files
Version: 1
";
        let packages = parse_status(status);
        assert_eq!(
            packages,
            BTreeMap::from([("bash".to_owned(), "5.2-1".to_owned())])
        );
    }
}
