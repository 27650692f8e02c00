//! The peer: xpra's server in the same guest, its client on this host. It is installed as Debian packs it, in a file
//! tree of its own: the guest gets that as a second disk, the client runs with it as its root.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_benches::console::Console;
use medley_benches::interrupt;
use medley_benches::plain::{Plain, Recipe};
use medley_benches::process::Killed;
use medley_benches::screen::Screen;
use medley_benches::server::text;
use nix::unistd::geteuid;
use serde_json::json;

/// How the rows call it.
pub const NAME: &str = "xpra";
const LIMIT: Duration = Duration::from_secs(300);
/// Where the server listens in the guest.
const PORT: u16 = 10000;
/// What is of no use here, and costs time at least at the start: sound, printers, clipboards, what asks a bus.
const SERVER: &str = "--daemon=no --mdns=no --pulseaudio=no --notifications=no --webcam=no --printing=no \
     --dbus-proxy=no --dbus-launch=no --systemd-run=no --html=off --file-transfer=off --speaker=off --microphone=off \
     --clipboard=no --opengl=no --start-new-commands=no";
const CLIENT: &[&str] = &[
    "--pulseaudio=no",
    "--notifications=no",
    "--webcam=no",
    "--printing=no",
    "--mdns=no",
    "--speaker=off",
    "--microphone=off",
    "--clipboard=no",
    "--tray=no",
    // There is no graphics card.
    "--opengl=no",
];
/// The guest's second disk is read only; these are in memory.
const IN_MEMORY: [&str; 3] = ["tmp", "run", "root"];

/// Where it is installed.
pub struct Installed {
    /// The tree.
    pub tree: PathBuf,
    /// The same as a disk.
    pub disk: PathBuf,
}

/// Server and client, connected. Dropping it ends them and their machine.
pub struct Xpra {
    // In this order: the client before its server.
    _client: Killed,
    console: Console,
    _machine: Plain,
}

impl Xpra {
    /// Boots the guest without Medley, starts the server in it, and connects.
    pub fn start(
        recipe: Recipe,
        installed: &Installed,
        screen: &Screen,
        dir: &Path,
    ) -> Result<Self> {
        // Free until a moment ago.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut machine = recipe.with(devices(installed, port)).start()?;
        let mut console = machine.console()?;
        machine.go()?;
        console.ready()?;
        serve(&mut console)?;
        let log = dir.join("client.log");
        let client = connect(installed, screen, port, &log)?;
        let begun = Instant::now();
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("Attached") {
                break;
            }
            interrupt::go_on()?;
            client.lives("xpra attach").with_context(|| said.clone())?;
            ensure!(begun.elapsed() < LIMIT, "xpra does not connect:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self {
            _client: client,
            console,
            _machine: machine,
        })
    }

    /// Asks for a terminal, without waiting. By the guest's console: xpra's own way starts a Python program first.
    pub fn launch(&mut self) -> Result<()> {
        self.console.ask("sh /run/terminal").map(drop)
    }
}

/// The guest's second disk, and a network through which the host reaches the server.
fn devices(installed: &Installed, port: u16) -> Vec<String> {
    let file = json!({"driver": "file", "filename": text(&installed.disk)});
    let node = json!({"driver": "raw", "node-name": "peer", "read-only": true, "file": file});
    let forward = format!("user,id=peer-net,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:{PORT}");
    let card = json!({"driver": "virtio-net-pci", "netdev": "peer-net", "romfile": ""});
    let disk = json!({"driver": "virtio-blk-pci", "drive": "peer"});
    let arguments = [
        ("-blockdev", node.to_string()),
        ("-device", disk.to_string()),
        ("-netdev", forward),
        ("-device", card.to_string()),
    ];
    let words = arguments
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    words.collect()
}

/// Starts the server, and waits until it is ready.
fn serve(console: &mut Console) -> Result<()> {
    // Our agent and its display are not what is measured now.
    console.run("systemctl stop medley-session medley-display")?;
    console.run("mount -o ro /dev/vdb /mnt")?;
    for folder in ["dev", "proc", "sys"] {
        console.run(&format!("mount --rbind /{folder} /mnt/{folder}"))?;
    }
    for folder in IN_MEMORY {
        console.run(&format!("mount -t tmpfs -o mode=1777 tmpfs /mnt/{folder}"))?;
    }
    // No lease is waited for.
    console.run(
        "systemctl stop systemd-networkd.socket systemd-networkd; card=$(basename /sys/class/net/e*); \
         ip link set $card up && ip addr replace 10.0.2.15/24 dev $card",
    )?;
    let xvfb = "Xvfb +extension Composite -screen 0 1280x800x24+32 -nolisten tcp -noreset -ac -extension GLX";
    let inside = "chroot /mnt env -i HOME=/root LANG=C.UTF-8 SHELL=/bin/bash XDG_RUNTIME_DIR=/run \
         PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    console.run(&format!(
        "setsid {inside} xpra start :10 --bind-tcp=0.0.0.0:{PORT} {SERVER} '--xvfb={xvfb}' >/run/xpra.log 2>&1 &"
    ))?;
    let terminal = format!("setsid {inside} DISPLAY=:10 xterm >/dev/null 2>&1 &");
    console.run(&format!("echo '{terminal}' >/run/terminal"))?;
    // Python and its libraries are much to load for an emulated processor.
    let begun = Instant::now();
    while !console
        .run("cat /run/xpra.log; sleep 0.5")?
        .contains("xpra is ready")
    {
        ensure!(
            begun.elapsed() < LIMIT,
            "xpra is not ready: {}",
            console.run("cat /run/xpra.log")?
        );
    }
    Ok(())
}

/// The client in its tree, as root of a namespace where this user is not root.
fn connect(installed: &Installed, screen: &Screen, port: u16, log: &Path) -> Result<Killed> {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    // The mounts are gone with the namespace, and that with the client.
    let script = "set -e; tree=$1; shift; \
         for folder in dev proc sys; do mount --rbind /$folder $tree/$folder; done; \
         for folder in tmp run root; do mount -t tmpfs tmpfs $tree/$folder; done; \
         mkdir $tree/tmp/.X11-unix; mount --bind /tmp/.X11-unix $tree/tmp/.X11-unix; \
         exec chroot $tree \"$@\"";
    command
        .args(["sh", "-c", script, "sh"])
        .arg(&installed.tree);
    command.args([
        "env",
        "-i",
        "HOME=/root",
        "LANG=C.UTF-8",
        "XDG_RUNTIME_DIR=/run",
    ]);
    command.arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command.arg(format!("DISPLAY={}", screen.name));
    command.args(["xpra", "attach", &format!("tcp://127.0.0.1:{port}/")]);
    command.args(CLIENT);
    let said = File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said);
    Killed::start(&mut command)
}
