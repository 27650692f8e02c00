//! A file in the making. It has no name until it is complete, so that no crash leaves half a file, and
//! then takes its name, and the place of an older file of that name, in one step.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::linkat;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::fill_random;

/// A new file for `path`. Dropped without [`Draft::publish`], it never existed.
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
    /// The name it has meanwhile, where file systems know no files without names.
    temporary: Option<Temporary>,
}

impl Draft {
    /// Starts a file that will be called `path`; `expected` bytes must fit.
    pub(crate) fn new(path: &Path, expected: u64) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::new(ErrorKind::Input, "not the name of a file"));
        }
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let unnamed = options
            .clone()
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(directory(path));
        let refused = [Errno::EOPNOTSUPP, Errno::EISDIR, Errno::EINVAL].map(|e| Some(e as i32));
        let (file, temporary) = match unnamed {
            Ok(file) => (file, None),
            Err(e) if refused.contains(&e.raw_os_error()) => {
                let name = hidden_name(path)?;
                let file = options
                    .create_new(true)
                    .open(&name)
                    .map_err(cannot_create)?;
                (file, Some(Temporary(name)))
            }
            Err(e) => return Err(cannot_create(e)),
        };
        let draft = Self {
            file,
            path: path.to_owned(),
            temporary,
        };
        draft.check_room(expected)?;
        Ok(draft)
    }

    fn check_room(&self, expected: u64) -> Result<()> {
        let Ok(room) = fstatvfs(&self.file) else {
            return Ok(()); // then the first write that does not fit says so
        };
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        if free < expected {
            let what = format!("{expected} bytes are needed, {free} are free");
            return Err(Error::new(ErrorKind::NoSpace, what));
        }
        Ok(())
    }

    /// Where the bytes go.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, durably. What it contains must have been synced.
    pub(crate) fn publish(self) -> Result<()> {
        let fail = |e| Error::io("cannot give the new file its name", e);
        let temporary = match self.temporary {
            Some(temporary) => temporary,
            // No call replaces a name by a file that has none.
            None => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                let name = hidden_name(&self.path)?;
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                linkat(AT_FDCWD, own.as_str(), AT_FDCWD, &name, follow)
                    .map_err(|e| fail(e.into()))?;
                Temporary(name)
            }
        };
        std::fs::rename(&temporary.0, &self.path).map_err(fail)?;
        // Its name is gone, and another file may have it by the time this is dropped.
        std::mem::forget(temporary);
        File::open(directory(&self.path))
            .and_then(|dir| dir.sync_all())
            .map_err(|e| Error::io("cannot sync the folder", e))
    }
}

/// A name that is removed unless it is forgotten.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn cannot_create(e: std::io::Error) -> Error {
    Error::io("cannot create the file", e)
}

fn hidden_name(path: &Path) -> Result<PathBuf> {
    let mut random = [0; 8];
    fill_random(&mut random)?;
    let name = format!(".medley-{:016x}.part", u64::from_le_bytes(random));
    Ok(directory(path).join(name))
}

/// The folder a file lies in.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}
