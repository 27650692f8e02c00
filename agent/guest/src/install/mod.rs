//! What an image of a guest with systemd needs so that the agent runs in it: the X server's configuration,
//! units, leave to open the ports, and the program. Packages are the image's own: Xorg, its dummy driver,
//! `x11-xkb-utils`, `dbus-user-session`.
mod desktop;

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// The X server's configuration: sixteen outputs whose modes are made at run time. The virtual size is what the
/// server asks memory for at its start, and not the most that the screen can become: 12000 by 4000 was made of it.
/// Memory is used only where something is painted, and under a compositor nothing is painted on the screen itself;
/// but a kernel promises no more than a small guest has.
pub const XORG: &str = r#"# Medley's display: no hardware, as large as the host's monitors.
Section "ServerFlags"
    Option "AutoAddDevices" "false"
    Option "AutoEnableDevices" "false"
    Option "AutoAddGPU" "false"
    Option "DontVTSwitch" "true"
    Option "DontZap" "true"
    Option "BlankTime" "0"
    Option "StandbyTime" "0"
    Option "SuspendTime" "0"
    Option "OffTime" "0"
EndSection

Section "Device"
    Identifier "medley"
    Driver "dummy"
    VideoRam 262144
EndSection

Section "Monitor"
    Identifier "medley"
    HorizSync 1.0-2000.0
    VertRefresh 1.0-500.0
EndSection

Section "Screen"
    Identifier "medley"
    Device "medley"
    Monitor "medley"
    DefaultDepth 24
    SubSection "Display"
        Depth 24
        Modes "1024x768"
        Virtual 8192 8192
    EndSubSection
EndSection
"#;

/// The unit of the X server. It runs as root, for it wants a terminal of its own; only the user whose apps are
/// shown may connect, by a list that the server reads at its start.
const DISPLAY_UNIT: &str = "\
[Unit]
Description=Medley's display
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/lib/xorg/Xorg :0 -config /etc/X11/medley.conf -logfile /var/log/medley-display.log \
-nolisten tcp -noreset -novtswitch -sharevts vt7
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
";

/// The unit of the agent. It ends alone, for its apps live on; so it is no login session of PAM's, and the
/// user's bus comes from lingering. It has no right to set the clock: its apps would have it, too. Programs reach
/// it by a socket in its runtime folder; its state folder is where a newer agent from the host is kept.
const SESSION_UNIT: &str = "\
[Unit]
Description=Medley's agent
Requires=medley-display.service
After=medley-display.service systemd-logind.service systemd-user-sessions.service
StartLimitIntervalSec=0

[Service]
User=@USER@
WorkingDirectory=~
RuntimeDirectory=medley
RuntimeDirectoryMode=0700
StateDirectory=medley
Environment=DISPLAY=:0 XDG_SESSION_TYPE=x11 XDG_CURRENT_DESKTOP=Medley
ExecStart=/usr/bin/medley-guest run --pool auto
Restart=always
RestartSec=200ms
KillMode=process

[Install]
WantedBy=multi-user.target
";

/// Leave for the user to open the ports and the shared memory.
const RULES: &str = "\
SUBSYSTEM==\"virtio-ports\", ATTR{name}==\"org.medley.*\", OWNER=\"@USER@\", MODE=\"0600\"
SUBSYSTEM==\"pci\", ATTR{vendor}==\"0x1af4\", ATTR{device}==\"0x1110\", \
RUN+=\"/bin/chown @USER@ /sys%p/resource2\"
";

/// How much the kernel keeps free beside its least: a hundredth of the memory, and not a thousandth. The balloon takes
/// what is free and then waits a fifth of a second, so that this decides how fast a guest gives memory to its host.
const MEMORY: &str = "vm.watermark_scale_factor = 100\n";

/// Who may connect to the display.
const HOSTS: &str = "si:localuser:@USER@\n";

/// Units that begin with the machine.
const WANTED: [&str; 3] = [
    "medley-display.service",
    "medley-session.service",
    "medley-printer.path",
];

/// Writes everything below `root`, for apps of that user, who must be made by the image's builder. With
/// `links_to_host`, links open in the host's browser unless that user chooses another.
///
/// # Errors
/// `root` is no folder, a folder in it leads elsewhere, or something cannot be written.
pub fn install(root: &Path, user: &str, links_to_host: bool) -> Result<()> {
    if !root.is_dir() {
        bail!(
            "{}: is no folder; give the root of the guest's files",
            root.display()
        );
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    if user.is_empty() || user.starts_with(['-', '0']) || !user.chars().all(plain) {
        bail!("{user:?}: is no name of a user; lower case letters, digits, - and _ are");
    }
    let units = [
        ("etc/X11/medley.conf", XORG),
        ("etc/X0.hosts", HOSTS),
        ("usr/lib/udev/rules.d/70-medley.rules", RULES),
        ("usr/lib/sysctl.d/60-medley.conf", MEMORY),
        (
            "usr/lib/systemd/system/medley-display.service",
            DISPLAY_UNIT,
        ),
        (
            "usr/lib/systemd/system/medley-session.service",
            SESSION_UNIT,
        ),
        (
            "usr/lib/systemd/system/medley-printer.path",
            desktop::PRINTER_PATH,
        ),
        (
            "usr/lib/systemd/system/medley-printer.service",
            desktop::PRINTER_UNIT,
        ),
        desktop::BROWSER,
    ];
    let choice = links_to_host.then_some(desktop::CHOICE);
    for (path, text) in units.into_iter().chain(desktop::SENDING).chain(choice) {
        let path = make_room(root, path)?;
        let text = text.replace("@USER@", user);
        fs::write(&path, text).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    // An empty file of that name has logind keep the user's services running.
    let linger = make_room(root, &format!("var/lib/systemd/linger/{user}"))?;
    fs::write(&linger, "").with_context(|| format!("{}: cannot write", linger.display()))?;
    for unit in WANTED {
        let wants = format!("etc/systemd/system/multi-user.target.wants/{unit}");
        let link = make_room(root, &wants)?;
        match symlink(format!("/usr/lib/systemd/system/{unit}"), &link) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(format!("{}: cannot link", link.display())),
        }
    }
    let program = std::env::current_exe().context("cannot find the agent's own program")?;
    let place = make_room(root, "usr/bin/medley-guest")?;
    fs::copy(&program, &place)
        .and_then(|_| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("{}: cannot copy the program there", place.display()))
}

/// A path below the root, its folders made. An image's own links could lead anywhere on this machine, so none
/// is followed.
fn make_room(root: &Path, path: &str) -> Result<PathBuf> {
    let mut at = root.to_path_buf();
    let mut parts = Path::new(path).components().peekable();
    while let Some(Component::Normal(part)) = parts.next() {
        at.push(part);
        if parts.peek().is_none() {
            break;
        }
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => bail!(
                "{}: is no folder but something that may lead elsewhere; make it one",
                at.display()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir(&at).with_context(|| format!("{}: cannot make", at.display()))?;
            }
            Err(error) => return Err(error).context(format!("{}: cannot look at", at.display())),
        }
    }
    if fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink()) && !path.contains(".wants/")
    {
        bail!("{}: is a link; remove it first", at.display());
    }
    Ok(at)
}

/// The memory that a hypervisor shares with this guest, if it has given it such a device.
#[must_use]
pub fn find_pool() -> Option<PathBuf> {
    let devices = fs::read_dir("/sys/bus/pci/devices").ok()?;
    devices
        .flatten()
        .map(|device| device.path())
        .find_map(|device| {
            let is = |file: &str, id: &str| {
                fs::read_to_string(device.join(file)).is_ok_and(|text| text.trim() == id)
            };
            (is("vendor", "0x1af4") && is("device", "0x1110")).then(|| device.join("resource2"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_lies_below_the_root_and_twice_is_as_good_as_once() {
        let root = tempfile::tempdir().unwrap();
        for links_to_host in [false, false, true] {
            assert!(!root.path().join("etc/xdg/medley-mimeapps.list").exists());
            install(root.path(), "medley", links_to_host).unwrap();
        }
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert!(read("etc/X11/medley.conf").contains("Virtual 8192 8192"));
        assert!(read("usr/lib/systemd/system/medley-session.service").contains("User=medley\n"));
        assert_eq!(read("etc/X0.hosts"), "si:localuser:medley\n");
        let wanted = root
            .path()
            .join("etc/systemd/system/multi-user.target.wants");
        let unit = wanted.join("medley-session.service");
        assert!(
            fs::read_link(unit)
                .unwrap()
                .starts_with("/usr/lib/systemd/system")
        );
        let program = fs::metadata(root.path().join("usr/bin/medley-guest")).unwrap();
        assert_eq!(program.permissions().mode() & 0o777, 0o755);
    }

    /// systemd's own judgement, where it is installed.
    #[test]
    fn systemd_takes_the_units() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), "root", false).unwrap();
        let units = root.path().join("usr/lib/systemd/system");
        let all = WANTED.into_iter().chain(["medley-printer.service"]);
        for unit in all.clone() {
            // The programs lie in the image, and not here.
            let text = fs::read_to_string(units.join(unit)).unwrap();
            let here = text.replace("/usr/bin/medley-guest", "/bin/true");
            let here = here.replace("/usr/lib/xorg/Xorg", "/bin/true");
            let here = here.replace("/usr/sbin/lpadmin", "/bin/true");
            fs::write(units.join(unit), here).unwrap();
        }
        let judged = std::process::Command::new("systemd-analyze")
            .arg("verify")
            .arg("--man=no")
            .args(all.map(|unit| units.join(unit)))
            .output();
        let Ok(judged) = judged else {
            eprintln!("systemd-analyze is not installed: the units were not judged");
            return;
        };
        let words = String::from_utf8_lossy(&judged.stderr);
        assert!(
            judged.status.success() && !words.contains("medley"),
            "{words}"
        );
    }

    /// The entries hold for the agent's own reader of entries, and are not among the apps.
    #[test]
    fn entries_are_entries_that_no_menu_lists() {
        use crate::apps::entry::{Entry, Unlisted};
        for (path, text) in desktop::SENDING.into_iter().chain([desktop::BROWSER]) {
            if !path.starts_with("usr/share/applications/") {
                continue;
            }
            assert_eq!(
                Entry::parse(text, "", "Medley"),
                Err(Unlisted::Hidden),
                "{path}"
            );
            let shown = text.replace("NoDisplay=true\n", "");
            let entry = Entry::parse(&shown, "de", "Medley").unwrap();
            assert!(entry.name.contains("Host"), "{path}");
            assert!(entry.exec.starts_with("/usr/bin/medley-guest "), "{path}");
        }
    }

    #[test]
    fn links_of_an_image_are_not_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), root.path().join("etc")).unwrap();
        let error = install(root.path(), "medley", false).unwrap_err();
        assert!(error.to_string().contains("lead elsewhere"), "{error}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        for user in ["", "-x", "a b", "root\nUser=x", "Ü"] {
            let root = tempfile::tempdir().unwrap();
            assert!(install(root.path(), user, false).is_err(), "{user:?}");
        }
        assert!(install(Path::new("/nowhere/at/all"), "medley", false).is_err());
    }
}
