//! A store in a file, with the lock that keeps a second writer out.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek64};

use super::Store;
use crate::error::{Error, ErrorKind, Result};

/// How a file is shared with other processes of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Read only; any number of readers, no writer.
    ReadOnly,
    /// Read and write; alone.
    Exclusive,
}

/// A regular file (or a block device). The lock lasts as long as the store and goes with its process,
/// however that ends.
#[derive(Debug)]
pub struct FileStore {
    file: File,
    path: PathBuf,
}

impl FileStore {
    /// Opens an existing file and takes its lock, or says that someone else has it.
    pub fn open(path: &Path, sharing: Sharing) -> Result<Self> {
        let write = sharing == Sharing::Exclusive;
        Self::lock(Self::open_file(path, write)?, path, sharing)
    }

    fn open_file(path: &Path, write: bool) -> Result<File> {
        // Without O_NONBLOCK, opening a pipe waits for somebody at its other end.
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| {
                let error = Error::io("cannot open", e).at_path(path);
                if write {
                    error.remedy("check the name and that the file may be written")
                } else {
                    error
                }
            })?;
        let kind = file
            .metadata()
            .map_err(|e| Error::io("cannot look at", e).at_path(path))?
            .file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "neither a file nor a block device",
            )
            .at_path(path));
        }
        Ok(file)
    }

    /// Opens an existing file to look at it while somebody else may be writing it.
    pub fn open_unlocked(path: &Path) -> Result<Self> {
        let file = Self::open_file(path, false)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Opens a regular file that a stranger named, to look at it: `None` where something else has that
    /// name, which is not even opened, since that alone wakes devices. What is judged is what is then
    /// opened, whoever renames files meanwhile.
    pub(crate) fn open_regular(path: &Path) -> Result<Option<Self>> {
        let fail = |e| Error::io("cannot open", e).at_path(path);
        let place = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_PATH)
            .open(path)
            .map_err(fail)?;
        if !place.metadata().map_err(fail)?.is_file() {
            return Ok(None);
        }
        let file = File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map_err(fail)?;
        Ok(Some(Self {
            file,
            path: path.to_owned(),
        }))
    }

    /// Takes a reader's lock on a file that was opened without one.
    pub(crate) fn shared(self) -> Result<Self> {
        Self::lock(self.file, &self.path, Sharing::ReadOnly)
    }

    /// What the file is known by, whatever its names: device and inode.
    pub(crate) fn id(&self) -> Result<(u64, u64)> {
        self.file
            .metadata()
            .map(|m| (m.dev(), m.ino()))
            .map_err(|e| Error::io("cannot look at", e).at_path(&self.path))
    }

    /// Makes a new file, readable by its owner alone. It must not exist.
    pub fn create_new(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::io("cannot create", e).at_path(path))?;
        Self::lock(file, path, Sharing::Exclusive)
    }

    /// A file without a name in `dir`: it is gone when the store is, even if the host loses power.
    pub fn unnamed(dir: &Path) -> Result<Self> {
        if let Some(store) = Self::tmpfile(dir, &dir.join("(a file without a name)"))? {
            return Ok(store);
        }
        // Some file systems have no unnamed files: a name that lives for a moment does it too.
        let path = dir.join(format!(".medley-{}", uuid::Uuid::new_v4()));
        let store = Self::create_new(&path)?;
        std::fs::remove_file(&path)
            .map_err(|e| Error::io("cannot remove a temporary file", e).at_path(&path))?;
        Ok(store)
    }

    /// A file without a name that may get one later, or `None` where the file system has no such thing.
    /// Errors call it `path`.
    pub(super) fn tmpfile(dir: &Path, path: &Path) -> Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_TMPFILE);
        match options.open(dir) {
            Ok(file) => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(nix::libc::EOPNOTSUPP | nix::libc::EISDIR)
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(Error::io("cannot create a file in this folder", e).at_path(dir)),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Another handle on the same open file; the lock is shared with it.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self
            .file
            .try_clone()
            .map_err(|e| Error::io("cannot open again", e).at_path(&self.path))?;
        Ok(Self {
            file,
            path: self.path.clone(),
        })
    }

    /// When the file was last written, in seconds since 1970.
    pub fn modified(&self) -> Result<i64> {
        self.file
            .metadata()
            .map(|m| m.mtime())
            .map_err(|e| Error::io("cannot look at", e).at_path(&self.path))
    }

    fn lock(file: File, path: &Path, sharing: Sharing) -> Result<Self> {
        let locked = match sharing {
            Sharing::ReadOnly => file.try_lock_shared(),
            Sharing::Exclusive => file.try_lock(),
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(
                    Error::new(ErrorKind::Busy, "another process has this file open")
                        .at_path(path)
                        .remedy("close the other mount, server or machine first"),
                );
            }
            // A file system without locks still works; it just cannot protect.
            Err(TryLockError::Error(e)) => {
                tracing::warn!(path = %path.display(), "cannot lock: {e}");
            }
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn fail(&self, what: &'static str, offset: u64) -> impl Fn(std::io::Error) -> Error + '_ {
        move |e| Error::io(what, e).at_path(&self.path).at_offset(offset)
    }
}

impl Store for FileStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(self.fail("cannot read", offset))
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.file
            .write_all_at(buf, offset)
            .map_err(self.fail("cannot write", offset))
    }

    fn len(&self) -> Result<u64> {
        // Unlike metadata, seeking also tells the size of a block device. Nothing else uses the position.
        lseek64(&self.file, 0, Whence::SeekEnd)
            .map(|n| n as u64)
            .map_err(|e| Error::io("cannot find the length", e.into()).at_path(&self.path))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file
            .set_len(len)
            .map_err(self.fail("cannot change the length", len))
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let end = self.len()?.min(offset.saturating_add(len));
        if offset >= end {
            return Ok(());
        }
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, mode, offset as i64, (end - offset) as i64) {
            Ok(()) => Ok(()),
            // Devices with large sectors refuse small holes with EINVAL.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                let zeros = vec![0; (end - offset).min(1 << 20) as usize];
                let mut at = offset;
                while at < end {
                    let n = (end - at).min(zeros.len() as u64);
                    self.write_at(at, &zeros[..n as usize])?;
                    at += n;
                }
                Ok(())
            }
            Err(e) => Err(self.fail("cannot give space back", offset)(e.into())),
        }
    }

    fn allocated(&self, offset: u64, len: u64) -> Result<(bool, u64)> {
        let seek = |whence| lseek64(&self.file, offset as i64, whence).map(|n| n as u64);
        Ok(match seek(Whence::SeekData) {
            Ok(data) if data > offset => (false, len.min(data - offset)),
            Ok(_) => match seek(Whence::SeekHole) {
                Ok(hole) if hole > offset => (true, len.min(hole - offset)),
                _ => (true, len),
            },
            // No data up to the end of the file, if there is anything at all.
            Err(Errno::ENXIO) => match self.len()? {
                end if end > offset => (false, len.min(end - offset)),
                _ => (true, len),
            },
            Err(_) => (true, len),
        })
    }

    fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|e| Error::io("cannot sync", e).at_path(&self.path))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}
