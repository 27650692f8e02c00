//! Print jobs of a guest: received into a file without a name, then handed to the host's printer.
use super::busy::Busy;
use super::files::{Reply, Taken};
use super::intake::Intake;
use super::pace::Pace;
use crate::notice::{Notice, Teller};
use crate::policy::Print;
use medley_print::client::{self, JobRequest};
use medley_print::{Medium, Quality, Sides, Ticket};
use medley_services::event::{self, Format};
use medley_services::order::Refusal;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Jobs that come or are handed over at the same time.
const AT_ONCE: usize = 4;
/// Jobs at once, and then one each time, whatever a presenter says that a guest has taken over.
const RATE: (u32, Duration) = (8, Duration::from_secs(5));
/// Where jobs lie until they are handed over. Not the usual folder for such files: that may be memory.
const FOLDER: &str = "/var/tmp";
/// How often a page may be printed.
const COPIES: u16 = 99;

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// What it is called, fit for display, with the workspace's name in front.
    pub title: String,
    /// Its language.
    pub format: Format,
    /// How often.
    pub copies: u16,
    /// How else.
    pub ticket: event::Ticket,
    /// Bytes.
    pub size: u64,
    /// Pages, as the guest counts.
    pub pages: u32,
}

/// Receives jobs.
#[derive(Debug)]
pub(crate) struct Spool {
    policy: Print,
    workspace: String,
    teller: Teller,
    pace: Pace,
    busy: Busy,
}

impl Spool {
    pub fn new(policy: Print, workspace: String, teller: Teller) -> Self {
        Self {
            policy,
            workspace,
            teller,
            pace: Pace::new(RATE.0, RATE.1),
            busy: Busy::default(),
        }
    }

    /// Takes a job on a thread of its own.
    ///
    /// # Errors
    /// Why it is not taken; `reply` is not called then.
    pub fn asked(&mut self, mut job: Job, reply: Reply) -> Result<Taken, Refusal> {
        job.title = format!("[{}] {}", self.workspace, crate::clean::line(&job.title));
        job.copies = job.copies.clamp(1, COPIES);
        let told = job.clone();
        self.take(job, reply).map_err(|(refusal, why)| {
            self.teller.say(refused(&told, &why));
            refusal
        })
    }

    fn take(&mut self, job: Job, reply: Reply) -> Result<Taken, (Refusal, String)> {
        let most = self.policy.bytes;
        if job.size > most {
            return Err((Refusal::TooLarge, format!("it is larger than {most} bytes")));
        }
        let Some(ticket) = ticket(&job) else {
            let why = "nobody could print it so: the paper or the pages make no sense";
            return Err((Refusal::Kind, why.to_owned()));
        };
        let refuse = |why: &str| Err((Refusal::Failed, why.to_owned()));
        if self.busy.count() >= AT_ONCE {
            return refuse("too many come at the same time");
        }
        if !self.pace.take(Instant::now()) {
            return refuse("too many come in a short time");
        }
        let failed = |error: std::io::Error| (Refusal::Failed, error.to_string());
        let (intake, writes, fate) = Intake::new(job.size).map_err(failed)?;
        let (teller, policy) = (self.teller.clone(), self.policy.clone());
        let alive = self
            .busy
            .spawn("print-in", move || match tempfile::tempfile_in(FOLDER) {
                Ok(file) => {
                    reply(Ok(writes));
                    receive(intake, file, (&job, ticket), &policy, &teller);
                }
                Err(error) => {
                    teller.say(refused(&job, &error));
                    reply(Err(Refusal::Failed));
                }
            });
        Ok((fate, alive.map_err(failed)?))
    }

    /// Waits until what has come whole was handed over or refused: no longer than this. Whether it was.
    pub fn finish(&self, until: Instant) -> bool {
        self.busy.wait(until)
    }
}

fn receive(
    intake: Intake,
    mut file: File,
    (job, ticket): (&Job, Ticket),
    policy: &Print,
    teller: &Teller,
) {
    let whole = match intake.receive(&mut file) {
        Ok(whole) => whole,
        Err(trouble) => return teller.say(refused(job, &trouble)),
    };
    match submit(policy, job, ticket, &file) {
        Ok(where_to) => {
            let words = format!("{:?} is on its way to {where_to}", job.title);
            let notice = Notice::new("print-sent", words).with("printer", where_to);
            teller.record(described(notice, job).with("sha256", whole.sha256));
        }
        Err(why) => teller.record(refused(job, &why)),
    }
}

fn refused(job: &Job, why: &dyn std::fmt::Display) -> Notice {
    let words = format!("{:?} is not printed: {why}", job.title);
    described(Notice::new("print-refused", words), job).with("verdict", why)
}

fn described(notice: Notice, job: &Job) -> Notice {
    notice
        .with("name", &job.title)
        .with("size", job.size)
        .with("pages", job.pages)
        .with("copies", job.copies)
}

/// Hands a job to the policy's printer; which one that was.
fn submit(policy: &Print, job: &Job, mut ticket: Ticket, file: &File) -> Result<String, String> {
    let printer = match &policy.printer {
        Some(uri) => uri.clone(),
        None => usual_printer()?,
    };
    // A guest may name any paper; a printer that waits for one that nobody has prints for nobody.
    if let Some(media) = &ticket.media {
        let usual = || vec![Medium::a4(), Medium::letter()];
        let has = client::capabilities(&printer).map_or_else(|_| usual(), |has| has.media);
        if !has.contains(media) {
            ticket.media = None;
        }
    }
    let request = JobRequest {
        title: job.title.clone(),
        user: user(),
        format: match job.format {
            Format::Pdf => medley_print::Format::Pdf,
            Format::Raster => medley_print::Format::Raster,
        },
        ticket,
    };
    // The file has no name: what a guest prints is not to stay when we are killed.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let number = client::print(&printer, &request, Path::new(&path));
    number.map_err(|error| error.to_string().replace(&path, "the document"))?;
    Ok(printer)
}

/// How a job is to be printed; nothing, if its paper is none or its pages are not in order. Who wants three pages of
/// thirty shall not get thirty.
fn ticket(job: &Job) -> Option<Ticket> {
    let said = &job.ticket;
    let media = match &said.paper {
        Some(name) => Some(Medium::new(name)?),
        None => None,
    };
    let ticket = Ticket {
        copies: job.copies,
        sides: said.sides.map(|sides| match sides {
            event::Sides::One => Sides::OneSided,
            event::Sides::LongEdge => Sides::TwoSidedLongEdge,
            event::Sides::ShortEdge => Sides::TwoSidedShortEdge,
        }),
        media,
        colour: said.colour,
        quality: said.care.map(|care| match care {
            event::Care::Draft => Quality::Draft,
            event::Care::Normal => Quality::Normal,
            event::Care::High => Quality::High,
        }),
        ranges: said.ranges.clone(),
    };
    (ticket.clone().sane() == ticket).then_some(ticket)
}

/// The host's default printer.
fn usual_printer() -> Result<String, String> {
    let printers = client::printers().map_err(|error| error.to_string())?;
    let default = printers.into_iter().find(|printer| printer.default);
    let missing =
        || "the host has no default printer; name one: medley boot --print URI".to_owned();
    default.map(|printer| printer.uri).ok_or_else(missing)
}

/// For whom printers print.
fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    let name = user.ok().flatten().map(|user| user.name);
    name.unwrap_or_else(|| nix::unistd::getuid().to_string())
}
