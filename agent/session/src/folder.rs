//! Where a session lives between two runs.

use crate::{Error, ErrorKind, Result};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOCK: &str = "session.lock";

/// A session's folder, locked: nobody else runs it meanwhile.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: Flock<File>,
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    /// Nothing: the next start boots the disk as it is.
    Fresh,
    /// A process runs the session.
    Running {
        /// Which.
        pid: u32,
    },
    /// A saved state, to be gone on with.
    Asleep,
    /// What was written, and no saved state.
    Written,
}

impl Folder {
    /// Makes the folder, if need be, and locks it.
    pub fn open(path: &Path) -> Result<Self> {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
        made.map_err(Error::file("cannot make the session's folder", path))?;
        let path = path
            .canonicalize()
            .map_err(Error::file("cannot find the session's folder", path))?;
        let lock = path.join(LOCK);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&lock)
            .map_err(Error::file("cannot open the session's lock", &lock))?;
        let mut lock = match patiently(file) {
            Ok(lock) => lock,
            Err(file) => {
                let by = owner(&file).map_or(String::new(), |pid| format!(" (process {pid})"));
                let what = format!("{}: the session runs already{by}", path.display());
                return Err(Error::new(ErrorKind::Busy, what)
                    .remedy("end or suspend it first, or use another folder"));
            }
        };
        let written = lock
            .set_len(0)
            .and_then(|()| writeln!(&mut *lock, "{}", std::process::id()));
        written.map_err(Error::file("cannot write the session's lock", &path))?;
        Ok(Self { path, lock })
    }

    /// Removes what was never finished and has no name that anybody looks for.
    pub(crate) fn sweep(&self) -> Result<()> {
        let failed = || Error::file("cannot look into the session's folder", &self.path);
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".medley-") && name.ends_with(".part") {
                remove(&self.path.join(&*name))?;
            }
        }
        Ok(())
    }

    /// Looks at a folder without locking it.
    pub fn status(path: &Path) -> Result<Status> {
        let lock = path.join(LOCK);
        let running = match File::open(&lock) {
            Ok(file) => match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(_) => None,
                Err((file, _)) => Some(owner(&file).unwrap_or(0)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Error::file("cannot look at the session's lock", &lock)(
                    error,
                ));
            }
        };
        let there = |name: &str| path.join(name).symlink_metadata().is_ok();
        Ok(match running {
            Some(pid) => Status::Running { pid },
            None if there(STATE) && OVERLAYS.iter().any(|name| sleeps(&path.join(name))) => {
                Status::Asleep
            }
            None if there(OVERLAYS[0]) => Status::Written,
            None => Status::Fresh,
        })
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the session wrote. What is to be forgotten has a name of its own, so that nothing else is.
    pub fn overlay(&self, revertible: bool) -> PathBuf {
        self.path.join(OVERLAYS[usize::from(revertible)])
    }

    /// What was in its memory when it fell asleep.
    pub fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// What a boot wrote.
    pub fn booted_overlay(&self) -> PathBuf {
        self.path.join("booted.overlay")
    }

    /// What was in memory after that boot.
    pub fn booted_state(&self) -> PathBuf {
        self.path.join("booted.state")
    }
}

const OVERLAYS: [&str; 2] = ["overlay", "overlay.revertible"];
const STATE: &str = "state";

fn sleeps(overlay: &Path) -> bool {
    let found = vdisk::overlay::inspect(overlay);
    found.is_ok_and(|found| matches!(found.state, vdisk::overlay::State::Suspended(_)))
}

/// Who wrote into a lock's file.
fn owner(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Takes the lock, though somebody may be looking at it just now.
fn patiently(mut file: File) -> Result<Flock<File>, File> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, _)) if Instant::now() > deadline => return Err(back),
            Err((back, _)) => file = back,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // So that nobody takes our number for somebody's who runs it.
        drop(self.lock.set_len(0));
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("cannot remove it", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_for_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(Folder::status(&path).unwrap(), Status::Fresh);
        let folder = Folder::open(&path).unwrap();
        let pid = std::process::id();
        assert_eq!(Folder::status(&path).unwrap(), Status::Running { pid });
        let error = Folder::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains(&pid.to_string()), "{error}");
        drop(folder);
        assert_eq!(Folder::status(&path).unwrap(), Status::Fresh);
        let folder = Folder::open(&path).unwrap();
        fs::write(folder.overlay(false), "x").unwrap();
        drop(folder);
        assert_eq!(Folder::status(&path).unwrap(), Status::Written);
        // A state alone, or beside an overlay that went on, is none.
        fs::write(path.join(STATE), "x").unwrap();
        assert_eq!(Folder::status(&path).unwrap(), Status::Written);
    }
}
