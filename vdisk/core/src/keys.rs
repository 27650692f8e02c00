//! Key files: the detached LUKS2 header that lies beside a disk and opens it.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use vdisk_luks::{self as luks, CreateParams, Header, Kdf, Step, VolumeKey};

use crate::error::{Error, ErrorKind, Result};
use crate::image::DiskKey;
use crate::store::{Draft, FileStore, Sharing, Store};

/// The longest header file that is read: LUKS2 allows two copies of 4 MiB and 128 MiB of key slots.
const MAX_LEN: u64 = 136 << 20;

/// Where a disk's header lies unless it is named: `disk.vhd` has `disk.vhd.luks`.
pub fn beside(disk: &Path) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(".luks");
    name.into()
}

/// A LUKS2 header in its file.
pub struct KeyFile {
    path: PathBuf,
    header: Header,
}

impl KeyFile {
    /// Makes a new key and a header file for it, which `passphrase` opens. The file must not exist.
    pub fn create(
        path: &Path,
        label: &str,
        passphrase: &[u8],
        kdf: Kdf,
    ) -> Result<(Self, DiskKey)> {
        let (draft, key) = Self::draft(path, label, passphrase, kdf)?;
        Ok((draft.publish()?, key))
    }

    /// Like [`KeyFile::create`], but the file gets its name only with [`KeyDraft::publish`]: for a header
    /// that shall not be there before its disk is.
    pub fn draft(
        path: &Path,
        label: &str,
        passphrase: &[u8],
        kdf: Kdf,
    ) -> Result<(KeyDraft, DiskKey)> {
        let fail = |e| wrap(e, path);
        let key = VolumeKey::random().map_err(fail)?;
        let params = CreateParams {
            label: label.into(),
            kdf,
            ..CreateParams::default()
        };
        let header = Header::create(&params, &key, passphrase).map_err(fail)?;
        let draft = Draft::new(path)?;
        carry_out(&header.update_plan(), &draft.store()?)?;
        let file = Self {
            path: path.to_owned(),
            header,
        };
        let key = file.disk_key(&key)?;
        Ok((KeyDraft { draft, file }, key))
    }

    /// Reads a header file.
    pub fn open(path: &Path) -> Result<Self> {
        let store = FileStore::open(path, Sharing::ReadOnly).map_err(|e| {
            e.remedy("is there a header beside the disk, or did you mean another with --header?")
        })?;
        Self::read(path, &store)
    }

    fn read(path: &Path, store: &FileStore) -> Result<Self> {
        let len = store.len()?;
        if len > MAX_LEN {
            return Err(
                Error::corrupt(format!("{len} bytes are too many for a LUKS header")).at_path(path),
            );
        }
        let mut bytes = vec![0; len as usize];
        store.read_at(0, &mut bytes)?;
        let header = Header::parse(&bytes).map_err(|e| wrap(e, path))?;
        Ok(Self {
            path: path.to_owned(),
            header,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk's key, with a passphrase of any slot.
    pub fn unlock(&self, passphrase: &[u8]) -> Result<DiskKey> {
        self.header
            .check_disk_layout()
            .map_err(|e| wrap(e, &self.path))?;
        self.disk_key(&self.volume_key(passphrase)?)
    }

    /// The disk's key as the header's own functions want it.
    pub fn volume_key(&self, passphrase: &[u8]) -> Result<VolumeKey> {
        self.header
            .unlock(passphrase)
            .map_err(|e| wrap(e, &self.path))
    }

    fn disk_key(&self, key: &VolumeKey) -> Result<DiskKey> {
        let fail = |e| wrap(e, &self.path);
        let header = Uuid::parse_str(self.header.uuid()).map_err(|e| {
            Error::corrupt(format!(
                "the LUKS header's UUID `{}` is none",
                self.header.uuid()
            ))
            .at_path(&self.path)
            .because(e)
        })?;
        Ok(DiskKey {
            key: key.to_xts().map_err(fail)?,
            header,
        })
    }

    /// Changes the header in `path`, so that a crash at any moment leaves one that opens. The file is
    /// locked and read again first: somebody else may have changed it.
    pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Header) -> luks::Result<T>) -> Result<T> {
        let store = FileStore::open(path, Sharing::Exclusive)?;
        let mut file = Self::read(path, &store)?;
        let result = change(&mut file.header).map_err(|e| wrap(e, path))?;
        carry_out(&file.header.update_plan(), &store)?;
        Ok(result)
    }
}

/// A header file without a name yet. Dropped, it never existed.
pub struct KeyDraft {
    draft: Draft,
    file: KeyFile,
}

impl KeyDraft {
    /// The header.
    pub fn header(&self) -> &Header {
        self.file.header()
    }

    /// Makes the file durable and gives it its name. Never replaces a file.
    pub fn publish(mut self) -> Result<KeyFile> {
        self.draft.publish()?;
        self.file.header.persisted();
        Ok(self.file)
    }
}

fn carry_out(plan: &[Step], store: &FileStore) -> Result<()> {
    for step in plan {
        match step {
            Step::Write { offset, bytes } => store.write_at(*offset, bytes)?,
            Step::Sync => store.sync()?,
        }
    }
    Ok(())
}

fn wrap(error: luks::Error, path: &Path) -> Error {
    use luks::ErrorKind as L;
    let kind = match error.kind() {
        L::WrongPassphrase | L::KeyMismatch | L::LastKey | L::NotFound => ErrorKind::Key,
        L::Unsupported | L::WrongVersion | L::TooCostly => ErrorKind::Unsupported,
        L::Input => ErrorKind::InvalidRequest,
        L::NoSpace => ErrorKind::NoSpace,
        L::System => ErrorKind::Io,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, error.to_string()).at_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KDF: Kdf = Kdf::Argon2id {
        time: 1,
        memory_kib: 64,
        lanes: 1,
    };

    #[test]
    fn a_key_file_opens_again_and_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.vhd.luks");
        let (_, key) = KeyFile::create(&path, "test", b"first", KDF).unwrap();
        let again = KeyFile::open(&path).unwrap().unlock(b"first").unwrap();
        assert!(again.key == key.key && again.header == key.header);
        assert!(
            KeyFile::create(&path, "test", b"first", KDF).is_err(),
            "an existing header was replaced"
        );

        KeyFile::edit(&path, |h| h.change_key(b"first", b"second", &KDF)).unwrap();
        let file = KeyFile::open(&path).unwrap();
        assert_eq!(file.unlock(b"first").unwrap_err().kind(), ErrorKind::Key);
        assert!(file.unlock(b"second").unwrap().key == key.key);
    }

    #[test]
    fn a_draft_has_no_name_until_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.vhd.luks");
        drop(KeyFile::draft(&path, "test", b"first", KDF).unwrap());
        let (draft, key) = KeyFile::draft(&path, "test", b"first", KDF).unwrap();
        assert!(!path.exists());
        let uuid = draft.header().uuid().to_owned();
        assert_eq!(draft.publish().unwrap().header().uuid(), uuid);
        assert!(KeyFile::open(&path).unwrap().unlock(b"first").unwrap().key == key.key);
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not-there.luks");
        let error = KeyFile::open(&path).err().unwrap().to_string();
        assert!(
            error.contains("not-there.luks") && error.contains("--header"),
            "{error}"
        );
        std::fs::write(&path, [7; 5000]).unwrap();
        let error = KeyFile::open(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("not-there.luks"), "{error}");
    }
}
