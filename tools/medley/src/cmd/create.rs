//! `medley disk create`: a new disk, empty or the child of another.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vdisk::ErrorKind;
use vdisk::chain::NewChild;
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, probe};
use vdisk::keys::{KeyDraft, KeyFile, beside};
use vdisk::luks::Kdf;

use crate::args::{KdfArgs, format, kdf_words, must_be_new};
use crate::exit::{Failure, Result};
use crate::output::{Fields, Report, Ui};
use crate::passphrase::{NewPassphraseArgs, Passphrase, PassphraseArgs};
use crate::{progress, secrets, signals, size};

/// Options of `create`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  An encrypted disk of 20 GiB in a file that grows, its key in office.vhd.luks:
    medley disk create office.vhd --size 20G --encrypt
  A differencing disk: it reads as base.vhd does and takes what is written; base.vhd must never be
  written to again:
    medley disk create child.vhd --parent base.vhd
  A plain one:
    medley disk create scratch.vhd --size 512M
  With the passphrase from a password manager:
    pass show office | medley disk create office.vhd --size 20G --encrypt --passphrase-file -")]
pub struct Create {
    /// The new disk's file; must not exist
    #[arg(value_name = "DISK")]
    disk: PathBuf,
    /// Size of the disk: 512M, 10G, …
    #[arg(long, value_name = "SIZE", value_parser = size::parse, required_unless_present = "parent")]
    size: Option<u64>,
    /// Format of the file
    #[arg(long, value_name = "FORMAT", value_parser = format(), default_value = "vhd-dynamic")]
    format: Format,
    /// Make a differencing disk above this VHD; of an encrypted parent the child is encrypted, too
    #[arg(long, value_name = "PARENT", conflicts_with_all = ["size", "format", "dense"])]
    parent: Option<PathBuf>,
    /// Encrypt it under a new key
    #[arg(long)]
    encrypt: bool,
    /// Write every sector, zeros too: for a disk that QEMU shall use through a LUKS1 header
    #[arg(long, requires = "encrypt")]
    dense: bool,
    /// Where the new LUKS2 header with the key goes [default: DISK.luks]
    #[arg(long, value_name = "PATH", requires = "encrypt")]
    header: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

#[derive(Serialize)]
struct Created {
    disk: PathBuf,
    format: &'static str,
    size: u64,
    /// The parent, absolute.
    parent: Option<PathBuf>,
    encryption: Option<NewHeader>,
}

impl Report for Created {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row(
            "created",
            format!(
                "{}, {}, {}",
                self.disk.display(),
                self.format,
                size::human(self.size)
            ),
        );
        if let Some(parent) = &self.parent {
            fields.row("parent", parent.display().to_string());
        }
        if let Some(header) = &self.encryption {
            header.rows(&mut fields);
        }
        fields.to_string()
    }
}

/// Runs it.
pub fn run(args: Create, ui: Ui) -> Result<()> {
    must_be_new(&args.disk)?;
    if let Some(parent) = &args.parent {
        let footer = probe(parent)?.footer;
        if !args.encrypt && footer.is_some_and(|footer| footer.luks.is_some()) {
            return Err(needs_key(&args.disk));
        }
    }
    let _watch = signals::Watch::start()?;
    let passphrase = new_passphrase(&args.passphrase, &args.new_passphrase);
    let draft = match args.encrypt {
        true => Some(HeaderDraft::create(
            ui,
            &args.disk,
            args.header.as_deref(),
            &args.kdf,
            || passphrase.read(&args.disk),
        )?),
        false => None,
    };
    let created = match &args.parent {
        Some(parent) => child(&args.disk, parent, draft)?,
        None => {
            let size = args.size.unwrap_or_default();
            let key = draft.as_ref().map(|draft| &draft.key);
            let mut image = NewImage::create(&args.disk, args.format, size, key)?;
            if args.dense {
                image = image.dense();
            }
            let bytes = progress::Bytes::new(ui, "filling", size);
            let filled = image.fill_with_zeros(&|done| bytes.at(done));
            drop(bytes);
            signals::check()?;
            filled?;
            Created {
                encryption: finish(image, &args.disk, draft)?,
                disk: args.disk,
                format: args.format.name(),
                size,
                parent: None,
            }
        }
    };
    ui.done(&created)?;
    Ok(())
}

fn needs_key(disk: &Path) -> Failure {
    let what = "the parent is encrypted, the new disk would not be";
    Failure::usage(format!("{}: {what}", disk.display()))
        .remedy("add --encrypt: the new disk gets a key of its own")
}

/// A differencing disk.
fn child(disk: &Path, parent: &Path, draft: Option<HeaderDraft>) -> Result<Created> {
    let (draft, made, key) = match draft {
        Some(HeaderDraft { key, draft, made }) => (Some(draft), Some(made), Some(key)),
        None => (None, None, None),
    };
    let draft = draft.zip(made.as_ref().map(|made| made.header.as_path()));
    let footer = publish(disk, draft, || {
        let child = NewChild {
            path: disk,
            parent,
            key: key.as_ref(),
        };
        child.create().map_err(|error| match error.kind() {
            // Further up the chain, where nobody has looked yet.
            ErrorKind::Key => needs_key(disk),
            _ => error.into(),
        })
    })?;
    Ok(Created {
        disk: disk.to_owned(),
        format: Format::VhdDifferencing.name(),
        size: footer.current_size,
        // It is there: the child was made above it.
        parent: parent.canonicalize().ok(),
        encryption: made,
    })
}

/// Gives a disk that is complete its name, and before that its header, so that no disk is ever there
/// without its key.
pub fn finish(
    image: NewImage,
    disk: &Path,
    draft: Option<HeaderDraft>,
) -> Result<Option<NewHeader>> {
    let Some(HeaderDraft { draft, made, .. }) = draft else {
        image.finish()?;
        return Ok(None);
    };
    must_be_new(disk)?;
    // The long part first: between header and disk there is but a moment in which to be killed.
    image.flush()?;
    publish(disk, Some((draft, &made.header)), || Ok(image.finish()?))?;
    Ok(Some(made))
}

/// Gives a header its name, and then its disk.
fn publish<T>(
    disk: &Path,
    header: Option<(KeyDraft, &Path)>,
    finish: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some((draft, header)) = header else {
        return finish();
    };
    draft.publish()?;
    let finished = finish();
    // Where there is a disk under this name, it may be the one that needs this header.
    if finished.is_err()
        && matches!(disk.try_exists(), Ok(false))
        && let Err(error) = std::fs::remove_file(header)
    {
        let path = header.display();
        tracing::warn!(%path, %error, "cannot remove the header of a disk that was not made");
    }
    finished
}

/// Where a new passphrase comes from when no other one is needed: both spellings mean it then.
pub fn new_passphrase(given: &PassphraseArgs, new: &NewPassphraseArgs) -> NewPassphraseArgs {
    if new.given() {
        new.clone()
    } else {
        given.as_new()
    }
}

/// A new header whose file gets its name together with the disk that it was made for, in [`finish`].
pub struct HeaderDraft {
    /// The disk's key.
    pub key: DiskKey,
    draft: KeyDraft,
    made: NewHeader,
}

/// A header that was made.
#[derive(Debug, Clone, Serialize)]
pub struct NewHeader {
    header: PathBuf,
    uuid: String,
    kdf: String,
}

impl NewHeader {
    /// For people.
    pub fn rows(&self, fields: &mut Fields) {
        fields.row("key", format!("{} ({})", self.header.display(), self.uuid));
        fields.more(format!("passphrase through {}", self.kdf));
    }
}

impl HeaderDraft {
    /// Makes a header for a disk to be.
    pub fn create(
        ui: Ui,
        disk: &Path,
        header: Option<&Path>,
        kdf: &KdfArgs,
        passphrase: impl FnOnce() -> Result<Passphrase>,
    ) -> Result<Self> {
        let path = header.map_or_else(|| beside(disk), Path::to_owned);
        must_be_new(&path)?;
        let kdf: Kdf = kdf.kdf()?;
        secrets::guard();
        let passphrase = passphrase()?;
        // The label is only for people; 47 bytes fit.
        let name = disk.file_stem().unwrap_or_default().to_string_lossy();
        let label: String = name
            .chars()
            .scan(0, |len, c| {
                *len += c.len_utf8();
                (*len <= 47).then_some(c)
            })
            .collect();
        let made = progress::busy(ui, "deriving the key", || {
            KeyFile::draft(&path, &label, &passphrase, kdf)
        });
        let (draft, key) = made?;
        let uuid = draft.header().uuid().to_owned();
        let made = NewHeader {
            header: path,
            uuid,
            kdf: kdf_words(&kdf),
        };
        signals::check()?;
        Ok(Self { key, draft, made })
    }
}
