//! `medley disk info`: what a file is, without opening it and without any secret.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vdisk::image::{Format, Probe, probe};
use vdisk::keys::KeyFile;
use vdisk::luks::{Header, Health, SlotInfo};
use vdisk::vhd::Footer;

use crate::args::{DiskArgs, kdf_words};
use crate::chain::{self, Parent};
use crate::cmd::convert::allocated;
use crate::exit::{Kind, Result};
use crate::output::{Fields, Report, Ui};
use crate::size;

/// Options of `info`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no passphrase. The disk may be in use; parents of a differencing disk may be read by others,
but not written.

EXAMPLES
  medley disk info office.vhd
  medley disk info office.vhd --json | jq .encryption.header.slots
  medley disk info child.vhd --json | jq -r '.parent.chain[].path'")]
pub struct Info {
    #[command(flatten)]
    disk: DiskArgs,
}

#[derive(Serialize)]
struct Described {
    disk: PathBuf,
    format: &'static str,
    /// Bytes of the disk.
    size: u64,
    /// Length of the file in bytes.
    file_size: u64,
    /// Bytes that the file takes on its file system.
    allocated: u64,
    vhd: Option<Vhd>,
    encryption: Option<Encryption>,
    parent: Option<ParentInfo>,
}

/// The parent of a differencing disk.
#[derive(Serialize)]
struct ParentInfo {
    /// What the disk calls it.
    name: String,
    /// What it is known by.
    uuid: String,
    /// The parents that were found, nearest first; empty if one is not as it should be.
    chain: Vec<Ancestor>,
    /// Why the disk cannot be opened with its parents, if so.
    trouble: Option<String>,
}

/// One parent in a chain.
#[derive(Serialize)]
struct Ancestor {
    path: PathBuf,
    format: &'static str,
    uuid: String,
    /// UTC, as in RFC 3339.
    timestamp: String,
    allocated: u64,
    encrypted: bool,
    /// Its LUKS2 header, where that was found.
    header: Option<PathBuf>,
}

impl Ancestor {
    fn of(parent: Parent) -> Result<Self> {
        Ok(Self {
            allocated: allocated(&parent.path)?,
            format: probe(&parent.path)?.format.name(),
            uuid: parent.footer.uuid.to_string(),
            timestamp: utc(parent.footer.timestamp),
            encrypted: parent.encrypted(),
            header: parent.header,
            path: parent.path,
        })
    }

    fn words(&self) -> String {
        let encrypted = match (&self.header, self.encrypted) {
            (Some(header), _) => format!("encrypted under {}", header.display()),
            (None, true) => "encrypted, its header is not beside it".into(),
            (None, false) => "plain".into(),
        };
        let size = size::human(self.allocated);
        format!(
            "{}, {}, {size} on disk, {encrypted}",
            self.path.display(),
            self.format
        )
    }
}

impl ParentInfo {
    fn rows(&self, fields: &mut Fields) {
        for (depth, ancestor) in self.chain.iter().enumerate() {
            let branch = format!("{}└─ {}", "   ".repeat(depth), ancestor.words());
            match depth {
                0 => fields.row("parents", branch),
                _ => fields.more(branch),
            }
        }
        if let Some(trouble) = &self.trouble {
            fields.row("parent", format!("{} ({})", self.name, self.uuid));
            fields.row("  trouble", trouble);
        }
    }
}

#[derive(Serialize)]
struct Vhd {
    creator: String,
    uuid: String,
    /// UTC, as in RFC 3339.
    timestamp: String,
    geometry: [u32; 3],
}

/// What is known of a disk's encryption without opening it.
#[derive(Serialize)]
pub struct Encryption {
    /// UUID of the header that the disk names in its footer.
    pub named_by_disk: Option<String>,
    /// The header that was found.
    pub header: Option<HeaderInfo>,
}

/// A LUKS2 header in its file.
#[derive(Serialize)]
pub struct HeaderInfo {
    path: PathBuf,
    uuid: String,
    label: String,
    health: &'static str,
    slots: Vec<Slot>,
}

#[derive(Serialize)]
struct Slot {
    id: u32,
    /// Absent for slots that only others can open.
    kdf: Option<String>,
    priority: &'static str,
    opens_disk: bool,
}

impl HeaderInfo {
    /// Of this file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = KeyFile::open(path)?;
        let header = file.header();
        let slots = header.slots().iter().map(Slot::of).collect();
        Ok(Self {
            path: path.to_owned(),
            uuid: header.uuid().into(),
            label: header.label().into(),
            health: health(header),
            slots,
        })
    }

    /// Whether the disk names this header.
    pub fn is(&self, uuid: &str) -> bool {
        self.uuid.eq_ignore_ascii_case(uuid)
    }

    /// For people.
    pub fn rows(&self, fields: &mut Fields) {
        fields.row("header", self.path.display().to_string());
        fields.row("  uuid", &self.uuid);
        if !self.label.is_empty() {
            fields.row("  label", &self.label);
        }
        fields.row("  health", self.health);
        for slot in &self.slots {
            fields.row(&format!("  slot {}", slot.id), slot.words());
        }
    }
}

impl Slot {
    fn of(slot: &SlotInfo) -> Self {
        use vdisk::luks::Priority as P;
        let priority = match slot.priority {
            P::Ignore => "ignore",
            P::Normal => "normal",
            _ => "high",
        };
        Self {
            id: slot.id,
            kdf: slot.kdf.as_ref().map(kdf_words),
            priority,
            opens_disk: slot.opens_disk,
        }
    }

    fn words(&self) -> String {
        let mut words = self
            .kdf
            .clone()
            .unwrap_or_else(|| "of a kind that only others open".into());
        if !self.opens_disk {
            words += "; holds another key";
        }
        if self.priority != "normal" {
            words += &format!("; priority {}", self.priority);
        }
        words
    }
}

/// How the copies of a header are, in words.
pub fn health(header: &Header) -> &'static str {
    match header.health() {
        Health::Good => "both copies are good",
        Health::PrimaryStale => "the first copy is damaged or old, the second is good",
        Health::SecondaryStale => "the second copy is damaged or old, the first is good",
    }
}

impl Report for Described {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row("disk", self.disk.display().to_string());
        fields.row("format", self.format);
        fields.row("size", size::exact(self.size));
        fields.row(
            "file",
            format!(
                "{}, {} on disk",
                size::human(self.file_size),
                size::human(self.allocated)
            ),
        );
        if let Some(vhd) = &self.vhd {
            fields.row("creator", &vhd.creator);
            fields.row("uuid", &vhd.uuid);
            fields.row("written", &vhd.timestamp);
            let [cylinders, heads, sectors] = vhd.geometry;
            fields.row(
                "geometry",
                format!("{cylinders} cylinders, {heads} heads, {sectors} sectors"),
            );
        }
        self.encryption_rows(&mut fields);
        if let Some(parent) = &self.parent {
            parent.rows(&mut fields);
        }
        fields.to_string()
    }
}

impl Described {
    fn encryption_rows(&self, fields: &mut Fields) {
        let Some(Encryption {
            named_by_disk,
            header,
        }) = &self.encryption
        else {
            return fields.row("encryption", "none");
        };
        let missing = named_by_disk.as_ref().filter(|_| header.is_none());
        fields.row(
            "encryption",
            match missing {
                None => "AES-256-XTS".into(),
                Some(uuid) => {
                    format!("AES-256-XTS, under header {uuid}, which is not beside the disk")
                }
            },
        );
        if let Some(header) = header {
            header.rows(fields);
            if let Some(uuid) = named_by_disk.as_ref().filter(|uuid| !header.is(uuid)) {
                fields.more(format!("not the header of this disk, which names {uuid}"));
            }
        }
    }
}

/// Runs it.
pub fn run(args: Info, ui: Ui) -> Result<()> {
    let found = args.disk.find()?;
    let header = found.header.as_deref().map(HeaderInfo::read).transpose()?;
    let parent = match found.probe.format {
        Format::VhdDifferencing => parent(&args.disk)?,
        _ => None,
    };
    ui.show(&describe(&args.disk.disk, &found.probe, header, parent)?)?;
    Ok(())
}

/// What is known of the parents; that one is missing is no failure here.
fn parent(disk: &DiskArgs) -> Result<Option<ParentInfo>> {
    let Some(link) = chain::link(&disk.disk)? else {
        return Ok(None);
    };
    let (chain, trouble) = match disk.parents.find(&disk.disk) {
        Ok(parents) => (
            parents
                .into_iter()
                .map(Ancestor::of)
                .collect::<Result<_>>()?,
            None,
        ),
        Err(failure) if failure.kind() == Kind::Usage => return Err(failure),
        Err(failure) => (Vec::new(), Some(failure.to_string())),
    };
    Ok(Some(ParentInfo {
        name: link.name,
        uuid: link.uuid.to_string(),
        chain,
        trouble,
    }))
}

fn describe(
    path: &Path,
    probe: &Probe,
    header: Option<HeaderInfo>,
    parent: Option<ParentInfo>,
) -> Result<Described> {
    let named = probe
        .footer
        .as_ref()
        .and_then(|footer| footer.luks)
        .map(|uuid| uuid.to_string());
    let encrypted = named.is_some() || header.is_some();
    Ok(Described {
        disk: path.to_owned(),
        format: probe.format.name(),
        size: probe.size,
        file_size: probe.file_len,
        allocated: allocated(path)?,
        vhd: probe.footer.as_ref().map(vhd),
        encryption: encrypted.then_some(Encryption {
            named_by_disk: named,
            header,
        }),
        parent,
    })
}

fn vhd(footer: &Footer) -> Vhd {
    let letters = footer.creator.escape_ascii().to_string();
    let program = match &footer.creator {
        b"mdly" => "Medley",
        b"vpc " => "Virtual PC or QEMU",
        b"qemu" | b"qem2" => "QEMU",
        b"win " => "Windows",
        b"vbox" => "VirtualBox",
        b"d2v " => "Disk2vhd",
        b"tap\0" => "XenServer",
        b"CXS " => "XenConverter",
        _ => "",
    };
    let geometry = footer.geometry;
    Vhd {
        creator: if program.is_empty() {
            letters
        } else {
            format!("{program} (`{letters}`)")
        },
        uuid: footer.uuid.to_string(),
        timestamp: utc(footer.timestamp),
        geometry: [
            geometry.cylinders.into(),
            geometry.heads.into(),
            geometry.sectors.into(),
        ],
    }
}

/// A VHD's time, seconds since 2000, as `2026-01-31 12:00:00Z`.
fn utc(seconds: u32) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (2000, days);
    while day >= 365 + u32::from(leap(year)) {
        day -= 365 + u32::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u32::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year}-{:02}-{:02} {hours:02}:{minutes:02}:{seconds:02}Z",
        month + 1,
        day + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "2000-01-01 00:00:00Z"),
            (5_097_600, "2000-02-29 00:00:00Z"),
            (31_622_399, "2000-12-31 23:59:59Z"),
            (31_622_400, "2001-01-01 00:00:00Z"),
            (836_222_400, "2026-07-01 12:00:00Z"),
            (u32::MAX, "2136-02-07 06:28:15Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
