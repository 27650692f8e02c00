//! `medley disk check`: looks for damage and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use vdisk::image::Format;
use vdisk::keys::KeyFile;
use vdisk::luks::Health;
use vdisk::store::{FileStore, Sharing, Store};
use vdisk::{ErrorKind, vhd};

use crate::args::{DiskArgs, Found};
use crate::cmd::info::health;
use crate::exit::{Failure, Kind, Result};
use crate::output::{Fields, Report, Ui};
use crate::size;

/// Options of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no passphrase. Exit code 0: sound, or with flaws that mend themselves when the disk is next written;
5: damaged.

EXAMPLES
  medley disk check office.vhd
  medley disk check office.vhd --json | jq -r '.findings[].what'")]
pub struct Check {
    #[command(flatten)]
    disk: DiskArgs,
}

#[derive(Serialize)]
struct Checked {
    disk: PathBuf,
    format: &'static str,
    /// `sound`, `mends` (all that was found mends itself when the disk is next written) or `damaged`.
    verdict: &'static str,
    findings: Vec<Finding>,
    /// Bytes at the end of the file that nothing uses.
    slack: u64,
}

#[derive(Serialize)]
struct Finding {
    severity: Severity,
    what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Mends,
    Damage,
}

impl Report for Checked {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row("disk", format!("{}, {}", self.disk.display(), self.format));
        for finding in &self.findings {
            let name = if finding.severity == Severity::Damage {
                "damage"
            } else {
                "mends"
            };
            fields.row(name, &finding.what);
        }
        if self.slack > 0 {
            let slack = size::human(self.slack);
            fields.row(
                "slack",
                format!("{slack} at the end of the file, given back at the next write"),
            );
        }
        fields.row(
            "verdict",
            match self.verdict {
                "mends" => "flaws that mend themselves when it is next written",
                verdict => verdict,
            },
        );
        fields.to_string()
    }
}

/// Runs it.
pub fn run(args: Check, ui: Ui) -> Result<()> {
    let found = args.disk.find()?;
    let path = &args.disk.disk;
    let (mut findings, mut slack) = (Vec::new(), 0);
    let store: Arc<dyn Store> = Arc::new(FileStore::open(path, Sharing::ReadOnly)?);
    if found.probe.format == Format::Raw {
        if found.probe.size == 0 || found.probe.size % vdisk::SECTOR != 0 {
            let what = format!(
                "a raw disk of {} bytes: not a whole number of 512-byte sectors",
                found.probe.size
            );
            findings.push(Finding {
                severity: Severity::Damage,
                what,
            });
        }
    } else {
        slack = check_vhd(path, store, &mut findings)?;
    }
    check_header(&found, &mut findings)?;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let verdict = match findings.first() {
        None => "sound",
        Some(Finding {
            severity: Severity::Mends,
            ..
        }) => "mends",
        Some(Finding {
            severity: Severity::Damage,
            ..
        }) => "damaged",
    };
    let format = found.probe.format.name();
    let checked = Checked {
        disk: path.clone(),
        format,
        verdict,
        findings,
        slack,
    };
    ui.show(&checked)?;
    match verdict {
        "damaged" => Err(
            Failure::new(Kind::Damaged, format!("{}: damaged", path.display()))
                .remedy("save what is readable by opening it read-only"),
        ),
        _ => Ok(()),
    }
}

/// Opens the image as a reader and, if that finds something, as a writer whose writes go nowhere: what a
/// writer would refuse is damage, the rest it would mend. Returns the slack.
fn check_vhd(path: &Path, store: Arc<dyn Store>, findings: &mut Vec<Finding>) -> Result<u64> {
    let opened = match vhd::open(store.clone(), true) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            findings.push(Finding {
                severity: Severity::Damage,
                what: error.to_string(),
            });
            return Ok(0);
        }
        Err(error) => return Err(error.at_path(path).into()),
    };
    if !opened.troubles.is_empty() {
        let writable = vhd::open(Arc::new(Rehearsal(store)), false).is_ok();
        let severity = if writable {
            Severity::Mends
        } else {
            Severity::Damage
        };
        findings.extend(
            opened
                .troubles
                .into_iter()
                .map(|what| Finding { severity, what }),
        );
    }
    Ok(opened.slack)
}

fn check_header(found: &Found, findings: &mut Vec<Finding>) -> Result<()> {
    let named = found.probe.footer.as_ref().and_then(|footer| footer.luks);
    let mut damage = |what: String| {
        findings.push(Finding {
            severity: Severity::Damage,
            what,
        })
    };
    let Some(path) = &found.header else {
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
        let what = format!(
            "{name}: {}; the next change of a key mends it",
            health(header)
        );
        findings.push(Finding {
            severity: Severity::Mends,
            what,
        });
    }
    Ok(())
}

/// A store that is read but whose writes go nowhere.
struct Rehearsal(Arc<dyn Store>);

impl Store for Rehearsal {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> vdisk::Result<()> {
        self.0.read_at(offset, buf)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> vdisk::Result<()> {
        Ok(())
    }

    fn len(&self) -> vdisk::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, _: u64) -> vdisk::Result<()> {
        Ok(())
    }

    fn punch(&self, _: u64, _: u64) -> vdisk::Result<()> {
        Ok(())
    }

    fn sync(&self) -> vdisk::Result<()> {
        Ok(())
    }
}
