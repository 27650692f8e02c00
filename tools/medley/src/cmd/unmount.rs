//! `medley disk unmount`: ends a mount and waits until everything is on the disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use serde::Serialize;

use crate::exit::{Failure, Kind, Result};
use crate::output::{Report, Ui};
use crate::progress;

/// How long the other process may take to flush.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `unmount`.
#[derive(Debug, Args)]
#[command(after_help = "\
Returns when what was written is flushed and the disk's file is free.

EXAMPLES
  medley disk unmount /mnt/office
  medley disk unmount /mnt/office --force")]
pub struct Unmount {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Even if files are open there: whoever has them open gets errors from now on. Nothing mounted is no failure
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Gone {
    mountpoint: PathBuf,
}

impl Report for Gone {
    fn human(&self) -> String {
        format!("unmounted  {}\n", self.mountpoint.display())
    }
}

/// Runs it.
pub fn run(args: Unmount, ui: Ui) -> Result<()> {
    let dir = resolve(&args.dir)?;
    let Some(fs) = file_system(&dir)? else {
        // Whoever insists has what they want, be it that the mount went just before.
        if args.force && dir.is_dir() {
            return ui.done(&Gone { mountpoint: dir });
        }
        return Err(Failure::failed(format!(
            "{}: nothing is mounted here",
            dir.display()
        )));
    };
    if fs != "fuse.vdisk" {
        let what = format!(
            "{}: what is mounted here is {fs}, not a disk of ours",
            dir.display()
        );
        return Err(Failure::usage(what).remedy("use `umount`"));
    }
    let begin = Instant::now();
    // Often it is only somebody who looks at every new mount.
    while !detach(&dir, args.force)? {
        if begin.elapsed() > Duration::from_secs(1) {
            return Err(Failure::new(
                Kind::Busy,
                format!("{}: files are open there", dir.display()),
            )
            .remedy("close them (`fuser -vm DIR` lists who has them) or use --force"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    progress::busy(ui, "flushing", || wait(&dir))?;
    ui.done(&Gone { mountpoint: dir })?;
    Ok(())
}

/// The absolute path without links, also of a mount whose process has died.
fn resolve(dir: &Path) -> Result<PathBuf> {
    let fail = |error| Failure::io::<std::io::Error>(dir.display())(error);
    let absolute = std::path::absolute(dir).map_err(fail)?;
    match (
        absolute.parent().map(fs::canonicalize),
        absolute.file_name(),
    ) {
        (Some(Ok(parent)), Some(name)) => {
            let path = parent.join(name);
            match fs::read_link(&path) {
                Ok(_) => path.canonicalize().map_err(fail),
                Err(_) => Ok(path),
            }
        }
        _ => absolute.canonicalize().map_err(fail),
    }
}

/// The kind of file system that is mounted on `dir`, the topmost one.
fn file_system(dir: &Path) -> Result<Option<String>> {
    let table = fs::read("/proc/self/mountinfo")
        .map_err(Failure::io("cannot read /proc/self/mountinfo"))?;
    let wanted = escape(dir.as_os_str().as_encoded_bytes());
    let kind = |line: &[u8]| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let dash = words.iter().position(|word| *word == b"-")?;
        (*words.get(4)? == wanted.as_slice()).then(|| {
            words
                .get(dash + 1)
                .map(|fs| String::from_utf8_lossy(fs).into_owned())
        })?
    };
    Ok(table.rsplit(|byte| *byte == b'\n').find_map(kind))
}

/// As the kernel writes paths in its table of mounts.
fn escape(path: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        _ => vec![*byte],
    };
    path.iter().flat_map(escape).collect()
}

/// Takes the mount away; `false` if files are open. A mount that somebody else takes away meanwhile is away.
fn detach(dir: &Path, lazy: bool) -> Result<bool> {
    match try_detach(dir, lazy) {
        Err(_) if file_system(dir)?.is_none() => Ok(true),
        result => result,
    }
}

fn try_detach(dir: &Path, lazy: bool) -> Result<bool> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazy);
    match umount2(dir, flags) {
        Ok(()) => return Ok(true),
        Err(Errno::EBUSY) => return Ok(false),
        // Only root may; everybody else asks the helper.
        Err(Errno::EPERM) => {}
        Err(error) => {
            return Err(Failure::io(format!("{}: cannot unmount", dir.display()))(
                error,
            ));
        }
    }
    let output = Command::new("fusermount3")
        .arg(if lazy { "-uz" } else { "-u" })
        .arg("--")
        .arg(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::new(Kind::Missing, format!("fusermount3: {error}"))
                .remedy("install the package fuse3")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(true),
        false if said.contains("busy") => Ok(false),
        false => Err(Failure::failed(format!(
            "{}: cannot unmount: {}",
            dir.display(),
            said.trim()
        ))),
    }
}

/// Waits until the process that served the mount has flushed and let go of the directory.
fn wait(dir: &Path) -> Result<()> {
    let Ok(mut file) = File::open(dir) else {
        return Ok(());
    };
    let begin = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((back, Errno::EWOULDBLOCK)) if begin.elapsed() < PATIENCE => file = back,
            Err((_, Errno::EWOULDBLOCK)) => {
                let what = format!(
                    "{}: unmounted, but the process that served it does not end",
                    dir.display()
                );
                return Err(Failure::new(Kind::Busy, what).remedy(
                    "what was written may not be on the disk yet; do not switch the machine off",
                ));
            }
            _ => return Ok(()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_gone_already_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        assert!(try_detach(dir.path(), true).is_err());
        assert!(detach(dir.path(), true).unwrap() && detach(dir.path(), false).unwrap());
    }

    #[test]
    fn paths_are_found_as_the_kernel_writes_them() {
        assert_eq!(escape(b"/a b\\c"), br"/a\040b\134c");
        assert!(file_system(Path::new("/proc")).unwrap().is_some());
        assert!(file_system(Path::new("/no such place")).unwrap().is_none());
    }
}
