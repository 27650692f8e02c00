//! The inbox: a folder where files of a guest arrive. Each is written under a hidden name and gets its own only
//! when it is whole and was called clean. Nothing that is there already is ever replaced, and no link is
//! followed.
use super::scan::scan;
use crate::policy::FilesOut;
use crate::{Error, Result};
use medley_services::order::Refusal;
use medley_wire::limits::FILE_NAME_BYTES;
use medley_wire::{FileName, Text, Untrusted};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags, flock, fsetxattr,
    linkat, open, openat2, renameat_with, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Begins the names of files that are not whole yet.
const PARTIAL: &str = ".medley-partial-";
/// Names that are tried for a file whose own is taken.
const TRIES: u32 = 10_000;
/// Where a file came from, as other desktops' programs say it.
const ORIGIN: &str = "user.xdg.origin.url";

/// An inbox.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    folder: Arc<OwnedFd>,
    policy: Arc<FilesOut>,
    /// Stands in the files' origin.
    origin: String,
}

/// A file that is being written. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Draft {
    inbox: Inbox,
    /// Its bytes.
    pub file: File,
    hidden: Option<String>,
}

impl Inbox {
    /// Opens the inbox, makes it if need be, and takes away what a session that was killed left half written.
    pub fn open(policy: FilesOut, workspace: &str) -> Result<Self> {
        let path = policy.folder.clone();
        let failed = |what| Error::file(what, &path);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(failed("cannot make the inbox"))?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = open(&path, flags, Mode::empty())
            .map_err(|error| failed("cannot open the inbox")(error.into()))?;
        let inbox = Self {
            folder: Arc::new(folder),
            policy: Arc::new(policy),
            origin: format!("medley:{}", crate::clean::plain(workspace)),
        };
        inbox.sweep();
        Ok(inbox)
    }

    /// Whether a file may come: its name, or why not.
    pub fn admit(&self, name: &str, size: u64) -> Result<FileName, (Refusal, String)> {
        let claim = Untrusted::claim(Text::<FILE_NAME_BYTES>::cut(name));
        let judged = claim.file_name().filter(|judged| judged.as_str() == name);
        let Some(judged) = judged else {
            return Err((Refusal::Kind, "no file may be called so".into()));
        };
        if !self.policy.filter.takes(name) {
            return Err((Refusal::Kind, "files of this kind are not taken".into()));
        }
        let most = self.policy.filter.bytes;
        if size > most {
            return Err((Refusal::TooLarge, format!("it is larger than {most} bytes")));
        }
        let (files, bytes) = self.fill();
        let full = || {
            let folder = self.policy.folder.display();
            let words = format!("{folder} is full: {files} files, {bytes} bytes");
            (Refusal::Declined, words)
        };
        let fits = bytes.saturating_add(size) <= self.policy.most_bytes;
        if files >= self.policy.most_files || !fits {
            return Err(full());
        }
        Ok(judged)
    }

    /// Files in the inbox, and their bytes. Those that are half written are counted, too.
    fn fill(&self) -> (u32, u64) {
        let entries = std::fs::read_dir(&self.policy.folder);
        let sizes = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| meta.len());
        sizes.fold((0, 0), |(files, bytes), size| {
            (
                u32::saturating_add(files, 1),
                u64::saturating_add(bytes, size),
            )
        })
    }

    /// Begins a file that will be called so.
    pub fn draft(&self, name: &FileName) -> Result<Draft> {
        let number = uuid::Uuid::new_v4().simple();
        // Scanners may judge by the end of a name.
        let hidden = match name.as_str().rsplit_once('.') {
            Some((_, end)) if end.len() < 64 => format!("{PARTIAL}{number}.{end}"),
            _ => format!("{PARTIAL}{number}"),
        };
        let failed = |error: Errno| {
            let path = &self.policy.folder;
            Error::file("cannot write into the inbox", path)(error.into())
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(
            &*self.folder,
            hidden.as_str(),
            flags,
            Mode::RUSR | Mode::WUSR,
            beneath,
        )
        .map_err(failed)?;
        // Says to others who open this inbox that somebody still writes it.
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            tracing::debug!(%error, "a file in the inbox cannot be locked");
        }
        Ok(Draft {
            inbox: self.clone(),
            file: File::from(file),
            hidden: Some(hidden),
        })
    }

    /// Takes away what nobody writes any more.
    fn sweep(&self) {
        let entries = std::fs::read_dir(&self.policy.folder);
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(PARTIAL)) else {
                continue;
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let file = openat2(&*self.folder, name, flags, Mode::empty(), beneath);
            let dead = file.and_then(|file| flock(&file, FlockOperation::NonBlockingLockExclusive));
            if dead.is_ok() {
                tracing::info!(name, "taking away what a session left half written");
                self.remove(name);
            }
        }
    }

    fn remove(&self, name: &str) {
        if let Err(error) = unlinkat(&*self.folder, name, AtFlags::empty()) {
            tracing::warn!(%error, name, "a half-written file stays in the inbox");
        }
    }
}

impl Draft {
    /// Asks the policy's scanner.
    ///
    /// # Errors
    /// It did not call the file clean.
    pub fn scan(&self) -> Result<&'static str, String> {
        let filter = &self.inbox.policy.filter;
        let Some((program, hidden)) = filter.scan.as_deref().zip(self.hidden.as_deref()) else {
            return Ok("not scanned");
        };
        let path = self.inbox.policy.folder.join(hidden);
        let path = std::path::absolute(&path).unwrap_or(path);
        scan(program, &path, filter.patience()).map(|()| "clean")
    }

    /// Gives the file its name, or the next one that is free; where it is now.
    pub fn publish(mut self, name: &FileName) -> Result<PathBuf> {
        let folder = self.inbox.policy.folder.clone();
        let failed = |error| Error::file("cannot keep a file in the inbox", &folder)(error);
        let origin = self.inbox.origin.as_bytes();
        // Not every file system has such attributes.
        if let Err(error) = fsetxattr(&self.file, ORIGIN, origin, XattrFlags::empty()) {
            tracing::debug!(%error, "a file does not say where it came from");
        }
        self.file.sync_all().map_err(failed)?;
        let hidden = self.hidden.take().unwrap_or_default();
        for number in 1..=TRIES {
            let wanted = numbered(name.as_str(), number);
            match self.rename(&hidden, &wanted) {
                Ok(()) => {
                    if let Err(error) = rustix::fs::fsync(&*self.inbox.folder) {
                        tracing::debug!(%error, "the inbox is not synced");
                    }
                    return Ok(folder.join(wanted));
                }
                Err(Errno::EXIST) => {}
                Err(error) => {
                    self.hidden = Some(hidden);
                    return Err(failed(error.into()));
                }
            }
        }
        self.hidden = Some(hidden);
        Err(failed(ErrorKind::AlreadyExists.into()))
    }

    /// Renames, but never onto something.
    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let folder = &*self.inbox.folder;
        match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // Not every file system can; a second name never replaces anything either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                linkat(folder, from, folder, to, AtFlags::empty())?;
                self.inbox.remove(from);
                Ok(())
            }
            other => other,
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(hidden) = self.hidden.take() {
            self.inbox.remove(&hidden);
        }
    }
}

/// `Report.pdf`, `Report (2).pdf`, and so on, each no longer than names may be.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let (stem, end) = match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => (stem, format!(".{end}")),
        _ => (name, String::new()),
    };
    let tail = format!(" ({number}){end}");
    let room = FILE_NAME_BYTES.saturating_sub(tail.len());
    let stem = stem
        .get(..stem.floor_char_boundary(room))
        .unwrap_or_default();
    format!("{stem}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Filter;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn inbox(folder: &Path) -> Inbox {
        Inbox::open(FilesOut::new(folder, Filter::default()), "office").unwrap()
    }

    fn name(text: &str) -> FileName {
        Untrusted::claim(Text::<255>::cut(text))
            .file_name()
            .unwrap()
    }

    fn put(inbox: &Inbox, called: &str, text: &str) -> PathBuf {
        let mut draft = inbox.draft(&name(called)).unwrap();
        draft.file.write_all(text.as_bytes()).unwrap();
        draft.publish(&name(called)).unwrap()
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let inbox = inbox(&folder);
        let outside = dir.path().join("outside");
        symlink(&outside, folder.join("Report (2).pdf")).unwrap();
        std::fs::create_dir(folder.join("Report (3).pdf")).unwrap();
        for (text, called) in [("one", "Report.pdf"), ("two", "Report (4).pdf")] {
            let path = put(&inbox, "Report.pdf", text);
            assert_eq!(path, folder.join(called));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            let mode = path.symlink_metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
        assert!(!outside.exists(), "no link is followed");
        assert_eq!(
            folder.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        let long = format!("{}.pdf", "ü".repeat(125));
        put(&inbox, &long, "1");
        let second = put(&inbox, &long, "2");
        let second = second.file_name().unwrap().to_str().unwrap();
        assert!(
            second.len() <= 255 && second.ends_with("ü (2).pdf"),
            "{second}"
        );
        assert_eq!(numbered("README", 2), "README (2)");
    }

    #[test]
    fn a_file_says_where_it_came_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(&inbox(dir.path()), "a.txt", "x");
        let mut value = [0; 64];
        match rustix::fs::getxattr(&path, ORIGIN, &mut value) {
            Ok(length) => assert_eq!(&value[..length], b"medley:office"),
            Err(Errno::NOTSUP) => eprintln!("skipped: no such attributes here"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_is_half_written_is_hidden_and_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let first = inbox(dir.path());
        let names = || {
            let list = std::fs::read_dir(dir.path()).unwrap();
            list.map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let draft = first.draft(&name("a.pdf")).unwrap();
        let hidden = names();
        assert!(hidden.len() == 1 && hidden[0].starts_with('.') && hidden[0].ends_with(".pdf"));
        let left = dir.path().join(format!("{PARTIAL}left.pdf"));
        std::fs::write(&left, "x").unwrap();
        // Another session with the same inbox.
        let _second = inbox(dir.path());
        assert_eq!(names(), hidden, "the living one stays, the other is gone");
        drop(draft);
        assert!(names().is_empty());
    }

    #[test]
    fn what_may_not_come_is_told_why() {
        let dir = tempfile::tempdir().unwrap();
        let filter = Filter {
            types: vec!["pdf".into()],
            bytes: 100,
            ..Filter::default()
        };
        let mut policy = FilesOut::new(dir.path(), filter);
        (policy.most_files, policy.most_bytes) = (2, 150);
        let inbox = Inbox::open(policy, "office").unwrap();
        let why = |name, size| inbox.admit(name, size).err().map(|(refusal, _)| refusal);
        assert_eq!(why("a.pdf", 100), None);
        assert_eq!(why("a.pdf", 101), Some(Refusal::TooLarge));
        for bad in [
            "a.txt",
            "../a.pdf",
            "/etc/a.pdf",
            ".a.pdf",
            "a\u{202e}.pdf",
            "",
        ] {
            assert_eq!(why(bad, 1), Some(Refusal::Kind), "{bad:?}");
        }
        put(&inbox, "a.pdf", &"x".repeat(100));
        assert_eq!(why("b.pdf", 51), Some(Refusal::Declined));
        put(&inbox, "a.pdf", "x");
        assert_eq!(why("b.pdf", 1), Some(Refusal::Declined));
    }
}
