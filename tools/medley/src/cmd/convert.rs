//! `medley disk convert`: a plain disk in another format. The copy that `encrypt` and `decrypt` share is
//! here too.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use vdisk::Disk;
use vdisk::convert::NewImage;
use vdisk::image::{Format, Mode};

use crate::args::{DiskArgs, Keys, format, must_be_new};
use crate::cmd::create::{HeaderDraft, NewHeader, finish};
use crate::exit::{Failure, Kind, Result};
use crate::output::{Fields, Report, Ui};
use crate::{progress, signals, size};

/// Options of `convert`.
#[derive(Debug, Args)]
#[command(after_help = "\
The key of an encrypted disk stays with its file: `encrypt` makes an encrypted disk under a new
key and `decrypt` a plain one, in any format; `convert` takes and makes plain disks only.

EXAMPLES
  A raw image as a VHD that takes only the space it needs:
    medley disk convert debian.raw debian.vhd --format vhd-dynamic
  For tools that know nothing but raw disks:
    medley disk convert debian.vhd debian.raw --format raw")]
pub struct Convert {
    #[command(flatten)]
    input: DiskArgs,
    /// The new disk's file; must not exist
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of the new file
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    format: Format,
}

/// What became of a disk.
#[derive(Serialize)]
pub struct Copied {
    verb: &'static str,
    input: PathBuf,
    output: PathBuf,
    format: &'static str,
    size: u64,
    /// Bytes that the new file takes on its file system, where that can be found out.
    allocated: Option<u64>,
    seconds: f64,
    encryption: Option<NewHeader>,
}

impl Report for Copied {
    fn human(&self) -> String {
        let Self {
            verb,
            input,
            output,
            format,
            size,
            allocated,
            seconds,
            ..
        } = self;
        let mut fields = Fields::default();
        fields.row(
            verb,
            format!("{} to {}, {format}", input.display(), output.display()),
        );
        let allocated = allocated.map_or(String::new(), |bytes| {
            format!(", {} on disk", size::human(bytes))
        });
        fields.row(
            "size",
            format!("{}{allocated}, in {seconds:.1} s", size::human(*size)),
        );
        if let Some(header) = &self.encryption {
            header.rows(&mut fields);
        }
        fields.to_string()
    }
}

/// Runs it.
pub fn run(args: Convert, ui: Ui) -> Result<()> {
    must_be_new(&args.output)?;
    if let Some(header) = args.input.find()?.header {
        return Err(Failure::new(
            Kind::Usage,
            format!("{}: the disk is encrypted, under {}", args.input.disk.display(), header.display()),
        )
        .remedy("`convert` takes plain disks: use `decrypt` for a plain copy, `encrypt` for one under a new key"));
    }
    let _watch = signals::Watch::start()?;
    // Its parents may be encrypted, but then the copy would have to be, too.
    let keys = Keys::default();
    let source = args.input.open(ui, Mode::ReadOnly, &keys)?;
    let job = Job {
        verb: "converted",
        input: &args.input.disk,
        output: &args.output,
        format: args.format,
        dense: false,
        damaged: !source.troubles.is_empty(),
    };
    ui.done(&job.run(ui, &source.disk, None)?)?;
    Ok(())
}

/// A copy of a disk into a new file.
pub struct Job<'a> {
    /// What will have been done.
    pub verb: &'static str,
    /// The file that is read.
    pub input: &'a Path,
    /// The file to make.
    pub output: &'a Path,
    /// Its format.
    pub format: Format,
    /// Whether every sector is written, zeros too.
    pub dense: bool,
    /// Whether the source was found damaged when it was opened.
    pub damaged: bool,
}

impl Job<'_> {
    /// Copies, encrypted under `header` if there is one. A signal stops it, and then nothing is left.
    pub fn run(self, ui: Ui, source: &Disk, header: Option<HeaderDraft>) -> Result<Copied> {
        let begin = Instant::now();
        let size = source.size();
        let key = header.as_ref().map(|header| &header.key);
        let mut image = NewImage::create(self.output, self.format, size, key)?;
        if self.dense {
            image = image.dense();
        }
        let bytes = progress::Bytes::new(ui, "copying", size);
        let filled = image.fill_from(source, &|done| bytes.at(done));
        drop(bytes);
        // A copy that was stopped fails, but that is not what happened to it.
        signals::check()?;
        filled.map_err(|error| match Failure::from(error) {
            // Reading runs into the end of a file that was cut short: that is no failure of the system.
            failure if self.damaged && failure.kind() == Kind::Failed => {
                Failure::new(Kind::Damaged, format!("the disk is damaged: {failure}"))
                    .remedy("mount it read-only to save what is readable")
            }
            failure => failure,
        })?;
        let encryption =
            progress::busy(ui, "writing to disk", || finish(image, self.output, header))?;
        Ok(Copied {
            verb: self.verb,
            input: self.input.to_owned(),
            output: self.output.to_owned(),
            format: self.format.name(),
            size,
            // The disk is there, whatever this says.
            allocated: allocated(self.output).ok(),
            seconds: begin.elapsed().as_secs_f64(),
            encryption,
        })
    }
}

/// Bytes that a file takes on its file system.
pub fn allocated(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = path
        .metadata()
        .map_err(Failure::io(format!("{}: cannot examine", path.display())))?;
    Ok(meta.blocks() * 512)
}
