//! `medley disk create`: a new, empty disk.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format};
use vdisk::keys::{KeyDraft, KeyFile, beside};
use vdisk::luks::Kdf;

use crate::args::{KdfArgs, format, kdf_words, must_be_new};
use crate::exit::Result;
use crate::output::{Fields, Report, Ui};
use crate::passphrase::{NewPassphraseArgs, Passphrase, PassphraseArgs};
use crate::{progress, secrets, signals, size};

/// Options of `create`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  An encrypted disk of 20 GiB in a file that grows, its key in office.vhd.luks:
    medley disk create office.vhd --size 20G --encrypt
  A plain one:
    medley disk create scratch.vhd --size 512M
  With the passphrase from a password manager:
    pass show office | medley disk create office.vhd --size 20G --encrypt --passphrase-file -")]
pub struct Create {
    /// The new disk's file; must not exist
    #[arg(value_name = "DISK")]
    disk: PathBuf,
    /// Size of the disk: 512M, 10G, …
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: u64,
    /// Format of the file
    #[arg(long, value_name = "FORMAT", value_parser = format(), default_value = "vhd-dynamic")]
    format: Format,
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
        if let Some(header) = &self.encryption {
            header.rows(&mut fields);
        }
        fields.to_string()
    }
}

/// Runs it.
pub fn run(args: Create, ui: Ui) -> Result<()> {
    must_be_new(&args.disk)?;
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
    let key = draft.as_ref().map(|draft| &draft.key);
    let mut image = NewImage::create(&args.disk, args.format, args.size, key)?;
    if args.dense {
        image = image.dense();
    }
    let bytes = progress::Bytes::new(ui, "filling", args.size);
    let filled = image.fill_with_zeros(&|done| bytes.at(done));
    drop(bytes);
    signals::check()?;
    filled?;
    let encryption = finish(image, &args.disk, draft)?;
    ui.done(&Created {
        disk: args.disk,
        format: args.format.name(),
        size: args.size,
        encryption,
    })?;
    Ok(())
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
    draft.publish()?;
    if let Err(error) = image.finish() {
        // Where there is a disk under this name, it may be the one that needs this header.
        if matches!(disk.try_exists(), Ok(false))
            && let Err(error) = std::fs::remove_file(&made.header)
        {
            let path = made.header.display();
            tracing::warn!(%path, %error, "cannot remove the header of a disk that was not made");
        }
        return Err(error.into());
    }
    Ok(Some(made))
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
