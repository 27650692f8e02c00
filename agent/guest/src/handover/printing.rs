//! The guest's printer, which is the host's: there as long as a policy allows it. Each job is offered to the host,
//! and the guest's print system hears what became of it.
use super::outbox::{Asker, Job, Outbox};
use crate::control::Control;
use crate::transfers::Transfers;
use medley_print::server::{Notice, Printer, Progress, Settings};
use medley_print::{Format, JobId, Sides};
use medley_wire::Features;
use medley_wire::control::PrintFormat;
use sha2::{Digest, Sha256};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// The port on which the printer listens, as the guest's print system is told by `install`.
pub const PORT: u16 = 8631;

/// The file in the unit's folder that says that the printer listens; a unit of systemd's waits for it.
const SIGN: &str = "printer";

/// The printer.
#[derive(Debug)]
pub struct Printing {
    port: u16,
    printer: Option<Printer>,
}

impl Printing {
    /// One on that port, as soon as it is allowed.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self {
            port,
            printer: None,
        }
    }

    /// What to poll for reading.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.printer.as_ref().map(AsFd::as_fd)
    }

    /// A host is there, and allows printing or not; and it may understand `tickets`.
    pub fn set_allowed(&mut self, allowed: bool, tickets: bool) {
        if !allowed {
            if self.printer.take().is_some()
                && let Some(sign) = sign()
            {
                let _ = fs::remove_file(sign);
            }
            return;
        }
        if let Some(printer) = &self.printer {
            printer.set_capabilities(settings(tickets).capabilities);
            return printer.set_accepting(true);
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        match Printer::listen(address, settings(tickets)) {
            Ok(printer) => {
                tracing::info!(%address, "the host's printer can be used");
                self.printer = Some(printer);
                if let Some(sign) = sign()
                    && let Err(error) = fs::write(&sign, "")
                {
                    tracing::warn!("the print system is not told of the printer: {error}");
                }
            }
            Err(error) => tracing::warn!("no printer: {error}"),
        }
    }

    /// Nobody is there to print; what is printed now waits.
    pub fn lost(&self) {
        if let Some(printer) = &self.printer {
            printer.set_accepting(false);
        }
    }

    /// Deals with what was printed or taken back.
    pub fn work(&mut self, outbox: &mut Outbox, transfers: &mut Transfers, say: &mut Control<'_>) {
        let Some(printer) = &self.printer else {
            return;
        };
        while let Some(notice) = printer.next() {
            match notice {
                // Who wants three pages of thirty shall not get thirty; CUPS takes pages out by itself and never asks.
                Notice::Print(job)
                    if say.is_open()
                        && !job.ticket.ranges.is_empty()
                        && !say.have(Features::PRINT_TICKETS) =>
                {
                    let words = "the host's printer takes whole documents: print the pages into a PDF first";
                    printer.tell(job.id, Progress::Aborted(words.into()));
                }
                Notice::Print(job) => {
                    printer.tell(job.id, Progress::Processing);
                    let offered = Job {
                        id: job.id.0,
                        title: &job.title,
                        format: match job.format {
                            Format::Pdf => PrintFormat::Pdf,
                            Format::Raster => PrintFormat::Raster,
                        },
                        ticket: &job.ticket,
                        pages: job.pages,
                        size: job.size,
                        file: job.file,
                    };
                    outbox.offer_job(offered, transfers, say);
                }
                Notice::Canceled(id) => outbox.desert(Asker::Printer(id.0), transfers),
                Notice::Identify => tracing::info!("this printer is the host's"),
            }
        }
    }

    /// What became of a job.
    pub fn tell(&self, job: i32, result: Result<(), String>) {
        if let Some(printer) = &self.printer {
            let progress = match result {
                Ok(()) => Progress::Completed,
                Err(words) => Progress::Aborted(words),
            };
            printer.tell(JobId(job), progress);
        }
    }
}

fn settings(tickets: bool) -> Settings {
    let mut settings = Settings::default();
    if !tickets {
        // What cannot be asked of the host is not offered.
        settings.capabilities.sides = vec![Sides::OneSided];
    }
    // The same printer after every start, for whoever keeps a list of them.
    if let Ok(machine) = fs::read("/etc/machine-id") {
        let digest = Sha256::digest([b"medley's printer ", &machine[..]].concat());
        if let Some(bytes) = digest.first_chunk() {
            settings.uuid = uuid::Builder::from_random_bytes(*bytes).into_uuid();
        }
    }
    settings
}

fn sign() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("RUNTIME_DIRECTORY")?);
    folder.is_absolute().then(|| folder.join(SIGN))
}
