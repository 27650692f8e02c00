//! The guest that is measured, twice: encrypted, as sessions of ours use it, and raw, for the peer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use medley_benches::console::Console;
use medley_benches::plain::Recipe;
use medley_benches::server::{run, text};
use medley_hypervisor::qemu::Qemu;
use medley_hypervisor::{AcceleratorChoice, DiskEndpoint, Hypervisor, MachineSpec, Serial};
use medley_session::{Folder, Frontend, Program, Session, Setup};
use tempfile::TempDir;
use vdisk::image::DiskKey;
use vdisk::keys::{KeyFile, beside};
use vdisk_xts::XtsKey;

const PASSPHRASE: &str = "benchmark";

/// The guest's disks and whatever belongs to them, on a disk: a state must survive a power failure.
pub struct Workspace {
    medley: PathBuf,
    guest: PathBuf,
    key: DiskKey,
    qemu: Qemu,
    dir: TempDir,
}

impl Workspace {
    /// Encrypts the guest.
    pub fn new(medley: &Path, guest: &Path) -> Result<Self> {
        let dir = tempfile::tempdir_in("/var/tmp")?;
        let (disk, passphrase) = (dir.path().join("disk.vhd"), dir.path().join("passphrase"));
        std::fs::write(&passphrase, PASSPHRASE)?;
        let mut encrypt = Command::new(medley);
        encrypt.args(["disk", "encrypt", "--kdf-memory", "64M", "--kdf-time", "4"]);
        encrypt.args([guest, &disk]);
        run(encrypt.arg("--new-passphrase-file").arg(&passphrase))?;
        for folder in ["run", "plain"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        let qemu = Qemu::find()?;
        // Measured once, and not while a machine is.
        qemu.acceleration(AcceleratorChoice::Auto)?;
        Ok(Self {
            medley: std::path::absolute(medley)?,
            guest: guest.to_owned(),
            key: KeyFile::open(&beside(&disk))?.unlock(PASSPHRASE.as_bytes())?,
            qemu,
            dir,
        })
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A revertible session of a guest of so much memory, begun as its folder says.
    pub fn begin(&self, folder: &str, memory_mib: u32) -> Result<Session<'_>> {
        let run_dir = self.path("run");
        // The session's own.
        let disk = DiskEndpoint::nbd_unix(run_dir.join("disk.sock"), "");
        let mut spec = MachineSpec::new("bench", disk, &run_dir);
        spec.memory_mib = memory_mib;
        spec.serial = Serial::socket(run_dir.join("serial.sock"));
        let medley = self.medley.clone();
        let setup = Setup {
            disk: self.path("disk.vhd"),
            format: None,
            key: Some(DiskKey {
                key: XtsKey::new(*self.key.key.as_bytes())?,
                header: self.key.header,
            }),
            spec,
            frontend: Frontend::Nbd,
            quota: None,
            revertible: true,
            boot_anew: false,
            program: Program::new(move || {
                let mut command = Command::new(&medley);
                command.arg("session-disk");
                command
            }),
        };
        let folder = Folder::open(&self.path(folder))?;
        Ok(Session::begin(folder, setup, &self.qemu, channel().0)?)
    }

    /// How the peer is started, as a twin of the session's machine, on a fresh copy of the guest.
    pub fn twin(&self, session: &Session<'_>) -> Result<Recipe> {
        let (raw, dir) = (self.fresh_raw()?, self.path("plain"));
        let process = session.machine().process_id();
        let process = process.context("the machine has no process")?;
        Recipe::new(process, &self.path("run"), &raw, &dir)
    }

    /// Makes the peer's disk anew.
    pub fn fresh_raw(&self) -> Result<PathBuf> {
        let raw = self.path("disk.raw");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "vpc", "-O", "raw"]);
        run(convert.args([&text(&self.guest), &text(&raw)]))?;
        Ok(raw)
    }
}

/// The guest of a session that has begun.
pub fn console_of(session: &Session<'_>) -> Result<Console> {
    Console::on(session.machine().serial()?)
}

/// What `work` gives, and how long it took.
pub fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let began = Instant::now();
    let done = work()?;
    Ok((done, began.elapsed()))
}

/// The least of several times.
#[derive(Clone, Copy)]
pub struct Best(Duration);

impl Best {
    /// None yet.
    pub const NONE: Self = Self(Duration::MAX);

    /// Takes one.
    pub fn take(&mut self, time: Duration) {
        self.0 = self.0.min(time);
    }

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}
