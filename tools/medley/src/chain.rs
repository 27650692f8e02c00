//! The parents of a differencing disk: which they are, which LUKS2 header holds the key of each, and which
//! passphrase opens that.
//!
//! Every layer of a chain has a key of its own. A parent's header lies beside it as any disk's does, or where
//! `--parent-header PARENT=PATH` says; its passphrase is the disk's own unless `--parent-passphrase-file
//! PARENT=PATH` or whoever is asked says otherwise. PARENT is the parent's path or file name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use vdisk::chain::{Ancestor, FindKey, Parents, ancestors};
use vdisk::image::DiskKey;
use vdisk::keys::KeyFile;
use vdisk::store::{FileStore, Store};
use vdisk::vhd::{self, Footer, ParentLink};

use crate::args::header_of;
use crate::exit::{Failure, Kind, Result};
use crate::passphrase::{Passphrase, from_file};

/// Something about one parent: `PARENT=PATH`. Either may contain `=`; who the parents are tells where it
/// is parted.
#[derive(Debug, Clone)]
struct OfParent(OsString);

impl OfParent {
    fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(|text| {
            let of = Self(text);
            let sound = of.parts().next().is_some();
            sound
                .then_some(of)
                .ok_or("write it as PARENT=PATH, as in base.vhd=base.pass")
        })
    }

    /// All that it could mean, the shortest parent first.
    fn parts(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let bytes = self.0.as_bytes();
        let path = |bytes| Path::new(OsStr::from_bytes(bytes));
        let equals = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'=');
        equals
            .filter(|(at, _)| *at > 0)
            .map(move |(at, _)| (path(&bytes[..at]), path(&bytes[at + 1..])))
    }

    /// What it says about this parent, if anything.
    fn about(&self, path: &Path) -> Option<&Path> {
        let names = |parent: &Path| match parent.components().count() {
            1 if !parent.is_absolute() => path.file_name() == parent.file_name(),
            _ => parent.canonicalize().is_ok_and(|parent| parent == path),
        };
        self.parts()
            .find_map(|(parent, about)| names(parent).then_some(about))
    }
}

/// How the parents of a differencing disk are opened.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Parents of a differencing disk")]
pub struct ParentArgs {
    /// The LUKS2 header of one parent [default: PARENT.luks beside it]
    #[arg(long, value_name = "PARENT=PATH", value_parser = OfParent::parser())]
    parent_header: Vec<OfParent>,
    /// Read the passphrase of one parent from this file [default: the disk's own passphrase]
    #[arg(long, value_name = "PARENT=PATH", value_parser = OfParent::parser())]
    parent_passphrase_file: Vec<OfParent>,
    /// Take a parent that was written to since the child was made, or is another disk
    #[arg(long)]
    pub force_parent: bool,
}

/// A parent that was found.
pub struct Parent {
    /// Its file, absolute.
    pub path: PathBuf,
    /// Its footer.
    pub footer: Footer,
    /// Its header, if it is encrypted and the header is there.
    pub header: Option<PathBuf>,
}

impl Parent {
    /// Its name for people.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Whether it is encrypted, with its header at hand or not.
    pub fn encrypted(&self) -> bool {
        self.header.is_some() || self.footer.luks.is_some()
    }

    /// Its key, if it is encrypted.
    pub fn unlock(&self, passphrase: &Passphrase, named: bool) -> Result<Option<Arc<DiskKey>>> {
        let Some(header) = &self.header else {
            return match self.footer.luks {
                None => Ok(None),
                Some(uuid) => Err(Failure::new(
                    Kind::Key,
                    format!(
                        "{}: encrypted under LUKS header {uuid}, which is not beside it",
                        self.path.display()
                    ),
                )
                .remedy(&format!(
                    "name it with --parent-header {}=PATH",
                    self.name()
                ))),
            };
        };
        let key = KeyFile::open(header)?
            .unlock(passphrase)
            .map_err(Failure::from);
        key.map(|key| Some(Arc::new(key))).map_err(|failure| match failure.kind() {
            Kind::Key if !named => failure.remedy(&format!(
                "if this parent has a passphrase of its own, give it with --parent-passphrase-file {}=PATH",
                self.name()
            )),
            _ => failure,
        })
    }
}

impl ParentArgs {
    /// The parents of the VHD `disk`, nearest first. Nothing stays locked: they may be in use.
    pub fn find(&self, disk: &Path) -> Result<Vec<Parent>> {
        let parents = self.walk(disk)?.1;
        self.check_names(disk, &parents)?;
        Ok(parents)
    }

    /// The parents that a rebase of `disk` onto `new` has to open: the new ones, and the old ones if they
    /// are to be `compared` with them.
    pub fn find_for_rebase(&self, disk: &Path, new: &Path, compared: bool) -> Result<Vec<Parent>> {
        let mut parents = match compared {
            true => self.walk(disk)?.1,
            false => Vec::new(),
        };
        let (footer, above) = self.walk(new)?;
        let new = new
            .canonicalize()
            .map_err(Failure::io(format!("{}: cannot find", new.display())))?;
        for parent in std::iter::once(self.parent(new, footer)).chain(above) {
            if !parents.iter().any(|known| known.path == parent.path) {
                parents.push(parent);
            }
        }
        self.check_names(disk, &parents)?;
        Ok(parents)
    }

    /// The disk's own footer, and its parents.
    fn walk(&self, disk: &Path) -> Result<(Footer, Vec<Parent>)> {
        let store: Arc<dyn Store> = Arc::new(FileStore::open_unlocked(disk)?);
        let opened = vhd::open(store.clone(), true).map_err(|e| e.at_path(disk))?;
        let found = ancestors(disk, &*store, &opened, self.force_parent)?;
        let parent = |Ancestor { path, opened }| self.parent(path, opened.footer);
        Ok((opened.footer, found.into_iter().map(parent).collect()))
    }

    fn parent(&self, path: PathBuf, footer: Footer) -> Parent {
        let named = self.parent_header.iter().find_map(|of| of.about(&path));
        let header = header_of(&path, named, Some(&footer));
        Parent {
            path,
            footer,
            header,
        }
    }

    /// What is said about nobody is a mistake that would show as a wrong passphrase, or not at all.
    fn check_names(&self, disk: &Path, parents: &[Parent]) -> Result<()> {
        for of in self
            .parent_header
            .iter()
            .chain(&self.parent_passphrase_file)
        {
            let meant: Vec<&Parent> = parents
                .iter()
                .filter(|parent| of.about(&parent.path).is_some())
                .collect();
            let said = of.0.display();
            match meant.len() {
                1 => {}
                0 => {
                    let what = format!("{said}: about no parent of {}", disk.display());
                    let names: Vec<String> = parents.iter().map(Parent::name).collect();
                    return Err(Failure::usage(what).remedy(&match names.is_empty() {
                        true => "the disk has no parents".to_owned(),
                        false => format!("its parents are {}", names.join(", ")),
                    }));
                }
                _ => {
                    let what = format!("{said}: several parents of {} are meant", disk.display());
                    let paths: Vec<String> = meant
                        .iter()
                        .map(|parent| parent.path.display().to_string())
                        .collect();
                    let remedy = format!("name one by its path: {}", paths.join(", "));
                    return Err(Failure::usage(what).remedy(&remedy));
                }
            }
        }
        Ok(())
    }

    /// How the parents are opened, with the keys that `find` finds.
    pub fn with<'a>(&self, find: &'a FindKey<'a>) -> Parents<'a> {
        Parents {
            keys: find,
            force_parent: self.force_parent,
        }
    }

    /// The passphrase that was given for this parent alone.
    pub fn passphrase(&self, parent: &Parent) -> Result<Option<Passphrase>> {
        let given = self
            .parent_passphrase_file
            .iter()
            .find_map(|of| of.about(&parent.path));
        given.map(from_file).transpose()
    }

    /// Refuses what is said about parents of a disk that can have none.
    pub fn check_no_parents(&self, disk: &Path) -> Result<()> {
        match self
            .parent_header
            .iter()
            .chain(&self.parent_passphrase_file)
            .next()
        {
            None => Ok(()),
            Some(of) => Err(Failure::usage(format!(
                "{}: about no parent of {}, which is no differencing disk",
                of.0.display(),
                disk.display()
            ))),
        }
    }

    /// The same options for a process that gets the passphrases on its standard input.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        if self.force_parent {
            args.push("--force-parent".into());
        }
        for of in &self.parent_header {
            args.extend(["--parent-header".into(), of.0.clone()]);
        }
        args
    }
}

/// What a disk says about its parent, whether that is there or not.
pub fn link(disk: &Path) -> Result<Option<ParentLink>> {
    let store: Arc<dyn Store> = Arc::new(FileStore::open_unlocked(disk)?);
    let opened = vhd::open(store, true).map_err(|e| e.at_path(disk))?;
    Ok(opened.parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer::new(vhd::DiskType::Dynamic, 512)
    }

    #[test]
    fn both_names_may_contain_equals_signs() {
        let about = |text: &str, parent: &str| {
            let of = OfParent(text.into());
            of.about(Path::new(parent)).map(Path::to_owned)
        };
        assert_eq!(about("b.vhd=k=1.luks", "/d/b.vhd"), Some("k=1.luks".into()));
        assert_eq!(about("b=1.vhd=k=2", "/d/b=1.vhd"), Some("k=2".into()));
        assert_eq!(about("b.vhd=k", "/d/k"), None);
        assert!(OfParent("=k".into()).parts().next().is_none());
        assert!(OfParent("k".into()).parts().next().is_none());
    }

    #[test]
    fn a_name_that_two_parents_have_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let paths = ["one", "two"].map(|folder| root.join(folder).join("base.vhd"));
        for path in &paths {
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let parents = paths.clone().map(|path| Parent {
            path,
            footer: footer(),
            header: None,
        });
        let check = |name: &Path| {
            let mut text = name.as_os_str().to_owned();
            text.push("=h.luks");
            let args = ParentArgs {
                parent_header: vec![OfParent(text)],
                ..ParentArgs::default()
            };
            args.check_names(Path::new("top.vhd"), &parents)
        };
        let failure = check(Path::new("base.vhd")).unwrap_err();
        assert_eq!(failure.kind(), Kind::Usage);
        for path in &paths {
            assert!(failure.to_string().contains(path.to_str().unwrap()));
            check(path).unwrap();
        }
        check(Path::new("other.vhd")).unwrap_err();
    }
}
