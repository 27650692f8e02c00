//! `medley disk key`: the passphrases that open a disk, and the tokens in its header.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use vdisk::keys::{KeyEdit, KeyFile, TwinReport, TwinState, beside};
use vdisk::luks::{Kdf, SlotId, TokenId};

use crate::args::{KdfArgs, kdf_words, must_be_new};
use crate::cmd::info::HeaderInfo;
use crate::exit::Result;
use crate::output::{Fields, Report, Ui};
use crate::passphrase::{NewPassphraseArgs, PassphraseArgs};
use crate::{progress, secrets};

/// Verbs of `key`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
EXAMPLES
  medley disk key list office.vhd
  medley disk key add office.vhd
  medley disk key export-luks1 office.vhd")]
pub enum Key {
    /// Let another passphrase open the disk
    Add(Add),
    /// Take a passphrase away
    Remove(Remove),
    /// Replace a passphrase by another
    Change(Change),
    /// List the key slots
    List(List),
    /// Write a LUKS1 header of the same key, for QEMU and other software that knows no LUKS2
    ExportLuks1(ExportLuks1),
    /// Manage the tokens: JSON objects that the header carries for others
    #[command(subcommand)]
    Token(super::token::Token),
}

/// Which header.
#[derive(Debug, Args)]
pub struct HeaderArgs {
    /// The disk whose header lies beside it, in DISK.luks
    #[arg(value_name = "DISK", required_unless_present = "header")]
    disk: Option<PathBuf>,
    /// The LUKS2 header, where it lies elsewhere
    #[arg(long, value_name = "PATH")]
    header: Option<PathBuf>,
}

impl HeaderArgs {
    /// Its file.
    pub fn path(&self) -> PathBuf {
        match (&self.header, &self.disk) {
            (Some(header), _) => header.clone(),
            (None, Some(disk)) => beside(disk),
            (None, None) => PathBuf::new(),
        }
    }
}

/// Options of `key add`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  medley disk key add office.vhd
  medley disk key add office.vhd --passphrase-file old.txt --new-passphrase-file new.txt")]
pub struct Add {
    #[command(flatten)]
    header: HeaderArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

/// Options of `key remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
The last passphrase stays: without it the disk's content would be lost for ever.

EXAMPLES
  By the passphrase itself:
    medley disk key remove office.vhd
  By the number of its slot, when it was forgotten; asks for one of the others:
    medley disk key remove office.vhd --slot 1")]
pub struct Remove {
    #[command(flatten)]
    header: HeaderArgs,
    /// Remove the key slot with this number; the passphrase is then that of another slot
    #[arg(long, value_name = "N")]
    slot: Option<SlotId>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// Options of `key change`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  medley disk key change office.vhd
  medley disk key change --header /media/key/office.luks")]
pub struct Change {
    #[command(flatten)]
    header: HeaderArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

/// Options of `key list`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  medley disk key list office.vhd
  medley disk key list office.vhd --json | jq '.slots | length'")]
pub struct List {
    #[command(flatten)]
    header: HeaderArgs,
}

/// Options of `key export-luks1`.
#[derive(Debug, Args)]
#[command(after_help = "\
The twin opens the same disk. Later changes of passphrases follow into it for as long as it lies
where it was made: destroy it when it is no longer needed. QEMU overlooks which sectors of a dynamic VHD were never written and
decrypts those, too, into noise: a disk that it shall read or write through the twin should be
dense (`medley disk encrypt --dense`, `medley disk create --encrypt --dense`).

EXAMPLES
  medley disk key export-luks1 office.vhd
  medley disk key export-luks1 office.vhd --output /run/user/1000/office.luks1")]
pub struct ExportLuks1 {
    #[command(flatten)]
    header: HeaderArgs,
    /// The new header's file; must not exist [default: the header's path with a 1 behind it]
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Rounds of PBKDF2 between the passphrase and the key
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    iterations: u32,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Where it differs from the passphrase of the disk.
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
}

#[derive(Serialize)]
struct Changed {
    verb: &'static str,
    header: PathBuf,
    slot: SlotId,
    kdf: Option<String>,
    /// LUKS1 twins that exist, and what became of them.
    twins: Vec<Twin>,
}

/// What became of a LUKS1 twin.
#[derive(Serialize)]
struct Twin {
    path: PathBuf,
    token: TokenId,
    /// Whether it opens with the same passphrases as the header.
    follows: bool,
    words: String,
}

impl Twin {
    fn of(report: TwinReport) -> Self {
        Self {
            words: report.to_string(),
            follows: report.state == TwinState::Updated,
            path: report.path,
            token: report.token,
        }
    }
}

/// Tells what a change of keys did. A twin that did not follow is a warning: the header did change.
fn changed(
    ui: Ui,
    verb: &'static str,
    header: PathBuf,
    kdf: Option<&Kdf>,
    edit: KeyEdit,
) -> Result<()> {
    let twins: Vec<Twin> = edit.twins.into_iter().map(Twin::of).collect();
    for twin in twins.iter().filter(|twin| !twin.follows) {
        // Quiet people want to know this, too: a passphrase may open more than they think.
        if !ui.json {
            tracing::warn!("{}", twin.words);
        }
    }
    ui.done(&Changed {
        verb,
        header,
        slot: edit.slot,
        kdf: kdf.map(kdf_words),
        twins,
    })
}

impl Report for Changed {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row(
            self.verb,
            format!("key slot {} of {}", self.slot, self.header.display()),
        );
        if let Some(kdf) = &self.kdf {
            fields.row("through", kdf);
        }
        for twin in self.twins.iter().filter(|twin| twin.follows) {
            fields.row("twin", &twin.words);
        }
        fields.to_string()
    }
}

impl Report for HeaderInfo {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        self.rows(&mut fields);
        fields.to_string()
    }
}

#[derive(Serialize)]
struct Exported {
    header: PathBuf,
    twin: PathBuf,
}

impl Report for Exported {
    fn human(&self) -> String {
        format!(
            "exported  {} to {}, LUKS1\n",
            self.header.display(),
            self.twin.display()
        )
    }
}

/// Runs it.
pub fn run(verb: Key, ui: Ui) -> Result<()> {
    secrets::guard();
    match verb {
        Key::Add(args) => add(args, ui),
        Key::Remove(args) => remove(args, ui),
        Key::Change(args) => change(args, ui),
        Key::List(args) => {
            ui.show(&HeaderInfo::read(&args.header.path())?)?;
            Ok(())
        }
        Key::ExportLuks1(args) => export(args, ui),
        Key::Token(verb) => super::token::run(verb, ui),
    }
}

/// Says now what is wrong with a header, not after passphrases were typed.
pub fn judged(path: PathBuf) -> Result<PathBuf> {
    KeyFile::open(&path)?;
    Ok(path)
}

fn add(args: Add, ui: Ui) -> Result<()> {
    let header = judged(args.header.path())?;
    let kdf = args.kdf.kdf()?;
    let passphrase = args.passphrase.read(&header)?;
    let new = args.new_passphrase.read(&header)?;
    let edit = progress::busy(ui, "adding the key", || {
        KeyFile::add_key(&header, &passphrase, &new, &kdf)
    })?;
    changed(ui, "added", header, Some(&kdf), edit)
}

fn remove(args: Remove, ui: Ui) -> Result<()> {
    let header = judged(args.header.path())?;
    let passphrase = args.passphrase.read(&header)?;
    let edit = progress::busy(ui, "removing the key", || match args.slot {
        None => KeyFile::remove_key(&header, &passphrase),
        // Whoever removes a slot without knowing its passphrase shall know another.
        Some(slot) => KeyFile::remove_slot(&header, slot, &passphrase),
    })?;
    changed(ui, "removed", header, None, edit)
}

fn change(args: Change, ui: Ui) -> Result<()> {
    let header = judged(args.header.path())?;
    let kdf = args.kdf.kdf()?;
    let old = args.passphrase.read(&header)?;
    let new = args.new_passphrase.read(&header)?;
    let edit = progress::busy(ui, "changing the key", || {
        KeyFile::change_key(&header, &old, &new, &kdf)
    })?;
    changed(ui, "changed", header, Some(&kdf), edit)
}

fn export(args: ExportLuks1, ui: Ui) -> Result<()> {
    let header = judged(args.header.path())?;
    let twin = args.output.unwrap_or_else(|| {
        let mut name = header.as_os_str().to_owned();
        name.push("1");
        name.into()
    });
    must_be_new(&twin)?;
    let passphrase = args.passphrase.read(&header)?;
    let new = match args.new_passphrase.given() {
        true => args.new_passphrase.read(&twin)?,
        false => passphrase.clone(),
    };
    progress::busy(ui, "exporting the key", || {
        KeyFile::export_luks1(&header, &passphrase, &twin, &new, args.iterations)
    })?;
    ui.done(&Exported { header, twin })?;
    Ok(())
}
