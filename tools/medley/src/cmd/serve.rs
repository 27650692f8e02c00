//! `medley disk serve`: a disk over NBD, or over vhost-user-blk for virtual machines.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde::{Deserialize, Serialize};
use vdisk::Disk;
use vdisk::image::Mode;
use vdisk_frontends::nbd::{NbdOptions, NbdServer};
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};

use crate::args::{DiskArgs, ModeArgs, mode_name};
use crate::exit::{Failure, Result};
use crate::filters::FilterArgs;
use crate::output::{Report, Ui};
use crate::{background, signals};

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("socket").required(true).args(["nbd", "vhost_user"])))]
#[command(after_help = "\
Read-only unless --revertible, --overlay or --keep is given. Runs until Ctrl-C or SIGTERM, then flushes the
disk, removes the socket and exits with 0. Filters may be given more than once; a request walks
them from the first to the last, then comes to the disk. docs/serve/ has a page on each.

EXAMPLES
  medley disk serve office.vhd --nbd /run/user/1000/office.sock
  nbdinfo 'nbd+unix:///?socket=/run/user/1000/office.sock'
  qemu-img convert 'nbd+unix:///?socket=/run/user/1000/office.sock' office.qcow2
  For QEMU, whose guest's requests are then served straight out of its memory:
    medley disk serve office.vhd --vhost-user office.sock --revertible --daemon
    qemu-system-x86_64 -object memory-backend-memfd,id=mem,size=1G,share=on -m 1G \\
      -machine memory-backend=mem -chardev socket,id=disk,path=office.sock,reconnect-ms=500 \\
      -device vhost-user-blk-pci,chardev=disk,num-queues=2
  A disk that is slow, that fails one write in a hundred, and that tells how it was used:
    medley disk serve office.vhd --nbd office.sock --revertible --stats=stats.json \\
      --delay read=2ms,jitter=1ms --fault write:every=100,error=io")]
pub struct Serve {
    #[command(flatten)]
    disk: DiskArgs,
    /// Serve NBD on this Unix socket; others than this user cannot connect
    #[arg(long, value_name = "SOCKET")]
    nbd: Option<PathBuf>,
    /// Serve vhost-user-blk on this Unix socket, to one virtual machine at a time
    #[arg(long, value_name = "SOCKET")]
    vhost_user: Option<PathBuf>,
    /// Name of the NBD export; clients may also ask for the nameless default
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        conflicts_with = "vhost_user"
    )]
    export: String,
    #[command(flatten)]
    mode: ModeArgs,
    #[command(flatten)]
    filters: FilterArgs,
    /// Go to the background once clients can connect
    #[arg(long)]
    daemon: bool,
}

#[derive(Serialize, Deserialize)]
struct Served {
    /// Of NBD; vhost-user has none.
    uri: Option<String>,
    socket: PathBuf,
    disk: PathBuf,
    size: u64,
    mode: String,
    encrypted: bool,
    filters: Vec<String>,
    pid: u32,
}

impl Report for Served {
    fn human(&self) -> String {
        let encrypted = if self.encrypted { ", encrypted" } else { "" };
        let filters: String = self
            .filters
            .iter()
            .map(|filter| format!(" {filter}"))
            .collect();
        let at = match &self.uri {
            Some(uri) => uri.clone(),
            None => format!("{} (vhost-user-blk)", self.socket.display()),
        };
        let disk = self.disk.display();
        format!(
            "serving {disk} ({}{encrypted}) at {at}{filters}\n",
            self.mode
        )
    }
}

/// Runs it.
pub fn run(args: Serve, ui: Ui, detached: bool) -> Result<()> {
    let found = args.disk.find()?;
    args.mode.mode()?;
    args.filters.check(args.daemon)?;
    if args.daemon && !detached {
        let secrets = args.disk.secrets(&found)?;
        let mut child: Vec<std::ffi::OsString> =
            vec!["disk".into(), "serve".into(), "--daemon".into()];
        child.extend(args.disk.to_args(secrets.is_some()));
        child.extend(args.mode.to_args());
        child.extend(args.filters.to_args());
        for (name, socket) in [("--nbd", args.nbd), ("--vhost-user", args.vhost_user)] {
            if let Some(socket) = socket {
                child.extend([name.into(), socket.into()]);
            }
        }
        if !args.export.is_empty() {
            child.extend(["--export".into(), args.export.into()]);
        }
        child.extend(["--".into(), args.disk.disk.into()]);
        ui.done(&background::start::<Served>(child, secrets.as_ref())?)?;
        return Ok(());
    }
    let keys = args.disk.unlock(ui, &found)?;
    let watch = signals::Watch::start()?;
    let mode = args.mode.mode()?;
    let opened = args.disk.open(ui, mode.clone(), &keys)?;
    args.mode.session.limit(&opened);
    let filters = args.filters.start(&args.disk.disk)?;
    let disk = filters.stack(opened.disk);
    let size = disk.size();
    let server = Server::bind(&args, disk, mode == Mode::ReadOnly)?;
    let report = Served {
        uri: server.uri(),
        socket: server.path().to_owned(),
        disk: args.disk.disk.clone(),
        size,
        mode: mode_name(&mode).into(),
        encrypted: keys.own.is_some(),
        filters: args.filters.words(),
        pid: std::process::id(),
    };
    drop(keys);
    background::ready(ui, detached, &report)?;
    watch.wait();
    let flushed = server.shutdown();
    // The last flush counts, too. Of two errors the worse one is told: bytes may be lost.
    let told = filters.finish();
    flushed.and(told)
}

/// A server of either kind.
enum Server {
    Nbd(NbdServer),
    VhostUser(VhostUserServer),
}

impl Server {
    fn bind(args: &Serve, disk: Disk, read_only: bool) -> Result<Self> {
        match (&args.vhost_user, &args.nbd) {
            (Some(socket), _) => {
                let options = VhostUserOptions {
                    read_only,
                    ..VhostUserOptions::default()
                };
                Ok(Self::VhostUser(VhostUserServer::bind(
                    socket, disk, options,
                )?))
            }
            (None, Some(socket)) => {
                let options = NbdOptions {
                    export_name: args.export.clone(),
                    read_only,
                    ..NbdOptions::default()
                };
                Ok(Self::Nbd(NbdServer::bind(socket, disk, options)?))
            }
            (None, None) => Err(Failure::usage("neither --nbd nor --vhost-user")),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Nbd(server) => server.path(),
            Self::VhostUser(server) => server.path(),
        }
    }

    fn uri(&self) -> Option<String> {
        match self {
            Self::Nbd(server) => Some(server.uri()),
            Self::VhostUser(_) => None,
        }
    }

    fn shutdown(self) -> Result<()> {
        match self {
            Self::Nbd(server) => server.shutdown()?,
            Self::VhostUser(server) => server.shutdown()?,
        }
        Ok(())
    }
}
