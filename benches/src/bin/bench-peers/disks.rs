//! The disks that are compared, and the commands that serve them: all hold the same, in memory where
//! there is room, so that the servers are measured and not a medium.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use medley_benches::server::{Server, run, text};

use crate::Args;

/// Whose disk it is, and how it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Ours, encrypted: a dynamic VHD with a LUKS2 header beside it.
    Ours,
    /// Ours without a key: what is left is the cost of serving.
    OursPlain,
    /// LUKS1 in a dynamic VHD, by QEMU's storage daemon.
    QemuLuks,
    /// A raw file, not encrypted, by QEMU's storage daemon.
    QemuRaw,
    /// LUKS1 in a dynamic VHD, by qemu-nbd.
    QemuNbdLuks,
    /// LUKS1 in a raw file, by nbdkit with its luks filter.
    NbdkitLuks,
}

impl Disk {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "medley, encrypted",
            Self::OursPlain => "medley, plain",
            Self::QemuLuks => "QEMU, LUKS",
            Self::QemuRaw => "QEMU, raw",
            Self::QemuNbdLuks => "qemu-nbd, LUKS",
            Self::NbdkitLuks => "nbdkit, luks filter",
        }
    }
}

/// Disks in a folder.
pub struct Disks<'a> {
    pub args: &'a Args,
    dir: tempfile::TempDir,
}

impl<'a> Disks<'a> {
    /// Makes them all.
    pub fn new(args: &'a Args) -> Result<Self> {
        let disks = Self {
            args,
            dir: folder(args.size)?,
        };
        std::fs::write(disks.secret(), "benchmark")?;
        let size = format!("{}M", args.size);
        disks.create("ours.vhd", &size, true)?;
        disks.create("plain.vhd", &size, false)?;
        let object = format!("secret,id=s,file={}", text(&disks.secret()));
        run(Command::new("qemu-img")
            .args(["create", "-q", "--object", &object, "-f", "luks"])
            .args(["-o", "key-secret=s,iter-time=10"])
            .arg(disks.path("luks.raw"))
            .arg(&size))?;
        run(Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vpc"])
            .args(["-o", "subformat=dynamic,force_size=on"])
            .args([disks.path("luks.raw"), disks.path("luks.vhd")]))?;
        std::fs::File::create(disks.path("raw.img"))?.set_len(args.size << 20)?;
        Ok(disks)
    }

    /// A dynamic VHD of ours, with a key derivation that does not make anybody wait.
    pub fn create(&self, name: &str, size: &str, encrypted: bool) -> Result<()> {
        let mut command = Command::new(&self.args.medley);
        command.args(["disk", "create", "--size", size]);
        if encrypted {
            command
                .args(["--encrypt", "--kdf-memory", "64M", "--kdf-time", "4"])
                .arg("--new-passphrase-file")
                .arg(self.secret());
        }
        run(command.arg(self.path(name))).map(drop)
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn secret(&self) -> PathBuf {
        self.path("secret")
    }

    /// `medley disk VERB` on a disk of ours.
    pub fn medley(&self, verb: &str, name: &str) -> Command {
        let mut command = Command::new(&self.args.medley);
        command.args(["disk", verb, "--passphrase-file"]);
        command.arg(self.secret()).arg(self.path(name));
        command
    }

    /// QEMU's storage daemon on one of its disks; it takes its options in order.
    pub fn qemu(&self, disk: Disk, before: &[&str], export: &str) -> Command {
        let mut command = Command::new("qemu-storage-daemon");
        let file = |name: &str| {
            let path = text(&self.path(name));
            format!("driver=file,node-name=f,filename={path}")
        };
        if disk == Disk::QemuRaw {
            command.args(["--blockdev", &file("raw.img")]);
            command.args(["--blockdev", "driver=raw,node-name=n,file=f"]);
        } else {
            let secret = format!("secret,id=s,file={}", text(&self.secret()));
            command.args(["--object", &secret, "--blockdev", &file("luks.vhd")]);
            command.args(["--blockdev", "driver=vpc,node-name=v,file=f"]);
            command.args(["--blockdev", "driver=luks,node-name=n,file=v,key-secret=s"]);
        }
        command.args(before).args(["--export", export]);
        command
    }

    /// A disk over FUSE: its server and the file it shows.
    pub fn fuse(&self, disk: Disk) -> Result<(Server, PathBuf)> {
        let size = self.args.size << 20;
        let (command, file) = match disk {
            Disk::Ours | Disk::OursPlain => {
                let name = ours(disk);
                let mountpoint = self.path(&format!("{name}.mnt"));
                std::fs::create_dir(&mountpoint)?;
                let mut command = self.medley("mount", name);
                command.args(["--keep", "--foreground"]).arg(&mountpoint);
                (command, mountpoint.join("disk.raw"))
            }
            _ => {
                let file = self.path(&format!("fuse-{disk:?}"));
                std::fs::write(&file, "")?;
                let point = text(&file);
                let export = format!("type=fuse,id=e,node-name=n,writable=on,mountpoint={point}");
                (self.qemu(disk, &[], &export), file)
            }
        };
        let shown = file.clone();
        let ready = move || std::fs::metadata(&shown).is_ok_and(|m| m.len() == size);
        Ok((Server::start(disk.name(), command, ready)?, file))
    }

    /// A disk over NBD: its server and the socket it listens on.
    pub fn nbd(&self, disk: Disk) -> Result<(Server, PathBuf)> {
        let socket = self.path(&format!("{disk:?}.sock"));
        let secret = text(&self.secret());
        let command = match disk {
            Disk::Ours | Disk::OursPlain => {
                let mut command = self.medley("serve", ours(disk));
                command.arg("--keep").arg("--nbd").arg(&socket);
                command
            }
            Disk::QemuLuks | Disk::QemuRaw => {
                let listen = format!("addr.type=unix,addr.path={}", text(&socket));
                let export = "type=nbd,id=e,node-name=n,name=,writable=on";
                self.qemu(disk, &["--nbd-server", &listen], export)
            }
            Disk::QemuNbdLuks => {
                let mut command = Command::new("qemu-nbd");
                command
                    .args(["--persistent", "--shared=8", "--socket"])
                    .arg(&socket);
                command.args(["--object", &format!("secret,id=s,file={secret}")]);
                let vhd = text(&self.path("luks.vhd"));
                command.args([
                    "--image-opts".into(),
                    format!("driver=luks,key-secret=s,file.driver=vpc,file.file.filename={vhd}"),
                ]);
                command
            }
            Disk::NbdkitLuks => {
                let mut command = Command::new("nbdkit");
                command
                    .args(["--foreground", "--filter=luks", "--unix"])
                    .arg(&socket);
                command.args(["file", &text(&self.path("luks.raw"))]);
                command.arg(format!("passphrase=+{secret}"));
                command
            }
        };
        let listening = socket.clone();
        let ready = move || std::os::unix::net::UnixStream::connect(&listening).is_ok();
        Ok((Server::start(disk.name(), command, ready)?, socket))
    }

    /// A disk over vhost-user-blk: its server and the socket it listens on.
    pub fn vhost_user(&self, disk: Disk) -> Result<(Server, PathBuf)> {
        let socket = self.path(&format!("{disk:?}.vhost"));
        let command = match disk {
            Disk::Ours | Disk::OursPlain => {
                let mut command = self.medley("serve", ours(disk));
                command.arg("--keep").arg("--vhost-user").arg(&socket);
                command
            }
            _ => {
                let export = format!(
                    "type=vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path={}",
                    text(&socket)
                );
                self.qemu(disk, &[], &export)
            }
        };
        let made = socket.clone();
        // These servers take one client at a time: trying to connect would be one.
        let server = Server::start(disk.name(), command, move || made.exists())?;
        Ok((server, socket))
    }
}

fn ours(disk: Disk) -> &'static str {
    match disk {
        Disk::Ours => "ours.vhd",
        _ => "plain.vhd",
    }
}

/// A folder with room for five disks of `size` MiB: in memory where there is enough of it.
fn folder(size: u64) -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    // Their metadata, sockets and logs are far below a tenth.
    let needed = size * 5 + size / 4;
    let free = |dir: &Path| {
        nix::sys::statvfs::statvfs(dir).map(|fs| (fs.blocks_available() * fs.fragment_size()) >> 20)
    };
    if free(memory).is_ok_and(|free| free >= needed) {
        return Ok(tempfile::tempdir_in(memory)?);
    }
    let other = std::env::temp_dir();
    eprintln!(
        "{} has no {needed} MiB free: the disks go to {}, whose medium will be measured as well",
        memory.display(),
        other.display()
    );
    let free = free(&other).with_context(|| format!("cannot look at {}", other.display()))?;
    if free < needed {
        bail!(
            "{} has {free} MiB free, and {needed} are needed; make --size smaller",
            other.display()
        );
    }
    Ok(tempfile::tempdir_in(other)?)
}
