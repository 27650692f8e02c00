//! The printer's jobs: what each has, where it stands, who may change it. No clock, no I/O.
use super::document::Document;
use super::{Job, Progress};
use crate::ticket::{JobId, Ticket};
use std::collections::BTreeMap;
use std::time::Duration;

/// Jobs that have not ended. Each may have a file; a client that is told "busy" tries again.
pub const UNFINISHED: usize = 32;
/// Jobs that have ended and can still be asked about.
const REMEMBERED: usize = 64;
/// Seconds that a job waits for its document.
pub const DOCUMENT_SECONDS: u32 = 60;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its document, until then.
    Open { until: Duration },
    /// Its document is coming.
    Incoming,
    /// Its owner has it, and has said nothing.
    Pending,
    /// Its owner waits for something.
    Held,
    /// It is on its way to a printer.
    Processing,
    /// Somebody took it back.
    Canceled,
    /// It was not printed.
    Aborted,
    /// It was printed.
    Completed,
}

impl Phase {
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Canceled | Self::Aborted | Self::Completed)
    }

    /// IPP's `job-state`.
    pub const fn number(self) -> i32 {
        match self {
            Self::Open { .. } | Self::Incoming | Self::Pending => 3,
            Self::Processing => 5,
            // Stopped, not pending and held (4): CUPS asks no more about a job that is held, and takes it for
            // printed.
            Self::Held => 6,
            Self::Canceled => 7,
            Self::Aborted => 8,
            Self::Completed => 9,
        }
    }

    /// IPP's `job-state-reasons`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Open { .. } | Self::Incoming => "job-incoming",
            Self::Pending => "none",
            Self::Held => "resources-are-not-ready",
            Self::Processing => "job-printing",
            Self::Canceled => "job-canceled-by-user",
            Self::Aborted => "aborted-by-system",
            Self::Completed => "job-completed-successfully",
        }
    }
}

/// A job. Times are since the printer began.
#[derive(Debug)]
pub struct Entry {
    pub id: JobId,
    pub title: String,
    pub user: String,
    pub ticket: Ticket,
    /// Pages, as the client counts; zero if it does not.
    pub impressions: u32,
    pub phase: Phase,
    /// What its owner says.
    pub message: String,
    pub octets: u64,
    pub created: Duration,
    pub processing: Option<Duration>,
    pub ended: Option<Duration>,
    /// Until its owner gets it.
    document: Option<Document>,
}

/// What a new job has.
pub struct New {
    pub title: String,
    pub user: String,
    pub ticket: Ticket,
    pub impressions: u32,
}

/// Why a job cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such job.
    Unknown,
    /// It has ended, or is not where this can be done.
    TooLate,
    /// It has a document already.
    HasDocument,
    /// There are too many.
    Busy,
}

/// All jobs, oldest first.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: BTreeMap<JobId, Entry>,
    last: i32,
}

impl Queue {
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.jobs.values()
    }

    pub fn get(&self, id: JobId) -> Option<&Entry> {
        self.jobs.get(&id)
    }

    pub fn unfinished(&self) -> usize {
        self.all().filter(|job| !job.phase.has_ended()).count()
    }

    /// A new job, in this phase.
    pub fn add(&mut self, new: New, phase: Phase, now: Duration) -> Result<JobId, Refusal> {
        if self.unfinished() >= UNFINISHED {
            return Err(Refusal::Busy);
        }
        // Numbers are not used again; after two thousand million of them there is nothing more.
        self.last = self.last.checked_add(1).ok_or(Refusal::Busy)?;
        let id = JobId(self.last);
        let entry = Entry {
            id,
            title: new.title,
            user: new.user,
            ticket: new.ticket,
            impressions: new.impressions,
            phase,
            message: String::new(),
            octets: 0,
            created: now,
            processing: None,
            ended: None,
            document: None,
        };
        self.jobs.insert(id, entry);
        Ok(id)
    }

    /// Forgets a job that never became one, unless it was taken back: whoever did that may ask about it.
    pub fn forget(&mut self, id: JobId) {
        if self.get(id).is_some_and(|job| !job.phase.has_ended()) {
            self.jobs.remove(&id);
        }
    }

    /// A document begins to come for a job that waits for one.
    pub fn begin_document(&mut self, id: JobId) -> Result<(), Refusal> {
        let job = self.jobs.get_mut(&id).ok_or(Refusal::Unknown)?;
        match job.phase {
            Phase::Open { .. } if job.document.is_some() => Err(Refusal::HasDocument),
            Phase::Open { .. } => {
                job.phase = Phase::Incoming;
                Ok(())
            }
            _ => Err(Refusal::TooLate),
        }
    }

    /// The document has come. It waits for the job to be closed.
    pub fn end_document(
        &mut self,
        id: JobId,
        document: Document,
        now: Duration,
    ) -> Result<(), Refusal> {
        let job = self.jobs.get_mut(&id).ok_or(Refusal::Unknown)?;
        if job.phase != Phase::Incoming {
            return Err(Refusal::TooLate);
        }
        job.octets = document.size;
        job.document = Some(document);
        job.phase = Phase::open(now);
        Ok(())
    }

    /// No more documents come: what its owner gets, or nothing if there never was one; the job is aborted then.
    pub fn close(&mut self, id: JobId, now: Duration) -> Result<Option<Job>, Refusal> {
        let job = self.jobs.get_mut(&id).ok_or(Refusal::Unknown)?;
        if !matches!(job.phase, Phase::Open { .. }) {
            return Err(Refusal::TooLate);
        }
        let Some(document) = job.document.take() else {
            self.end(id, Phase::Aborted, "it has no document", now);
            return Ok(None);
        };
        job.phase = Phase::Pending;
        Ok(Some(Job {
            id,
            title: job.title.clone(),
            user: job.user.clone(),
            ticket: job.ticket.clone(),
            format: document.format,
            pages: document.pages.unwrap_or(job.impressions),
            size: document.size,
            file: document.file,
        }))
    }

    /// Somebody takes a job back; whether its owner has it.
    pub fn cancel(&mut self, id: JobId, now: Duration) -> Result<bool, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::Unknown)?;
        if job.phase.has_ended() {
            return Err(Refusal::TooLate);
        }
        let owned = !matches!(job.phase, Phase::Open { .. } | Phase::Incoming);
        self.end(id, Phase::Canceled, "", now);
        Ok(owned)
    }

    /// A job that its owner has not got will not be printed.
    pub fn abort(&mut self, id: JobId, why: &str, now: Duration) {
        if self.jobs.get(&id).is_some_and(|job| !job.phase.has_ended()) {
            self.end(id, Phase::Aborted, why, now);
        }
    }

    /// What its owner says; whether the job still wants to know.
    pub fn tell(&mut self, id: JobId, progress: Progress, now: Duration) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        if !matches!(job.phase, Phase::Pending | Phase::Held | Phase::Processing) {
            return false;
        }
        match progress {
            Progress::Held(why) => {
                job.phase = Phase::Held;
                job.message = why;
            }
            Progress::Processing => {
                job.phase = Phase::Processing;
                job.message.clear();
                job.processing.get_or_insert(now);
            }
            Progress::Completed => {
                job.processing.get_or_insert(now);
                self.end(id, Phase::Completed, "", now);
            }
            Progress::Aborted(why) => self.end(id, Phase::Aborted, &why, now),
        }
        true
    }

    /// Ends jobs whose document did not come in time; whether there were any.
    pub fn sweep(&mut self, now: Duration) -> bool {
        let late: Vec<_> = (self.all())
            .filter(|job| matches!(job.phase, Phase::Open { until } if until <= now))
            .map(|job| job.id)
            .collect();
        for id in &late {
            self.end(*id, Phase::Aborted, "its document did not come", now);
        }
        !late.is_empty()
    }

    fn end(&mut self, id: JobId, phase: Phase, message: &str, now: Duration) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.phase = phase;
            message.clone_into(&mut job.message);
            job.ended = Some(now);
            job.document = None;
        }
        let ended: Vec<_> = (self.all())
            .filter(|job| job.phase.has_ended())
            .map(|job| job.id)
            .collect();
        let many = ended.len().saturating_sub(REMEMBERED);
        for id in &ended[..many] {
            self.jobs.remove(id);
        }
    }
}

impl Phase {
    pub fn open(now: Duration) -> Self {
        Self::Open {
            until: now + Duration::from_secs(DOCUMENT_SECONDS.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    const NOW: Duration = Duration::from_secs(5);

    fn new() -> New {
        New {
            title: "t".into(),
            user: "u".into(),
            ticket: Ticket::default(),
            impressions: 3,
        }
    }

    fn document() -> Document {
        Document {
            file: tempfile::tempfile().unwrap(),
            size: 9,
            format: Format::Pdf,
            pages: None,
        }
    }

    fn pending(queue: &mut Queue) -> JobId {
        let id = queue.add(new(), Phase::Incoming, NOW).unwrap();
        queue.end_document(id, document(), NOW).unwrap();
        assert_eq!(queue.close(id, NOW).unwrap().unwrap().pages, 3);
        id
    }

    #[test]
    fn a_job_walks_its_way() {
        let mut queue = Queue::default();
        let id = queue.add(new(), Phase::open(NOW), NOW).unwrap();
        assert!(
            !queue.tell(id, Progress::Processing, NOW),
            "not its owner's yet"
        );
        queue.begin_document(id).unwrap();
        assert_eq!(queue.close(id, NOW).unwrap_err(), Refusal::TooLate);
        queue.end_document(id, document(), NOW).unwrap();
        assert_eq!(queue.begin_document(id), Err(Refusal::HasDocument));
        assert_eq!(queue.close(id, NOW).unwrap().unwrap().size, 9);
        assert!(queue.tell(id, Progress::Held("asks".into()), NOW));
        assert_eq!(queue.get(id).unwrap().message, "asks");
        assert!(queue.tell(id, Progress::Processing, NOW));
        assert!(queue.tell(id, Progress::Completed, NOW));
        assert!(!queue.tell(id, Progress::Processing, NOW));
        assert_eq!(queue.cancel(id, NOW), Err(Refusal::TooLate));
    }

    #[test]
    fn a_cancelled_job_is_its_owners_no_more() {
        let mut queue = Queue::default();
        let id = pending(&mut queue);
        assert_eq!(queue.cancel(id, NOW), Ok(true));
        assert!(!queue.tell(id, Progress::Completed, NOW));
        let id = queue.add(new(), Phase::Incoming, NOW).unwrap();
        assert_eq!(queue.cancel(id, NOW), Ok(false));
        assert_eq!(
            queue.end_document(id, document(), NOW),
            Err(Refusal::TooLate)
        );
    }

    #[test]
    fn a_job_without_a_document_ends_itself() {
        let mut queue = Queue::default();
        let id = queue.add(new(), Phase::open(NOW), NOW).unwrap();
        assert!(!queue.sweep(NOW + Duration::from_secs(59)));
        assert!(queue.sweep(NOW + Duration::from_secs(60)));
        assert_eq!(queue.get(id).unwrap().phase, Phase::Aborted);
        let id = queue.add(new(), Phase::open(NOW), NOW).unwrap();
        assert!(queue.close(id, NOW).unwrap().is_none());
        assert_eq!(queue.get(id).unwrap().phase, Phase::Aborted);
    }

    #[test]
    fn jobs_are_counted() {
        let mut queue = Queue::default();
        let ids: Vec<_> = (0..UNFINISHED).map(|_| pending(&mut queue)).collect();
        assert_eq!(queue.add(new(), Phase::Incoming, NOW), Err(Refusal::Busy));
        for id in ids {
            queue.tell(id, Progress::Completed, NOW);
        }
        for _ in 0..REMEMBERED {
            let id = pending(&mut queue);
            queue.tell(id, Progress::Aborted("no".into()), NOW);
        }
        assert_eq!(queue.all().count(), REMEMBERED);
        assert!(queue.get(JobId(1)).is_none());
    }
}
