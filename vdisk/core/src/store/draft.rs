//! A file in the making: it gets its name only when it is complete, so that no crash or signal leaves
//! half a file behind under any name. (On the few file systems that know no files without names, a
//! SIGKILL leaves a hidden `.part` file.)

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2};
use nix::unistd::linkat;

use super::{FileStore, Store};
use crate::error::{Error, ErrorKind, Result};

/// A new file for `path`. Dropped without [`Draft::publish`], it never existed.
pub struct Draft {
    store: FileStore,
    path: PathBuf,
    /// The name it has meanwhile, on file systems that know no files without names.
    temporary: Option<PathBuf>,
}

impl Draft {
    /// Starts a file that will be called `path`, which must not exist.
    pub fn new(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(
                Error::new(ErrorKind::InvalidRequest, "the file exists already")
                    .at_path(path)
                    .remedy("choose another name or remove it"),
            );
        }
        match FileStore::tmpfile(directory(path), path)? {
            Some(store) => Ok(Self {
                store,
                path: path.to_owned(),
                temporary: None,
            }),
            None => Self::hidden(path),
        }
    }

    /// Starts a file that has a hidden name meanwhile.
    fn hidden(path: &Path) -> Result<Self> {
        let name = directory(path).join(format!(".medley-{}.part", uuid::Uuid::new_v4()));
        Ok(Self {
            store: FileStore::create_new(&name)?,
            path: path.to_owned(),
            temporary: Some(name),
        })
    }

    /// Where the bytes go meanwhile; another handle on the same file.
    pub fn store(&self) -> Result<FileStore> {
        self.store.try_clone()
    }

    /// Makes what was written durable and gives it its name. Never replaces a file.
    pub fn publish(mut self) -> Result<()> {
        self.store.sync()?;
        let fail = |e: std::io::Error| {
            Error::io("cannot give the new file its name", e).at_path(&self.path)
        };
        match &self.temporary {
            None => {
                let own = format!("/proc/self/fd/{}", self.store.file().as_raw_fd());
                linkat(
                    AT_FDCWD,
                    own.as_str(),
                    AT_FDCWD,
                    &self.path,
                    AtFlags::AT_SYMLINK_FOLLOW,
                )
                .map_err(|e| fail(e.into()))?;
            }
            Some(name) => {
                let flags = RenameFlags::RENAME_NOREPLACE;
                match renameat2(AT_FDCWD, name, AT_FDCWD, &self.path, flags) {
                    // Where the system cannot promise it, we looked at the start that the name is free.
                    Err(Errno::EINVAL | Errno::ENOSYS) => {
                        std::fs::rename(name, &self.path).map_err(fail)?;
                    }
                    renamed => renamed.map_err(|e| fail(e.into()))?,
                }
            }
        }
        self.temporary = None;
        sync_directory(directory(&self.path))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            let _ = std::fs::remove_file(name);
        }
    }
}

/// The folder a file lies in.
pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// Makes names in a folder durable.
pub(crate) fn sync_directory(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io("cannot sync the folder", e).at_path(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Start = fn(&Path) -> Result<Draft>;
    /// Both ways, whichever this file system takes by itself.
    const WAYS: [Start; 2] = [Draft::new, Draft::hidden];

    fn names(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_draft_has_its_name_only_when_it_is_published() {
        for start in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("disk");
            let draft = start(&path).unwrap();
            draft.store().unwrap().write_at(3, b"bytes").unwrap();
            assert!(!path.exists());
            draft.publish().unwrap();
            assert_eq!(names(dir.path()), ["disk"]);
            assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0bytes");
            let error = Draft::new(&path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        }
    }

    #[test]
    fn a_draft_given_up_never_was() {
        for start in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let draft = start(&dir.path().join("disk")).unwrap();
            draft.store().unwrap().write_at(0, b"bytes").unwrap();
            drop(draft);
            assert_eq!(names(dir.path()), [""; 0]);
        }
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_left_alone() {
        for start in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("disk");
            let draft = start(&path).unwrap();
            std::fs::write(&path, "somebody's").unwrap();
            let error = draft.publish().unwrap_err().to_string();
            assert!(error.contains("its name"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
            assert_eq!(names(dir.path()), ["disk"]);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        for start in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let error = start(&dir.path().join("none/disk")).err().unwrap();
            assert!(error.to_string().contains("none"), "{error}");
        }
        assert_eq!(directory(Path::new("disk")), Path::new("."));
    }
}
