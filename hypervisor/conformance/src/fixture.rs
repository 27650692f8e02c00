//! Which guest the machines of a run are made of, and how long it may take over things.

use anyhow::{Context, Result, ensure};
use medley_hypervisor::AcceleratorChoice;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A guest for machines, and how to bear with it.
#[derive(Clone, Debug)]
pub struct Fixture {
    guest: Guest,
    /// How long the guest may take over anything.
    pub patience: Duration,
    /// How long it is listened whether a guest that should stand still does.
    pub quiet: Duration,
    /// The machine's RAM in MiB.
    pub memory_mib: u32,
    /// Which accelerator runs the guest's code.
    pub accelerator: AcceleratorChoice,
    /// The test that makes a machine in a process of its own, and what that process is told beside.
    pub(crate) maker: Option<String>,
    alone: bool,
    pub(crate) maker_environment: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Guest {
    Disk(PathBuf),
    Imagined,
}

/// How a disk is served.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Nbd,
    VhostUser,
}

/// A server of a disk; it ends when dropped.
pub(crate) enum DiskServer {
    Process(Child),
    // Never read: whoever connects finds somebody there.
    Imagined(#[allow(dead_code)] UnixListener),
}

impl Fixture {
    /// A guest that runs commands from its serial port, on a VHD; see `tools/xtask/guest/medley-sh`
    /// for how. Disks of it need qemu-img, qemu-nbd, qemu-storage-daemon and mcopy. Machines run
    /// under TCG, which is the same everywhere, and get ten times what that takes on a quiet host.
    pub fn guest(vhd: impl Into<PathBuf>) -> Fixture {
        Fixture {
            guest: Guest::Disk(vhd.into()),
            patience: Duration::from_secs(60),
            quiet: Duration::from_millis(300),
            memory_mib: 192,
            accelerator: AcceleratorChoice::Tcg,
            maker: None,
            alone: false,
            maker_environment: Vec::new(),
        }
    }

    /// The guest that the environment names in `MEDLEY_GUEST_TINY`.
    ///
    /// # Panics
    /// If it does not.
    pub fn tiny() -> Fixture {
        let variable = "MEDLEY_GUEST_TINY";
        match std::env::var_os(variable) {
            Some(vhd) => Fixture::guest(vhd),
            None => panic!("{variable} is not set: use `cargo xtask test --only hypervisor`"),
        }
    }

    /// The guest that [`crate::fake::Fake`] imagines.
    pub fn imagined() -> Fixture {
        Fixture {
            guest: Guest::Imagined,
            patience: Duration::from_secs(2),
            quiet: Duration::from_millis(50),
            ..Fixture::guest("")
        }
    }

    /// Names the test, by its full path in this program, that makes a machine in a process of its own.
    #[must_use]
    pub fn with_maker(mut self, test: &str) -> Fixture {
        // A test's name is its path without the crate.
        let name = test.split_once("::").map_or(test, |(_, name)| name);
        if matches!(self.guest, Guest::Disk(_)) && !self.alone {
            self.maker = Some(name.to_owned());
        }
        self
    }

    /// Another process cannot make machines while this one has the back end open.
    #[must_use]
    pub fn alone(self) -> Fixture {
        Fixture {
            alone: true,
            ..self
        }
    }

    /// Tells that process something.
    #[must_use]
    pub fn with_maker_environment(mut self, name: &str, value: &str) -> Fixture {
        self.maker_environment.push((name.into(), value.into()));
        self
    }

    /// Makes a fresh disk in this folder, which keeps what is written to it.
    pub(crate) fn make_disk(&self, folder: &Path) -> Result<()> {
        let Guest::Disk(vhd) = &self.guest else {
            return Ok(());
        };
        let mut command = Command::new("qemu-img");
        command
            .args(["create", "-q", "-f", "qcow2", "-F", "vpc", "-b"])
            .arg(std::path::absolute(vhd)?)
            .arg(folder.join("disk.qcow2"));
        succeed(command)
    }

    /// Serves the disk in this folder at `disk.sock` there.
    pub(crate) fn serve(&self, folder: &Path, transport: Transport) -> Result<DiskServer> {
        let (socket, disk) = (folder.join("disk.sock"), folder.join("disk.qcow2"));
        drop(std::fs::remove_file(&socket));
        if let Guest::Imagined = self.guest {
            return Ok(DiskServer::Imagined(UnixListener::bind(socket)?));
        }
        let mut command = match transport {
            Transport::Nbd => {
                let mut command = Command::new("qemu-nbd");
                command.args([
                    "--persistent",
                    "--shared=4",
                    "--format=qcow2",
                    "--discard=unmap",
                ]);
                command.arg("--socket").arg(&socket).arg(disk);
                command
            }
            Transport::VhostUser => {
                let (socket, disk) = (socket.display(), disk.display());
                let mut command = Command::new("qemu-storage-daemon");
                command
                    .arg("--blockdev")
                    .arg(format!("driver=file,node-name=file,filename={disk}"))
                    .args(["--blockdev", "driver=qcow2,node-name=disk,file=file"])
                    .arg("--export")
                    .arg(format!(
                        "type=vhost-user-blk,id=export,node-name=disk,writable=on,\
                         addr.type=unix,addr.path={socket}"
                    ));
                command
            }
        };
        let program = format!("{:?}", command.get_program());
        let child = command.stdin(Stdio::null()).spawn();
        let server = DiskServer::Process(child.with_context(|| program.clone())?);
        let deadline = Instant::now() + self.patience;
        // The vhost-user server takes one client and no other: it is not called for a trial.
        while match transport {
            Transport::Nbd => UnixStream::connect(&socket).is_err(),
            Transport::VhostUser => !socket.exists(),
        } {
            ensure!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Takes kernel and initial file system from the guest's boot partition.
    pub(crate) fn take_kernel(&self, folder: &Path) -> Result<[PathBuf; 2]> {
        let files = ["vmlinuz", "initrd"].map(|name| folder.join(name));
        let Guest::Disk(vhd) = &self.guest else {
            files.iter().try_for_each(|file| std::fs::write(file, ""))?;
            return Ok(files);
        };
        let raw = folder.join("guest.raw");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "vpc", "-O", "raw"]);
        convert.arg(vhd).arg(&raw);
        succeed(convert)?;
        let partition = format!("{}@@1048576", raw.display());
        for file in &files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let mut copy = Command::new("mcopy");
            copy.args(["-i", &partition, &format!("::{name}")])
                .arg(file);
            succeed(copy)?;
        }
        std::fs::remove_file(raw)?;
        Ok(files)
    }
}

impl DiskServer {
    pub fn process_id(&self) -> Option<u32> {
        match self {
            DiskServer::Process(child) => Some(child.id()),
            DiskServer::Imagined(_) => None,
        }
    }
}

impl Drop for DiskServer {
    fn drop(&mut self) {
        if let DiskServer::Process(child) = self {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn succeed(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {words}");
    Ok(())
}
