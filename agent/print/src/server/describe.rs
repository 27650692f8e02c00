//! What the printer says about itself and its jobs: RFC 8011, and what PWG 5100.14 (IPP Everywhere) adds.
use super::jobs::{DOCUMENT_SECONDS, Entry, Phase};
use super::operations::OPERATIONS;
use super::wishes::UNDERSTOOD;
use super::{Shared, State};
use crate::capabilities::Capabilities;
use crate::media::Medium;
use crate::ticket::{COPIES, Format, Quality};
use crate::values::{
    self, Attributes, charset, collection, date_time, dpi, integer, keyword, keywords, language,
    mime, name, several, text, unknown, uri, words,
};
use ipp::attribute::IppAttribute;
use ipp::value::IppValue;
use std::time::Duration;

/// The part of a sheet that is left alone, in hundredths of a millimetre.
const MARGIN: i32 = 423;

/// Which attributes a client wants to hear.
pub struct Wanted {
    all: bool,
    names: Vec<String>,
}

impl Wanted {
    /// What `requested-attributes` lists, or, if it is not there, these.
    pub fn new(requested: &[IppValue], usual: &[&str]) -> Self {
        let mut names: Vec<String> = requested
            .iter()
            .filter_map(words)
            .map(str::to_owned)
            .collect();
        if requested.is_empty() {
            names = usual.iter().map(|name| (*name).to_owned()).collect();
        }
        Self {
            all: names.iter().any(|name| name == "all"),
            names,
        }
    }

    fn names(&self, name: &str) -> bool {
        self.names.iter().any(|one| one == name)
    }

    /// Of these attributes of a group those that are wanted.
    fn of(&self, group: &str, list: Attributes) -> impl Iterator<Item = IppAttribute> {
        let whole = self.all || self.names(group);
        (list.into_inner().into_iter()).filter(move |one| whole || self.names(one.name().as_str()))
    }
}

/// The printer's attributes.
pub fn printer(shared: &Shared, state: &State, wanted: &Wanted) -> Attributes {
    let mut said = Attributes::default();
    let capabilities = &state.capabilities;
    let mut list: Vec<IppAttribute> = wanted.of("job-template", template(capabilities)).collect();
    list.extend(wanted.of("printer-description", about(shared, state)));
    list.extend(wanted.of("printer-description", raster(capabilities)));
    // Large, so that only who names it gets it (PWG 5100.11).
    if wanted.names("media-col-database") {
        let all = capabilities.media.iter().map(media_col);
        said.put("media-col-database", several(all));
    }
    list.into_iter().for_each(|attribute| said.push(attribute));
    said
}

fn media_size(medium: &Medium) -> IppValue {
    collection([
        ("x-dimension", integer(medium.width())),
        ("y-dimension", integer(medium.height())),
    ])
}

fn media_col(medium: &Medium) -> IppValue {
    collection([
        ("media-bottom-margin", IppValue::Integer(MARGIN)),
        ("media-left-margin", IppValue::Integer(MARGIN)),
        ("media-right-margin", IppValue::Integer(MARGIN)),
        ("media-size", media_size(medium)),
        ("media-size-name", keyword(medium.name())),
        ("media-source", keyword("main")),
        ("media-top-margin", IppValue::Integer(MARGIN)),
        ("media-type", keyword("stationery")),
    ])
}

/// What jobs may ask for.
fn template(capabilities: &Capabilities) -> Attributes {
    let mut said = Attributes::default();
    let usual = capabilities
        .media
        .first()
        .cloned()
        .unwrap_or_else(Medium::a4);
    let names = || keywords(capabilities.media.iter().map(Medium::name));
    said.put("copies-default", IppValue::Integer(1));
    let copies = IppValue::RangeOfInteger {
        min: 1,
        max: COPIES.into(),
    };
    said.put("copies-supported", copies);
    said.put("finishings-default", IppValue::Enum(3));
    said.put("finishings-supported", IppValue::Enum(3));
    for margin in ["bottom", "left", "right", "top"] {
        let name = format!("media-{margin}-margin-supported");
        said.put(&name, IppValue::Integer(MARGIN));
    }
    said.put("media-col-default", media_col(&usual));
    said.put("media-col-ready", media_col(&usual));
    let members = [
        "media-bottom-margin",
        "media-left-margin",
        "media-right-margin",
        "media-size",
        "media-size-name",
        "media-source",
        "media-top-margin",
        "media-type",
    ];
    said.put("media-col-supported", keywords(members));
    said.put("media-default", keyword(usual.name()));
    said.put("media-ready", keyword(usual.name()));
    let sizes = capabilities.media.iter().map(media_size);
    said.put("media-size-supported", several(sizes));
    said.put("media-source-supported", keyword("main"));
    said.put("media-supported", names());
    said.put("media-type-supported", keyword("stationery"));
    let collated = "separate-documents-collated-copies";
    said.put("multiple-document-handling-default", keyword(collated));
    said.put("multiple-document-handling-supported", keyword(collated));
    said.put("orientation-requested-default", IppValue::Enum(3));
    said.put("orientation-requested-supported", IppValue::Enum(3));
    said.put("output-bin-default", keyword("face-down"));
    said.put("output-bin-supported", keyword("face-down"));
    // The words that choose pages are understood, but nothing can be chosen for them.
    said.put(
        "overrides-supported",
        keywords(["document-number", "pages"]),
    );
    said.put("page-ranges-supported", IppValue::Boolean(true));
    said.put("print-color-mode-default", keyword("auto"));
    let modes: &[_] = if capabilities.colour {
        &["auto", "color", "monochrome"]
    } else {
        &["auto", "monochrome"]
    };
    said.put(
        "print-color-mode-supported",
        keywords(modes.iter().copied()),
    );
    said.put("print-content-optimize-default", keyword("auto"));
    said.put("print-content-optimize-supported", keyword("auto"));
    let qualities = Quality::ALL.map(|quality| IppValue::Enum(quality.number()));
    said.put(
        "print-quality-default",
        IppValue::Enum(Quality::Normal.number()),
    );
    said.put("print-quality-supported", several(qualities));
    said.put("print-rendering-intent-default", keyword("auto"));
    said.put("print-rendering-intent-supported", keyword("auto"));
    let coarse = capabilities.resolutions.first().copied().unwrap_or(300);
    said.put("printer-resolution-default", dpi(coarse));
    let all = capabilities.resolutions.iter().copied().map(dpi);
    said.put("printer-resolution-supported", several(all));
    said.put("sides-default", keyword("one-sided"));
    let sides = capabilities.sides.iter().map(|sides| sides.keyword());
    said.put("sides-supported", keywords(sides));
    said
}

/// Who the printer is, how it is, and how it can be talked to.
fn about(shared: &Shared, state: &State) -> Attributes {
    let mut said = Attributes::default();
    let capabilities = &state.capabilities;
    let page = shared.page();
    let now = shared.now();
    let up = |when: Duration| integer(when.as_secs() + 1);
    let when = |when: Duration| date_time(shared.began + when);
    let nobody = || text("");
    said.put("charset-configured", charset("utf-8"));
    said.put(
        "charset-supported",
        several(["us-ascii", "utf-8"].map(charset)),
    );
    said.put("color-supported", IppValue::Boolean(capabilities.colour));
    // A stream that unpacks to more than it is would need a limit of its own; loopback is fast.
    said.put("compression-supported", keyword("none"));
    said.put("document-format-default", mime("application/octet-stream"));
    let formats = [
        "application/octet-stream",
        Format::Pdf.mime(),
        Format::Raster.mime(),
        "image/jpeg",
    ];
    said.put("document-format-supported", several(formats.map(mime)));
    said.put("generated-natural-language-supported", language("en"));
    said.put("identify-actions-default", keyword("display"));
    said.put("identify-actions-supported", keyword("display"));
    said.put("ipp-features-supported", keyword("ipp-everywhere"));
    said.put("ipp-versions-supported", keywords(["1.0", "1.1", "2.0"]));
    let mut creation = UNDERSTOOD.to_vec();
    creation.extend([
        "document-format",
        "document-name",
        "ipp-attribute-fidelity",
        "job-name",
    ]);
    said.put("job-creation-attributes-supported", keywords(creation));
    said.put("job-ids-supported", IppValue::Boolean(true));
    let largest = IppValue::RangeOfInteger {
        min: 0,
        max: i32::try_from(shared.settings.largest / 1024).unwrap_or(i32::MAX),
    };
    said.put("job-k-octets-supported", largest);
    said.put("multiple-document-jobs-supported", IppValue::Boolean(false));
    said.put("multiple-operation-time-out", integer(DOCUMENT_SECONDS));
    said.put("multiple-operation-time-out-action", keyword("abort-job"));
    said.put("natural-language-configured", language("en"));
    let operations = OPERATIONS.map(|code| IppValue::Enum(code.into()));
    said.put("operations-supported", several(operations));
    // How fast the host's printer is nobody told us; zero is no answer to some clients.
    said.put("pages-per-minute", IppValue::Integer(10));
    if capabilities.colour {
        said.put("pages-per-minute-color", IppValue::Integer(10));
    }
    said.put("pdl-override-supported", keyword("not-attempted"));
    said.put("preferred-attributes-supported", IppValue::Boolean(false));
    said.put("printer-config-change-date-time", when(state.configured));
    said.put("printer-config-change-time", up(state.configured));
    said.put("printer-current-time", when(now));
    said.put("printer-device-id", text(&device_id(capabilities)));
    said.put("printer-geo-location", unknown());
    said.put(
        "printer-get-attributes-supported",
        keyword("document-format"),
    );
    said.put("printer-icons", uri(&format!("{page}icon.png")));
    said.put("printer-info", text(&shared.settings.name));
    said.put(
        "printer-is-accepting-jobs",
        IppValue::Boolean(state.accepting),
    );
    said.put("printer-location", nobody());
    said.put("printer-make-and-model", text(&capabilities.make_and_model));
    said.put("printer-more-info", uri(&page));
    said.put("printer-name", name(&shared.settings.name));
    said.put("printer-organization", nobody());
    said.put("printer-organizational-unit", nobody());
    let busy = state.queue.all().any(|job| job.phase == Phase::Processing);
    said.put("printer-state", IppValue::Enum(if busy { 4 } else { 3 }));
    said.put("printer-state-change-date-time", when(state.changed));
    said.put("printer-state-change-time", up(state.changed));
    said.put("printer-state-message", nobody());
    said.put("printer-state-reasons", keyword("none"));
    // One supply, of which nothing is known: level -2 (RFC 3805).
    let supply =
        "index=1;class=supplyThatIsConsumed;type=toner;unit=percent;maxcapacity=100;level=-2;";
    said.put("printer-supply", IppValue::OctetString(supply.into()));
    said.put(
        "printer-supply-description",
        text("What the host's printer has"),
    );
    said.put("printer-supply-info-uri", uri(&page));
    said.put("printer-up-time", up(now));
    said.put("printer-uri-supported", uri(&shared.uri()));
    let uuid = format!("urn:uuid:{}", shared.settings.uuid);
    said.put("printer-uuid", uri(&uuid));
    said.put("queued-job-count", integer(state.queue.unfinished()));
    said.put("uri-authentication-supported", keyword("none"));
    said.put("uri-security-supported", keyword("none"));
    said.put(
        "which-jobs-supported",
        keywords(["completed", "not-completed", "all"]),
    );
    said
}

/// By which clients choose a driver if they want one.
fn device_id(capabilities: &Capabilities) -> String {
    let model = &capabilities.make_and_model;
    let (maker, model) = model.split_once(' ').unwrap_or(("Medley", model));
    format!("MFG:{maker};MDL:{model};CMD:PDF,PWGRaster,JPEG;")
}

fn raster(capabilities: &Capabilities) -> Attributes {
    let mut said = Attributes::default();
    let all = capabilities.resolutions.iter().copied().map(dpi);
    said.put("pwg-raster-document-resolution-supported", several(all));
    said.put("pwg-raster-document-sheet-back", keyword("normal"));
    let kinds: &[_] = if capabilities.colour {
        &["black_1", "sgray_8", "srgb_8"]
    } else {
        &["black_1", "sgray_8"]
    };
    said.put(
        "pwg-raster-document-type-supported",
        keywords(kinds.iter().copied()),
    );
    said
}

/// A job's attributes.
pub fn job(shared: &Shared, entry: &Entry, wanted: &Wanted) -> Attributes {
    let mut asked = Attributes::default();
    for attribute in values::ticket(&entry.ticket) {
        asked.push(attribute);
    }
    let mut said = brief(shared, entry);
    let up = |when: Duration| integer(when.as_secs() + 1);
    let perhaps = |when: Option<Duration>| when.map_or(IppValue::NoValue, up);
    let date = |when: Option<Duration>| {
        when.map_or(IppValue::NoValue, |when| date_time(shared.began + when))
    };
    said.put("date-time-at-completed", date(entry.ended));
    said.put("date-time-at-creation", date(Some(entry.created)));
    said.put("date-time-at-processing", date(entry.processing));
    if entry.impressions > 0 {
        said.put("job-impressions", integer(entry.impressions));
    }
    said.put("job-k-octets", integer(entry.octets.div_ceil(1024)));
    said.put("job-name", name(&entry.title));
    said.put("job-originating-user-name", name(&entry.user));
    said.put("job-printer-up-time", up(shared.now()));
    said.put("job-printer-uri", uri(&shared.uri()));
    let documents = i32::from(entry.octets > 0);
    said.put("number-of-documents", IppValue::Integer(documents));
    said.put("time-at-completed", perhaps(entry.ended));
    said.put("time-at-creation", up(entry.created));
    said.put("time-at-processing", perhaps(entry.processing));
    let mut told = Attributes::default();
    wanted
        .of("job-description", said)
        .for_each(|one| told.push(one));
    wanted
        .of("job-template", asked)
        .for_each(|one| told.push(one));
    told
}

/// What whoever made a job is told.
pub fn brief(shared: &Shared, entry: &Entry) -> Attributes {
    let mut said = Attributes::default();
    said.put("job-id", IppValue::Integer(entry.id.0));
    said.put("job-state", IppValue::Enum(entry.phase.number()));
    said.put("job-state-message", text(&entry.message));
    said.put("job-state-reasons", keyword(entry.phase.reason()));
    said.put("job-uri", uri(&format!("{}/{}", shared.uri(), entry.id)));
    said
}
