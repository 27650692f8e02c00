//! Key files: the detached LUKS2 header that lies beside a disk and opens it.

mod room;
mod twins;

use std::path::{Path, PathBuf};

use uuid::Uuid;
use vdisk_luks::{
    self as luks, CreateParams, Header, Json, Kdf, Limits, SlotId, Step, TokenId, VolumeKey,
};

use crate::error::{Error, ErrorKind, Result};
use crate::image::DiskKey;
use crate::store::{Draft, FileStore, Sharing, Store};

use twins::{NewKey, Twins};
pub use twins::{TwinReport, TwinState};

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
        let mut header = Header::parse(&bytes).map_err(|e| wrap(e, path))?;
        header.set_limits(limits());
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
    ///
    /// Slots of its LUKS1 twins go with those that `change` removes or changes; a twin that could not
    /// follow is told to the log only. To change keys, take [`KeyFile::add_key`] and its siblings.
    pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Header) -> luks::Result<T>) -> Result<T> {
        let (value, twins) = edit(path, |header| Ok((change(header)?, None, None)))?;
        for twin in twins {
            if twin.state != TwinState::Updated {
                tracing::warn!("{twin}");
            }
        }
        Ok(value)
    }

    /// Adds the passphrase `new` on the word of `passphrase`, here and in every twin.
    pub fn add_key(path: &Path, passphrase: &[u8], new: &[u8], kdf: &Kdf) -> Result<KeyEdit> {
        let (slot, twins) = edit(path, |header| {
            let key = header.unlock(passphrase)?;
            let slot = header.add_key(&key, new, kdf)?;
            let new = NewKey::Added(slot, new);
            Ok((slot, Some(key), Some(new)))
        })?;
        Ok(KeyEdit { slot, twins })
    }

    /// Puts the passphrase `new` in the place of `old`, here and in every twin that `old` opened.
    pub fn change_key(path: &Path, old: &[u8], new: &[u8], kdf: &Kdf) -> Result<KeyEdit> {
        let (slot, twins) = edit(path, |header| {
            let (slot, key) = header.unlock_slot(old)?;
            header.change_slot(slot, &key, new, kdf)?;
            let new = NewKey::Changed(slot, new);
            Ok((slot, Some(key), Some(new)))
        })?;
        Ok(KeyEdit { slot, twins })
    }

    /// Removes a passphrase, from every twin first. Never the last.
    pub fn remove_key(path: &Path, passphrase: &[u8]) -> Result<KeyEdit> {
        let (slot, twins) = edit(path, |header| {
            let (slot, key) = header.unlock_slot(passphrase)?;
            header.remove_slot(slot, false)?;
            Ok((slot, Some(key), None))
        })?;
        Ok(KeyEdit { slot, twins })
    }

    /// Removes `slot` on the word of `passphrase`, which must open another, from every twin first.
    pub fn remove_slot(path: &Path, slot: SlotId, passphrase: &[u8]) -> Result<KeyEdit> {
        let (own, twins) = edit(path, |header| {
            let (opened, key) = header.unlock_slot(passphrase)?;
            if opened == slot {
                return Ok((true, None, None));
            }
            header.remove_slot(slot, false)?;
            Ok((false, Some(key), None))
        })?;
        if own {
            let what = format!("this passphrase is the one of slot {slot}");
            return Err(Error::new(ErrorKind::InvalidRequest, what)
                .at_path(path)
                .remedy("give the passphrase of another slot"));
        }
        Ok(KeyEdit { slot, twins })
    }

    /// Writes a LUKS1 twin of the header in `path` to the new file `twin`: the same disk for software that
    /// reads nothing newer. `new` opens it (after `iterations` rounds of PBKDF2) for as long as the slot of
    /// `passphrase` lives, and later changes of keys follow into it.
    pub fn export_luks1(
        path: &Path,
        passphrase: &[u8],
        twin: &Path,
        new: &[u8],
        iterations: u32,
    ) -> Result<()> {
        twins::export(path, passphrase, twin, new, iterations)
    }

    /// The tokens: JSON objects that the header carries for others.
    pub fn tokens(&self) -> Vec<(TokenId, &Json)> {
        self.header.tokens()
    }

    /// Adds a token from its JSON text: an object with a `type` and `keyslots`, an array of slot numbers
    /// as strings. A header in clear text holds it: no secrets.
    pub fn add_token(path: &Path, text: &str) -> Result<TokenId> {
        let token = text.parse::<Json>().map_err(|e| {
            Error::new(
                ErrorKind::InvalidRequest,
                format!("the token is no JSON: {e}"),
            )
        })?;
        if luks::Twin::is_one(&token) {
            let what = "tokens of this type are made by an export of a twin";
            return Err(Error::new(ErrorKind::InvalidRequest, what));
        }
        Self::edit(path, |header| header.add_token(token))
    }

    /// Removes a token. A LUKS1 twin whose token goes is on its own: it keeps the passphrases it has.
    pub fn remove_token(path: &Path, id: TokenId) -> Result<()> {
        Self::edit(path, |header| header.remove_token(id))
    }
}

/// What changed, and what became of the LUKS1 twins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEdit {
    /// The slot that was added, changed or removed.
    pub slot: SlotId,
    /// The twins that were concerned; tell the user of each that is not [`TwinState::Updated`].
    pub twins: Vec<TwinReport>,
}

/// What a change tells [`edit`]: its result, the volume key if it has it, and a passphrase that is new.
type Change<'a, T> = (T, Option<VolumeKey>, Option<NewKey<'a>>);

/// The order of every change: twins lose what the header will lose, the header changes, twins gain what
/// it gained. A cut leaves a twin with too few passphrases, never with one that the header has no more.
fn edit<'a, T>(
    path: &Path,
    change: impl FnOnce(&mut Header) -> luks::Result<Change<'a, T>>,
) -> Result<(T, Vec<TwinReport>)> {
    let change = |header: &mut Header| change(header).map_err(|e| wrap(e, path));
    edit_then(path, change, || Ok(()))
}

/// Like [`edit`]; `then` follows the change of the header before anybody else may change it again.
fn edit_then<'a, T>(
    path: &Path,
    change: impl FnOnce(&mut Header) -> Result<Change<'a, T>>,
    then: impl FnOnce() -> Result<()>,
) -> Result<(T, Vec<TwinReport>)> {
    let store = FileStore::open(path, Sharing::Exclusive)?;
    let KeyFile { mut header, .. } = KeyFile::read(path, &store)?;
    let (value, key, new) = change(&mut header)?;
    let mut twins = Twins::of(path, &mut header, key.as_ref(), new)?;
    twins.lose()?;
    carry_out(&header.update_plan(), &store)?;
    then()?;
    Ok((value, twins.gain()))
}

/// What an unlock may spend: no more memory than there is, whatever a header asks for.
fn limits() -> Limits {
    let usual = Limits::default();
    let room = room::available().map_or(u64::MAX, |bytes| bytes / 1024);
    Limits {
        memory_kib: usual
            .memory_kib
            .min(u32::try_from(room).unwrap_or(u32::MAX)),
        ..usual
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
