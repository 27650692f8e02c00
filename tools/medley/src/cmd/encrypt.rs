//! `medley disk encrypt`: an encrypted copy of a disk under a key of its own.

use std::path::PathBuf;

use clap::Args;
use vdisk::image::{Format, Mode};

use crate::args::{DiskArgs, KdfArgs, format, must_be_new};
use crate::cmd::convert::Job;
use crate::cmd::create::{HeaderDraft, new_passphrase};
use crate::exit::Result;
use crate::output::Ui;
use crate::passphrase::NewPassphraseArgs;
use crate::signals;

/// Options of `encrypt`.
#[derive(Debug, Args)]
#[command(after_help = "\
The input stays as it is. If it is encrypted itself, --passphrase-… opens it and
--new-passphrase-… is for the copy; otherwise both spellings mean the copy's.

EXAMPLES
  From a plain image to office.vhd, its key in office.vhd.luks:
    medley disk encrypt debian.raw office.vhd
  The same disk under a new key and another passphrase:
    medley disk encrypt office.vhd fresh.vhd
  In a script:
    medley disk encrypt debian.vhd office.vhd --passphrase-fd 3 3< secret.txt --json")]
pub struct Encrypt {
    #[command(flatten)]
    input: DiskArgs,
    /// The encrypted disk's file; must not exist
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Where the new LUKS2 header with the key goes [default: OUT.luks]
    #[arg(long, value_name = "PATH")]
    new_header: Option<PathBuf>,
    /// Format of the new file
    #[arg(long, value_name = "FORMAT", value_parser = format(), default_value = "vhd-dynamic")]
    format: Format,
    /// Write every sector, zeros too: for a disk that QEMU shall use through a LUKS1 header
    #[arg(long)]
    dense: bool,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

/// Runs it.
pub fn run(args: Encrypt, ui: Ui) -> Result<()> {
    must_be_new(&args.output)?;
    let _watch = signals::Watch::start()?;
    let found = args.input.find()?;
    let keys = args.input.unlock(ui, &found)?;
    let source = args.input.open(ui, Mode::ReadOnly, &keys)?;
    let passphrase = match keys.any() {
        true => args.new_passphrase,
        false => new_passphrase(&args.input.passphrase, &args.new_passphrase),
    };
    let draft = HeaderDraft::create(
        ui,
        &args.output,
        args.new_header.as_deref(),
        &args.kdf,
        || passphrase.read(&args.output),
    )?;
    let job = Job {
        verb: "encrypted",
        input: &args.input.disk,
        output: &args.output,
        format: args.format,
        dense: args.dense,
        damaged: !source.troubles.is_empty(),
    };
    ui.done(&job.run(ui, &source.disk, Some(draft))?)?;
    Ok(())
}
