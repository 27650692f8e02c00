//! `medley disk serve`: a disk over NBD.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use vdisk::image::Mode;
use vdisk_frontends::nbd::{NbdOptions, NbdServer};

use crate::args::{DiskArgs, ModeArgs, mode_name};
use crate::exit::{Failure, Result};
use crate::filters::FilterArgs;
use crate::output::{Report, Ui};
use crate::{background, signals};

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Read-only unless --revertible or --keep is given. Runs until Ctrl-C or SIGTERM, then flushes the
disk, removes the socket and exits with 0. Filters may be given more than once; a request walks
them from the first to the last, then comes to the disk. docs/serve/ has a page on each.

EXAMPLES
  medley disk serve office.vhd --nbd /run/user/1000/office.sock
  nbdinfo 'nbd+unix:///?socket=/run/user/1000/office.sock'
  qemu-img convert 'nbd+unix:///?socket=/run/user/1000/office.sock' office.qcow2
  A disk that is slow, that fails one write in a hundred, and that tells how it was used:
    medley disk serve office.vhd --nbd office.sock --revertible --stats=stats.json \\
      --delay read=2ms,jitter=1ms --fault write:every=100,error=io")]
pub struct Serve {
    #[command(flatten)]
    disk: DiskArgs,
    /// The Unix socket to serve on; others than this user cannot connect
    #[arg(long, value_name = "SOCKET")]
    nbd: PathBuf,
    /// Name of the export; clients may also ask for the nameless default
    #[arg(long, value_name = "NAME", default_value = "")]
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
    uri: String,
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
        format!(
            "serving {} ({}{encrypted}) at {}{filters}\n",
            self.disk.display(),
            self.mode,
            self.uri
        )
    }
}

/// Runs it.
pub fn run(args: Serve, ui: Ui, detached: bool) -> Result<()> {
    let found = args.disk.find()?;
    args.filters.check(args.daemon)?;
    if args.daemon && !detached {
        let secrets = args.disk.secrets(&found)?;
        let mut child: Vec<std::ffi::OsString> =
            vec!["disk".into(), "serve".into(), "--daemon".into()];
        child.extend(args.disk.to_args(secrets.is_some()));
        child.extend(args.mode.to_args());
        child.extend(args.filters.to_args());
        child.extend([
            "--nbd".into(),
            args.nbd.into(),
            "--export".into(),
            args.export.into(),
        ]);
        child.extend(["--".into(), args.disk.disk.into()]);
        ui.done(&background::start::<Served>(child, secrets.as_ref())?)?;
        return Ok(());
    }
    let keys = args.disk.unlock(ui, &found)?;
    let watch = signals::Watch::start()?;
    let mode = args.mode.mode();
    let opened = args.disk.open(ui, mode.clone(), &keys)?;
    let options = NbdOptions {
        export_name: args.export,
        read_only: mode == Mode::ReadOnly,
        ..NbdOptions::default()
    };
    let filters = args.filters.start(&args.disk.disk)?;
    let disk = filters.stack(opened.disk);
    let size = disk.size();
    let server = NbdServer::bind(&args.nbd, disk, options)?;
    let report = Served {
        uri: server.uri(),
        socket: server.path().to_owned(),
        disk: args.disk.disk,
        size,
        mode: mode_name(&mode).into(),
        encrypted: keys.own.is_some(),
        filters: args.filters.words(),
        pid: std::process::id(),
    };
    drop(keys);
    background::ready(ui, detached, &report)?;
    watch.wait();
    let flushed = server.shutdown().map_err(Failure::from);
    // The last flush counts, too. Of two errors the worse one is told: bytes may be lost.
    let told = filters.finish();
    flushed.and(told)
}
