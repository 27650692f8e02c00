//! LUKS1 twins follow their header. The header's tokens say where they lie and which of their slots go
//! with which of its own.
//!
//! A twin is written only if it is the one meant: it has the UUID of the token, and its digest knows our
//! volume key. Without the key at hand only a file in the header's own folder is believed: whoever wrote
//! the header does not choose what else on this machine is overwritten.

use std::fmt;
use std::path::{Path, PathBuf};

use vdisk_luks::{self as luks, Header, Luks1, SlotId, TokenId, Twin, VolumeKey};

use super::{KeyFile, carry_out, edit_then, wrap};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Draft, FileStore, Sharing, Store};

/// Far more than a detached LUKS1 header takes with all slots, 2 MiB.
const MAX_LEN: u64 = 4 << 20;

/// What became of one twin in a change of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinReport {
    /// Its file.
    pub path: PathBuf,
    /// The header's token that names it.
    pub token: TokenId,
    /// What became of it.
    pub state: TwinState,
}

/// What became of a twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TwinState {
    /// Its slots are those of the header again.
    Updated,
    /// All its slots are taken: it does not open with the new passphrase.
    Full,
    /// What was removed is gone from it, but the new passphrase could not be written, for this reason: it
    /// may not open with it.
    Behind(String),
    /// There is no such file. Should it lie elsewhere, it opens as it did before.
    Missing,
    /// It was left as it was, for this reason: passphrases that were removed still open it.
    Left(String),
}

impl fmt::Display for TwinReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, token, state } = self;
        let path = path.display();
        let remedy = format!(
            "destroy it, for it opens with the passphrases it had, then remove token {token}"
        );
        match state {
            TwinState::Updated => write!(f, "the LUKS1 twin {path} follows"),
            TwinState::Full => write!(
                f,
                "the LUKS1 twin {path} has no free slot and does not open with the new passphrase"
            ),
            TwinState::Behind(why) => write!(
                f,
                "the LUKS1 twin {path} may not open with the new passphrase: {why}; passphrases that were \
                 removed do not open it; remove the new passphrase and add it again"
            ),
            TwinState::Missing => write!(
                f,
                "the LUKS1 twin {path} is not there; if it lies elsewhere, {remedy}"
            ),
            TwinState::Left(why) => write!(
                f,
                "the LUKS1 twin {path} was left as it was: {why}; {remedy}"
            ),
        }
    }
}

/// A passphrase that a change brought.
#[derive(Clone, Copy)]
pub(super) enum NewKey<'a> {
    /// In a new slot: every twin gets it.
    Added(SlotId, &'a [u8]),
    /// In the place of another: twins that had that one get it.
    Changed(SlotId, &'a [u8]),
}

/// The twins that a change concerns.
pub(super) struct Twins(Vec<Held>);

struct Held {
    path: PathBuf,
    token: TokenId,
    /// The file with its changes, or why it does not follow.
    file: std::result::Result<Open, TwinState>,
}

struct Open {
    store: FileStore,
    /// What goes, to be written before the header.
    lost: Luks1,
    /// What comes, to be written after it.
    gained: Luks1,
    full: bool,
}

impl Twins {
    /// Looks up the twins that do not fit the changed `header`, changes them in memory and notes in the
    /// header what they will be.
    pub(super) fn of(
        path: &Path,
        header: &mut Header,
        key: Option<&VolumeKey>,
        new: Option<NewKey<'_>>,
    ) -> Result<Self> {
        let mut held = Vec::new();
        for (token, mut twin) in Twin::all(header).map_err(|e| wrap(e, path))? {
            let stale = twin.stale(header);
            let wanted = match new {
                Some(NewKey::Added(slot, new)) => Some((slot, new)),
                Some(NewKey::Changed(slot, new)) if twin.follows(slot) => Some((slot, new)),
                _ => None,
            };
            if stale.is_empty() && wanted.is_none() {
                continue;
            }
            let place = place(path, &twin);
            let file = match open(&place, &twin, key) {
                Ok(Ok((store, mut lost))) => {
                    for slot in stale {
                        // A slot that somebody else disabled already is as good.
                        if lost.slots().any(|other| other.id == slot) {
                            lost.remove_slot(slot).map_err(|e| wrap(e, &place))?;
                        }
                        twin.forget(slot);
                    }
                    let mut gained = lost.clone();
                    gained.persisted();
                    let added = match (wanted, key) {
                        (Some((slot, new)), Some(key)) => gained
                            .add_key(key, new, twin.iterations)
                            .and_then(|id| twin.pair(header, slot, id)),
                        _ => Ok(()),
                    };
                    let full = matches!(&added, Err(e) if e.kind() == luks::ErrorKind::NoSpace);
                    if !full {
                        added.map_err(|e| wrap(e, &place))?;
                    }
                    twin.store(header, Some(token)).map_err(|e| wrap(e, path))?;
                    Ok(Open {
                        store,
                        lost,
                        gained,
                        full,
                    })
                }
                Ok(Err(state)) => Err(state),
                Err(e) => return Err(e),
            };
            held.push(Held {
                path: place,
                token,
                file,
            });
        }
        Ok(Self(held))
    }

    /// Destroys in the twins what the header is about to lose.
    pub(super) fn lose(&mut self) -> Result<()> {
        for twin in &self.0 {
            if let Ok(open) = &twin.file {
                carry_out(&open.lost.update_plan(), &open.store)
                    .map_err(|e| e.at_path(&twin.path))?;
            }
        }
        Ok(())
    }

    /// Gives the twins what the header has gained, and reports.
    pub(super) fn gain(self) -> Vec<TwinReport> {
        let report = |twin: Held| {
            let state = match twin.file {
                Ok(open) => match carry_out(&open.gained.update_plan(), &open.store) {
                    Ok(()) if open.full => TwinState::Full,
                    Ok(()) => TwinState::Updated,
                    Err(e) => TwinState::Behind(e.to_string()),
                },
                Err(state) => state,
            };
            TwinReport {
                path: twin.path,
                token: twin.token,
                state,
            }
        };
        self.0.into_iter().map(report).collect()
    }
}

/// Opens the twin that is meant, or says why it does not follow.
fn open(
    path: &Path,
    twin: &Twin,
    key: Option<&VolumeKey>,
) -> Result<std::result::Result<(FileStore, Luks1), TwinState>> {
    let left = |why: &str| Ok(Err(TwinState::Left(why.into())));
    if !path.try_exists().unwrap_or(true) {
        return Ok(Err(TwinState::Missing));
    }
    if key.is_none() && Path::new(&twin.place).components().count() != 1 {
        return left(
            "it does not lie beside the header, and the change was made without a passphrase",
        );
    }
    let store = FileStore::open(path, Sharing::Exclusive)?;
    let len = store.len()?;
    if len > MAX_LEN {
        return left("it is too long for a detached LUKS1 header");
    }
    let mut bytes = vec![0; len as usize];
    store.read_at(0, &mut bytes)?;
    let parsed = match Luks1::parse(&bytes) {
        Ok(parsed) => parsed,
        Err(e) => return left(&format!("it is no sound LUKS1 header ({e})")),
    };
    if parsed.uuid() != twin.uuid {
        return left("another header has taken its place");
    }
    if let Some(Err(e)) = key.map(|key| parsed.check_key(key)) {
        return left(&e.to_string());
    }
    Ok(Ok((store, parsed)))
}

/// Where the twin of the header in `path` lies.
fn place(path: &Path, twin: &Twin) -> PathBuf {
    path.with_file_name(&twin.place)
}

/// The name by which a header in `path` calls `twin`: bare if they lie in one folder, so that both may move.
fn name(path: &Path, twin: &Path) -> Result<String> {
    let fail = |e| Error::io("cannot look up", e).at_path(twin);
    let absolute = std::path::absolute(twin).map_err(fail)?;
    let beside = std::path::absolute(path).map_err(fail)?.parent() == absolute.parent();
    let name = if beside {
        absolute.file_name().unwrap_or_default()
    } else {
        absolute.as_os_str()
    };
    name.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::new(ErrorKind::InvalidRequest, "the name is not UTF-8").at_path(twin))
}

/// See [`KeyFile::export_luks1`].
pub(super) fn export(
    path: &Path,
    passphrase: &[u8],
    twin: &Path,
    new: &[u8],
    iterations: u32,
) -> Result<()> {
    Export::prepare(path, passphrase, twin, new, iterations)?.publish()
}

/// A twin without a name yet.
struct Export<'a> {
    path: &'a Path,
    draft: Draft,
    /// What the header will know of it: that it goes with a slot as that was when it was prepared.
    record: Twin,
}

impl<'a> Export<'a> {
    /// The slow part: deriving keys needs no lock.
    fn prepare(
        path: &'a Path,
        passphrase: &[u8],
        twin: &Path,
        new: &[u8],
        iterations: u32,
    ) -> Result<Self> {
        let fail = |e| wrap(e, path);
        let name = name(path, twin)?;
        let draft = Draft::new(twin)?;
        let header = KeyFile::open(path)?.header;
        let (slot, key) = header.unlock_slot(passphrase).map_err(fail)?;
        let bytes = Luks1::export(&key, new, iterations).map_err(fail)?;
        draft.store()?.write_at(0, &bytes)?;
        let made = Luks1::parse(&bytes).map_err(fail)?;
        let mut record = Twin::new(&name, made.uuid(), iterations).map_err(fail)?;
        for first in made.slots() {
            record.pair(&header, slot, first.id).map_err(fail)?;
        }
        Ok(Self {
            path,
            draft,
            record,
        })
    }

    /// Under the header's lock, so that no slot goes in between: the header knows of the twin before the
    /// twin has a name. Nobody ever has one that is not kept in step.
    fn publish(self) -> Result<()> {
        let Self {
            path,
            draft,
            record,
        } = self;
        let fail = |e| wrap(e, path);
        let change = |header: &mut Header| {
            if !record.stale(header).is_empty() {
                let what = "the passphrase was removed or changed while the twin was made";
                return Err(Error::new(ErrorKind::Key, what)
                    .at_path(path)
                    .remedy("export again with one that opens the disk"));
            }
            // A twin that had this name is gone: the draft would not have begun otherwise.
            let former = Twin::all(header)
                .map_err(fail)?
                .into_iter()
                .find_map(|(id, twin)| (twin.place == record.place).then_some(id));
            record.store(header, former).map_err(fail)?;
            Ok(((), None, None))
        };
        edit_then(path, change, || draft.publish())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use vdisk_luks::Kdf;

    use super::*;

    const KDF: Kdf = Kdf::Argon2id {
        time: 1,
        memory_kib: 64,
        lanes: 1,
    };

    /// A header and a twin in folders of their own choice.
    struct Pair {
        dir: tempfile::TempDir,
        header: PathBuf,
        twin: PathBuf,
    }

    impl Pair {
        fn new(twin: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("away")).unwrap();
            let (header, twin) = (dir.path().join("d.luks"), dir.path().join(twin));
            KeyFile::create(&header, "test", b"first", KDF).unwrap();
            KeyFile::export_luks1(&header, b"first", &twin, b"first", 1000).unwrap();
            Self { dir, header, twin }
        }

        fn opens(&self, passphrase: &[u8]) -> bool {
            let key = KeyFile::open(&self.header).unwrap().header.clone();
            let twin = Luks1::parse(&std::fs::read(&self.twin).unwrap()).unwrap();
            let (ours, its) = (key.unlock(passphrase), twin.unlock(passphrase));
            assert_eq!(ours.is_ok(), its.is_ok(), "the twin is out of step");
            ours.is_ok_and(|key| its.is_ok_and(|other| key == other))
        }

        fn states(&self, edit: &super::super::KeyEdit) -> Vec<TwinState> {
            assert!(edit.twins.iter().all(|twin| twin.path == self.twin));
            edit.twins.iter().map(|twin| twin.state.clone()).collect()
        }
    }

    #[test]
    fn a_twin_follows_every_change() {
        for place in ["d.luks1", "away/d.luks1"] {
            let pair = Pair::new(place);
            assert!(pair.opens(b"first"));
            let added = KeyFile::add_key(&pair.header, b"first", b"second", &KDF).unwrap();
            assert_eq!(pair.states(&added), [TwinState::Updated]);
            assert!(pair.opens(b"first") && pair.opens(b"second"));
            let changed = KeyFile::change_key(&pair.header, b"first", b"third", &KDF).unwrap();
            assert_eq!(pair.states(&changed), [TwinState::Updated]);
            assert!(pair.opens(b"third") && pair.opens(b"second") && !pair.opens(b"first"));
            let own = KeyFile::remove_slot(&pair.header, added.slot, b"second").unwrap_err();
            assert_eq!(own.kind(), ErrorKind::InvalidRequest);
            let removed = KeyFile::remove_slot(&pair.header, added.slot, b"third").unwrap();
            assert_eq!(pair.states(&removed), [TwinState::Updated]);
            assert!(pair.opens(b"third") && !pair.opens(b"second"));
            let last = KeyFile::remove_key(&pair.header, b"third").unwrap_err();
            assert_eq!(last.kind(), ErrorKind::Key);
            assert!(pair.opens(b"third"), "a refused removal touched the twin");
        }
    }

    #[test]
    fn a_change_by_others_is_made_up_for_at_the_next_edit() {
        let pair = Pair::new("d.luks1");
        let second = KeyFile::add_key(&pair.header, b"first", b"second", &KDF)
            .unwrap()
            .slot;
        // What cryptsetup does: the header alone.
        let mut bytes = std::fs::read(&pair.header).unwrap();
        let mut header = Header::parse(&bytes).unwrap();
        header.remove_slot(second, false).unwrap();
        bytes.copy_from_slice(&header.bytes());
        std::fs::write(&pair.header, &bytes).unwrap();
        let twin = || Luks1::parse(&std::fs::read(&pair.twin).unwrap()).unwrap();
        assert!(twin().unlock(b"second").is_ok());
        KeyFile::edit(&pair.header, |h| h.set_label("new")).unwrap();
        assert!(twin().unlock(b"second").is_err() && twin().unlock(b"first").is_ok());
    }

    /// Whatever is done to the passphrase while its twin is made, no twin keeps it.
    #[test]
    fn a_twin_of_a_passphrase_that_went_meanwhile_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let (path, twin) = (dir.path().join("d.luks"), dir.path().join("d.luks1"));
        KeyFile::create(&path, "test", b"first", KDF).unwrap();
        let prepare = || Export::prepare(&path, b"second", &twin, b"second", 1000).unwrap();
        KeyFile::add_key(&path, b"first", b"second", &KDF).unwrap();

        let export = prepare();
        KeyFile::remove_key(&path, b"second").unwrap();
        assert_eq!(export.publish().unwrap_err().kind(), ErrorKind::Key);
        // Nor if the slot is there again: its passphrase is another.
        KeyFile::add_key(&path, b"first", b"second", &KDF).unwrap();
        let export = prepare();
        KeyFile::change_key(&path, b"second", b"third", &KDF).unwrap();
        assert_eq!(export.publish().unwrap_err().kind(), ErrorKind::Key);
        assert!(!twin.exists() && KeyFile::open(&path).unwrap().tokens().is_empty());

        KeyFile::change_key(&path, b"third", b"second", &KDF).unwrap();
        let export = prepare();
        KeyFile::add_key(&path, b"first", b"other", &KDF).unwrap();
        export.publish().unwrap();
        assert!(twin.exists());
    }

    /// It has lost what it should, so nobody is told to destroy it.
    #[test]
    fn a_twin_that_cannot_be_written_any_more_is_behind() {
        let pair = Pair::new("d.luks1");
        let mut header = KeyFile::open(&pair.header).unwrap().header;
        let key = header.unlock(b"first").unwrap();
        let slot = header.add_key(&key, b"second", &KDF).unwrap();
        let new = Some(NewKey::Added(slot, b"second"));
        let mut twins = Twins::of(&pair.header, &mut header, Some(&key), new).unwrap();
        twins.lose().unwrap();
        for held in &mut twins.0 {
            let Ok(open) = &mut held.file else {
                panic!("the twin does not follow");
            };
            // Open for reading alone.
            open.store = FileStore::open_unlocked(&pair.twin).unwrap();
        }
        let reports = twins.gain();
        assert!(
            matches!(reports[0].state, TwinState::Behind(_)),
            "{reports:?}"
        );
        assert!(!reports[0].to_string().contains("destroy it"));
    }

    #[test]
    fn twins_that_cannot_follow_are_told() {
        let pair = Pair::new("d.luks1");
        for n in 0..7 {
            let new = format!("more {n}");
            let added = KeyFile::add_key(&pair.header, b"first", new.as_bytes(), &KDF).unwrap();
            assert_eq!(pair.states(&added), [TwinState::Updated]);
        }
        let ninth = KeyFile::add_key(&pair.header, b"first", b"ninth", &KDF).unwrap();
        assert_eq!(pair.states(&ninth), [TwinState::Full]);
        // It never had the ninth, so its removal does not concern it.
        let removed = KeyFile::remove_key(&pair.header, b"ninth").unwrap();
        assert_eq!(pair.states(&removed), []);

        std::fs::rename(&pair.twin, pair.dir.path().join("moved")).unwrap();
        let removed = KeyFile::remove_key(&pair.header, b"more 0").unwrap();
        assert_eq!(pair.states(&removed), [TwinState::Missing]);
        assert!(removed.twins[0].to_string().contains("destroy it"));
        // Another disk's header under its name is not touched.
        let other = vdisk_luks::VolumeKey::random().unwrap();
        let foreign = Luks1::export(&other, b"x", 1000).unwrap();
        std::fs::write(&pair.twin, &foreign).unwrap();
        let removed = KeyFile::remove_key(&pair.header, b"more 1").unwrap();
        assert!(matches!(pair.states(&removed)[..], [TwinState::Left(_)]));
        assert!(std::fs::read(&pair.twin).unwrap() == foreign);
        // Back in its place it catches up with all that it missed.
        std::fs::rename(pair.dir.path().join("moved"), &pair.twin).unwrap();
        let removed = KeyFile::remove_key(&pair.header, b"more 2").unwrap();
        assert_eq!(pair.states(&removed), [TwinState::Updated]);
        assert!(!pair.opens(b"more 0") && !pair.opens(b"more 1") && pair.opens(b"more 3"));
    }

    /// A header from a stranger must not make us write where it likes.
    #[test]
    fn a_forged_token_harms_no_other_header() {
        let victim = Pair::new("away/d.luks1");
        let before = std::fs::read(&victim.twin).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let header = dir.path().join("evil.luks");
        KeyFile::create(&header, "test", b"evil", KDF).unwrap();
        let uuid = Luks1::parse(&before).unwrap().uuid().to_owned();
        let mut token = Twin::new(victim.twin.to_str().unwrap(), &uuid, 1000).unwrap();
        KeyFile::edit(&header, |h| {
            let slot = h.add_key(&h.unlock(b"evil")?, b"bait", &KDF)?;
            token.pair(h, slot, 0)?;
            token.store(h, None)
        })
        .unwrap();
        let removed = KeyFile::remove_key(&header, b"bait").unwrap();
        assert!(
            matches!(removed.twins[0].state, TwinState::Left(_)),
            "{:?}",
            removed.twins
        );
        KeyFile::edit(&header, |h| h.set_label("x")).unwrap();
        assert!(std::fs::read(&victim.twin).unwrap() == before);
    }

    #[test]
    fn tokens_are_kept_and_checked() {
        let pair = Pair::new("d.luks1");
        let text = r#"{"type": "lease", "keyslots": ["0"], "until": "2030-01-01"}"#;
        let id = KeyFile::add_token(&pair.header, text).unwrap();
        let file = KeyFile::open(&pair.header).unwrap();
        let token = file
            .tokens()
            .into_iter()
            .find(|(other, _)| *other == id)
            .unwrap()
            .1;
        assert_eq!(token["until"], "2030-01-01");
        for bad in [
            "{",
            "[]",
            r#"{"type": "x"}"#,
            r#"{"type": "medley-luks1-twin", "keyslots": []}"#,
        ] {
            let refused = KeyFile::add_token(&pair.header, bad).unwrap_err();
            assert_eq!(
                refused.kind(),
                ErrorKind::InvalidRequest,
                "{bad}: {refused}"
            );
        }
        KeyFile::remove_token(&pair.header, id).unwrap();
        assert!(KeyFile::remove_token(&pair.header, id).is_err());
        assert_eq!(KeyFile::open(&pair.header).unwrap().tokens().len(), 1);
    }

    /// Both peers open the same twin after it was edited, with the passphrases that it should have.
    #[test]
    fn cryptsetup_and_qemu_open_an_edited_twin() {
        let skip = std::env::var_os("MEDLEY_SKIP_PEERS").is_some_and(|v| v == "1");
        let pair = Pair::new("d.luks1");
        KeyFile::add_key(&pair.header, b"first", b"second", &KDF).unwrap();
        KeyFile::change_key(&pair.header, b"first", b"third", &KDF).unwrap();
        let dir = pair.dir.path();
        std::fs::write(dir.join("disk"), vec![0; 1 << 20]).unwrap();
        let twin = pair.twin.display();
        for (passphrase, right) in [("first", false), ("second", true), ("third", true)] {
            let file = dir.join(passphrase);
            std::fs::write(&file, passphrase).unwrap();
            let file = file.display();
            let disk = dir.join("disk");
            let cryptsetup =
                format!("open --test-passphrase --type luks1 --key-file {file} {twin}");
            let qemu = format!(
                "-r --object secret,id=key,file={file} --image-opts driver=luks,key-secret=key,\
                 file.driver=file,file.filename={},header.driver=file,header.filename={twin}",
                disk.display()
            );
            for (tool, args) in [
                ("cryptsetup", cryptsetup),
                ("qemu-io", format!("{qemu} -c length")),
            ] {
                let run = Command::new(tool)
                    .args(args.split_whitespace())
                    .stdin(Stdio::null())
                    .output();
                match run {
                    Err(_) if skip => eprintln!("skipped: {tool} is not installed"),
                    run => {
                        let run = run.unwrap();
                        let words = String::from_utf8_lossy(&run.stderr).into_owned();
                        assert_eq!(run.status.success(), right, "{tool} {passphrase}: {words}");
                    }
                }
            }
        }
    }
}
