//! Print jobs of a guest: received into a file without a name, then handed to the host's printer.
use super::files::Taken;
use super::intake::Intake;
use crate::notice::{Notice, Teller};
use crate::policy::Print;
use medley_print::Ticket;
use medley_print::client::{self, JobRequest};
use medley_services::event::Format;
use medley_services::order::Refusal;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

/// Jobs that come or are handed over at the same time.
const AT_ONCE: usize = 4;
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
    /// One clone for each that is on its way.
    busy: Arc<()>,
}

impl Spool {
    pub fn new(policy: Print, workspace: String, teller: Teller) -> Self {
        let busy = Arc::new(());
        Self {
            policy,
            workspace,
            teller,
            busy,
        }
    }

    /// Takes a job, or says why not.
    pub fn asked(&self, mut job: Job) -> Result<Taken, Refusal> {
        job.title = format!("[{}] {}", self.workspace, crate::clean::line(&job.title));
        job.copies = job.copies.clamp(1, COPIES);
        let told = job.clone();
        self.take(job).map_err(|(refusal, why)| {
            self.teller.say(refused(&told, &why));
            refusal
        })
    }

    fn take(&self, job: Job) -> Result<Taken, (Refusal, String)> {
        let most = self.policy.bytes;
        if job.size > most {
            return Err((Refusal::TooLarge, format!("it is larger than {most} bytes")));
        }
        if Arc::strong_count(&self.busy) > AT_ONCE {
            return Err((Refusal::Failed, "too many come at the same time".into()));
        }
        let failed = |error: std::io::Error| (Refusal::Failed, error.to_string());
        let file = tempfile::tempfile().map_err(failed)?;
        let (intake, writes, fate) = Intake::new(job.size).map_err(failed)?;
        let (busy, teller, policy) = (self.busy.clone(), self.teller.clone(), self.policy.clone());
        let receive = move || {
            receive(intake, file, &job, &policy, &teller);
            drop(busy);
        };
        std::thread::Builder::new()
            .name("print-in".into())
            .spawn(receive)
            .map_err(failed)?;
        Ok((writes, fate))
    }
}

fn receive(intake: Intake, mut file: File, job: &Job, policy: &Print, teller: &Teller) {
    let whole = match intake.receive(&mut file) {
        Ok(whole) => whole,
        Err(trouble) => return teller.say(refused(job, &trouble)),
    };
    match submit(policy, job, &file) {
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
fn submit(policy: &Print, job: &Job, file: &File) -> Result<String, String> {
    let printer = match &policy.printer {
        Some(uri) => uri.clone(),
        None => usual_printer()?,
    };
    let request = JobRequest {
        title: job.title.clone(),
        user: user(),
        format: match job.format {
            Format::Pdf => medley_print::Format::Pdf,
            Format::Raster => medley_print::Format::Raster,
        },
        ticket: Ticket {
            copies: job.copies,
            ..Ticket::default()
        },
    };
    // The file has no name: what a guest prints is not to stay when we are killed.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let number = client::print(&printer, &request, Path::new(&path));
    number.map_err(|error| error.to_string().replace(&path, "the document"))?;
    Ok(printer)
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
