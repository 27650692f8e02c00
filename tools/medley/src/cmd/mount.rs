//! `medley disk mount`: a disk as files.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use vdisk::image::{Mode, OpenedImage};
use vdisk::vhd::{DiskType, Footer};
use vdisk_frontends::fuse::{FuseMount, FuseOptions};

use crate::args::{DiskArgs, ModeArgs, mode_name};
use crate::exit::{Failure, Kind, Result};
use crate::filters::{FilterArgs, Filters};
use crate::output::{Fields, Report, Ui};
use crate::{background, signals, size};

/// Options of `mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
Read-only unless --revertible, --overlay or --keep is given. The directory then holds disk.raw (the
decrypted disk), disk.vhd (the same as a fixed VHD) and status.json. End it with
`medley disk unmount DIR`. Filters may be given more than once; a request walks them from the
first to the last, then comes to the disk. docs/serve/ has a page on each.

EXAMPLES
  medley disk mount office.vhd /mnt/office
  losetup --find --show --partscan --read-only /mnt/office/disk.raw
  medley disk unmount /mnt/office
  Let tools write and forget it all afterwards:
    medley disk mount office.vhd /mnt/office --revertible
  Go on with them another time:
    medley disk mount office.vhd /mnt/office --overlay office.overlay --quota 2G
  See how a program takes a disk that is full:
    medley disk mount office.vhd /mnt/office --revertible --fault write:after=1000,error=nospace")]
pub struct Mount {
    #[command(flatten)]
    disk: DiskArgs,
    /// An empty directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    mode: ModeArgs,
    #[command(flatten)]
    filters: FilterArgs,
    /// Stay in the foreground; Ctrl-C unmounts
    #[arg(long)]
    foreground: bool,
}

#[derive(Serialize, Deserialize)]
struct Mounted {
    mountpoint: PathBuf,
    raw: PathBuf,
    vhd: PathBuf,
    status: PathBuf,
    disk: PathBuf,
    size: u64,
    mode: String,
    encrypted: bool,
    filters: Vec<String>,
    pid: u32,
}

impl Report for Mounted {
    fn human(&self) -> String {
        let encrypted = if self.encrypted { ", encrypted" } else { "" };
        let mut fields = Fields::default();
        fields.row(
            "mounted",
            format!("{} ({}{encrypted})", self.disk.display(), self.mode),
        );
        fields.row(
            "disk",
            format!("{}, {}", self.raw.display(), size::human(self.size)),
        );
        fields.row("as VHD", self.vhd.display().to_string());
        if !self.filters.is_empty() {
            fields.row("filters", self.filters.join(" "));
        }
        fields.to_string()
    }
}

/// Runs it.
pub fn run(args: Mount, ui: Ui, detached: bool) -> Result<()> {
    let found = args.disk.find()?;
    args.mode.mode()?;
    args.filters.check(!args.foreground)?;
    if !args.foreground && !detached {
        let secrets = args.disk.secrets(&found)?;
        let mut child: Vec<std::ffi::OsString> = vec!["disk".into(), "mount".into()];
        child.extend(args.disk.to_args(secrets.is_some()));
        child.extend(args.mode.to_args());
        child.extend(args.filters.to_args());
        child.extend(["--".into(), args.disk.disk.into(), args.dir.into()]);
        ui.done(&background::start::<Mounted>(child, secrets.as_ref())?)?;
        return Ok(());
    }
    let keys = args.disk.unlock(ui, &found)?;
    let watch = signals::Watch::start()?;
    let lock = lock(&args.dir)?;
    let mode = args.mode.mode()?;
    let opened = args.disk.open(ui, mode.clone(), &keys)?;
    args.mode.session.limit(&opened);
    let mut options = FuseOptions::new(footer(&opened));
    options.read_only = mode == Mode::ReadOnly;
    let filters = args.filters.start(&args.disk.disk)?;
    let disk = filters.stack(opened.disk);
    let size = disk.size();
    let mount = FuseMount::mount(&args.dir, disk, options)?;
    let report = Mounted {
        mountpoint: mount.path().to_owned(),
        raw: mount.raw(),
        vhd: mount.vhd(),
        status: mount.path().join("status.json"),
        disk: args.disk.disk,
        size,
        mode: mode_name(&mode).into(),
        encrypted: keys.own.is_some(),
        filters: args.filters.words(),
        pid: std::process::id(),
    };
    drop(keys);
    background::ready(ui, detached, &report)?;
    let result = serve(&mount, &watch, &filters);
    let told = filters.finish();
    // Only now may whoever unmounts go on.
    drop((mount, lock));
    result.and(told)
}

/// Until somebody unmounts or a signal asks to.
fn serve(mount: &FuseMount, watch: &signals::Watch, filters: &Filters) -> Result<()> {
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let result = mount.wait();
            let _ = watch.ringer().write_all(&[0]);
            result
        });
        watch.wait();
        let unmounted = mount.unmount();
        if mount.is_mounted() {
            // The thread above would wait for as long as somebody keeps a file open. What was written
            // until now is flushed, or the error says so.
            let failure = unmounted.map_or_else(Failure::from, |_| {
                let what = "files are still open; what they write from now on is lost";
                Failure::new(Kind::Busy, what)
            });
            tracing::error!("{failure}");
            if let Err(failure) = filters.tell() {
                tracing::error!("{failure}");
            }
            std::process::exit(failure.kind().code().into());
        }
        let ended = ended.join().unwrap_or(Ok(()));
        unmounted.map(drop).and(ended).map_err(Failure::from)
    })
}

/// Marks the directory under the mount as served: the kernel keeps this lock for as long as the process
/// lives, so `unmount` knows when everything is flushed.
fn lock(dir: &Path) -> Result<Option<Flock<File>>> {
    // What is wrong with the directory, mounting tells better.
    let Ok(file) = File::open(dir) else {
        return Ok(None);
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(Failure::new(
            Kind::Busy,
            format!("{}: another mount is just ending here", dir.display()),
        )
        .remedy("try again in a moment")),
        // A file system without locks: unmount cannot wait, all else works.
        Err(_) => Ok(None),
    }
}

/// The footer of the disk as a fixed VHD: its own, where it has one.
fn footer(opened: &OpenedImage) -> [u8; 512] {
    let size = opened.disk.size();
    let new = Footer::new(DiskType::Fixed, size);
    let footer = match &opened.footer {
        Some(own) => Footer {
            disk_type: DiskType::Fixed,
            luks: None,
            ..own.clone()
        },
        None => new,
    };
    footer.to_bytes()
}
