//! IPP's operations: a message and perhaps a document in, an answer out.
use super::describe::{self, Wanted};
use super::document::{Declared, Document, Spool, Trouble};
use super::jobs::{Entry, New, Phase, Refusal};
use super::request::{No, Outcome, Target, Yes, status, well_formed};
use super::{Notice, Shared, State, wishes};
use crate::message::{self, Message};
use crate::ticket::{JobId, Ticket};
use crate::values::{Attributes, Says, charset, language, text};
use ipp::attribute::IppAttributeGroup;
use ipp::model::DelimiterTag;
use ipp::value::IppValue;
use std::io::Read;

const PRINT_JOB: u16 = 0x02;
const VALIDATE_JOB: u16 = 0x04;
const CREATE_JOB: u16 = 0x05;
const SEND_DOCUMENT: u16 = 0x06;
const CANCEL_JOB: u16 = 0x08;
const GET_JOB_ATTRIBUTES: u16 = 0x09;
const GET_JOBS: u16 = 0x0a;
const GET_PRINTER_ATTRIBUTES: u16 = 0x0b;
const CANCEL_MY_JOBS: u16 = 0x39;
const CLOSE_JOB: u16 = 0x3b;
const IDENTIFY_PRINTER: u16 = 0x3c;

/// What the printer can be asked.
pub const OPERATIONS: [u16; 11] = [
    PRINT_JOB,
    VALIDATE_JOB,
    CREATE_JOB,
    SEND_DOCUMENT,
    CANCEL_JOB,
    GET_JOB_ATTRIBUTES,
    GET_JOBS,
    GET_PRINTER_ATTRIBUTES,
    CANCEL_MY_JOBS,
    CLOSE_JOB,
    IDENTIFY_PRINTER,
];

/// Answers a message. What follows it is its document.
pub fn answer(shared: &Shared, request: &Message, document: &mut impl Read) -> Vec<u8> {
    // Whoever speaks a version that is not known is answered in the nearest one.
    let version = match request.version {
        0x0100 => 0x0100,
        version if version >> 8 == 2 => 0x0200,
        _ => 0x0101,
    };
    let (status, why, groups) = match perform(shared, request, document) {
        Ok(yes) => (yes.status, "", yes.groups),
        Err(No(status, why)) => {
            tracing::debug!(operation = request.code, status, why, "refused");
            (status, why, Vec::new())
        }
    };
    let mut operation = Attributes::default();
    operation.put("attributes-charset", charset("utf-8"));
    operation.put("attributes-natural-language", language("en"));
    if !why.is_empty() {
        operation.put("status-message", text(why));
    }
    let mut all = vec![(DelimiterTag::OperationAttributes, operation)];
    all.extend(groups);
    message::write(version, status, request.id, all)
}

fn perform(shared: &Shared, request: &Message, document: &mut impl Read) -> Outcome {
    if !matches!(request.version >> 8, 1 | 2) {
        return Err(No(status::VERSION_NOT_SUPPORTED, "IPP 1 and 2 are spoken"));
    }
    let operation = well_formed(request)?;
    if !OPERATIONS.contains(&request.code) {
        return Err(No(
            status::OPERATION_NOT_SUPPORTED,
            "the printer cannot do this",
        ));
    }
    shared.sweep();
    let target = Target::of(operation)?;
    let asked = Asked {
        shared,
        operation,
        job: request.group(DelimiterTag::JobAttributes),
    };
    match request.code {
        PRINT_JOB => asked.print(document),
        VALIDATE_JOB => asked
            .admit()
            .map(|admitted| Yes::plain().without(admitted.refused)),
        CREATE_JOB => asked.create(),
        SEND_DOCUMENT => asked.send(target.job()?, document),
        CANCEL_JOB => asked.cancel(target.job()?),
        GET_JOB_ATTRIBUTES => asked.job(target.job()?),
        GET_JOBS => Ok(asked.jobs()),
        GET_PRINTER_ATTRIBUTES => asked.printer(),
        CANCEL_MY_JOBS => asked.cancel_mine(),
        CLOSE_JOB => asked.close(target.job()?),
        _ => {
            shared.notify(Notice::Identify);
            Ok(Yes::plain())
        }
    }
}

/// What is known of a job before its document has come.
struct Admitted {
    declared: Declared,
    ticket: Ticket,
    refused: Attributes,
}

/// A request that is well formed.
struct Asked<'a> {
    shared: &'a Shared,
    operation: &'a IppAttributeGroup,
    job: Option<&'a IppAttributeGroup>,
}

impl Asked<'_> {
    fn declared(&self) -> Result<Declared, No> {
        match self.operation.says("document-format") {
            None => Ok(Declared::Unsaid),
            Some(kind) => Declared::from_mime(kind).ok_or(No(
                status::FORMAT_NOT_SUPPORTED,
                "PDF, PWG raster and JPEG are printed",
            )),
        }
    }

    fn uncompressed(&self) -> Result<(), No> {
        match self.operation.says("compression") {
            None | Some("none") => Ok(()),
            Some(_) => Err(No(
                status::COMPRESSION_NOT_SUPPORTED,
                "documents come as they are",
            )),
        }
    }

    /// Whether such a job can be printed at all.
    fn admit(&self) -> Result<Admitted, No> {
        let declared = self.declared()?;
        self.uncompressed()?;
        let state = self.shared.state();
        let (ticket, refused) = wishes::judge(self.job, &state.capabilities);
        let faithful = self.operation.truth("ipp-attribute-fidelity") == Some(true);
        let must = self.operation.each("job-mandatory-attributes");
        if faithful && !refused.is_empty() || !must.is_empty() && !refused.is_empty() {
            return Err(No(
                status::ATTRIBUTES_NOT_SUPPORTED,
                "the printer cannot do all that the job insists on",
            ));
        }
        if !state.accepting {
            return Err(No(status::NOT_ACCEPTING, "nothing can be printed now"));
        }
        Ok(Admitted {
            declared,
            ticket,
            refused,
        })
    }

    fn new_job(&self, ticket: Ticket) -> New {
        let says = |name| self.operation.says(name).filter(|text| !text.is_empty());
        let impressions = self.operation.number("job-impressions");
        New {
            title: (says("job-name").or_else(|| says("document-name")))
                .unwrap_or("Untitled")
                .to_owned(),
            user: says("requesting-user-name")
                .unwrap_or("anonymous")
                .to_owned(),
            ticket,
            impressions: impressions
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(0),
        }
    }

    fn spool(
        &self,
        id: JobId,
        ticket: &Ticket,
        declared: Declared,
        from: &mut impl Read,
    ) -> Result<Document, Trouble> {
        let capabilities = self.shared.state().capabilities.clone();
        let spool = Spool {
            folder: &self.shared.settings.spool,
            most: self.shared.settings.largest,
            capabilities: &capabilities,
            media: ticket.media.as_ref(),
        };
        spool.take(from, declared, || {
            let state = self.shared.state();
            state
                .queue
                .get(id)
                .is_some_and(|job| job.phase == Phase::Incoming)
        })
    }

    fn print(&self, document: &mut impl Read) -> Outcome {
        let admitted = self.admit()?;
        let new = self.new_job(admitted.ticket.clone());
        let now = self.shared.now();
        let id = self.shared.state().queue.add(new, Phase::Incoming, now)?;
        let spooled = self.spool(id, &admitted.ticket, admitted.declared, document);
        let mut state = self.shared.state();
        let kept = spooled.map_err(No::from).and_then(|document| {
            let now = self.shared.now();
            state
                .queue
                .end_document(id, document, now)
                .map_err(|_| No::from(Trouble::Canceled))
        });
        if let Err(no) = kept {
            // The client never heard of it, so nobody can ask.
            state.queue.forget(id);
            return Err(no);
        }
        self.hand_over(&mut state, id)?;
        Ok(self.about(&state, id).without(admitted.refused))
    }

    /// Gives a whole job to the printer's owner.
    fn hand_over(&self, state: &mut State, id: JobId) -> Result<(), No> {
        let now = self.shared.now();
        if let Some(job) = state.queue.close(id, now)? {
            state.changed = now;
            if !self.shared.notify(Notice::Print(job)) {
                state.queue.abort(id, "nobody takes jobs", now);
                return Err(No(status::BUSY, "nobody takes jobs"));
            }
        }
        Ok(())
    }

    /// What whoever made or sent a job is told.
    fn about(&self, state: &State, id: JobId) -> Yes {
        let said = state
            .queue
            .get(id)
            .map(|entry| describe::brief(self.shared, entry));
        Yes::with(DelimiterTag::JobAttributes, said.unwrap_or_default())
    }

    fn create(&self) -> Outcome {
        let admitted = self.admit()?;
        let new = self.new_job(admitted.ticket);
        let now = self.shared.now();
        let mut state = self.shared.state();
        let id = state.queue.add(new, Phase::open(now), now)?;
        Ok(self.about(&state, id).without(admitted.refused))
    }

    fn send(&self, id: JobId, document: &mut impl Read) -> Outcome {
        let Some(last) = self.operation.truth("last-document") else {
            return Err(No(
                status::BAD_REQUEST,
                "it must be said whether this is the last document",
            ));
        };
        let declared = self.declared()?;
        self.uncompressed()?;
        // A last document without bytes only closes the job.
        let mut first = [0];
        let count = document.read(&mut first).map_err(Trouble::Connection)?;
        let empty = count == 0;
        if !(empty && last) {
            let ticket = {
                let mut state = self.shared.state();
                state.queue.begin_document(id)?;
                state
                    .queue
                    .get(id)
                    .map(|job| job.ticket.clone())
                    .unwrap_or_default()
            };
            let spooled = self.spool(id, &ticket, declared, &mut first[..count].chain(document));
            let mut state = self.shared.state();
            let now = self.shared.now();
            let kept = spooled.map_err(No::from).and_then(|document| {
                state
                    .queue
                    .end_document(id, document, now)
                    .map_err(|_| No::from(Trouble::Canceled))
            });
            if let Err(no) = kept {
                state.queue.abort(id, no.1, now);
                return Err(no);
            }
        }
        let mut state = self.shared.state();
        if last {
            self.hand_over(&mut state, id)?;
        }
        Ok(self.about(&state, id))
    }

    fn close(&self, id: JobId) -> Outcome {
        let mut state = self.shared.state();
        self.hand_over(&mut state, id)?;
        Ok(self.about(&state, id))
    }

    fn cancel(&self, id: JobId) -> Outcome {
        let mut state = self.shared.state();
        let now = self.shared.now();
        let owned = state.queue.cancel(id, now)?;
        state.changed = now;
        if owned {
            self.shared.notify(Notice::Canceled(id));
        }
        Ok(Yes::plain())
    }

    fn is_mine(&self, entry: &Entry) -> bool {
        self.operation.says("requesting-user-name") == Some(&entry.user)
    }

    fn cancel_mine(&self) -> Outcome {
        let ids: Vec<_> = {
            let state = self.shared.state();
            let named = self.named();
            (state.queue.all())
                .filter(|job| !job.phase.has_ended() && self.is_mine(job))
                .filter(|job| named.is_empty() || named.contains(&job.id))
                .map(|job| job.id)
                .collect()
        };
        for id in ids {
            // One that has ended meanwhile is as good as cancelled.
            let _ = self.cancel(id);
        }
        Ok(Yes::plain())
    }

    /// Jobs that the request names.
    fn named(&self) -> Vec<JobId> {
        (self.operation.each("job-ids").iter())
            .filter_map(|value| match value {
                IppValue::Integer(id) => Some(JobId(*id)),
                _ => None,
            })
            .collect()
    }

    fn job(&self, id: JobId) -> Outcome {
        let state = self.shared.state();
        let entry = state.queue.get(id).ok_or(Refusal::Unknown)?;
        let wanted = Wanted::new(self.operation.each("requested-attributes"), &["all"]);
        let said = describe::job(self.shared, entry, &wanted);
        Ok(Yes::with(DelimiterTag::JobAttributes, said))
    }

    fn jobs(&self) -> Yes {
        let state = self.shared.state();
        let wanted = Wanted::new(
            self.operation.each("requested-attributes"),
            &["job-id", "job-uri"],
        );
        let named = self.named();
        let ended = match self.operation.says("which-jobs") {
            Some("completed") => Some(true),
            Some("all") => None,
            // Those named are told wherever they stand.
            None if !named.is_empty() => None,
            _ => Some(false),
        };
        let mine = self.operation.truth("my-jobs") == Some(true);
        let limit = self
            .operation
            .number("limit")
            .and_then(|count| usize::try_from(count).ok());
        let mut found: Vec<_> = (state.queue.all())
            .filter(|job| ended.is_none_or(|ended| job.phase.has_ended() == ended))
            .filter(|job| !mine || self.is_mine(job))
            .filter(|job| named.is_empty() || named.contains(&job.id))
            .collect();
        // Of those that have ended the last comes first (RFC 8011, 4.2.6).
        if ended == Some(true) {
            found.sort_by_key(|job| std::cmp::Reverse((job.ended, job.id)));
        }
        let groups = found
            .into_iter()
            .take(limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX))
            .map(|entry| {
                (
                    DelimiterTag::JobAttributes,
                    describe::job(self.shared, entry, &wanted),
                )
            });
        Yes {
            groups: groups.collect(),
            ..Yes::plain()
        }
    }

    fn printer(&self) -> Outcome {
        self.declared()?;
        let state = self.shared.state();
        let wanted = Wanted::new(self.operation.each("requested-attributes"), &["all"]);
        let said = describe::printer(self.shared, &state, &wanted);
        Ok(Yes::with(DelimiterTag::PrinterAttributes, said))
    }
}
