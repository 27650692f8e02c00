//! `medley disk check`: looks for damage, and repairs it if asked to.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use uuid::Uuid;
use vdisk::ErrorKind;
use vdisk::image::Format;
use vdisk::keys::KeyFile;
use vdisk::luks::Health;
use vdisk::store::{FileStore, Sharing};
use vdisk::vhd::check::{self, Damage, Repair, RepairOptions, Report as Inspected};

use crate::args::{DiskArgs, header_of};
use crate::cmd::info::health;
use crate::exit::{Failure, Kind, Result};
use crate::output::{Fields, Report, Ui};
use crate::{progress, size};

/// Options of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no passphrase. A repair changes no sector that can be read, and nothing it is not sure of.
A file whose name ends in .vhd is checked as a VHD, whatever is left of it, unless --input-format raw is given.

Exit code 0: sound, or with flaws that do no harm; 5: damaged; 10: was damaged and is repaired.

EXAMPLES
  medley disk check office.vhd
  medley disk check office.vhd --repair
  Give up the sectors that a file lost with its end:
    medley disk check office.vhd --repair --accept-loss
  medley disk check office.vhd --json | jq -r '.findings[].what'")]
pub struct Check {
    #[command(flatten)]
    disk: DiskArgs,
    /// Mend what can be mended without losing anything
    #[arg(long)]
    repair: bool,
    /// Mend also what can be mended only by giving up sectors that the file no longer has
    #[arg(long, requires = "repair")]
    accept_loss: bool,
}

#[derive(Serialize)]
struct Checked {
    disk: PathBuf,
    /// `vhd`, if too little is left to tell which kind.
    format: &'static str,
    /// `sound`, `mends` (nothing that keeps anybody from using the disk), `damaged` or `repaired`.
    verdict: &'static str,
    /// The classes of damage that were repaired, in that order.
    repaired: Vec<String>,
    /// What is wrong, after the repair if there was one.
    findings: Vec<Finding>,
    /// Bytes that nothing uses.
    unused: u64,
}

#[derive(Serialize)]
struct Finding {
    severity: Severity,
    /// The class; absent for what is not about the image itself.
    damage: Option<Damage>,
    what: String,
    /// The byte of the file where it is.
    offset: Option<u64>,
    /// How many of the disk's sectors it concerns.
    sectors: u64,
    repair: Option<Repair>,
    remedy: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    /// The disk works in spite of it.
    Mends,
    Damage,
}

impl Finding {
    /// Something that is not about the image itself.
    fn other(severity: Severity, what: String, remedy: &'static str) -> Self {
        Self {
            severity,
            damage: None,
            what,
            offset: None,
            sectors: 0,
            repair: None,
            remedy,
        }
    }

    fn of(found: check::Finding) -> Self {
        use Damage as D;
        let severity = match found.damage {
            // A writer mends these when it opens the disk.
            D::FooterMissing | D::FooterShort | D::CopyDamaged | D::FootersDiffer
            // These keep nobody from anything.
            | D::GeometryWrong | D::StrayEntries | D::BitmapPadding | D::BitmapEmpty
            | D::LeakedSpace => match found.repair {
                Repair::Safe => Severity::Mends,
                _ => Severity::Damage,
            },
            _ => Severity::Damage,
        };
        Self {
            severity,
            damage: Some(found.damage),
            what: found.what,
            offset: found.offset,
            sectors: found.sectors,
            repair: Some(found.repair),
            remedy: found.remedy,
        }
    }

    fn rows(&self, fields: &mut Fields) {
        let name = match self.severity {
            Severity::Damage => "damage",
            Severity::Mends => "flaw",
        };
        let at = self
            .offset
            .map_or(String::new(), |at| format!(" (at byte {at})"));
        let sectors = match self.sectors {
            0 => String::new(),
            1 => ", 1 sector".into(),
            n => format!(", {n} sectors"),
        };
        fields.row(name, format!("{}{at}{sectors}", self.what));
        fields.more(match self.repair {
            Some(Repair::Safe) => "can be repaired (--repair)".into(),
            Some(Repair::Loses) => {
                format!(
                    "can be repaired with a loss (--repair --accept-loss); or {}",
                    self.remedy
                )
            }
            Some(Repair::Refused(why)) => format!("cannot be repaired, {why}; {}", self.remedy),
            None => self.remedy.into(),
        });
    }
}

impl Report for Checked {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row("disk", format!("{}, {}", self.disk.display(), self.format));
        if !self.repaired.is_empty() {
            fields.row("repaired", self.repaired.join(", "));
        }
        for finding in &self.findings {
            finding.rows(&mut fields);
        }
        if self.unused > 0 {
            fields.row(
                "unused",
                format!("{} of the file", size::human(self.unused)),
            );
        }
        fields.row(
            "verdict",
            match self.verdict {
                "mends" => "flaws that do no harm",
                verdict => verdict,
            },
        );
        fields.to_string()
    }
}

/// What there is to check.
struct Subject {
    /// Length of a raw disk; `None` for a VHD, however little of it is left.
    raw: Option<u64>,
    /// The LUKS2 header's file, if there is one.
    header: Option<PathBuf>,
    /// The header that the disk names.
    named: Option<Uuid>,
}

impl Subject {
    /// What keeps others from taking the file for a VHD is what a check is to tell.
    fn of(disk: &DiskArgs) -> Result<Self> {
        let unreadable =
            |failure: &Failure| matches!(failure.kind(), Kind::Damaged | Kind::Unsupported);
        let found = match disk.find() {
            Ok(found) => found,
            Err(failure) if unreadable(&failure) => {
                return Ok(Self {
                    raw: None,
                    header: header_of(&disk.disk, disk.header.as_deref(), None),
                    named: None,
                });
            }
            Err(failure) => return Err(failure),
        };
        let vhd = match disk.input_format {
            Some(format) => format != Format::Raw,
            None => found.probe.format != Format::Raw || is_called_vhd(&disk.disk),
        };
        Ok(Self {
            raw: (!vhd).then_some(found.probe.size),
            header: found.header,
            named: found.probe.footer.and_then(|footer| footer.luks),
        })
    }
}

/// A file that lost all of its footers has only its name to say that it had some.
fn is_called_vhd(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("vhd"))
}

/// Runs it.
pub fn run(args: Check, ui: Ui) -> Result<()> {
    let subject = Subject::of(&args.disk)?;
    let path = &args.disk.disk;
    let mut repaired = Vec::new();
    let mut findings = Vec::new();
    let mut unused = 0;
    let format = if let Some(size) = subject.raw {
        drop(FileStore::open(path, Sharing::ReadOnly)?);
        if size == 0 || !size.is_multiple_of(vdisk::SECTOR) {
            let what =
                format!("a raw disk of {size} bytes: not a whole number of 512-byte sectors");
            let remedy = "fetch the file again; a fixed VHD has lost its end";
            findings.push(Finding::other(Severity::Damage, what, remedy));
        }
        Format::Raw.name()
    } else {
        let inspected = progress::busy(ui, "checking", || inspect(&args, &mut repaired))?;
        unused = inspected.unused;
        findings.extend(inspected.findings.into_iter().map(Finding::of));
        inspected.format.map_or("vhd", Format::name)
    };
    if args.repair && mend_header(&subject)? {
        repaired.push("header-copy".to_owned());
    }
    check_header(&subject, &mut findings)?;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let verdict = match (
        findings.first().map(|finding| finding.severity),
        repaired.is_empty(),
    ) {
        (Some(Severity::Damage), _) => "damaged",
        (_, false) => "repaired",
        (Some(Severity::Mends), true) => "mends",
        (None, true) => "sound",
    };
    ui.show(&Checked {
        disk: path.clone(),
        format,
        verdict,
        repaired,
        findings,
        unused,
    })?;
    let ends = |kind, what: &str| Failure::new(kind, format!("{}: {what}", path.display()));
    match verdict {
        "damaged" => {
            Err(ends(Kind::Damaged, "damaged")
                .remedy("save what is readable by opening it read-only"))
        }
        "repaired" => Err(ends(Kind::Repaired, "damage was found and repaired")),
        _ => Ok(()),
    }
}

/// What is wrong with the image, after the repair if one was asked for.
fn inspect(args: &Check, repaired: &mut Vec<String>) -> Result<Inspected> {
    let path = &args.disk.disk;
    if !args.repair {
        return Ok(check::check(path)?);
    }
    let options = RepairOptions {
        accept_loss: args.accept_loss,
    };
    let done = check::repair(path, options)?;
    repaired.extend(done.repaired.into_iter().map(name));
    Ok(done.after)
}

/// A class as JSON calls it.
fn name(damage: Damage) -> String {
    let name = serde_json::to_value(damage).ok();
    name.and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Writes both copies of a LUKS2 header anew if one is damaged; whether one was.
fn mend_header(subject: &Subject) -> Result<bool> {
    let Some(path) = &subject.header else {
        return Ok(false);
    };
    // One that cannot be read at all is told of below.
    match KeyFile::open(path) {
        Ok(file) if file.header().health() != Health::Good => {
            KeyFile::edit(path, |_| Ok(()))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn check_header(subject: &Subject, findings: &mut Vec<Finding>) -> Result<()> {
    let named = subject.named;
    let mut damage = |what: String| {
        let remedy = "name the right header with --header, or bring back the one that was made with the disk";
        findings.push(Finding::other(Severity::Damage, what, remedy))
    };
    let Some(path) = &subject.header else {
        if let Some(uuid) = named {
            damage(format!(
                "the disk is encrypted under LUKS header {uuid}, which is not beside it"
            ));
        }
        return Ok(());
    };
    let file = match KeyFile::open(path) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            damage(error.to_string());
            return Ok(());
        }
        file => file?,
    };
    let header = file.header();
    let name = path.display();
    if let Some(uuid) = named.filter(|uuid| !uuid.to_string().eq_ignore_ascii_case(header.uuid())) {
        damage(format!(
            "{name}: is header {}, but the disk names {uuid}",
            header.uuid()
        ));
    }
    if let Err(error) = header.check_disk_layout() {
        damage(format!("{name}: {error}"));
    }
    if !header
        .slots()
        .iter()
        .any(|slot| slot.opens_disk && slot.kdf.is_some())
    {
        damage(format!("{name}: no key slot opens the disk"));
    }
    if header.health() != Health::Good {
        let what = format!("{name}: {}", health(header));
        let remedy = "can be repaired (--repair); the next change of a key does so too";
        findings.push(Finding::other(Severity::Mends, what, remedy));
    }
    Ok(())
}
