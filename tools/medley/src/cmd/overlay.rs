//! `medley disk overlay`: what durable sessions wrote, between sessions.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use vdisk::SECTOR;
use vdisk::overlay::{self, CLUSTER, CheckReport, CommitOverlay, Committed, State};

use crate::args::DiskArgs;
use crate::cmd::convert::allocated;
use crate::exit::{Failure, Kind, Result};
use crate::output::{Fields, Report, Ui};
use crate::{progress, signals, size};

/// Verbs of `overlay`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
EXAMPLES
  A session whose changes are there again the next time:
    medley boot office.vhd --overlay office.overlay
  medley disk overlay info office.overlay
  medley disk overlay commit office.vhd office.overlay")]
pub enum Overlay {
    /// Tell what an overlay is, without opening it and without any secret
    Info(Info),
    /// Look for damage, changing nothing
    Check(Check),
    /// Write what is in an overlay into its disk, and remove it
    Commit(Commit),
    /// Destroy an overlay and its key: its disk is as it was before
    Revert(Revert),
}

/// Options of `overlay info`.
#[derive(Debug, Args)]
#[command(after_help = "\
The overlay may be in use; what it holds is then what it held when it was opened.

EXAMPLES
  medley disk overlay info office.overlay
  medley disk overlay info office.overlay --json | jq .used")]
pub struct Info {
    /// The overlay's file
    #[arg(value_name = "OVERLAY")]
    overlay: PathBuf,
}

/// Options of `overlay check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0: sound; 5: damaged.

EXAMPLES
  medley disk overlay check office.overlay")]
pub struct Check {
    /// The overlay's file
    #[arg(value_name = "OVERLAY")]
    overlay: PathBuf,
}

/// Options of `overlay commit`.
#[derive(Debug, Args)]
#[command(after_help = "\
A commit that was interrupted is finished by committing again; until then the disk opens with its
overlay only.

EXAMPLES
  medley disk overlay commit office.vhd office.overlay
  medley disk overlay commit office.vhd office.overlay --passphrase-file pass.txt --json")]
pub struct Commit {
    #[command(flatten)]
    disk: DiskArgs,
    /// The overlay's file
    #[arg(value_name = "OVERLAY")]
    overlay: PathBuf,
    /// Take the disk though it was written since the overlay was made
    #[arg(long)]
    force_base: bool,
}

/// Options of `overlay revert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing brings back what was in it: its key is destroyed first.

EXAMPLES
  medley disk overlay revert office.overlay")]
pub struct Revert {
    /// The overlay's file
    #[arg(value_name = "OVERLAY")]
    overlay: PathBuf,
}

#[derive(Serialize)]
struct Described {
    overlay: PathBuf,
    id: String,
    /// `open` (in use, or its host crashed), `clean`, `suspended` or `committing`.
    state: &'static str,
    generation: u64,
    /// Bytes of disk that it decides about, as of its last close.
    used: u64,
    /// Most bytes it may take, if that is limited.
    quota: Option<u64>,
    /// Bytes that the file takes on its file system.
    allocated: u64,
    base: Base,
}

#[derive(Serialize)]
struct Base {
    /// UUID of the VHD; absent for a raw disk.
    uuid: Option<String>,
    /// Size of the disk in bytes.
    size: u64,
    /// Length of its file in bytes.
    file_size: u64,
}

impl Report for Described {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row("overlay", self.overlay.display().to_string());
        fields.row("uuid", &self.id);
        let state = match self.state {
            "open" => "open: in use, or its host crashed",
            "clean" => "closed",
            "suspended" => "suspended: belongs to a saved machine",
            _ => "being committed: commit it again to finish",
        };
        fields.row("state", state);
        let of = self
            .quota
            .map_or(String::new(), |quota| format!(" of {}", size::human(quota)));
        fields.row(
            "holds",
            format!(
                "{}{of}, {} on disk",
                size::human(self.used),
                size::human(self.allocated)
            ),
        );
        let base = match &self.base.uuid {
            Some(uuid) => format!("VHD {uuid}"),
            None => "a raw disk".into(),
        };
        fields.row("above", format!("{base}, {}", size::human(self.base.size)));
        fields.to_string()
    }
}

#[derive(Serialize)]
struct Checked {
    overlay: PathBuf,
    /// `sound` or `damaged`.
    verdict: &'static str,
    #[serde(flatten)]
    report: CheckReport,
}

impl Report for Checked {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row("overlay", self.overlay.display().to_string());
        for trouble in &self.report.troubles {
            fields.row("damage", trouble);
        }
        let CheckReport { used, unused, .. } = self.report;
        fields.row(
            "holds",
            format!("{}, {} unused", size::human(used), size::human(unused)),
        );
        fields.row("verdict", self.verdict);
        fields.to_string()
    }
}

#[derive(Serialize)]
struct Done {
    verb: &'static str,
    overlay: PathBuf,
    disk: Option<PathBuf>,
    #[serde(flatten)]
    committed: Option<Committed>,
}

impl Report for Done {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        let into = self
            .disk
            .as_ref()
            .map_or(String::new(), |disk| format!(" into {}", disk.display()));
        fields.row(self.verb, format!("{}{into}", self.overlay.display()));
        if let Some(Committed { written, zeroed }) = self.committed {
            let zeroed = match zeroed {
                0 => String::new(),
                n => format!(", {} zeroed", size::human(n)),
            };
            fields.row("written", format!("{}{zeroed}", size::human(written)));
        }
        fields.to_string()
    }
}

/// Runs it.
pub fn run(verb: Overlay, ui: Ui) -> Result<()> {
    match verb {
        Overlay::Info(args) => info(args, ui),
        Overlay::Check(args) => check(args, ui),
        Overlay::Commit(args) => commit(args, ui),
        Overlay::Revert(args) => {
            overlay::revert(&args.overlay)?;
            ui.done(&Done {
                verb: "reverted",
                overlay: args.overlay,
                disk: None,
                committed: None,
            })
        }
    }
}

fn info(args: Info, ui: Ui) -> Result<()> {
    let superblock = overlay::inspect(&args.overlay)?;
    let base = superblock.base;
    ui.show(&Described {
        id: superblock.id.to_string(),
        state: superblock.state.name(),
        generation: superblock.generation,
        used: superblock.used.saturating_mul(CLUSTER),
        quota: (superblock.quota != 0).then(|| superblock.quota.saturating_mul(CLUSTER)),
        allocated: allocated(&args.overlay)?,
        base: Base {
            uuid: (!base.id.is_nil()).then(|| base.id.to_string()),
            size: base.sectors.saturating_mul(SECTOR),
            file_size: base.file_len,
        },
        overlay: args.overlay,
    })
}

fn check(args: Check, ui: Ui) -> Result<()> {
    let report = overlay::check(&args.overlay)?;
    let sound = report.troubles.is_empty();
    let name = args.overlay.display().to_string();
    ui.show(&Checked {
        overlay: args.overlay,
        verdict: if sound { "sound" } else { "damaged" },
        report,
    })?;
    match sound {
        true => Ok(()),
        false => Err(Failure::new(Kind::Damaged, format!("{name}: damaged"))
            .remedy("save what is readable by opening the disk with it, or revert it")),
    }
}

fn commit(args: Commit, ui: Ui) -> Result<()> {
    let Commit {
        disk,
        overlay,
        force_base,
    } = args;
    // Before anybody types a passphrase.
    let superblock = overlay::inspect(&overlay)?;
    if let State::Suspended(_) = superblock.state {
        let what = format!("{}: belongs to a saved machine", overlay.display());
        return Err(
            Failure::new(Kind::Busy, what).remedy("resume and end it, or revert the overlay")
        );
    }
    let found = disk.find()?;
    let keys = disk.unlock(ui, &found)?;
    let _watch = signals::Watch::start()?;
    let bytes = progress::Bytes::new(ui, "committing", found.probe.size);
    let find = keys.finder();
    let committed = CommitOverlay {
        base: &disk.disk,
        format: disk.input_format,
        key: keys.own.as_ref(),
        overlay: &overlay,
        parents: disk.parents.with(&find),
        force_base,
    }
    .run(&mut |done| bytes.at(done));
    drop(bytes);
    let committed = committed.map_err(|error| match signals::received() {
        Some(signal) => Failure::interrupted(signal)
            .remedy("commit again to finish; until then the disk opens with its overlay only"),
        None => error.into(),
    })?;
    ui.done(&Done {
        verb: "committed",
        overlay,
        disk: Some(disk.disk),
        committed: Some(committed),
    })
}
