//! What every request must be, and the ways in which it can be answered.
use super::document::Trouble;
use super::jobs::Refusal;
use crate::message::Message;
use crate::ticket::JobId;
use crate::values::{Attributes, Says};
use ipp::attribute::IppAttributeGroup;
use ipp::model::DelimiterTag;
use ipp::value::IppValue;

/// IPP's status codes, by the names that RFC 8011 gives them.
pub mod status {
    pub const OK: u16 = 0x0000;
    pub const OK_IGNORED: u16 = 0x0001;
    pub const BAD_REQUEST: u16 = 0x0400;
    pub const NOT_POSSIBLE: u16 = 0x0404;
    pub const NOT_FOUND: u16 = 0x0406;
    pub const TOO_LARGE: u16 = 0x0408;
    pub const FORMAT_NOT_SUPPORTED: u16 = 0x040a;
    pub const ATTRIBUTES_NOT_SUPPORTED: u16 = 0x040b;
    pub const CHARSET_NOT_SUPPORTED: u16 = 0x040d;
    pub const COMPRESSION_NOT_SUPPORTED: u16 = 0x040f;
    pub const FORMAT_ERROR: u16 = 0x0411;
    pub const OPERATION_NOT_SUPPORTED: u16 = 0x0501;
    pub const VERSION_NOT_SUPPORTED: u16 = 0x0503;
    pub const TEMPORARY: u16 = 0x0505;
    pub const NOT_ACCEPTING: u16 = 0x0506;
    pub const BUSY: u16 = 0x0507;
    pub const JOB_CANCELED: u16 = 0x0508;
    pub const ONE_DOCUMENT: u16 = 0x0509;
}

/// An answer that says no.
pub struct No(pub u16, pub &'static str);

/// An answer that says yes, and what else.
pub struct Yes {
    pub status: u16,
    pub groups: Vec<(DelimiterTag, Attributes)>,
}

pub type Outcome = Result<Yes, No>;

impl Yes {
    pub const fn plain() -> Self {
        Self {
            status: status::OK,
            groups: Vec::new(),
        }
    }

    pub fn with(tag: DelimiterTag, group: Attributes) -> Self {
        Self {
            groups: vec![(tag, group)],
            ..Self::plain()
        }
    }

    /// Says what was asked for and will not be.
    pub fn without(mut self, refused: Attributes) -> Self {
        if !refused.is_empty() {
            self.status = status::OK_IGNORED;
            self.groups
                .insert(0, (DelimiterTag::UnsupportedAttributes, refused));
        }
        self
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self(status::NOT_FOUND, "there is no such job"),
            Refusal::TooLate => Self(
                status::NOT_POSSIBLE,
                "the job is not where this can be done",
            ),
            Refusal::HasDocument => Self(status::ONE_DOCUMENT, "a job has one document"),
            Refusal::Busy => Self(status::BUSY, "too many jobs wait"),
        }
    }
}

impl From<Trouble> for No {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Connection(error) => {
                tracing::debug!(%error, "a document broke off");
                Self(status::BAD_REQUEST, "the document broke off")
            }
            Trouble::TooLarge => Self(status::TOO_LARGE, "the document is too large"),
            Trouble::Empty => Self(status::BAD_REQUEST, "there is no document"),
            Trouble::Unknown => Self(
                status::FORMAT_NOT_SUPPORTED,
                "PDF, PWG raster and JPEG are printed",
            ),
            Trouble::Broken(why) => Self(status::FORMAT_ERROR, why),
            Trouble::Spool(error) => {
                tracing::warn!(%error, "a document cannot be kept");
                Self(status::TEMPORARY, "there is no room for the document")
            }
            Trouble::Canceled => Self(status::JOB_CANCELED, "the job was cancelled"),
        }
    }
}

/// The operation's attributes, if they begin as every request must (RFC 8011, 4.1).
pub fn well_formed(request: &Message) -> Result<&IppAttributeGroup, No> {
    let bad = |why| No(status::BAD_REQUEST, why);
    if request.id <= 0 {
        return Err(bad("a request's number is above zero"));
    }
    let first = request.attributes.groups().first();
    let operation = first
        .filter(|group| group.tag() == DelimiterTag::OperationAttributes)
        .ok_or(bad("a request begins with its operation's attributes"))?;
    let [charset, language, ..] = operation.attributes() else {
        return Err(bad("a request begins with character set and language"));
    };
    let (IppValue::Charset(set), IppValue::NaturalLanguage(_)) =
        (charset.value(), language.value())
    else {
        return Err(bad("a request begins with character set and language"));
    };
    if charset.name().as_str() != "attributes-charset"
        || language.name().as_str() != "attributes-natural-language"
    {
        return Err(bad("a request begins with character set and language"));
    }
    let known = ["utf-8", "us-ascii"];
    if !known.iter().any(|one| set.eq_ignore_ascii_case(one)) {
        return Err(No(status::CHARSET_NOT_SUPPORTED, "UTF-8 is spoken"));
    }
    Ok(operation)
}

/// What a request is about.
pub enum Target {
    Printer,
    Job(JobId),
}

impl Target {
    pub fn of(operation: &IppAttributeGroup) -> Result<Self, No> {
        let lost = No(status::NOT_FOUND, "there is no such printer or job");
        if let Some(uri) = operation.says("printer-uri") {
            if path_of(uri) != super::PATH {
                return Err(lost);
            }
            let job = operation.number("job-id").map(|id| Self::Job(JobId(id)));
            return Ok(job.unwrap_or(Self::Printer));
        }
        let Some(uri) = operation.says("job-uri") else {
            return Err(No(
                status::BAD_REQUEST,
                "a request says which printer or job it is about",
            ));
        };
        let id = (path_of(uri).strip_prefix(super::PATH))
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|id| id.parse().ok());
        id.map(|id| Self::Job(JobId(id))).ok_or(lost)
    }

    pub const fn job(&self) -> Result<JobId, No> {
        match self {
            Self::Job(id) => Ok(*id),
            Self::Printer => Err(No(
                status::BAD_REQUEST,
                "the request does not say which job",
            )),
        }
    }
}

fn path_of(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    path.trim_end_matches('/')
}
