//! Options that several commands share, and what they lead to: which file, which header, which key, and
//! what may be written.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use medley_memory::Host;
use uuid::Uuid;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, OpenedImage, Probe, probe};
use vdisk::keys::{KeyFile, beside};
use vdisk::luks::Kdf;
use vdisk::overlay::OverlayOptions;
use vdisk::vhd::Footer;

use crate::chain::{Parent, ParentArgs};
use crate::exit::{Failure, Kind, Result};
use crate::output::Ui;
use crate::passphrase::{Passphrase, PassphraseArgs, Secrets};
use crate::{passphrase, progress, secrets, size};

/// The names of formats, for `value_parser`.
pub fn format() -> impl TypedValueParser<Value = Format> {
    let names = [Format::VhdDynamic, Format::VhdFixed, Format::Raw].map(Format::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Format>())
}

/// A disk that is there.
#[derive(Debug, Args)]
pub struct DiskArgs {
    /// The disk's file
    #[arg(value_name = "DISK")]
    pub disk: PathBuf,
    /// The LUKS2 header that holds its key [default: DISK.luks, where it exists]
    #[arg(long, value_name = "PATH")]
    pub header: Option<PathBuf>,
    /// Take the file for this format instead of finding out; safer for raw disks that guests write
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    pub input_format: Option<Format>,
    /// How it is opened, if it is encrypted.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// How its parents are opened, if it has any.
    #[command(flatten)]
    pub parents: ParentArgs,
}

/// The keys of a disk and its parents.
#[derive(Default)]
pub struct Keys {
    /// The disk's own, if it is encrypted.
    pub own: Option<DiskKey>,
    /// Those of encrypted parents, with their files.
    parents: Vec<(PathBuf, Arc<DiskKey>)>,
}

impl Keys {
    /// Whether anything is encrypted.
    pub fn any(&self) -> bool {
        self.own.is_some() || !self.parents.is_empty()
    }

    /// Finds the key of a parent by its file.
    pub fn finder(&self) -> impl Fn(&Path, Option<Uuid>) -> vdisk::Result<Option<Arc<DiskKey>>> {
        move |path, _| {
            let key = self.parents.iter().find(|(parent, _)| parent == path);
            Ok(key.map(|(_, key)| key.clone()))
        }
    }
}

/// What a look at a disk's file tells, before any secret is needed.
pub struct Found {
    /// The format and size.
    pub probe: Probe,
    /// The header's file, if the disk is encrypted.
    pub header: Option<PathBuf>,
}

impl DiskArgs {
    /// Looks at the file and for its header.
    pub fn find(&self) -> Result<Found> {
        let probe = match self.input_format {
            Some(Format::Raw) => {
                let file_len = file_len(&self.disk)?;
                Probe {
                    format: Format::Raw,
                    footer: None,
                    size: file_len,
                    file_len,
                }
            }
            _ => probe(&self.disk)?,
        };
        let header = header_of(&self.disk, self.header.as_deref(), probe.footer.as_ref());
        Ok(Found { probe, header })
    }

    /// The disk's parents, nearest first.
    pub fn parents(&self, found: &Found) -> Result<Vec<Parent>> {
        match found.probe.format {
            Format::VhdDifferencing => self.parents.find(&self.disk),
            _ => self
                .parents
                .check_no_parents(&self.disk)
                .map(|()| Vec::new()),
        }
    }

    /// Asks for the passphrases of the disk and its parents, if one of them is encrypted.
    pub fn secrets(&self, found: &Found) -> Result<Option<Secrets>> {
        self.secrets_for(found, &self.parents(found)?)
    }

    fn secrets_for(&self, found: &Found, parents: &[Parent]) -> Result<Option<Secrets>> {
        if found.header.is_none() && !parents.iter().any(Parent::encrypted) {
            return Ok(None);
        }
        // Nobody wants to type a passphrase for a header that cannot be read.
        for header in found
            .header
            .iter()
            .chain(parents.iter().filter_map(|p| p.header.as_ref()))
        {
            KeyFile::open(header)?;
        }
        secrets::guard();
        if let Some(secrets) = self.passphrase.handed_down(1 + parents.len())? {
            return Ok(Some(secrets));
        }
        let given = self.passphrase.given()?;
        let asks = given.is_none();
        let own = match (given, &found.header) {
            (Some(given), _) => given,
            (None, Some(_)) => passphrase::ask_for(&self.disk)?,
            (None, None) => Passphrase::default(),
        };
        let mut secrets = Secrets::new(own);
        for parent in parents {
            let own = match self.parents.passphrase(parent)? {
                Some(given) => Some(given),
                None if asks && parent.header.is_some() => {
                    passphrase::ask_for_parent(&parent.path, found.header.is_some())?
                }
                None => None,
            };
            secrets.push(own);
        }
        Ok(Some(secrets))
    }

    /// The keys of the disk and its parents, as far as they are encrypted.
    pub fn unlock(&self, ui: Ui, found: &Found) -> Result<Keys> {
        self.unlock_all(ui, found, self.parents(found)?)
    }

    /// The key of the disk alone.
    pub fn unlock_own(&self, ui: Ui, found: &Found) -> Result<Keys> {
        self.unlock_all(ui, found, Vec::new())
    }

    /// The keys of the disk and of the parents that a rebase onto `parent` opens.
    pub fn unlock_for_rebase(
        &self,
        ui: Ui,
        found: &Found,
        parent: &Path,
        compared: bool,
    ) -> Result<Keys> {
        let parents = self.parents.find_for_rebase(&self.disk, parent, compared)?;
        self.unlock_all(ui, found, parents)
    }

    fn unlock_all(&self, ui: Ui, found: &Found, parents: Vec<Parent>) -> Result<Keys> {
        let Some(secrets) = self.secrets_for(found, &parents)? else {
            return Ok(Keys::default());
        };
        progress::busy(ui, "unlocking", || {
            let mut keys = Keys::default();
            if let Some(header) = &found.header {
                keys.own = Some(KeyFile::open(header)?.unlock(secrets.own())?);
            }
            for (index, parent) in parents.into_iter().enumerate() {
                let (passphrase, named) = secrets.of_parent(index);
                if let Some(key) = parent.unlock(passphrase, named)? {
                    keys.parents.push((parent.path, key));
                }
            }
            Ok(keys)
        })
    }

    /// Opens the disk.
    pub fn open(&self, ui: Ui, mode: Mode, keys: &Keys) -> Result<OpenedImage> {
        let image = OpenImage {
            path: &self.disk,
            format: self.input_format,
            mode,
            key: keys.own.as_ref(),
        };
        let find = keys.finder();
        let opened = image.open_above(&self.parents.with(&find))?;
        for trouble in &opened.troubles {
            ui.note(format_args!(
                "medley: warning: {}: {trouble}",
                self.disk.display()
            ));
        }
        Ok(opened)
    }

    /// The same options for a process that gets the passphrases on its standard input.
    pub fn to_args(&self, encrypted: bool) -> Vec<OsString> {
        let mut args = self.parents.to_args();
        if let Some(header) = &self.header {
            args.extend(["--header".into(), header.into()]);
        }
        if let Some(format) = self.input_format {
            args.extend(["--input-format".into(), format.name().into()]);
        }
        if encrypted {
            args.extend(["--secrets-fd".into(), "0".into()]);
        }
        args
    }
}

/// The header of a disk that is encrypted: the one that was named, or the one beside it. A VHD of ours
/// says in its footer whether it is encrypted; about others only a header tells.
pub fn header_of(disk: &Path, named: Option<&Path>, footer: Option<&Footer>) -> Option<PathBuf> {
    if let Some(header) = named {
        return Some(header.to_owned());
    }
    let ours =
        footer.is_some_and(|footer| footer.creator == Footer::new(footer.disk_type, 512).creator);
    let marked = footer.is_some_and(|footer| footer.luks.is_some());
    let beside = beside(disk);
    let there = beside.symlink_metadata().is_ok();
    (there && (marked || !ours)).then_some(beside)
}

/// Length of a file or block device.
fn file_len(path: &Path) -> Result<u64> {
    use vdisk::store::{FileStore, Store};
    Ok(FileStore::open_unlocked(path)?.len()?)
}

/// Refuses an output that exists, before anybody waits for anything.
pub fn must_be_new(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(
            Failure::usage(format!("{}: the file exists already", path.display()))
                .remedy("choose another name or remove it"),
        ),
    }
}

/// What may be written.
#[derive(Debug, Clone, Args)]
pub struct ModeArgs {
    /// Write nothing
    #[arg(long, group = "mode")]
    pub read_only: bool,
    /// Let it be written, and forget everything at the end
    #[arg(long, groups = ["mode", "session"])]
    pub revertible: bool,
    /// Write into the disk: changes stay
    #[arg(long, group = "mode")]
    pub keep: bool,
    /// Where writes go that do not go into the disk.
    #[command(flatten)]
    pub session: SessionArgs,
}

impl ModeArgs {
    /// The mode; read-only unless said otherwise.
    pub fn mode(&self) -> Result<Mode> {
        match self {
            Self { keep: true, .. } => Ok(Mode::Keep),
            Self {
                revertible,
                session,
                ..
            } if *revertible || session.overlay.is_some() => Ok(session.mode()),
            // clap does not ask for an option that could not stand beside those that are there.
            Self { session, .. } if session.quota.is_some() || session.force_base => {
                Err(Failure::usage("--quota, --force-base: nothing is written")
                    .remedy("add --revertible or --overlay FILE"))
            }
            _ => Ok(Mode::ReadOnly),
        }
    }

    /// The same options for another process.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = self.session.to_args();
        if self.keep {
            args.push("--keep".into());
        }
        if self.revertible {
            args.push("--revertible".into());
        }
        args
    }
}

/// Where writes of a session go.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// Write into this overlay, which is made if it is not there: changes are there again the next time
    #[arg(long, value_name = "FILE", groups = ["mode", "session"])]
    pub overlay: Option<PathBuf>,
    /// Most that the overlay may take; the disk is full then
    #[arg(long, value_name = "SIZE", value_parser = size::parse, conflicts_with = "keep")]
    quota: Option<u64>,
    /// Take the disk though it was written since the overlay was made
    #[arg(long, requires = "overlay", conflicts_with_all = ["keep", "revertible"])]
    force_base: bool,
    /// Folder for what a revertible session writes [default: the folder for temporary files]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["keep", "overlay"])]
    overlay_dir: Option<PathBuf>,
}

impl SessionArgs {
    /// Most that may be written.
    pub fn quota(&self) -> Option<u64> {
        self.quota
    }

    /// Revertible, unless an overlay is named.
    pub fn mode(&self) -> Mode {
        match &self.overlay {
            Some(overlay) => Mode::Durable {
                overlay: overlay.clone(),
                options: OverlayOptions {
                    quota: self.quota,
                    force_base: self.force_base,
                    ..OverlayOptions::default()
                },
            },
            None => Mode::Revertible {
                dir: self.overlay_dir.clone().unwrap_or_else(std::env::temp_dir),
            },
        }
    }

    /// Puts the quota on an overlay that does not know it yet.
    pub fn limit(&self, opened: &OpenedImage) {
        if let (Some(overlay), Some(quota)) = (&opened.overlay, self.quota) {
            overlay.set_quota(Some(quota));
        }
    }

    fn to_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        for (name, path) in [
            ("--overlay", &self.overlay),
            ("--overlay-dir", &self.overlay_dir),
        ] {
            if let Some(path) = path {
                args.extend([name.into(), path.into()]);
            }
        }
        if let Some(quota) = self.quota {
            args.extend(["--quota".into(), quota.to_string().into()]);
        }
        if self.force_base {
            args.push("--force-base".into());
        }
        args
    }
}

/// A mode's name.
pub fn mode_name(mode: &Mode) -> &'static str {
    match mode {
        Mode::ReadOnly => "read-only",
        Mode::Keep => "keep",
        Mode::Revertible { .. } => "revertible",
        Mode::Durable { .. } => "durable",
    }
}

/// How costly guessing the passphrase shall be.
#[derive(Debug, Clone, Args)]
pub struct KdfArgs {
    /// Memory that every unlock needs (Argon2id) [default: half of what is free, up to 512M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    kdf_memory: Option<u64>,
    /// Passes over that memory [default: 4]
    #[arg(long, value_name = "N")]
    kdf_time: Option<u32>,
}

impl KdfArgs {
    /// The key derivation to use.
    pub fn kdf(&self) -> Result<Kdf> {
        let free = Host::read().map_or(u64::MAX, |host| host.spare_mib().saturating_mul(1 << 20));
        let Kdf::Argon2id {
            time,
            memory_kib,
            lanes,
        } = Kdf::default_for(free)
        else {
            return Err(Failure::failed(
                "the default key derivation is not Argon2id",
            ));
        };
        let memory_kib = match self.kdf_memory {
            Some(bytes) => u32::try_from(bytes >> 10)
                .map_err(|_| Failure::new(Kind::Usage, "--kdf-memory: at most 4 TiB"))?,
            None => memory_kib,
        };
        let lanes = lanes.min(memory_kib / 8).max(1);
        Ok(Kdf::Argon2id {
            time: self.kdf_time.unwrap_or(time),
            memory_kib,
            lanes,
        })
    }
}

/// A key derivation in a few words.
pub fn kdf_words(kdf: &Kdf) -> String {
    let argon2 = |name, time, memory_kib, lanes| {
        let memory = size::human(u64::from(memory_kib) << 10);
        let s = |n| if n == 1 { "" } else { "s" };
        format!(
            "{name}, {memory}, {time} pass{}, {lanes} lane{}",
            if time == 1 { "" } else { "es" },
            s(lanes)
        )
    };
    match *kdf {
        Kdf::Argon2id {
            time,
            memory_kib,
            lanes,
        } => argon2("Argon2id", time, memory_kib, lanes),
        Kdf::Argon2i {
            time,
            memory_kib,
            lanes,
        } => argon2("Argon2i", time, memory_kib, lanes),
        Kdf::Pbkdf2 { hash, iterations } => format!("PBKDF2-{}, {iterations} rounds", hash.name()),
    }
}
