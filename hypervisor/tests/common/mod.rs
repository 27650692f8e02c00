//! A bench for machines: a folder, a disk server, a serial line, and limits on every wait.

// Each test binary uses its part.
#![allow(dead_code)]

pub mod guests;

use medley_hypervisor::qemu::Qemu;
use medley_hypervisor::{
    AcceleratorChoice, DiskEndpoint, Event, Events, Hypervisor, Machine, MachineSpec, Serial,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ten times what anything here takes on a quiet host.
pub const LONG: Duration = Duration::from_secs(60);

/// The QEMU under test; `None` only where guests are switched off by hand.
pub fn qemu() -> Option<Qemu> {
    if std::env::var_os("MEDLEY_SKIP_GUESTS").is_some_and(|value| value == "1") {
        eprintln!("skipped: MEDLEY_SKIP_GUESTS=1");
        return None;
    }
    Some(Qemu::find().expect("these tests need QEMU; MEDLEY_SKIP_GUESTS=1 leaves them out"))
}

/// A folder with a bootable disk behind an NBD server.
pub struct Bench {
    pub qemu: Qemu,
    pub folder: tempfile::TempDir,
    server: Option<Killed>,
}

impl Bench {
    /// `None` where guests are switched off by hand.
    pub fn new() -> Option<Bench> {
        let qemu = qemu()?;
        let folder = tempfile::Builder::new()
            .prefix("medley-hv")
            .tempdir()
            .unwrap();
        std::fs::write(folder.path().join("disk.raw"), guests::disk()).unwrap();
        let mut bench = Bench {
            qemu,
            folder,
            server: None,
        };
        bench.start_server();
        Some(bench)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn start_server(&mut self) {
        let socket = self.path("disk.sock");
        drop(std::fs::remove_file(&socket));
        let server = Command::new("qemu-nbd")
            .args(["--persistent", "--shared=4", "--format=raw", "--socket"])
            .arg(&socket)
            .arg(self.path("disk.raw"))
            .stdin(Stdio::null())
            .spawn()
            .expect("these tests need qemu-nbd, from the package qemu-utils");
        self.server = Some(Killed(server));
        let deadline = Instant::now() + LONG;
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "qemu-nbd does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Serves the disk as vhost-user-blk instead.
    pub fn start_vhost_server(&mut self) {
        let socket = self.path("vhost.sock");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let server = Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!(
                "driver=file,node-name=disk,filename={}",
                text(&self.path("disk.raw"))
            ))
            .arg("--export")
            .arg(format!(
                "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=4,\
                 addr.type=unix,addr.path={}",
                text(&socket)
            ))
            .stdin(Stdio::null())
            .spawn()
            .expect("these tests need qemu-storage-daemon, from the package qemu-system-common");
        self.server = Some(Killed(server));
        let deadline = Instant::now() + LONG;
        while !socket.exists() {
            assert!(
                Instant::now() < deadline,
                "qemu-storage-daemon does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn server_id(&self) -> u32 {
        self.server.as_ref().unwrap().0.id()
    }

    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// A small machine under TCG, which runs the same everywhere.
    pub fn spec(&self) -> MachineSpec {
        let disk = DiskEndpoint::NbdUnix {
            socket: self.path("disk.sock"),
            export: String::new(),
            reconnect: Duration::from_secs(1),
        };
        MachineSpec {
            memory_mib: 64,
            serial: Serial::socket(self.path("serial.sock")),
            accelerator: AcceleratorChoice::Tcg,
            ..MachineSpec::new("bench", disk, self.folder.path())
        }
    }

    /// A machine that is created, and its serial line.
    pub fn create(&self, spec: &MachineSpec) -> (Box<dyn Machine>, Line) {
        let machine = self.qemu.create(spec).unwrap();
        let line = Line::of(&*machine);
        (machine, line)
    }

    /// A machine whose guest has said hello.
    pub fn boot(&self, spec: &MachineSpec) -> (Box<dyn Machine>, Line) {
        let (machine, mut line) = self.create(spec);
        machine.start().unwrap();
        line.expect("MEDLEY-GUEST\n");
        (machine, line)
    }
}

/// The host's end of the serial port.
pub struct Line(UnixStream);

impl Line {
    pub fn of(machine: &dyn Machine) -> Line {
        Line(machine.serial().unwrap())
    }

    pub fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// What arrives next must be this.
    pub fn expect(&mut self, text: &str) {
        let mut got = vec![0; text.len()];
        self.0.set_read_timeout(Some(LONG)).unwrap();
        self.0.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), text);
    }

    pub fn expect_silence(&mut self, time: Duration) {
        self.0.set_read_timeout(Some(time)).unwrap();
        let error = self.0.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// All events up to and including the first one that fits.
pub fn events_until(events: &Events, fits: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(&fits) {
        let next = events.recv_timeout(LONG);
        seen.push(next.unwrap_or_else(|error| panic!("{error} after {seen:?}")));
    }
    seen
}

/// A process that is killed when its test ends, however that ends.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// True while a process of this number exists that is not merely waiting to be reaped.
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| {
        let state = rest.trim_start().chars().next();
        state.is_some_and(|state| state != 'Z' && state != 'X')
    })
}

/// Sends SIGKILL to a process that a test started.
pub fn sigkill(pid: u32) {
    let status = Command::new("/bin/kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    let killed = match status {
        Ok(status) => status.success(),
        // No such program here: every shell has it built in.
        Err(_) => Command::new("/bin/sh")
            .args(["-c", &format!("kill -KILL {pid}")])
            .status()
            .is_ok_and(|status| status.success()),
    };
    assert!(killed, "cannot kill {pid}");
}

pub fn wait_gone(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}
