//! The check, from the outside in: footers, header, table; then blocks, then the parent.

use std::path::Path;

use super::super::edit::{Plan, end_at, free_from, replace_footers, switch_to};
use super::super::footer::{DiskType, FOOTER_LEN, Footer};
use super::super::geometry::Geometry;
use super::super::header::{DynamicHeader, HEADER_LEN, UNUSED, seal};
use super::super::layout::{Layout, read_header};
use super::super::open::footer_at;
use super::super::parent::ParentLink;
use super::super::{be32, be64};
use super::blocks;
use super::ground::Ground;
use super::report::{Damage, Finding, Report};
use crate::device::SECTOR;
use crate::error::{ErrorKind, Result};
use crate::image::Format;
use crate::store::Store;

const LEADS_NOWHERE: &str = "the footer does not lead to a dynamic header and its table";

/// A place where a footer belongs.
struct Seat {
    at: u64,
    bytes: [u8; FOOTER_LEN],
    /// Bytes of it that are in the file: one less in the files of the format's first writers.
    len: usize,
    footer: Option<Footer>,
    /// It is whole, but of a version or type we do not know.
    unknown: Option<String>,
}

impl Seat {
    fn read(store: &dyn Store, at: u64, len: usize) -> Result<Self> {
        let bytes = footer_at(store, at, len)?;
        let (footer, unknown) = match Footer::parse(&bytes) {
            Ok(footer) => (Some(footer), None),
            Err(e) if e.kind() == ErrorKind::Unsupported => (None, Some(e.to_string())),
            Err(_) => (None, None),
        };
        Ok(Self {
            at,
            bytes,
            len,
            footer,
            unknown,
        })
    }
}

/// What is known of the image while it is checked.
pub(super) struct Image<'a> {
    pub store: &'a dyn Store,
    pub path: Option<&'a Path>,
    pub footer: Footer,
    pub bytes: [u8; FOOTER_LEN],
    /// Where the footer at the end is, if it is there.
    pub tail: Option<u64>,
    pub file_len: u64,
}

impl Image<'_> {
    /// Where the payload must end.
    pub fn payload_end(&self) -> u64 {
        self.tail.unwrap_or(self.file_len)
    }

    /// Where a new header may go.
    pub fn free_from(&self) -> u64 {
        match self.tail {
            Some(tail) => free_from(tail),
            None => self.file_len.next_multiple_of(SECTOR),
        }
    }
}

pub(super) fn inspect(store: &dyn Store, path: Option<&Path>) -> Result<Report> {
    let mut findings = Vec::new();
    let (format, unused) = look(store, path, &mut findings)?;
    findings.sort_by_key(|f| f.damage);
    Ok(Report {
        format,
        findings,
        unused,
    })
}

fn look(
    store: &dyn Store,
    path: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Result<(Option<Format>, u64)> {
    let file_len = store.len()?;
    if file_len < FOOTER_LEN as u64 {
        findings.push(Finding::new(
            Damage::FootersLost,
            format!("a file of {file_len} bytes is no VHD"),
        ));
        return Ok((None, 0));
    }
    let short = (file_len % SECTOR == SECTOR - 1) as usize;
    let len = FOOTER_LEN - short;
    let tail = Seat::read(store, file_len - len as u64, len)?;
    let copy = Seat::read(store, 0, FOOTER_LEN)?;
    let Some(image) = choose(store, path, file_len, &tail, &copy, findings) else {
        return Ok((None, 0));
    };
    let format = Some(Format::of(&image.footer));
    check_geometry(&image, findings);
    if image.footer.disk_type == DiskType::Fixed {
        let (have, want) = (image.payload_end(), image.footer.current_size);
        if have < want {
            let what = format!("{have} bytes of payload, but the footer says {want}");
            let lost = (want - have).div_ceil(SECTOR);
            findings.push(Finding::new(Damage::FixedCut, what).at(have).sectors(lost));
        }
        return Ok((format, 0));
    }
    let Some(layout) = read_layout(&image, findings)? else {
        return Ok((format, 0));
    };
    blocks::check(&image, &layout, findings)?;
    check_end(&image, &layout, &tail, &copy, findings);
    let ground = Ground::of(&layout);
    *findings = findings.drain(..).map(|f| ground.judge(f)).collect();
    let mut regions = layout.regions();
    regions.retain(|r| layout.holds(r));
    let between: u64 = regions
        .windows(2)
        .map(|r| r[1].start.saturating_sub(r[0].end))
        .sum();
    Ok((format, between))
}

/// The footer that counts: the one at the end, unless it is damaged or leads nowhere.
fn choose<'a>(
    store: &'a dyn Store,
    path: Option<&'a Path>,
    file_len: u64,
    tail: &Seat,
    copy: &Seat,
    findings: &mut Vec<Finding>,
) -> Option<Image<'a>> {
    let image = |seat: &Seat, footer: &Footer, tail| Image {
        store,
        path,
        footer: footer.clone(),
        bytes: seat.bytes,
        tail,
        file_len,
    };
    match (&tail.footer, &copy.footer) {
        (Some(footer), _) if footer.disk_type == DiskType::Fixed => {
            Some(image(tail, footer, Some(tail.at)))
        }
        (Some(footer), None) => {
            let what = "the footer's copy at the start of the file is damaged";
            let finding = Finding::new(Damage::CopyDamaged, what).at(0);
            // The start of a file that only ends like a VHD is somebody's data.
            findings.push(match Layout::read(store, footer, tail.at) {
                Ok(_) => finding.mended_by(Plan::default().write(0, tail.bytes).sync()),
                Err(_) => finding.refused(LEADS_NOWHERE),
            });
            Some(image(tail, footer, Some(tail.at)))
        }
        (Some(footer), Some(other)) if footer != other => {
            let leads = |footer: &Footer| Layout::read(store, footer, tail.at).is_ok();
            let what = "the footer and its copy at the start say different things";
            let finding = Finding::new(Damage::FootersDiffer, what).at(tail.at);
            let from_copy = other.disk_type != DiskType::Fixed && !leads(footer) && leads(other);
            let (seat, footer, plan) = match from_copy {
                true => (copy, other, Plan::default().write(tail.at, copy.bytes)),
                false => (tail, footer, Plan::default().write(0, tail.bytes)),
            };
            findings.push(match leads(footer) {
                true => finding.mended_by(plan.sync()),
                false => finding.refused("neither leads to a dynamic header and its table"),
            });
            Some(image(seat, footer, Some(tail.at)))
        }
        (Some(footer), Some(_)) => Some(image(tail, footer, Some(tail.at))),
        (None, Some(footer)) if footer.disk_type != DiskType::Fixed => {
            Some(image(copy, footer, None))
        }
        (None, Some(_)) => {
            let what = "a fixed disk's file has lost its end, and the footer with it";
            findings.push(Finding::new(Damage::FixedCut, what).at(tail.at));
            None
        }
        (None, None) => {
            let unknown = tail.unknown.as_ref().or(copy.unknown.as_ref());
            findings.push(match unknown {
                Some(what) => Finding::new(Damage::UnknownKind, what.clone()).at(tail.at),
                None => Finding::new(
                    Damage::FootersLost,
                    "no whole footer at the end of the file or at its start",
                )
                .at(tail.at),
            });
            None
        }
    }
}

fn check_geometry(image: &Image<'_>, findings: &mut Vec<Finding>) {
    let (has, should) = (
        image.footer.geometry,
        Geometry::for_sectors(image.footer.current_size / SECTOR),
    );
    // Other writers have their own ideas of geometry, but none has disks without heads.
    let wrong = match image.footer.is_ours() {
        true => has != should,
        false => has.total_sectors() == 0 && should.total_sectors() > 0,
    };
    if !wrong {
        return;
    }
    let what = format!(
        "the footer's geometry is {}/{}/{}, a disk of its size has {}/{}/{}",
        has.cylinders, has.heads, has.sectors, should.cylinders, should.heads, should.sectors
    );
    let footer = Footer {
        geometry: should,
        ..image.footer.clone()
    };
    let bytes = footer.to_bytes_over(&image.bytes);
    let finding = Finding::new(Damage::GeometryWrong, what).at(image.payload_end());
    findings.push(match (image.tail, image.footer.disk_type) {
        (Some(tail), DiskType::Fixed) if tail < image.footer.current_size => {
            finding.refused("the file is shorter than the disk")
        }
        (Some(tail), DiskType::Fixed) => {
            finding.mended_by(Plan::default().write(tail, bytes).sync())
        }
        (Some(tail), _) if Layout::read(image.store, &image.footer, tail).is_err() => {
            finding.refused(LEADS_NOWHERE)
        }
        (Some(tail), _) => finding.mended_by(replace_footers(tail, &bytes)),
        (None, _) => finding.refused("the footer at the end must be repaired first"),
    });
}

/// Header and table, as far as they can be read.
fn read_layout(image: &Image<'_>, findings: &mut Vec<Finding>) -> Result<Option<Layout>> {
    let size = image.footer.current_size;
    let header_at = image.footer.header_offset;
    let all = size / SECTOR;
    let bytes = match read_header(image.store, header_at, image.file_len) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            findings.push(Finding::new(Damage::HeaderDamaged, e.to_string()).sectors(all));
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let child = image.footer.disk_type == DiskType::Differencing;
    let link = || child.then(|| ParentLink::parse(&bytes));
    let parsed = DynamicHeader::parse(&bytes, size);
    let header = match parsed {
        Ok(header) => header,
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            findings.push(Finding::new(Damage::UnknownKind, e.to_string()).at(header_at));
            return Ok(None);
        }
        Err(e) => {
            let finding = too_small(image, &bytes, link())
                .unwrap_or_else(|| resealed(image, &bytes, e.to_string()));
            findings.push(finding.at(header_at).sectors(all));
            return Ok(None);
        }
    };
    let end = image.payload_end();
    match Layout::with(image.store, &image.footer, header_at, header, link(), end) {
        Ok(layout) => Ok(Some(layout)),
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            findings.push(Finding::new(Damage::TableMisplaced, e.to_string()).sectors(all));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// What of a header can be read without believing it.
fn raw_header(bytes: &[u8; HEADER_LEN]) -> DynamicHeader {
    DynamicHeader {
        table_offset: be64(bytes, 16),
        entries: be32(bytes, 28),
        block_size: be32(bytes, 32),
    }
}

/// A header that is whole, but whose table is too small: the table moves and gains empty entries.
fn too_small(
    image: &Image<'_>,
    bytes: &[u8; HEADER_LEN],
    link: Option<ParentLink>,
) -> Option<Finding> {
    let header = raw_header(bytes);
    let covered = u64::from(header.entries) * u64::from(header.block_size);
    let size = image.footer.current_size;
    // Whole for the part of the disk that it covers.
    DynamicHeader::parse(bytes, covered.min(size)).ok()?;
    if covered >= size {
        return None;
    }
    let what = format!(
        "the block table has {} entries, but the disk has {} blocks",
        header.entries,
        size.div_ceil(u64::from(header.block_size))
    );
    let finding = Finding::new(Damage::TableTooSmall, what);
    let smaller = Footer {
        current_size: covered,
        ..image.footer.clone()
    };
    let at = image.free_from();
    let old = (covered > 0)
        .then(|| {
            let (end, header_at) = (image.payload_end(), image.footer.header_offset);
            Layout::with(image.store, &smaller, header_at, header.clone(), link, end).ok()
        })
        .flatten()
        .filter(|layout| layout.flaws().is_empty());
    let Some(old) = old else {
        return Some(finding.refused("other parts of the image are damaged"));
    };
    let mut new = *bytes;
    let grown = DynamicHeader {
        table_offset: at + HEADER_LEN as u64,
        entries: size.div_ceil(u64::from(header.block_size)) as u32,
        ..header
    };
    new[16..24].copy_from_slice(&grown.table_offset.to_be_bytes());
    new[28..32].copy_from_slice(&grown.entries.to_be_bytes());
    seal(&mut new);
    if DynamicHeader::parse(&new, size).is_err() {
        return Some(finding.refused("a table for a disk of this size would be too large"));
    }
    let mut metadata = new.to_vec();
    metadata.extend(old.table.iter().flat_map(|entry| entry.to_be_bytes()));
    metadata.resize(HEADER_LEN + grown.table_len() as usize, 0xff);
    Some(finding.mended_by(switch_to(at, metadata, &image.footer, &image.bytes)))
}

/// A header of which everything fits but the checksum gets a new one.
fn resealed(image: &Image<'_>, bytes: &[u8; HEADER_LEN], what: String) -> Finding {
    let finding = Finding::new(Damage::HeaderDamaged, what);
    let mut sealed = *bytes;
    seal(&mut sealed);
    let size = image.footer.current_size;
    let link =
        (image.footer.disk_type == DiskType::Differencing).then(|| ParentLink::parse(&sealed));
    let header_at = image.footer.header_offset;
    let layout = DynamicHeader::parse(&sealed, size).and_then(|header| {
        let end = image.payload_end();
        Layout::with(image.store, &image.footer, header_at, header, link, end)
    });
    let Ok(layout) = layout else {
        return finding;
    };
    // Whoever wrote it gave it as many entries as the disk has blocks and put table and blocks where
    // nothing overlaps; a header that was changed in one of these fields does not fit any more.
    let fits = u64::from(layout.header.entries) == layout.table.len() as u64
        && layout.table.iter().any(|entry| *entry != UNUSED)
        && layout.flaws().is_empty();
    match fits {
        // The checksum and what it replaces lie in one sector. The header stays where it is: behind the
        // blocks, a writer that knows of them alone would put its next block over it.
        true => {
            let sector = &sealed[..SECTOR as usize];
            finding.mended_by(Plan::default().write(header_at, sector).sync())
        }
        false => finding.refused("its fields do not fit the rest of the image"),
    }
}

/// The footer at the end, and what lies before it.
fn check_end(
    image: &Image<'_>,
    layout: &Layout,
    tail: &Seat,
    copy: &Seat,
    findings: &mut Vec<Finding>,
) {
    let end = layout.end();
    let flaws = layout.flaws();
    let Some(at) = image.tail else {
        let finding = Finding::new(
            Damage::FooterMissing,
            "the footer at the end of the file is missing or damaged",
        )
        .at(tail.at);
        let plan = end_at(end, &copy.bytes);
        let cut = flaws.iter().all(|flaw| blocks::is_cut(layout, flaw));
        let finding = match (flaws.is_empty(), cut) {
            (true, _) => finding.mended_by(plan),
            (false, true) => finding.lost_by(plan),
            (false, false) => finding.refused("damaged blocks may be what lies there"),
        };
        findings.push(finding);
        return;
    };
    if tail.len < FOOTER_LEN {
        let what = "the footer lacks its last byte";
        let plan = Plan::default().write(at, tail.bytes).sync();
        findings.push(
            Finding::new(Damage::FooterShort, what)
                .at(at)
                .mended_by(plan),
        );
    }
    if at >= end + u64::from(layout.header.block_size) {
        let what = format!(
            "{} bytes at the end of the file belong to nothing",
            at - end
        );
        let finding = Finding::new(Damage::LeakedSpace, what).at(end);
        let finding = match flaws.is_empty() {
            true => finding.mended_by(end_at(end, &image.bytes)),
            false => finding.refused("damaged blocks may be what lies there"),
        };
        findings.push(finding);
    }
}
