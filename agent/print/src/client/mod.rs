//! The host's half: printers through CUPS or at an address, what they can do, and a file for one of them.
//!
//! What came from a guest is judged once more before a printer sees it: the file begins as its format does, the
//! ticket has nothing but numbers, choices and names of paper.
mod exchange;
mod place;

use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::media::Medium;
use crate::message::{self, Message};
use crate::ticket::{Format, JobId, Sides, Ticket};
use crate::values::{self, Attributes, Says, charset, keywords, language, mime, name, uri, words};
use exchange::exchange;
use ipp::attribute::IppAttributeGroup;
use ipp::model::DelimiterTag;
use ipp::value::IppValue;
use place::Place;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

pub use place::Service;

const PRINT_JOB: u16 = 0x02;
const CANCEL_JOB: u16 = 0x08;
const GET_JOB_ATTRIBUTES: u16 = 0x09;
const GET_PRINTER_ATTRIBUTES: u16 = 0x0b;
const CUPS_GET_DEFAULT: u16 = 0x4001;
const CUPS_GET_PRINTERS: u16 = 0x4002;

/// What CUPS says if there is no printer, or none is the default: no failure.
const NOT_FOUND: u16 = 0x0406;

/// What is to be printed how.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// What it is called. Fit for display already.
    pub title: String,
    /// For whom: a user of the host.
    pub user: String,
    /// The document's language.
    pub format: Format,
    /// How.
    pub ticket: Ticket,
}

/// A printer of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name in CUPS.
    pub name: String,
    /// What people call it.
    pub info: String,
    /// Where it is.
    pub uri: String,
    /// It is the one that is meant if nobody says which.
    pub default: bool,
    /// It takes jobs.
    pub accepting: bool,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Pending,
    /// It waits for somebody.
    Held,
    /// It is being printed.
    Processing,
    /// It was printed.
    Completed,
    /// It was taken back.
    Canceled,
    /// It was not printed; in the printer's words.
    Aborted(String),
}

/// Whether a printer can be reached by such an address at all; nobody is asked.
///
/// # Errors
/// Why not.
pub fn check_address(uri: &str) -> Result<()> {
    Place::parse(uri).map(drop)
}

/// Prints a file: its job's number at the printer.
///
/// # Errors
/// The file is not of its format or cannot be read; the printer is not there, or refuses.
pub fn print(uri: &str, request: &JobRequest, file: &Path) -> Result<JobId> {
    print_at(&Place::parse(uri)?, request, file)
}

/// The host's printers, by this machine's CUPS.
///
/// # Errors
/// CUPS is not there, or refuses.
pub fn printers() -> Result<Vec<Found>> {
    Service::local().printers()
}

/// What a printer can do: to be mirrored by the guest's.
///
/// # Errors
/// The printer is not there, or refuses.
pub fn capabilities(uri: &str) -> Result<Capabilities> {
    capabilities_at(&Place::parse(uri)?)
}

/// Where a job stands.
///
/// # Errors
/// The printer is not there, or does not know the job.
pub fn standing(uri: &str, job: JobId) -> Result<Standing> {
    standing_at(&Place::parse(uri)?, job)
}

/// Takes a job back.
///
/// # Errors
/// The printer is not there, or the job has ended.
pub fn cancel(uri: &str, job: JobId, user: &str) -> Result<()> {
    cancel_at(&Place::parse(uri)?, job, user)
}

/// The same, of a service that is not this machine's own CUPS.
impl Service {
    /// Its printers.
    ///
    /// # Errors
    /// It is not there, or refuses.
    pub fn printers(&self) -> Result<Vec<Found>> {
        let place = Place::root(self);
        let empty = |result| match result {
            Err(Error::Refused {
                status: NOT_FOUND, ..
            }) => Ok(None),
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(error),
        };
        let ask = |code| {
            let mut operation = begin(None);
            let wanted = [
                "printer-info",
                "printer-is-accepting-jobs",
                "printer-name",
                "printer-uri-supported",
            ];
            operation.put("requested-attributes", keywords(wanted));
            empty(send(&place, code, operation, Vec::new(), None))
        };
        let default = ask(CUPS_GET_DEFAULT)?;
        let default = default.as_ref().and_then(|message| {
            let printer = message.group(DelimiterTag::PrinterAttributes);
            printer.says("printer-name").map(str::to_owned)
        });
        let Some(all) = ask(CUPS_GET_PRINTERS)? else {
            return Ok(Vec::new());
        };
        let groups = all.attributes.groups_of(DelimiterTag::PrinterAttributes);
        Ok(groups
            .filter_map(|printer| found(printer, default.as_deref()))
            .collect())
    }

    /// Prints a file on one of its printers; see [`print()`].
    ///
    /// # Errors
    /// As with [`print()`].
    pub fn print(&self, uri: &str, request: &JobRequest, file: &Path) -> Result<JobId> {
        print_at(&Place::at(self, uri)?, request, file)
    }

    /// What one of its printers can do; see [`capabilities`].
    ///
    /// # Errors
    /// As with [`capabilities`].
    pub fn capabilities(&self, uri: &str) -> Result<Capabilities> {
        capabilities_at(&Place::at(self, uri)?)
    }

    /// Where a job of one of its printers stands; see [`standing`].
    ///
    /// # Errors
    /// As with [`standing`].
    pub fn standing(&self, uri: &str, job: JobId) -> Result<Standing> {
        standing_at(&Place::at(self, uri)?, job)
    }

    /// Takes a job of one of its printers back; see [`cancel`].
    ///
    /// # Errors
    /// As with [`cancel`].
    pub fn cancel(&self, uri: &str, job: JobId, user: &str) -> Result<()> {
        cancel_at(&Place::at(self, uri)?, job, user)
    }
}

fn found(printer: &IppAttributeGroup, default: Option<&str>) -> Option<Found> {
    let name = printer.says("printer-name")?.to_owned();
    let uri = printer
        .each("printer-uri-supported")
        .iter()
        .find_map(words)?;
    Some(Found {
        default: default == Some(&name),
        info: printer.says("printer-info").unwrap_or(&name).to_owned(),
        uri: uri.to_owned(),
        accepting: printer.truth("printer-is-accepting-jobs") != Some(false),
        name,
    })
}

/// The attributes that each request begins with.
fn begin(place: Option<&Place>) -> Attributes {
    let mut operation = Attributes::default();
    operation.put("attributes-charset", charset("utf-8"));
    operation.put("attributes-natural-language", language("en"));
    if let Some(place) = place {
        operation.put("printer-uri", uri(&place.uri()));
    }
    operation
}

fn send(
    place: &Place,
    code: u16,
    operation: Attributes,
    job: Vec<ipp::attribute::IppAttribute>,
    document: Option<(File, u64)>,
) -> Result<Message> {
    static LAST: AtomicI32 = AtomicI32::new(0);
    // Above zero, also after all numbers were used.
    let id = LAST.fetch_add(1, Ordering::Relaxed).rem_euclid(i32::MAX) + 1;
    let mut groups = vec![(DelimiterTag::OperationAttributes, operation)];
    if !job.is_empty() {
        let mut group = Attributes::default();
        job.into_iter().for_each(|attribute| group.push(attribute));
        groups.push((DelimiterTag::JobAttributes, group));
    }
    // What every printer since 2000 speaks; those of the 2.x kind take it, too.
    let bytes = message::write(0x0101, code, id, groups);
    exchange(place, &bytes, document)
}

/// A file that begins as its format does.
fn open(path: &Path, format: Format) -> Result<(File, u64)> {
    let failed = |doing| {
        move |source| Error::File {
            path: path.to_path_buf(),
            doing,
            source,
        }
    };
    let mut file = File::open(path).map_err(failed("open it"))?;
    let metadata = file.metadata().map_err(failed("measure it"))?;
    let mut beginning = Vec::new();
    (file.by_ref().take(format.magic().len() as u64))
        .read_to_end(&mut beginning)
        .map_err(failed("read it"))?;
    if !metadata.is_file() || beginning != format.magic() {
        return Err(Error::NotTheFormat {
            path: path.to_path_buf(),
            expected: format.name(),
        });
    }
    file.seek(SeekFrom::Start(0)).map_err(failed("read it"))?;
    Ok((file, metadata.len()))
}

fn print_at(place: &Place, request: &JobRequest, file: &Path) -> Result<JobId> {
    let document = open(file, request.format)?;
    let mut operation = begin(Some(place));
    operation.put("requesting-user-name", name(&request.user));
    operation.put("job-name", name(&request.title));
    operation.put("document-format", mime(request.format.mime()));
    let ticket = request.ticket.clone().sane();
    let job = values::ticket(&ticket);
    let answer = send(place, PRINT_JOB, operation, job, Some(document))?;
    let id = answer.group(DelimiterTag::JobAttributes).number("job-id");
    id.map(JobId).ok_or_else(|| Error::Nonsense {
        place: place.to_string(),
        why: "a job without a number".into(),
    })
}

fn capabilities_at(place: &Place) -> Result<Capabilities> {
    let mut operation = begin(Some(place));
    let wanted = [
        "color-supported",
        "media-default",
        "media-supported",
        "printer-make-and-model",
        "printer-resolution-supported",
        "sides-supported",
    ];
    operation.put("requested-attributes", keywords(wanted));
    let answer = send(place, GET_PRINTER_ATTRIBUTES, operation, Vec::new(), None)?;
    let printer = answer.group(DelimiterTag::PrinterAttributes);
    let papers = |name| {
        printer
            .each(name)
            .iter()
            .filter_map(words)
            .filter_map(Medium::new)
    };
    let dots = printer.each("printer-resolution-supported").iter();
    Ok(Capabilities {
        make_and_model: printer
            .says("printer-make-and-model")
            .unwrap_or_default()
            .to_owned(),
        media: papers("media-default")
            .chain(papers("media-supported"))
            .collect(),
        sides: (printer.each("sides-supported").iter())
            .filter_map(|value| Sides::from_keyword(words(value)?))
            .collect(),
        colour: printer.truth("color-supported").unwrap_or(false),
        resolutions: dots.filter_map(resolution).collect(),
    }
    .sane())
}

/// Dots per inch, if they are as many both ways.
fn resolution(value: &IppValue) -> Option<u16> {
    match value {
        IppValue::Resolution {
            cross_feed,
            feed,
            units: 3,
        } if cross_feed == feed => u16::try_from(*feed).ok(),
        _ => None,
    }
}

fn standing_at(place: &Place, job: JobId) -> Result<Standing> {
    let mut operation = begin(Some(place));
    operation.put("job-id", IppValue::Integer(job.0));
    let wanted = ["job-state", "job-state-message", "job-state-reasons"];
    operation.put("requested-attributes", keywords(wanted));
    let answer = send(place, GET_JOB_ATTRIBUTES, operation, Vec::new(), None)?;
    let job = answer.group(DelimiterTag::JobAttributes);
    let why = || {
        let said = job
            .says("job-state-message")
            .filter(|words| !words.is_empty());
        let reason = || job.each("job-state-reasons").iter().find_map(words);
        said.or_else(reason).unwrap_or_default().to_owned()
    };
    match job.number("job-state") {
        Some(3) => Ok(Standing::Pending),
        Some(4 | 6) => Ok(Standing::Held),
        Some(5) => Ok(Standing::Processing),
        Some(7) => Ok(Standing::Canceled),
        Some(8) => Ok(Standing::Aborted(why())),
        Some(9) => Ok(Standing::Completed),
        _ => Err(Error::Nonsense {
            place: place.to_string(),
            why: "a job that stands nowhere".into(),
        }),
    }
}

fn cancel_at(place: &Place, job: JobId, user: &str) -> Result<()> {
    let mut operation = begin(Some(place));
    operation.put("job-id", IppValue::Integer(job.0));
    operation.put("requesting-user-name", name(user));
    send(place, CANCEL_JOB, operation, Vec::new(), None).map(drop)
}
