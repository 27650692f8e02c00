//! Durable overlays: made, opened, closed, suspended, looked at and destroyed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use uuid::Uuid;
use vdisk_xts::XtsKey;

use super::index::{self, Index};
use super::superblock::{self, Base, State, Superblock};
use super::words::{CLUSTER_SECTORS, Word};
use super::{CLUSTER, Durable, Inner, Overlay, key, lock, quota, reaper};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Format, probe, random_key};
use crate::store::{Draft, FileStore, Sharing, Store, directory, sync_directory};

/// Where the index begins.
const INDEX: u64 = 2 * superblock::LEN;

/// Clusters begin at a multiple of this.
const DATA_ALIGN: u64 = 1 << 20;

/// Where the clusters of an overlay begin.
fn data_start(sectors: u64) -> u64 {
    (INDEX + index::stored_len(sectors)).next_multiple_of(DATA_ALIGN)
}

/// How a durable overlay is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// Most bytes it may take, from now on; `None` leaves it as it was (at first: no limit).
    pub quota: Option<u64>,
    /// Take the base as it is, though its file was written or replaced since. What the overlay does not
    /// have may then not fit what it has.
    pub force_base: bool,
    /// The SHA-256 of the saved machine that goes on with this overlay. Needed exactly when the overlay
    /// is suspended.
    pub resume: Option<[u8; 32]>,
    /// With `resume`: stay suspended, only to be read, until [`Overlay::resume`]. Whatever happens before
    /// leaves the overlay as it was.
    pub asleep: bool,
    /// An overlay between this one and the disk.
    pub on: Option<Kept>,
}

/// The overlay of a machine that was saved and that others begin with: it stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its file.
    pub overlay: PathBuf,
    /// The SHA-256 of the saved machine.
    pub saved: [u8; 32],
}

/// A durable overlay, to be opened or made.
pub struct OpenOverlay<'a> {
    /// Its file.
    pub path: &'a Path,
    /// The disk below.
    pub base: Base,
    /// The key of the disk below, if it has one. The overlay is encrypted exactly if it does.
    pub base_key: Option<&'a XtsKey>,
    /// Whether it may be written.
    pub sharing: Sharing,
    /// The rest.
    pub options: &'a OverlayOptions,
}

impl OpenOverlay<'_> {
    /// Opens the overlay, or makes it where there is no file and writing is allowed. The key, if any, is
    /// for the layer's payload.
    pub fn open(&self) -> Result<(Overlay, Option<XtsKey>)> {
        if self.sharing == Sharing::Exclusive && self.path.symlink_metadata().is_err() {
            let draft = Draft::new(self.path)?;
            create(&draft.store()?, self.base, self.base_key)?;
            draft.publish()?;
        }
        let store = FileStore::open(self.path, self.sharing)?;
        if self.sharing == Sharing::Exclusive && Superblock::is_wiped(&store)? {
            // A revert that a crash kept from removing the name.
            remove(self.path)?;
            return self.open();
        }
        self.open_store(store).map_err(|e| e.at_path(self.path))
    }

    /// Opens the overlay that lies in `store`, whatever the path says.
    pub fn open_store(&self, store: impl Store + 'static) -> Result<(Overlay, Option<XtsKey>)> {
        self.open_as(store, false)
    }

    /// Opens an overlay, also one that is half committed, to commit it.
    pub(super) fn open_for_commit(&self) -> Result<(Overlay, Option<XtsKey>)> {
        let store = FileStore::open(self.path, Sharing::Exclusive)?;
        self.open_as(store, true).map_err(|e| e.at_path(self.path))
    }

    fn open_as(
        &self,
        store: impl Store + 'static,
        commit: bool,
    ) -> Result<(Overlay, Option<XtsKey>)> {
        let mut superblock = Superblock::read(&store)?;
        self.check_base(&superblock)?;
        let key = match (&superblock.key, self.base_key) {
            (Some(wrapped), Some(base)) => Some(key::unwrap(wrapped, base, superblock.id)?),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::new(ErrorKind::Key, "the overlay is encrypted")
                    .remedy("open it above the disk and header it was made with"));
            }
            (None, Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Key,
                    "the overlay is not encrypted, but the disk below is",
                )
                .remedy("this overlay belongs to another disk"));
            }
        };
        self.check_state(&superblock.state, commit)?;

        let sectors = superblock.base.sectors;
        let data = data_start(sectors);
        let index = Index::stored(&store, sectors, INDEX, data, handed_out(&superblock))?;
        if superblock.state == State::Open {
            (superblock.clusters, superblock.used) = count(&index, &store)?;
        } else if store.len()? < data + superblock.clusters * CLUSTER {
            return Err(Error::corrupt(format!(
                "the overlay is cut short: {} bytes of {}",
                store.len()?,
                data + superblock.clusters * CLUSTER
            ))
            .remedy("restore it from a copy, or revert it"));
        }
        let asleep = self.options.asleep && matches!(superblock.state, State::Suspended(_));
        let writable = self.sharing == Sharing::Exclusive && !asleep;
        if asleep {
            superblock.base = self.base;
        } else if writable {
            superblock.state = match superblock.state {
                // What began must be finished before anything else may change.
                State::Committing => State::Committing,
                _ => State::Open,
            };
            superblock.base = self.base;
            if let Some(bytes) = self.options.quota {
                superblock.quota = quota(bytes);
            }
            superblock.advance(&store)?;
        }
        let inner = Inner {
            store: Box::new(store),
            sectors,
            index,
            data,
            last: AtomicU64::new(superblock.clusters),
            used: AtomicU64::new(superblock.used),
            quota: AtomicU64::new(match superblock.quota {
                0 => u64::MAX,
                clusters => clusters,
            }),
            durable: Some(Durable {
                superblock: Mutex::new(superblock),
                freed: Mutex::default(),
                frozen: AtomicBool::new(!writable),
                unsettled: AtomicBool::new(false),
            }),
        };
        Ok((Overlay(Arc::new(inner)), key))
    }

    /// A base that is another, or that changed, has other sectors than those the overlay goes with.
    fn check_base(&self, superblock: &Superblock) -> Result<()> {
        let (made_for, found) = (superblock.base, self.base);
        let refuse = |what: String| Err(Error::new(ErrorKind::Parent, what));
        if made_for.sectors != found.sectors {
            return refuse(format!(
                "the overlay is for a disk of {} sectors, this one has {}",
                made_for.sectors, found.sectors
            ))
            .map_err(|e| e.remedy("open it above the disk it was made with"));
        }
        if self.options.force_base {
            return Ok(());
        }
        if made_for.id != found.id {
            return refuse(format!(
                "the overlay was made for disk {}, this one is {}",
                made_for.id, found.id
            ))
            .map_err(|e| e.remedy("open it above the disk it was made with"));
        }
        // A commit that was interrupted has changed its base, and only it.
        if superblock.state == State::Committing {
            return Ok(());
        }
        // A VHD says itself when it was written, and may be compacted; of others only their file tells.
        let changed = made_for.modified != found.modified
            || (found.id.is_nil() && made_for.file_len != found.file_len);
        if changed {
            return refuse("the disk below was written since the overlay was made".into()).map_err(
                |e| {
                    e.remedy(
                        "put the disk back as it was; if it is a true copy, force the base; else revert the overlay",
                    )
                },
            );
        }
        Ok(())
    }

    fn check_state(&self, state: &State, commit: bool) -> Result<()> {
        let writes = self.sharing == Sharing::Exclusive;
        let busy = |what: &str, remedy| Err(Error::new(ErrorKind::Busy, what).remedy(remedy));
        match (state, &self.options.resume) {
            (State::Suspended(saved), Some(resumed)) if saved == resumed => Ok(()),
            (State::Suspended(_), Some(_)) => busy(
                "the overlay belongs to another saved machine",
                "resume the machine that was saved with it, or revert the overlay",
            ),
            (State::Suspended(_), None) if writes => busy(
                "the overlay belongs to a suspended machine, which would not survive other writes",
                "resume the machine, or revert the overlay",
            ),
            (State::Committing, _) if writes && !commit => busy(
                "the overlay is half committed into its base",
                "finish the commit first",
            ),
            (_, Some(_)) => busy(
                "the overlay is not suspended: the saved machine is out of date",
                "start the machine anew",
            ),
            _ => Ok(()),
        }
    }
}

impl Base {
    /// What lies above a kept overlay has that below it, too, and goes with nothing else.
    pub(crate) fn with(self, kept: &Kept) -> Self {
        let saved = Uuid::from_bytes(std::array::from_fn(|i| kept.saved[i]));
        let id = Uuid::from_u128(self.id.as_u128() ^ saved.as_u128());
        Self { id, ..self }
    }

    /// The base that an image file is now.
    pub fn of(path: &Path, format: Option<Format>) -> Result<Self> {
        let store = FileStore::open_unlocked(path)?;
        // A VHD says itself when it was written; a copy of it says the same.
        let (id, size, modified) = match format {
            Some(Format::Raw) => (Uuid::nil(), store.len()?, store.modified()?),
            _ => {
                let found = probe(path)?;
                match found.footer {
                    Some(footer) => (footer.uuid, found.size, footer.timestamp.into()),
                    None => (Uuid::nil(), found.size, store.modified()?),
                }
            }
        };
        Ok(Self {
            id,
            sectors: size / SECTOR,
            file_len: store.len()?,
            modified,
        })
    }
}

/// Writes a new overlay into an empty store.
pub(super) fn create(store: &dyn Store, base: Base, base_key: Option<&XtsKey>) -> Result<()> {
    superblock::check_size(base.sectors)?;
    let id = Uuid::new_v4();
    let key = match base_key {
        // As secret as the disk below, under a key of its own.
        Some(base) => Some(key::wrap(&random_key()?, base, id)?),
        None => None,
    };
    store.set_len(data_start(base.sectors))?;
    let mut superblock = Superblock {
        state: State::Clean,
        generation: 0,
        id,
        base,
        clusters: 0,
        used: 0,
        quota: 0,
        key,
    };
    superblock.advance(store)
}

/// The highest number that a word may name, as far as the superblock knows.
fn handed_out(superblock: &Superblock) -> u64 {
    match superblock.state {
        State::Open => u32::MAX.into(),
        _ => superblock.clusters,
    }
}

/// After a crash: the highest cluster that is named, and how many are.
fn count(index: &Index, store: &dyn Store) -> Result<(u64, u64)> {
    let (mut last, mut used) = (0, 0);
    index.for_each(store, |_, word| {
        last = last.max(u64::from(word.cluster));
        used += u64::from(word.cluster != 0);
        Ok(())
    })?;
    // Words that name the same cluster are damage; the counts must make sense all the same.
    Ok((last, used.min(last)))
}

impl Overlay {
    /// What the superblock says, for a durable overlay. Its counts are of the last time it was closed.
    pub fn superblock(&self) -> Option<Superblock> {
        self.0.durable.as_ref().map(|d| lock(&d.superblock).clone())
    }

    /// Ties a durable overlay to a saved machine whose state has this SHA-256. The disk must have been
    /// flushed and nobody may write any more; until [`Overlay::resume`] everyone who tries is refused, and
    /// so is every opening that does not name the same machine.
    pub fn suspend(&self, saved: [u8; 32]) -> Result<()> {
        let durable = self.durable()?;
        let frozen = durable.frozen.swap(true, Ordering::AcqRel);
        let suspended = if self.0.is_settled() {
            self.0.record(State::Suspended(saved))
        } else {
            Err(Error::new(
                ErrorKind::InvalidRequest,
                "the overlay has changes that were not flushed",
            )
            .remedy("stop the machine, flush, and suspend again"))
        };
        if suspended.is_err() {
            durable.frozen.store(frozen, Ordering::Release);
        }
        suspended
    }

    /// Lets a machine that was saved go on in this process.
    pub fn resume(&self) -> Result<()> {
        self.0.record(State::Open)?;
        self.durable()?.frozen.store(false, Ordering::Release);
        Ok(())
    }

    /// From now on the base changes under the overlay, which must not change itself.
    pub(super) fn begin_commit(&self) -> Result<()> {
        self.durable()?.frozen.store(true, Ordering::Release);
        self.0.record(State::Committing)
    }

    fn durable(&self) -> Result<&Durable> {
        self.0.durable.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidRequest,
                "an ephemeral overlay cannot outlive its process",
            )
            .remedy("give the session an overlay with a name")
        })
    }
}

impl Inner {
    /// Writes a superblock with this state and what is known now.
    fn record(&self, state: State) -> Result<()> {
        let Some(durable) = &self.durable else {
            return Ok(());
        };
        let clusters = self.last.load(Ordering::Relaxed);
        if state != State::Open {
            // So that a file that is cut short can be told from one that is not.
            let end = self.data + clusters * CLUSTER;
            if self.store.len()? < end {
                self.store.set_len(end)?;
            }
        }
        let mut superblock = lock(&durable.superblock);
        let mut next = superblock.clone();
        next.state = state;
        next.clusters = clusters;
        next.used = self.used.load(Ordering::Relaxed);
        next.quota = match self.quota.load(Ordering::Relaxed) {
            u64::MAX => 0,
            clusters => clusters,
        };
        next.advance(&*self.store)?;
        *superblock = next;
        Ok(())
    }

    /// Says that everything is in its place, unless something was never flushed or belongs to somebody.
    pub(super) fn close(&self) -> Result<()> {
        let Some(durable) = &self.durable else {
            return Ok(());
        };
        if durable.frozen.load(Ordering::Acquire) || !self.is_settled() {
            return Ok(());
        }
        self.record(State::Clean)
    }

    /// Whether every word that changed is on the medium.
    fn is_settled(&self) -> bool {
        let unsettled = |d: &Durable| d.unsettled.load(Ordering::Acquire);
        !self.index.is_changed() && !self.durable.as_ref().is_some_and(unsettled)
    }
}

/// What an overlay's file says about itself, without a key and without locking it.
pub fn inspect(path: &Path) -> Result<Superblock> {
    Superblock::read(&FileStore::open_unlocked(path)?).map_err(|e| e.at_path(path))
}

/// Destroys a durable overlay, whatever state it is in: first its key, then its name, then (in the
/// background) its space. Takes the same short time whatever its size.
pub fn revert(path: &Path) -> Result<()> {
    let store = FileStore::open(path, Sharing::Exclusive)?;
    // Anything else might be somebody's only disk.
    if !Superblock::is_named(&store)? {
        return Err(Error::corrupt("not an overlay")
            .at_path(path)
            .remedy("check the name; a file that is no overlay is not touched"));
    }
    Superblock::wipe(&store)?;
    remove(path)?;
    reaper::bury(Box::new(store));
    Ok(())
}

/// Takes a name away for good.
fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|e| Error::io("cannot remove", e).at_path(path))?;
    sync_directory(directory(path))
}

/// What a check of an overlay found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What is wrong, a sentence each; empty for a sound overlay. At most 1000.
    pub troubles: Vec<String>,
    /// Clusters of the disk of which the overlay knows something.
    pub clusters: u64,
    /// Bytes of clusters in the file that a word names.
    pub used: u64,
    /// Bytes of clusters in the file that no word names: what a crash or a TRIM left, as holes if it could.
    pub unused: u64,
}

/// Looks at every word of a durable overlay.
pub fn check(path: &Path) -> Result<CheckReport> {
    let store = FileStore::open(path, Sharing::ReadOnly)?;
    check_store(&store).map_err(|e| e.at_path(path))
}

/// Most troubles that a report lists.
const MOST: usize = 1000;

pub(super) fn check_store(store: &dyn Store) -> Result<CheckReport> {
    let superblock = Superblock::read(store)?;
    let sectors = superblock.base.sectors;
    let data = data_start(sectors);
    let mut report = CheckReport::default();
    let mut trouble = |what: String| {
        if report.troubles.len() < MOST {
            report.troubles.push(what);
        }
    };
    let len = store.len()?;
    let mut named = Vec::new();
    let (mut known, mut used) = (0, 0);
    let disk = sectors.div_ceil(CLUSTER_SECTORS);
    // Words are read here one page at a time: a check must not stop at the first bad one.
    let mut page = vec![0; 4096];
    let (mut at, end) = (INDEX, INDEX + index::stored_len(sectors));
    if len < end {
        trouble(format!("the file ends within its index, at byte {len}"));
    }
    while at + 4096 <= end.min(len) {
        let (allocated, run) = store.allocated(at, end.min(len) - at)?;
        if !allocated && run >= 4096 {
            at += run / 4096 * 4096;
            continue;
        }
        store.read_at(at, &mut page)?;
        for (n, bits) in page.as_chunks().0.iter().enumerate() {
            let word = Word::from_bits(u64::from_le_bytes(*bits));
            let cluster = (at - INDEX) / 8 + n as u64;
            if word == Word::BELOW {
                continue;
            }
            known += 1;
            if cluster >= disk {
                trouble(format!("word {cluster} is past the end of the disk"));
            }
            if word.cluster == 0 {
                continue;
            }
            used += CLUSTER;
            if u64::from(word.cluster) > handed_out(&superblock) {
                trouble(format!(
                    "word {cluster} names cluster {}, which was never handed out",
                    word.cluster
                ));
            } else if index::extent(word, data).is_some_and(|end| end > len) {
                trouble(format!(
                    "word {cluster} names cluster {}, past the end of the file",
                    word.cluster
                ));
            } else {
                named.push(word.cluster);
            }
        }
        at += 4096;
    }
    named.sort_unstable();
    for twice in named.chunk_by(|a, b| a == b).filter(|same| same.len() > 1) {
        trouble(format!("{} words name cluster {}", twice.len(), twice[0]));
    }
    if superblock.state != State::Open && len < data + superblock.clusters * CLUSTER {
        trouble(format!(
            "the file is cut short: {len} bytes of {}",
            data + superblock.clusters * CLUSTER
        ));
    }
    report.clusters = known;
    report.used = used;
    report.unused = len.saturating_sub(data + used);
    Ok(report)
}
