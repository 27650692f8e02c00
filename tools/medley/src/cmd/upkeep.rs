//! `medley disk resize`, `compact`, `commit` and `rebase`: upkeep of VHDs, in place.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vdisk::upkeep;

use crate::args::{DiskArgs, Found, Keys};
use crate::exit::{Failure, Result};
use crate::output::{Fields, Report, Ui};
use crate::{progress, signals, size};

/// Options of `resize`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only the disk becomes larger or smaller: partitions and file systems on it do not. A disk that
others are children of loses them.

EXAMPLES
  medley disk resize office.vhd --size 40G
  Cut off an end that holds data:
    medley disk resize office.vhd --size 10G --force")]
pub struct Resize {
    #[command(flatten)]
    disk: DiskArgs,
    /// The new size of the disk: 512M, 10G, …
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: u64,
    /// Cut off data that lies behind the new end
    #[arg(long)]
    force: bool,
}

/// Options of `compact`.
#[derive(Debug, Args)]
#[command(after_help = "\
What the disk reads as stays, so its children still fit it. Zeros of an encrypted disk can be told
from data only with its key.

EXAMPLES
  medley disk compact office.vhd
  medley disk compact office.vhd --passphrase-file pass.txt --json | jq '.before - .after'")]
pub struct Compact {
    #[command(flatten)]
    disk: DiskArgs,
}

/// Options of `commit`.
#[derive(Debug, Args)]
#[command(after_help = "\
The child is empty afterwards and reads as before. Other children of the same parent do not fit it
any more.

EXAMPLES
  medley disk commit child.vhd
  medley disk commit child.vhd --passphrase-file child.pass --parent-passphrase-file base.vhd=base.pass")]
pub struct Commit {
    #[command(flatten)]
    disk: DiskArgs,
}

/// Options of `rebase`.
#[derive(Debug, Args)]
#[command(after_help = "\
The child reads as before: it takes over what its new parent has differently. With --name-only it
reads as whatever the new parent makes of it.

EXAMPLES
  medley disk rebase child.vhd --parent other.vhd
  When the parent was moved:
    medley disk rebase child.vhd --parent /srv/images/base.vhd --name-only")]
pub struct Rebase {
    #[command(flatten)]
    disk: DiskArgs,
    /// The new parent, of the same size
    #[arg(long, value_name = "PARENT")]
    parent: PathBuf,
    /// Change only which parent the disk names, when the old one was moved or is lost
    #[arg(long)]
    name_only: bool,
}

#[derive(Serialize)]
struct Kept<T> {
    verb: &'static str,
    disk: PathBuf,
    #[serde(flatten)]
    done: T,
    #[serde(skip)]
    words: String,
}

impl<T: Serialize> Report for Kept<T> {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row(self.verb, self.disk.display().to_string());
        fields.more(&self.words);
        fields.to_string()
    }
}

/// Opens what is needed, works with a bar, and tells what was done.
fn keep<T: Serialize>(
    ui: Ui,
    disk: &DiskArgs,
    verb: [&'static str; 2],
    keys: impl FnOnce(&Found) -> Result<Keys>,
    work: impl FnOnce(&Keys, vdisk::progress::Progress<'_>) -> vdisk::Result<T>,
    words: impl FnOnce(&T) -> String,
) -> Result<()> {
    let found = disk.find()?;
    let keys = keys(&found)?;
    let _watch = signals::Watch::start()?;
    let bytes = progress::Bytes::new(ui, verb[0], found.probe.size);
    let done = work(&keys, &|done| bytes.at(done));
    drop(bytes);
    let done = done.map_err(|error| match signals::received() {
        Some(signal) => {
            Failure::interrupted(signal).remedy("the disk is sound; start again when you like")
        }
        None => error.into(),
    })?;
    ui.done(&Kept {
        verb: verb[1],
        disk: disk.disk.clone(),
        words: words(&done),
        done,
    })
}

/// Runs `resize`.
pub fn resize(args: Resize, ui: Ui) -> Result<()> {
    let Resize { disk, size, force } = args;
    keep(
        ui,
        &disk,
        ["resizing", "resized"],
        |found| disk.unlock_own(ui, found),
        |keys, progress| {
            let path = &disk.disk;
            upkeep::Resize {
                path,
                size,
                key: keys.own.as_ref(),
                force,
            }
            .run(progress)
        },
        |done| {
            format!(
                "from {} to {}",
                size::exact(done.before),
                size::exact(done.after)
            )
        },
    )
}

/// Runs `compact`.
pub fn compact(args: Compact, ui: Ui) -> Result<()> {
    let disk = args.disk;
    keep(
        ui,
        &disk,
        ["compacting", "compacted"],
        |found| disk.unlock_own(ui, found),
        |keys, progress| {
            let path = &disk.disk;
            upkeep::Compact {
                path,
                key: keys.own.as_ref(),
            }
            .run(progress)
        },
        |done| {
            let (before, after) = (size::human(done.before), size::human(done.after));
            format!(
                "from {before} to {after}, {} empty blocks dropped",
                done.dropped
            )
        },
    )
}

/// Runs `commit`.
pub fn commit(args: Commit, ui: Ui) -> Result<()> {
    let disk = args.disk;
    keep(
        ui,
        &disk,
        ["committing", "committed"],
        |found| disk.unlock(ui, found),
        |keys, progress| {
            let find = keys.finder();
            upkeep::Commit {
                path: &disk.disk,
                key: keys.own.as_ref(),
                parents: disk.parents.with(&find),
                allow_plain: false,
            }
            .run(progress)
        },
        |done| {
            let bytes = size::human(done.sectors * vdisk::SECTOR);
            format!(
                "{bytes} into {}; the child is empty now",
                done.parent.display()
            )
        },
    )
}

/// Runs `rebase`.
pub fn rebase(args: Rebase, ui: Ui) -> Result<()> {
    let Rebase {
        disk,
        parent,
        name_only,
    } = args;
    keep(
        ui,
        &disk,
        ["rebasing", "rebased"],
        |found| disk.unlock_for_rebase(ui, found, &parent, !name_only),
        |keys, progress| {
            let find = keys.finder();
            upkeep::Rebase {
                path: &disk.disk,
                parent: &parent,
                key: keys.own.as_ref(),
                parents: disk.parents.with(&find),
                name_only,
            }
            .run(progress)
        },
        |done| {
            let bytes = size::human(done.sectors * vdisk::SECTOR);
            format!(
                "onto {}, {bytes} taken over from the old parent",
                parent.display()
            )
        },
    )
}
