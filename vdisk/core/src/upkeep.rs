//! Upkeep of image files: another size, less space, a child into its parent, another parent. Each takes
//! the image's file for itself, and leaves a sound disk wherever it is interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::chain::{self, Ancestor, Parents};
use crate::device::{Disk, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{DiskKey, Mode, OpenImage, check_key};
use crate::layer::Place;
use crate::progress::{Progress, tell};
use crate::store::{FileStore, Sharing, Store};
use crate::vhd::{self, Compacted, Footer, NewParent};

/// Bytes compared at once.
const CHUNK: u64 = 1 << 20;

/// Another size for a fixed or dynamic VHD.
#[derive(Debug)]
pub struct Resize<'a> {
    /// The image.
    pub path: &'a Path,
    /// Its new size in bytes.
    pub size: u64,
    /// Its key, if it is encrypted.
    pub key: Option<&'a DiskKey>,
    /// Cuts off what is not empty.
    pub force: bool,
}

/// What a resize did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resized {
    /// Size before, in bytes.
    pub before: u64,
    /// And after.
    pub after: u64,
}

impl Resize<'_> {
    /// Does it. Children of the disk do not fit it afterwards.
    pub fn run(self, progress: Progress<'_>) -> Result<Resized> {
        let (store, footer) = take(self.path)?;
        let located = |e: Error| e.at_path(self.path);
        check_key(Some(&footer), self.key).map_err(located)?;
        let key = self.key.map(|key| &key.key);
        let after = vhd::resize(store, self.size, key, self.force, progress).map_err(located)?;
        Ok(Resized {
            before: footer.current_size,
            after: after.current_size,
        })
    }
}

/// Less space for a dynamic or differencing VHD.
#[derive(Debug)]
pub struct Compact<'a> {
    /// The image.
    pub path: &'a Path,
    /// Its key, if it is encrypted: without it zeros cannot be told from data.
    pub key: Option<&'a DiskKey>,
}

impl Compact<'_> {
    /// Does it. What the disk reads as stays, so its children still fit it.
    pub fn run(self, progress: Progress<'_>) -> Result<Compacted> {
        let (store, footer) = take(self.path)?;
        let located = |e: Error| e.at_path(self.path);
        check_key(Some(&footer), self.key).map_err(located)?;
        let key = self.key.map(|key| &key.key);
        vhd::compact(store, key, progress).map_err(located)
    }
}

/// A child's sectors into its parent.
pub struct Commit<'a> {
    /// The child.
    pub path: &'a Path,
    /// Its key, if it is encrypted.
    pub key: Option<&'a DiskKey>,
    /// How its parents are opened.
    pub parents: Parents<'a>,
    /// Lets what an encrypted child has go into a parent that is not encrypted.
    pub allow_plain: bool,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommittedInto {
    /// The parent's file.
    pub parent: PathBuf,
    /// Sectors that it took over.
    pub sectors: u64,
}

impl Commit<'_> {
    /// Does it: the child is empty afterwards and reads as before. Other children of the same parent do not
    /// fit it any more.
    pub fn run(self, progress: Progress<'_>) -> Result<CommittedInto> {
        let (store, footer) = take(self.path)?;
        let located = |e: Error| e.at_path(self.path);
        check_key(Some(&footer), self.key).map_err(located)?;
        let child = vhd::open(store.clone(), true)?;
        let force = self.parents.force_parent;
        let ancestors = chain::ancestors(self.path, &*store, &child, force)?;
        let Some(Ancestor { path, opened }) = ancestors.into_iter().next() else {
            return Err(located(Error::new(
                ErrorKind::InvalidRequest,
                "not a differencing disk: it has no parent",
            )));
        };
        let (parent, header) = (path, opened.footer.luks);
        if footer.luks.is_some() && header.is_none() && !self.allow_plain {
            return Err(located(
                Error::new(
                    ErrorKind::Key,
                    format!(
                        "the disk is encrypted, its parent {} is not and would get its sectors in the clear",
                        parent.display()
                    ),
                )
                .remedy("convert it into an encrypted disk of its own instead"),
            ));
        }
        // With it goes its shared lock.
        drop(opened);
        let found = key_of(&parent, header, self.key, &self.parents)?;
        let disk = OpenImage {
            path: &parent,
            format: None,
            mode: Mode::Keep,
            key: found.key(self.key),
        }
        .open_above(&self.parents)?
        .disk;
        let key = self.key.map(|key| &key.key);
        let timestamp = || timestamp_of(&parent);
        let done = vhd::commit(store, key, &disk, &timestamp, progress).map_err(located)?;
        drop(disk);
        Ok(CommittedInto {
            parent,
            sectors: done.sectors,
        })
    }
}

/// Another parent for a child.
pub struct Rebase<'a> {
    /// The child.
    pub path: &'a Path,
    /// Its new parent, of the same size.
    pub parent: &'a Path,
    /// The child's key, if it is encrypted.
    pub key: Option<&'a DiskKey>,
    /// How its parents, old and new, are opened.
    pub parents: Parents<'a>,
    /// Changes the name alone, when the old parent moved or is lost: the child then reads as whatever the
    /// new parent makes of it. That is the same disk, unless another one is forced. Else the child first takes over what the new parent has differently.
    pub name_only: bool,
}

/// What a rebase did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rebased {
    /// Sectors that the child took over, since its new parent has them differently.
    pub sectors: u64,
}

impl Rebase<'_> {
    /// Does it.
    pub fn run(self, progress: Progress<'_>) -> Result<Rebased> {
        let path = chain::canonical(self.path)?;
        let new_path = chain::canonical(self.parent)?;
        let located = |e: Error| e.at_path(&path);
        let probed = vhd::read_footer(&FileStore::open_unlocked(&new_path)?)
            .map_err(|e| e.at_path(&new_path))?;
        let Some(new_footer) = probed else {
            return Err(Error::new(ErrorKind::Parent, "not a VHD").at_path(&new_path));
        };
        if new_footer.luks.is_some() && self.key.is_none() {
            return Err(located(
                Error::new(
                    ErrorKind::Key,
                    "the parent would be encrypted, the child is not",
                )
                .remedy("convert the child into an encrypted disk first"),
            ));
        }
        let found = key_of(&new_path, new_footer.luks, self.key, &self.parents)?;
        let new = OpenImage {
            path: &new_path,
            format: None,
            mode: Mode::ReadOnly,
            key: found.key(self.key),
        }
        .open_above(&self.parents)?;
        let above = std::iter::once(&new_path).chain(new.parents.iter().map(|(path, _)| path));
        if above.into_iter().any(|other| *other == path) {
            return Err(located(Error::new(
                ErrorKind::Parent,
                "a loop: the new parent is the disk itself or one of its children",
            )));
        }
        if new.parents.len() + 2 > chain::MAX_DEPTH {
            return Err(located(
                Error::new(
                    ErrorKind::Parent,
                    format!("it would be disk {} of its chain", new.parents.len() + 2),
                )
                .remedy("commit some children into their parents first"),
            ));
        }
        let (store, footer) = take(&path)?;
        let link = vhd::open(store, true)?.parent.ok_or_else(|| {
            located(Error::new(
                ErrorKind::InvalidRequest,
                "not a differencing disk: it has no parent",
            ))
        })?;
        if footer.current_size != new.disk.size() {
            return Err(located(Error::new(
                ErrorKind::Parent,
                format!(
                    "a disk of {} bytes cannot be the child of one of {}",
                    footer.current_size,
                    new.disk.size()
                ),
            )));
        }
        let new_footer = new.footer.as_ref().unwrap_or(&new_footer);
        chain::check_has_time(&new_path, new_footer)?;
        if self.name_only && new_footer.uuid != link.uuid && !self.parents.force_parent {
            return Err(located(
                Error::new(
                    ErrorKind::Parent,
                    format!(
                        "its parent is disk {}, but {} is disk {}",
                        link.uuid,
                        new_path.display(),
                        new_footer.uuid
                    ),
                )
                .remedy("rebase it with its contents; or force the parent, if the disk may read differently"),
            ));
        }
        let (sectors, stamped) = match self.name_only {
            true => (0, footer.timestamp),
            false => self.take_over(&path, &new.disk, progress)?,
        };
        let (store, now) = take(&path)?;
        let same_parent = new_footer.uuid == link.uuid && new_footer.timestamp == link.timestamp;
        // What the child was written while it took over does not change what it reads as. Whatever
        // somebody else did to it between two locks does.
        let reads_the_same = (!self.name_only || same_parent) && now.timestamp == stamped;
        let parent = NewParent {
            footer: new_footer,
            path: &new_path,
            child_folder: &chain::folder_of(&path)?,
        };
        let timestamp = reads_the_same.then_some(footer.timestamp);
        vhd::relink(store, &parent, timestamp).map_err(located)?;
        Ok(Rebased { sectors })
    }

    /// Writes into the child what it does not have itself and the new parent has differently. Answers how
    /// many sectors that were, and what the child's timestamp is now.
    fn take_over(&self, path: &Path, new: &Disk, progress: Progress<'_>) -> Result<(u64, u32)> {
        let old = OpenImage {
            path,
            format: None,
            mode: Mode::Keep,
            key: self.key,
        }
        .open_above(&self.parents)?
        .disk;
        let own = vhd::open(Arc::new(FileStore::open_unlocked(path)?), true)?.into_layer();
        let (mut was, mut is) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        let (mut at, mut sectors) = (0, 0);
        while at < old.size() {
            tell(progress, at)?;
            let max = (old.size() - at).min(CHUNK) / SECTOR;
            let run = own.map(at / SECTOR, max)?;
            let len = (run.sectors * SECTOR) as usize;
            if run.place == Place::Below {
                old.read_at(at, &mut was[..len])?;
                new.read_at(at, &mut is[..len])?;
                let pairs = was[..len]
                    .chunks(SECTOR as usize)
                    .zip(is.chunks(SECTOR as usize));
                for (i, (was, is)) in pairs.enumerate() {
                    if was != is {
                        old.write_at(at + i as u64 * SECTOR, was)?;
                        sectors += 1;
                    }
                }
            }
            at += len as u64;
        }
        old.flush()?;
        Ok((sectors, timestamp_of(path)?))
    }
}

/// The image's file, taken for work on it, and its footer.
fn take(path: &Path) -> Result<(Arc<dyn Store>, Footer)> {
    let store: Arc<dyn Store> = Arc::new(FileStore::open(path, Sharing::Exclusive)?);
    match vhd::read_footer(&*store).map_err(|e| e.at_path(path))? {
        Some(footer) => Ok((store, footer)),
        None => Err(Error::new(ErrorKind::InvalidRequest, "not a VHD").at_path(path)),
    }
}

/// What the footer of a file that we are using says.
fn timestamp_of(path: &Path) -> Result<u32> {
    let footer = vhd::read_footer(&FileStore::open_unlocked(path)?)?;
    footer
        .map(|footer| footer.timestamp)
        .ok_or_else(|| Error::corrupt("the footer is gone").at_path(path))
}

/// The key of a parent.
enum Found {
    None,
    /// The one that its child has.
    Same,
    Own(Arc<DiskKey>),
}

impl Found {
    fn key<'a>(&'a self, same: Option<&'a DiskKey>) -> Option<&'a DiskKey> {
        match self {
            Self::None => None,
            Self::Same => same,
            Self::Own(key) => Some(key),
        }
    }
}

fn key_of(
    path: &Path,
    header: Option<uuid::Uuid>,
    child: Option<&DiskKey>,
    parents: &Parents<'_>,
) -> Result<Found> {
    if header.is_some() && child.map(|key| key.header) == header {
        return Ok(Found::Same);
    }
    Ok((parents.keys)(path, header)?.map_or(Found::None, Found::Own))
}
