//! A guest's file tree under construction, and the closure of libraries that a program needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run;

/// A folder that becomes a guest's root file system.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty tree in the new folder `root`.
    pub fn create(root: PathBuf) -> Result<Self> {
        fs::create_dir(&root).with_context(|| format!("cannot create {}", root.display()))?;
        // The root folder of a file system is for everybody, whatever our umask.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        Ok(Self { root })
    }

    /// Where the tree lies.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Creates a directory and its parents. `path` is absolute inside the guest.
    pub fn directory(&self, path: &str) -> Result<()> {
        let path = self.inside(path);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    /// Writes a file, with its parents.
    pub fn file(&self, path: &str, mode: u32, data: impl AsRef<[u8]>) -> Result<()> {
        let path = self.with_parent(path)?;
        fs::write(&path, data).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Makes a symbolic link, with its parents.
    pub fn link(&self, path: &str, target: &str) -> Result<()> {
        let path = self.with_parent(path)?;
        symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))
    }

    /// Copies a file of this machine to the same place, its links followed.
    pub fn copy(&self, file: &Path) -> Result<()> {
        self.copy_to(file, &file.to_string_lossy())
    }

    /// Copies a file of this machine to `path`, its links followed.
    pub fn copy_to(&self, file: &Path, path: &str) -> Result<()> {
        let to = self.with_parent(path)?;
        fs::copy(file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(())
    }

    /// Copies a folder of this machine to the same place, but for what `skip` names. Links to files
    /// become files.
    pub fn copy_folder(&self, folder: &Path, skip: impl Fn(&Path) -> bool + Copy) -> Result<()> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if skip(&path) {
                continue;
            }
            if path.is_dir() {
                self.copy_folder(&path, skip)?;
            } else if path.is_file() {
                self.copy(&path)?;
            }
        }
        Ok(())
    }

    /// Whether the tree has this path already.
    pub fn has(&self, path: &str) -> bool {
        self.inside(path).symlink_metadata().is_ok()
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn with_parent(&self, path: &str) -> Result<PathBuf> {
        let path = self.inside(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        Ok(path)
    }
}

/// The programs and all libraries they load, the dynamic loader among them.
pub fn closure(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let output = run::capture(run::command("ldd", [""; 0]).args(programs))?;
    Ok(programs.iter().cloned().chain(parse_ldd(&output)).collect())
}

/// Library paths in what `ldd` prints: `name => /path (address)` or `/path (address)`.
fn parse_ldd(output: &str) -> Vec<PathBuf> {
    let words = output
        .lines()
        .filter(|line| line.starts_with(char::is_whitespace));
    words
        .filter_map(|line| line.rsplit_once(" (").map(|(left, _address)| left))
        .filter_map(|left| left.split("=>").last().map(str::trim))
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The installed packages that own `files`, with their versions.
pub fn owners<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<BTreeMap<String, String>> {
    // A library is registered under /lib or under /usr/lib, while both lead to it.
    let mut names = Vec::new();
    for file in files {
        names.push(file.to_owned());
        match file.strip_prefix("/usr") {
            Ok(rest) => names.push(Path::new("/").join(rest)),
            Err(_) => names.push(Path::new("/usr").join(file.strip_prefix("/").unwrap_or(file))),
        }
    }
    let output = run::answer(run::command("dpkg-query", ["-S"]).args(names))?;
    let packages: BTreeSet<_> = output
        .lines()
        .filter_map(|line| Some(line.split_once(": ")?.0.split(", ").next()?.to_owned()))
        .collect();
    versions(packages.iter().map(String::as_str))
}

fn versions<'a>(packages: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, String>> {
    let format = "-f=${Package}\t${Version}\n";
    let output = run::capture(&mut run::command(
        "dpkg-query",
        ["-W", format].into_iter().chain(packages),
    ))?;
    let rows = output.lines().filter_map(|line| line.split_once('\t'));
    Ok(rows
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let output = "\
/usr/bin/xterm:
\tlinux-vdso.so.1 (0x00007fff)
\tlibXft.so.2 => /lib/x86_64-linux-gnu/libXft.so.2 (0x00007f1)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)
\tlibgone.so => not found
";
        let paths = parse_ldd(output);
        assert_eq!(
            paths,
            [
                Path::new("/lib/x86_64-linux-gnu/libXft.so.2"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn links_become_files() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("real"), b"x").unwrap();
        symlink("../real", from.join("sub/link")).unwrap();
        fs::write(from.join("sub/skipped"), b"y").unwrap();
        let tree = Tree::create(dir.path().join("tree")).unwrap();
        tree.copy_folder(&from, |path| path.ends_with("skipped"))
            .unwrap();
        let copied = tree.inside(&from.join("sub/link").to_string_lossy());
        assert_eq!(fs::read(&copied).unwrap(), b"x");
        assert!(!copied.symlink_metadata().unwrap().is_symlink());
        assert!(!tree.has(&from.join("sub/skipped").to_string_lossy()));
    }
}
