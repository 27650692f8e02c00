//! Chains of differencing disks: finding the parent that a child names, making sure that it is the one
//! it was, and making new children.
//!
//! A child's locators are a stranger's words. They lead to regular files only, and only to a VHD whose
//! UUID is the one that the child noted; parents are opened read-only under a shared lock, so nobody
//! writes to them while a child is in use.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::image::DiskKey;
use crate::store::{Draft, FileStore, Store};
use crate::vhd::{self, Footer, NewParent, Opened, ParentLink};

/// Disks in a chain, the topmost child and the last parent included.
pub const MAX_DEPTH: usize = 64;

/// Finds the key of one image of a chain: it is told the file and the UUID of the LUKS header that the
/// image names, if it names one, and answers `None` for an image that is not encrypted.
pub type FindKey<'a> = dyn Fn(&Path, Option<Uuid>) -> Result<Option<Arc<DiskKey>>> + 'a;

/// How the parents of a differencing disk are opened.
#[derive(Clone, Copy)]
pub struct Parents<'a> {
    /// Finds their keys: each image of a chain may have its own. Not asked for an image that names the
    /// header of a key that is known already.
    pub keys: &'a FindKey<'a>,
    /// Takes a parent that was written to since the child was made, or is another disk altogether. What the
    /// child then shows may be a mixture that never was.
    pub force_parent: bool,
}

impl Default for Parents<'_> {
    fn default() -> Self {
        Self {
            keys: &|_, _| Ok(None),
            force_parent: false,
        }
    }
}

/// A parent, opened read-only.
pub struct Ancestor {
    /// Its file.
    pub path: PathBuf,
    /// The image.
    pub opened: Opened,
}

/// What a file is known by, whatever its names.
pub(crate) type FileId = (u64, u64);

/// What the file in `path` is known by.
pub(crate) fn file_id(path: &Path) -> Result<FileId> {
    look(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Opens all parents of the image `child` in `path`, nearest first. An image without a parent has none.
pub fn ancestors(
    path: &Path,
    store: &dyn Store,
    child: &Opened,
    force: bool,
) -> Result<Vec<Ancestor>> {
    let Some(mut link) = child.parent.clone() else {
        return Ok(Vec::new());
    };
    let size = child.footer.current_size;
    let mut path = canonical(path)?;
    let mut seen = vec![file_id(&path)?];
    let mut candidates = link.candidates(store);
    let mut found: Vec<Ancestor> = Vec::new();
    loop {
        if seen.len() >= MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::Parent,
                format!("more than {MAX_DEPTH} disks in a chain"),
            )
            .at_path(&path)
            .remedy("commit some children into their parents"));
        }
        let (parent, file) = locate(&path, &link, &candidates, &seen, force)?;
        seen.push(file.id()?);
        let file = file.shared()?;
        let modified = file.modified()?;
        let store: Arc<dyn Store> = Arc::new(file);
        let opened = vhd::open(store.clone(), true)?;
        if !force {
            check_identity(&path, &parent, &link, &opened.footer, modified)?;
        }
        if opened.footer.current_size != size {
            return Err(Error::new(
                ErrorKind::Parent,
                format!(
                    "a disk of {size} bytes cannot be the child of {}, which has {}",
                    parent.display(),
                    opened.footer.current_size
                ),
            )
            .at_path(&path)
            .remedy("give the parent back the size it had when the child was made"));
        }
        let next = opened.parent.clone();
        found.push(Ancestor {
            path: parent.clone(),
            opened,
        });
        match next {
            None => return Ok(found),
            Some(next) => {
                candidates = next.candidates(&*store);
                (path, link) = (parent, next);
            }
        }
    }
}

/// The file that is the parent of the disk in `child`: of the candidates that exist the first with the
/// right UUID, or if `force` says so and there is none, the first that is a VHD at all. It comes opened,
/// under no lock: its name may lead elsewhere a moment later.
pub(crate) fn locate(
    child: &Path,
    link: &ParentLink,
    candidates: &[PathBuf],
    seen: &[FileId],
    force: bool,
) -> Result<(PathBuf, FileStore)> {
    let folder = child.parent().unwrap_or(Path::new("/"));
    let mut wrong = None;
    let mut refused = None;
    for candidate in candidates {
        let Ok(path) = folder.join(candidate).canonicalize() else {
            continue;
        };
        match look_into(&path, seen) {
            Ok(Ok((store, footer))) if footer.uuid == link.uuid => return Ok((path, store)),
            Ok(Ok((store, footer))) => {
                wrong.get_or_insert((path, store, footer.uuid));
            }
            Ok(Err(what)) => {
                let what = format!("its parent {} {what}", path.display());
                refused.get_or_insert(Error::new(ErrorKind::Parent, what).at_path(child));
            }
            Err(error) => {
                refused.get_or_insert(error.at_path(&path));
            }
        }
    }
    match (wrong, refused) {
        (Some((path, store, _)), _) if force => Ok((path, store)),
        (Some((path, _, uuid)), _) => Err(Error::new(
            ErrorKind::Parent,
            format!(
                "its parent is disk {}, but {} is disk {uuid}",
                link.uuid,
                path.display()
            ),
        )
        .at_path(child)
        .remedy("put the right parent in its place, or rebase the child")),
        (None, Some(refused)) => Err(refused),
        (None, None) => Err(Error::new(
            ErrorKind::Parent,
            format!(
                "its parent `{}` (disk {}) is not there",
                link.name, link.uuid
            ),
        )
        .at_path(child)
        .remedy("put the parent beside it, or rebase the child to where it is now")),
    }
}

/// A file that may be a parent, with its footer; or why it cannot be one.
fn look_into(path: &Path, seen: &[FileId]) -> Result<Result<(FileStore, Footer), &'static str>> {
    let Some(store) = FileStore::open_regular(path)? else {
        return Ok(Err("is not a regular file"));
    };
    if seen.contains(&store.id()?) {
        return Ok(Err("is one of its children: a loop"));
    }
    let footer = vhd::read_footer(&store)?;
    Ok(footer.map_or(Err("is not a VHD"), |footer| Ok((store, footer))))
}

/// Whether the parent is the disk it was when the child was made. Its name may lead elsewhere by now:
/// `modified` is when the file was last written that is open, in seconds since 1970.
pub(crate) fn check_identity(
    child: &Path,
    path: &Path,
    link: &ParentLink,
    parent: &Footer,
    modified: i64,
) -> Result<()> {
    if parent.uuid != link.uuid {
        let what = format!("{} is not its parent any more", path.display());
        return Err(Error::new(ErrorKind::Parent, what)
            .at_path(child)
            .remedy("put the right parent in its place, or rebase the child"));
    }
    if !timestamp_fits(link, parent, modified) {
        let what = format!(
            "its parent {} was written to since the child was made",
            path.display()
        );
        return Err(Error::new(ErrorKind::Parent, what).at_path(child).remedy(
            "bring back the parent as it was; or force it, if you know that nothing in it changed",
        ));
    }
    Ok(())
}

/// Whether a child can note which state of the parent it fits: a time of zero would say that it fits all.
pub(crate) fn check_has_time(path: &Path, parent: &Footer) -> Result<()> {
    match parent.timestamp {
        0 => Err(Error::new(
            ErrorKind::Parent,
            "its footer has no timestamp, so that a child would not notice when it is written to",
        )
        .at_path(path)
        .remedy("write to it once, or convert it")),
        _ => Ok(()),
    }
}

/// We note the time in the parent's footer; other writers do too, or note that of its file, or none.
fn timestamp_fits(link: &ParentLink, parent: &Footer, modified: i64) -> bool {
    let of_file = modified.saturating_sub(946_684_800) as u32;
    link.timestamp == 0
        || link.timestamp == parent.timestamp
        || (!parent.is_ours() && of_file == link.timestamp)
}

/// A child to be made: a differencing VHD that reads as its parent does and keeps what is written.
#[derive(Debug)]
pub struct NewChild<'a> {
    /// The child's file, which must not exist.
    pub path: &'a Path,
    /// The parent: a VHD of any kind, which must never be written to again.
    pub parent: &'a Path,
    /// The child's own key; needed if the parent is encrypted. Make a new one: under its parent's key a
    /// child shows to whoever has both files which 16-byte blocks of which sectors are still the same.
    pub key: Option<&'a DiskKey>,
}

impl NewChild<'_> {
    /// Makes it.
    pub fn create(self) -> Result<Footer> {
        let parent = canonical(self.parent)?;
        let Some(file) = FileStore::open_regular(&parent)? else {
            return Err(Error::new(ErrorKind::Parent, "not a regular file").at_path(&parent));
        };
        let store: Arc<dyn Store> = Arc::new(file.shared()?);
        let opened = vhd::open(store.clone(), true)?;
        check_has_time(&parent, &opened.footer)?;
        let above = ancestors(&parent, &*store, &opened, false)?;
        if above.len() + 2 > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::Parent,
                format!(
                    "a child of this disk would be disk {} of its chain",
                    above.len() + 2
                ),
            )
            .at_path(&parent)
            .remedy("commit some children into their parents first"));
        }
        let encrypted = std::iter::once(&opened)
            .chain(above.iter().map(|a| &a.opened))
            .any(|o| o.footer.luks.is_some());
        if encrypted && self.key.is_none() {
            return Err(Error::new(
                ErrorKind::Key,
                "the parent is encrypted, the child would not be",
            )
            .at_path(self.path)
            .remedy("give the child a key of its own"));
        }
        let draft = Draft::new(self.path)?;
        let footer = vhd::create_child(
            &draft.store()?,
            &NewParent {
                footer: &opened.footer,
                path: &parent,
                child_folder: &folder_of(self.path)?,
            },
            self.key.map(|key| key.header),
        )?;
        draft.publish()?;
        Ok(footer)
    }
}

/// The folder that a file lies or will lie in, absolute and without links.
pub(crate) fn folder_of(path: &Path) -> Result<PathBuf> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => canonical(folder),
        _ => canonical(Path::new(".")),
    }
}

pub(crate) fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|e| Error::io("cannot find", e).at_path(path))
}

fn look(path: &Path) -> Result<Metadata> {
    std::fs::metadata(path).map_err(|e| Error::io("cannot look at", e).at_path(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vhd::DiskType;

    /// Some writers note the time of the parent's file.
    #[test]
    fn the_time_of_a_parent_is_that_of_the_file_that_was_opened() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["parent.vhd", "other.vhd"].map(|name| dir.path().join(name));
        let mut parent = Footer::new(DiskType::Dynamic, 1 << 20);
        parent.creator = *b"else";
        (parent.timestamp, parent.uuid) = (7, Uuid::from_bytes([1; 16]));
        let link = ParentLink {
            uuid: parent.uuid,
            timestamp: 1_000_000,
            name: String::new(),
            locators: Vec::new(),
        };
        for (path, noted) in [(&path, 1_000_000), (&other, 2_000_000)] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(946_684_800 + noted);
            let file = std::fs::File::create(path).unwrap();
            file.set_modified(time).unwrap();
        }
        let file = FileStore::open_regular(&path).unwrap().unwrap();
        std::fs::rename(&other, &path).unwrap();
        let check = |modified| check_identity(Path::new("child"), &path, &link, &parent, modified);
        check(file.modified().unwrap()).unwrap();
        let other = FileStore::open_regular(&path).unwrap().unwrap();
        let error = check(other.modified().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Parent);
    }
}
