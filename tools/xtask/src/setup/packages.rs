//! Which Debian packages each command needs, and why.

use clap::ValueEnum;

/// The LUKS driver's detached `header`, by which QEMU reads our disks, came with this one.
pub const QEMU_AT_LEAST: (u32, u32) = (9, 0);

/// What a machine is to be able to do.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// Build guests and boot them.
    Guest,
    /// Run the demo.
    Demo,
    /// Run all tests.
    Test,
    /// Run the benches against their peers.
    Bench,
    /// All of these.
    All,
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::Demo => "demo",
            Self::Test => "test",
            Self::Bench => "bench",
            Self::All => "all",
        })
    }
}

/// A Debian package and what for.
pub struct Package {
    pub name: &'static str,
    pub why: &'static str,
    purposes: &'static [Purpose],
}

impl Purpose {
    /// The packages this purpose needs.
    pub fn packages(self) -> impl Iterator<Item = &'static Package> {
        PACKAGES
            .iter()
            .filter(move |package| self == Self::All || package.purposes.contains(&self))
    }
}

use Purpose::{Bench, Demo, Guest, Test};

const GUESTS: &[Purpose] = &[Guest, Demo, Test, Bench];
const MACHINES: &[Purpose] = &[Guest, Demo, Test, Bench];
const FUSE: &[Purpose] = &[Demo, Test, Bench];
const WINDOWS: &[Purpose] = &[Demo, Test, Bench];
const PEERS: &[Purpose] = &[Test, Bench];
/// The tests' lints and examples build the whole workspace, the benches with their peers included.
const BUILDS: &[Purpose] = &[Test, Bench];

const fn package(name: &'static str, why: &'static str, purposes: &'static [Purpose]) -> Package {
    Package {
        name,
        why,
        purposes,
    }
}

static PACKAGES: &[Package] = &[
    package("qemu-system-x86", "the hypervisor", MACHINES),
    package(
        "qemu-system-common",
        "qemu-storage-daemon, a peer",
        MACHINES,
    ),
    package(
        "qemu-utils",
        "qemu-img and qemu-io: images, and peers",
        MACHINES,
    ),
    package("e2fsprogs", "mke2fs: a guest's root file system", GUESTS),
    package("dosfstools", "mkfs.fat: a guest's boot partition", GUESTS),
    package("mtools", "mcopy: files into the boot partition", GUESTS),
    package("syslinux", "a guest's boot loader", GUESTS),
    package("syslinux-common", "a guest's master boot record", GUESTS),
    package("busybox-static", "the tiny guest's userland", GUESTS),
    package("xvfb", "the tiny guest's X server", GUESTS),
    package("xterm", "an app in the tiny guest", GUESTS),
    package("x11-apps", "apps in the tiny guest", GUESTS),
    package("x11-utils", "xwininfo and xprop in the tiny guest", GUESTS),
    package(
        "x11-xkb-utils",
        "xkbcomp, which the X server starts",
        GUESTS,
    ),
    package("xauth", "X authority files", GUESTS),
    package("xfonts-base", "bitmap fonts of the tiny guest", GUESTS),
    package(
        "openbox",
        "a window manager for the host's side of windows",
        WINDOWS,
    ),
    package("xdotool", "types and clicks on the host's display", WINDOWS),
    package("xclip", "copies and pastes on the host's display", WINDOWS),
    package("imagemagick", "import: pictures of a display", &[Demo]),
    package("x11-xserver-utils", "xsetroot: a desktop's ground", &[Demo]),
    package(
        "xserver-xorg-core",
        "the X server of a guest, for its agent's tests",
        &[Test],
    ),
    package(
        "xserver-xorg-video-dummy",
        "a display without hardware, as guests have",
        &[Test],
    ),
    package(
        "zenity",
        "dialogs and menus, for the agent's tests",
        &[Test],
    ),
    package("chromium", "a browser, as a guest's app", &[Test]),
    package("l3afpad", "an editor of GTK's, as a guest's app", &[Test]),
    package("featherpad", "an editor of Qt's, as a guest's app", &[Test]),
    package(
        "gir1.2-gtk-3.0",
        "a tray icon of the old kind, for the agent's tests",
        &[Test],
    ),
    package("python3-gi", "the same", &[Test]),
    package(
        "cups-ipp-utils",
        "ipptool and ippeveprinter: a printer's judge, and a printer",
        &[Test],
    ),
    package("cups-client", "lp and lpadmin: print as people do", &[Test]),
    package("cups-daemon", "a print server of the tests' own", &[Test]),
    package(
        "cups-core-drivers",
        "the print server's driverless queues",
        &[Test],
    ),
    package(
        "cups-filters",
        "what the print server makes pages with",
        &[Test],
    ),
    package(
        "dbus-daemon",
        "a session bus of the tests' own: notifications, trays",
        &[Test],
    ),
    package("libnotify-bin", "notify-send: a guest's notes", &[Test]),
    package(
        "libxkbcommon-x11-0",
        "the viewer's keyboard on X11, which it loads when it starts",
        WINDOWS,
    ),
    package("libxcursor1", "its pointer, likewise", WINDOWS),
    package("libxi6", "its input, likewise", WINDOWS),
    package("libx11-xcb1", "its pixels, likewise", WINDOWS),
    package("sway", "a Wayland desktop without a screen", &[Test]),
    package("grim", "pictures of that desktop", &[Test]),
    package("wl-clipboard", "copies and pastes on it", &[Test]),
    package("weston", "another Wayland desktop", &[Test]),
    package("xz-utils", "unpacks the kernel's modules", GUESTS),
    package("mmdebstrap", "the debian guest's file tree", GUESTS),
    package(
        "uidmap",
        "owners of files when an ordinary user builds a guest",
        GUESTS,
    ),
    package("fuse3", "fusermount3, to mount without root", FUSE),
    package("cryptsetup-bin", "the LUKS peer", PEERS),
    package("libvhdi-utils", "vhdiinfo and vhdimount: a VHD peer", PEERS),
    package("nbdkit", "an NBD peer", PEERS),
    package("libnbd-bin", "nbdinfo and nbdcopy: NBD clients", PEERS),
    package("fio", "loads for mounted disks", PEERS),
    package(
        "libvirt-daemon",
        "libvirtd, with which machines are tested",
        &[Test],
    ),
    package(
        "libvirt-daemon-driver-qemu",
        "libvirt's way to QEMU, in libvirtd or a test",
        &[Test],
    ),
    package(
        "libxml2-utils",
        "xmllint: libvirt's schema for our domains",
        &[Test],
    ),
    package("passt", "guests' networks without root", &[Test]),
    package("iproute2", "worlds for the networks' tests", &[Test]),
    package(
        "libcap2-bin",
        "setcap: the bridge helper's one right, in its tests",
        &[Test],
    ),
    package("g++", "libFuzzer, which is C++", &[Test]),
    package("python3", "a program that maps a mounted file", &[Test]),
    package("procps", "kill, as a program", &[Test]),
    package("pkg-config", "finds OpenSSL, a peer in the benches", BUILDS),
    package("libssl-dev", "OpenSSL, a peer in the benches", BUILDS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_named_once() {
        let mut names: Vec<_> = PACKAGES.iter().map(|package| package.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn all_is_the_union() {
        let all = Purpose::All.packages().count();
        assert_eq!(all, PACKAGES.len());
        assert!(Purpose::Guest.packages().count() < Purpose::Test.packages().count());
    }
}
