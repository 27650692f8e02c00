//! The folder where the host's files arrive, and a file in it that is not whole yet: it has a hidden name until
//! it is, is removed if it never will be, and takes no other file's place.
use anyhow::{Context, Result, bail};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How many names are tried for a file whose name is taken.
const TRIES: u32 = 1000;

/// Bytes that a file's name may have.
const NAME: usize = medley_wire::limits::FILE_NAME_BYTES;

/// What the names of files that are not whole begin with.
const HIDDEN: &str = ".medley-";

/// The folder for downloads, as the guest's user has chosen it.
#[must_use]
pub fn downloads() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    if let Some(named) = std::env::var_os("XDG_DOWNLOAD_DIR").map(PathBuf::from)
        && named.is_absolute()
    {
        return Some(named);
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.filter(|path| path.is_absolute());
    let config = config.unwrap_or_else(|| home.join(".config"));
    let chosen = fs::read_to_string(config.join("user-dirs.dirs"));
    let chosen = chosen.ok().and_then(|text| chosen_in(&text, &home));
    Some(chosen.unwrap_or_else(|| home.join("Downloads")))
}

/// What `user-dirs.dirs` says. The home folder itself means that somebody wants no such folder.
fn chosen_in(text: &str, home: &Path) -> Option<PathBuf> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("XDG_DOWNLOAD_DIR="))?;
    let value = value.trim().trim_matches('"').trim_end_matches('/');
    let path = match value.strip_prefix("$HOME/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(value),
    };
    (path.is_absolute() && path != home).then_some(path)
}

/// A file that is not whole yet.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    kept: bool,
}

impl Partial {
    /// Makes an empty file in a folder, which is made if it is not there. Only the user may read it.
    ///
    /// # Errors
    /// The folder or the file cannot be made.
    pub fn new(folder: &Path, mark: &str) -> Result<(Self, File)> {
        fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot make the folder", folder.display()))?;
        let path = folder.join(format!("{HIDDEN}{}-{mark}.part", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{}: cannot make", path.display()))?;
        Ok((Self { path, kept: false }, file))
    }

    /// Where it lies for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is whole: it gets its name in the folder where it lies, or that name with a number if it is taken.
    ///
    /// # Errors
    /// Every name is taken, or the folder is gone.
    pub fn keep(mut self, name: &str) -> Result<PathBuf> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        for number in 1..=TRIES {
            let to = folder.join(numbered(name, number));
            let moved = renameat2(
                AT_FDCWD,
                &self.path,
                AT_FDCWD,
                &to,
                RenameFlags::RENAME_NOREPLACE,
            );
            match moved {
                Ok(()) => {
                    self.kept = true;
                    return Ok(to);
                }
                Err(nix::Error::EEXIST) => {}
                Err(errno) => {
                    return Err(errno).with_context(|| format!("{}: cannot make", to.display()));
                }
            }
        }
        bail!("{}: {TRIES} files have that name already", folder.display())
    }

    /// It is whole, and takes the place of that file.
    ///
    /// # Errors
    /// It cannot be moved there.
    pub fn replace(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path)
            .with_context(|| format!("{}: cannot be replaced", path.display()))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what agents that are gone have left half done.
pub fn clean(folder: &Path) {
    let Ok(files) = fs::read_dir(folder) else {
        return;
    };
    for file in files.flatten() {
        let name = file.file_name();
        let process = name.to_str().and_then(|name| {
            let rest = name.strip_prefix(HIDDEN)?.strip_suffix(".part")?;
            rest.split('-').next()?.parse::<u32>().ok()
        });
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// The name for the first, second, … file of that name: the number stands before the extension, as in
/// `report (2).pdf`.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() < 16 => {
            (stem, format!(".{extension}"))
        }
        _ => (name, String::new()),
    };
    let end = format!(" ({number}){extension}");
    let room = NAME.saturating_sub(end.len());
    let stem = &stem[..stem.floor_char_boundary(room)];
    format!("{stem}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn names_are_numbered_and_fit() {
        assert_eq!(numbered("a.tar", 1), "a.tar");
        assert_eq!(numbered("a.b.pdf", 2), "a.b (2).pdf");
        assert_eq!(numbered("README", 3), "README (3)");
        let long = format!("{}.pdf", "ü".repeat(125));
        let second = numbered(&long, 2);
        assert!(second.len() <= NAME && second.ends_with("ü (2).pdf"));
    }

    #[test]
    fn nothing_takes_anothers_place_and_nothing_half_stays() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("new/folder");
        let keep = |text: &str| {
            let (partial, mut file) = Partial::new(&inside, "1").unwrap();
            file.write_all(text.as_bytes()).unwrap();
            partial.keep("a.txt").unwrap()
        };
        std::fs::create_dir_all(&inside).unwrap();
        std::os::unix::fs::symlink("/nowhere", inside.join("a.txt")).unwrap();
        assert_eq!(keep("one"), inside.join("a (2).txt"));
        assert_eq!(keep("two"), inside.join("a (3).txt"));
        assert_eq!(
            std::fs::read_to_string(inside.join("a (2).txt")).unwrap(),
            "one"
        );
        drop(Partial::new(&inside, "2").unwrap());
        std::fs::write(inside.join(".medley-4294967295-7.part"), "old").unwrap();
        let (_busy, _file) = Partial::new(&inside, "3").unwrap();
        clean(&inside);
        let hidden = std::fs::read_dir(&inside).unwrap().flatten();
        let hidden = hidden.filter(|f| f.file_name().to_str().unwrap().starts_with('.'));
        assert_eq!(hidden.count(), 1, "only the one that is being written");
    }

    #[test]
    fn the_users_choice_is_read() {
        let home = Path::new("/home/u");
        let read = |text: &str| chosen_in(text, home);
        assert_eq!(
            read("# x\nXDG_DOWNLOAD_DIR=\"$HOME/Heruntergeladen\"\n"),
            Some(home.join("Heruntergeladen"))
        );
        assert_eq!(
            read("XDG_DOWNLOAD_DIR=\"/data/in/\""),
            Some("/data/in".into())
        );
        for none in [
            "",
            "XDG_DOWNLOAD_DIR=\"$HOME/\"",
            "XDG_DOWNLOAD_DIR=\"down\"",
            "XDG_DESKTOP_DIR=\"$HOME/x\"",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
