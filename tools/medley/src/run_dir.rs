//! A folder for one machine's sockets that nobody else may enter, gone with the machine.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use tempfile::TempDir;

use crate::exit::{Failure, Result};

const PREFIX: &str = "medley-session-";
const LOCK: &str = "alive";
/// A folder that is younger may belong to a process that has not locked it yet.
const SETTLED: Duration = Duration::from_secs(60);

/// The folder, locked for as long as this process lives.
pub struct RunDir {
    dir: TempDir,
    _lock: Option<Flock<File>>,
}

impl RunDir {
    /// Makes one where sessions keep such things, and clears away those of processes that were killed.
    pub fn new() -> Result<Self> {
        let base = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|dir| dir.is_dir());
        Self::below(base.unwrap_or_else(std::env::temp_dir))
    }

    /// Makes one whose files lie in memory: for what a guest's pixels are shared by.
    pub fn in_memory() -> Result<Self> {
        Self::below(PathBuf::from("/dev/shm"))
    }

    fn below(base: PathBuf) -> Result<Self> {
        let base = std::path::absolute(&base).unwrap_or(base);
        sweep(&base, SETTLED);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(PermissionsExt::from_mode(0o700))
            .tempdir_in(&base)
            .map_err(Failure::io(format!(
                "{}: cannot make a folder for a session",
                base.display()
            )))?;
        let _lock = File::create_new(dir.path().join(LOCK)).ok().and_then(lock);
        Ok(Self { dir, _lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Takes the lock; `None` if a living process has it.
fn lock(file: File) -> Option<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// The lock file of a folder; `None` if there is none, and then the folder is not ours.
fn lock_file(dir: &Path) -> Option<File> {
    let file = File::options()
        .read(true)
        // Whatever lies there under this name: neither follow it nor wait for it.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(dir.join(LOCK))
        .ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// Removes folders of ours whose process has died.
fn sweep(base: &Path, settled: Duration) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes());
        // Of the entry itself: links are not followed.
        let Some(meta) = entry.metadata().ok().filter(|meta| ours && meta.is_dir()) else {
            continue;
        };
        let age = meta
            .modified()
            .ok()
            .and_then(|time| time.elapsed().ok())
            .unwrap_or_default();
        let own = meta.uid() == nix::unistd::getuid().as_raw() && meta.mode() & 0o777 == 0o700;
        let judged = own && age >= settled;
        let dead = judged
            .then(|| lock_file(&entry.path()).and_then(lock))
            .flatten();
        if dead.is_some() {
            tracing::info!(path = %entry.path().display(), "removing what a killed process left");
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_the_dead_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("sock"), "").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let session = |name: &str, mode| {
            let path = make(name, mode);
            let file = File::create_new(path.join(LOCK)).unwrap();
            (path, file)
        };
        let (dead, _) = session("medley-session-dead", 0o700);
        let (living, file) = session("medley-session-living", 0o700);
        let _lock = lock(file).unwrap();
        let (open, _) = session("medley-session-open-to-all", 0o755);
        let (notes, _) = session("medley-notes", 0o700);
        let foreign = make("medley-session-x", 0o700);
        let other = make("other", 0o700);
        sweep(base.path(), SETTLED);
        assert!(dead.exists(), "too young to be judged");
        sweep(base.path(), Duration::ZERO);
        assert!(!dead.exists());
        for kept in [living, open, notes, foreign, other] {
            assert!(kept.join("sock").exists(), "{}", kept.display());
        }
    }
}
