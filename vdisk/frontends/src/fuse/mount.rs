//! Attaching a FUSE device to a directory, and detaching it, whatever state the directory is in.
//!
//! Root mounts by itself, everybody else through `fusermount3`. A mount outlives its process and then
//! only answers "not connected", so a watcher, a shell that waits for a pipe to close, unmounts when this
//! process is killed. (`fusermount3 -o auto_unmount` does that only for mounts that others may enter.)
//! What is left when the watcher is killed too is removed by the next mount. A mount is remembered by its
//! device number, so that nobody else's mount at the same place is ever touched.
#![allow(unsafe_code)] // One descriptor that another process sends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{AccessFlags, access, geteuid, getgid, getuid};

use crate::error::{Error, Result};

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
const INSTALL: &str = "install the package fuse3";

/// A mount of ours. Clones are handles on the same mount.
#[derive(Debug, Clone)]
pub struct Mount {
    path: PathBuf,
    /// Device number as the kernel prints it, `major:minor`; the minor names the FUSE connection.
    device: String,
    watcher: Arc<Mutex<Option<Child>>>,
}

/// A line of the kernel's table of mounts.
struct Entry {
    device: String,
    path: Vec<u8>,
    fs: String,
}

impl Mount {
    /// Mounts on `mountpoint`; the FUSE device is for the session.
    pub fn new(mountpoint: &Path, name: &str, read_only: bool) -> Result<(OwnedFd, Self)> {
        let path = prepare(mountpoint)?;
        // Opening says more than looking: the node may be there without the module.
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .map_err(no_device)?;
        // Commas part options; the name is only for people who look at the mount table.
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-/:".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .take(200)
            .collect();
        let device = match by_ourselves(&path, &name, read_only)? {
            Some(device) => device,
            None => with_helper(&path, &name, read_only)?,
        };
        let Some(entry) = entry_at(&path) else {
            let _ = detach(&path, true);
            let lost = io::Error::other("it is not in /proc/self/mountinfo");
            return Err(Error::io(path, "mount cannot be found again")(lost));
        };
        let watcher = watch(&path)
            .inspect_err(|error| {
                tracing::warn!(%error, "nobody will unmount if this process is killed");
            })
            .ok();
        let mount = Self {
            path,
            device: entry.device,
            watcher: Arc::new(Mutex::new(watcher)),
        };
        Ok((device, mount))
    }

    /// The mountpoint.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_there(&self) -> bool {
        entry_at(&self.path).is_some_and(|entry| entry.device == self.device)
    }

    /// Takes the mount off its directory. `false` if files are open and `force` is not set; with it, they
    /// are cut off where the user may do that.
    pub fn detach(&self, force: bool) -> Result<bool> {
        if !self.is_there() {
            return Ok(true);
        }
        if force {
            // What was written through a memory map may still be in the kernel.
            let _ = File::open(&self.path).map(nix::unistd::syncfs);
        }
        detach(&self.path, force)
    }

    /// Makes the kernel forget the connection: every request, now and later, fails. For users who are not
    /// root (root's [`Mount::detach`] has done it); it takes the control file system of FUSE. Whether it
    /// worked.
    pub fn abort(&self) -> bool {
        self.device.split_once(':').is_some_and(|(_, minor)| {
            fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1").is_ok()
        })
    }

    /// Removes the mount after its session, if it is still there; with `failed`, parts of the session may
    /// still be alive and are cut off. The watcher stays only if there is something left for it to do.
    pub fn abandon(&self, failed: bool) {
        if failed && self.is_there() {
            self.abort();
        }
        match self.detach(true) {
            Ok(_) => self.ended(),
            Err(error) => tracing::error!(%error, "a dead mount stays behind"),
        }
    }

    /// Sends the watcher away. It would unmount whatever is mounted at the place, if it were only told
    /// that we are done.
    pub fn ended(&self) {
        let watcher = self
            .watcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut watcher) = watcher {
            let _ = watcher.kill();
            let _ = watcher.wait();
        }
    }
}

/// Judges the mountpoint and removes a dead mount from it. Its absolute path without links.
fn prepare(mountpoint: &Path) -> Result<PathBuf> {
    let no = |reason| {
        let path = mountpoint.into();
        Err(Error::Mountpoint { path, reason })
    };
    let path = match fs::canonicalize(mountpoint) {
        Err(error) if dead(&error) => clean(mountpoint)?,
        result => result.map_err(|error| cannot_see(mountpoint, error))?,
    };
    // A dead mount looks alive until somebody asks it something.
    let meta = match fs::metadata(&path) {
        Err(error) if dead(&error) => {
            clean(&path)?;
            fs::metadata(&path)
        }
        result => result,
    };
    if !meta.map_err(|error| cannot_see(&path, error))?.is_dir() {
        return no("is not a directory");
    }
    if let Some(entry) = entry_at(&path) {
        return Err(Error::AlreadyMounted { path, fs: entry.fs });
    }
    let mut entries = fs::read_dir(&path).map_err(Error::io(&path, "cannot be listed"))?;
    if entries.next().is_some() {
        return no("is not empty; choose an empty directory");
    }
    if access(&path, AccessFlags::W_OK).is_err() {
        return no("is not writable by this user; choose a directory of yours");
    }
    Ok(path)
}

fn dead(error: &io::Error) -> bool {
    // A connection that was aborted while we look answers the second.
    matches!(error.raw_os_error(), Some(code) if code == Errno::ENOTCONN as i32 || code == Errno::ECONNABORTED as i32)
}

fn cannot_see(path: &Path, error: io::Error) -> Error {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => Error::Mountpoint {
            path,
            reason: "no such directory; create it first",
        },
        // Another user's FUSE mount does not even say what it is.
        io::ErrorKind::PermissionDenied => match entry_at(&path) {
            Some(entry) => Error::AlreadyMounted { path, fs: entry.fs },
            None => Error::Mountpoint {
                path,
                reason: "permission denied",
            },
        },
        _ => Error::io(path, "cannot be examined")(error),
    }
}

/// Removes the mount that a dead process left; the mountpoint's path without links.
fn clean(mountpoint: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(mountpoint)
        .map_err(Error::io(mountpoint, "cannot be made absolute"))?;
    let path = match (
        absolute.parent().map(fs::canonicalize),
        absolute.file_name(),
    ) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    };
    tracing::warn!(path = %path.display(), "removing the mount of a process that died");
    detach(&path, true)?;
    Ok(path)
}

/// `false` if the mount is in use and `force` is not set.
fn detach(path: &Path, force: bool) -> Result<bool> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH | MntFlags::MNT_FORCE, force);
    match nix::mount::umount2(path, flags) {
        Ok(()) => return Ok(true),
        Err(Errno::EBUSY) => return Ok(false),
        // Not mounted (any more).
        Err(Errno::EINVAL | Errno::ENOENT) => return Ok(true),
        // Only root may; everybody else asks the helper.
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(Error::io(path, "cannot be unmounted")(errno)),
    }
    let output = Command::new(HELPER)
        .arg(if force { "-uz" } else { "-u" })
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(no_helper)?;
    if output.status.success() {
        return Ok(true);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("busy") {
        return Ok(false);
    }
    if entry_at(path).is_none() {
        return Ok(true);
    }
    Err(Error::io(path, "cannot be unmounted")(io::Error::other(
        said.trim().to_owned(),
    )))
}

fn no_device(error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "ask for access to /dev/fuse (mode 0666 is usual)",
        _ => "load the kernel module (`modprobe fuse`) and install the package fuse3",
    };
    Error::NoFuse {
        reason: format!("{DEVICE}: {error}"),
        remedy,
    }
}

fn no_helper(error: io::Error) -> Error {
    Error::NoFuse {
        reason: format!("{HELPER}: {error}"),
        remedy: INSTALL,
    }
}

/// Starts the process that unmounts `path` when its standard input ends, which is when we do.
fn watch(path: &Path) -> io::Result<Child> {
    let unmount = if geteuid().is_root() {
        "umount -l"
    } else {
        "fusermount3 -u -z -q"
    };
    let script =
        format!("trap '' HUP INT TERM; while read -r line; do :; done; exec {unmount} -- \"$0\"");
    Command::new("sh")
        .args(["-c", &script])
        .arg(path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A terminal's signals are for us alone.
        .process_group(0)
        .spawn()
}

/// Mounts through `fusermount3`, which hands us the device over a socket.
fn with_helper(path: &Path, name: &str, read_only: bool) -> Result<OwnedFd> {
    let failed = |what| Error::io(path, what);
    let (ours, theirs) = UnixStream::pair().map_err(failed("cannot make a socket"))?;
    let access = if read_only { "ro" } else { "rw" };
    let options =
        format!("{access},nosuid,nodev,noatime,default_permissions,fsname={name},subtype=vdisk");
    // As standard input, the socket needs no care about inheritance.
    let mut process = Command::new(HELPER)
        .args(["-o", &options, "--"])
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .env("LC_ALL", "C")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_helper)?;
    let received = ours
        .set_read_timeout(Some(Duration::from_secs(20)))
        .and_then(|()| receive_device(&ours));
    drop(ours);
    // It has ended, or does now, and has said why if it failed; if it hangs, it is ended.
    let mut said = String::new();
    match (&received, process.stderr.take()) {
        (Err(error), Some(stderr)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let _ = stderr.take(4096).read_to_string(&mut said);
        }
        (Err(_), _) => drop(process.kill()),
        _ => {}
    }
    let _ = process.wait();
    received.map_err(|error| {
        let said = said.trim();
        let error = if said.is_empty() {
            error
        } else {
            io::Error::other(said.to_owned())
        };
        Error::io(path, "fusermount3 cannot mount")(error)
    })
}

fn receive_device(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(i32);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let [fd] = fds[..]
        {
            // SAFETY: the kernel has just opened this descriptor for us and nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Mounts without help. `None` if only somebody else may.
fn by_ourselves(path: &Path, name: &str, read_only: bool) -> Result<Option<OwnedFd>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let device = File::options()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(no_device)?;
    let mode = fs::metadata(path)
        .map_err(Error::io(path, "cannot be examined"))?
        .permissions()
        .mode();
    let options = format!(
        "fd={},rootmode={mode:o},user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        getuid(),
        getgid(),
    );
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    flags.set(MsFlags::MS_RDONLY, read_only);
    let options = Some(options.as_str());
    match nix::mount::mount(Some(name), path, Some("fuse.vdisk"), flags, options) {
        Ok(()) => Ok(Some(device.into())),
        // Root of a container, perhaps.
        Err(Errno::EPERM) => Ok(None),
        Err(errno) => Err(Error::io(path, "cannot be mounted on")(errno)),
    }
}

/// What is mounted on `path`, topmost first.
fn entry_at(path: &Path) -> Option<Entry> {
    let table = fs::read("/proc/self/mountinfo").ok()?;
    let mut lines = table.rsplit(|byte| *byte == b'\n').filter_map(entry);
    lines.find(|entry| entry.path == path.as_os_str().as_encoded_bytes())
}

/// Parses `id parent major:minor root path options … - type source options`.
fn entry(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|byte| *byte == b' ');
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let device = text(words.nth(2)?);
    let path = unescape(words.nth(1)?);
    words.find(|word| *word == b"-")?;
    let fs = text(words.next()?);
    Some(Entry { device, path, fs })
}

/// The kernel writes blanks, newlines and backslashes as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let octal = |digits: &[u8]| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        };
        match (byte, after.split_at_checked(3)) {
            (b'\\', Some((digits, after))) if octal(digits).is_some() => {
                out.extend(octal(digits));
                rest = after;
            }
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_table_lines() {
        let line = br"36 35 0:52 / /mnt/a\040b\134c rw,noatime shared:1 - fuse.vdisk some rw";
        let entry = entry(line).unwrap();
        assert_eq!(entry.device, "0:52");
        assert_eq!(entry.path, br"/mnt/a b\c");
        assert_eq!(entry.fs, "fuse.vdisk");
        assert!(super::entry(b"36 35 0:52 / /mnt rw").is_none());
        assert!(super::entry(b"").is_none());
        assert_eq!(unescape(br"a\0"), br"a\0");
        assert_eq!(unescape(br"\999"), br"\999");
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(entry_at(Path::new("/")).is_some());
        assert!(entry_at(Path::new("/no such place")).is_none());
    }
}
