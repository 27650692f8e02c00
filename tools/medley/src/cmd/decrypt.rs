//! `medley disk decrypt`: a plain copy of an encrypted disk.

use std::path::PathBuf;

use clap::Args;
use vdisk::image::{Format, Mode};

use crate::args::{DiskArgs, format, must_be_new};
use crate::cmd::convert::Job;
use crate::exit::{Failure, Result};
use crate::output::Ui;
use crate::signals;

/// Options of `decrypt`.
#[derive(Debug, Args)]
#[command(after_help = "\
The input stays as it is.

EXAMPLES
  A plain VHD that any hypervisor opens:
    medley disk decrypt office.vhd plain.vhd
  A raw image, with a header that lies elsewhere:
    medley disk decrypt office.vhd plain.raw --format raw --header /media/key/office.luks")]
pub struct Decrypt {
    #[command(flatten)]
    input: DiskArgs,
    /// The plain disk's file; must not exist
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of the new file
    #[arg(long, value_name = "FORMAT", value_parser = format(), default_value = "vhd-dynamic")]
    format: Format,
}

/// Runs it.
pub fn run(args: Decrypt, ui: Ui) -> Result<()> {
    must_be_new(&args.output)?;
    let _watch = signals::Watch::start()?;
    let found = args.input.find()?;
    let keys = args.input.unlock(ui, &found)?;
    let source = args.input.open(ui, Mode::ReadOnly, &keys)?;
    if !keys.any() {
        return Err(Failure::usage(format!(
            "{}: the disk is not encrypted",
            args.input.disk.display()
        ))
        .remedy(
            "`convert` copies plain disks; if its header lies elsewhere, name it with --header",
        ));
    }
    let job = Job {
        verb: "decrypted",
        input: &args.input.disk,
        output: &args.output,
        format: args.format,
        dense: false,
        damaged: !source.troubles.is_empty(),
    };
    ui.done(&job.run(ui, &source.disk, None)?)?;
    Ok(())
}
