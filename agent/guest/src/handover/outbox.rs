//! What the guest offers to the host as a file: documents that somebody sends, and print jobs. Offered, answered,
//! streamed; whoever asked is told what became of it.
use crate::control::Control;
use crate::transfers::{Source, Transfers};
use anyhow::{Context, Result, bail};
use medley_print::{Medium, Quality, Ticket};
use medley_wire::bulk::Carries;
use medley_wire::control::{
    Answer, Care, FileOffer, Ink, PageRange, PrintFormat, PrintJob, PrintTicket, Sides, Verdict,
};
use medley_wire::limits::{FILE_BYTES, PAGE_RANGES, PAPER_BYTES, PRINT_BYTES};
use medley_wire::{Features, List, Text, Untrusted};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the host may take for an answer: there, somebody may be asked.
const PATIENCE: Duration = Duration::from_secs(120);

/// Offers that wait or are on their way at once.
const OFFERS: usize = 64;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Somebody with a command.
    Client(u64),
    /// The printer, with one of its jobs.
    Printer(i32),
}

/// What became of an offer; words say why the host has it not.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who asked.
    pub asker: Asker,
    /// Whether the host has all of it.
    pub result: Result<(), String>,
}

#[derive(Debug)]
struct Offer {
    asker: Asker,
    carries: Carries,
    /// The file, until the host has said yes.
    file: Option<(File, u64)>,
    until: Option<Instant>,
    /// Nobody waits for it any more.
    deserted: bool,
}

/// Everything that is offered.
#[derive(Debug, Default)]
pub struct Outbox {
    offers: HashMap<u32, Offer>,
    outcomes: Vec<Outcome>,
}

/// A print job, as the printer has it.
#[derive(Debug)]
pub struct Job<'a> {
    /// The printer's number.
    pub id: i32,
    /// What it is called.
    pub title: &'a str,
    /// In which language.
    pub format: PrintFormat,
    /// How it is to be printed.
    pub ticket: &'a Ticket,
    /// How many pages; zero if nobody knows.
    pub pages: u32,
    /// How many bytes.
    pub size: u64,
    /// They.
    pub file: File,
}

// Whatever the printer takes, the wire can say.
const _: () =
    assert!(medley_print::RANGES <= PAGE_RANGES && medley_print::MEDIUM_NAME <= PAPER_BYTES);

/// A ticket as the wire has it.
fn said(ticket: &Ticket, transfer: u32) -> PrintTicket<'_> {
    let ranges = ticket.ranges.iter();
    let ranges = ranges.map(|&(first, last)| PageRange { first, last });
    PrintTicket {
        transfer,
        sides: match ticket.sides {
            None => Sides::Usual,
            Some(medley_print::Sides::OneSided) => Sides::One,
            Some(medley_print::Sides::TwoSidedLongEdge) => Sides::LongEdge,
            Some(medley_print::Sides::TwoSidedShortEdge) => Sides::ShortEdge,
        },
        ink: match ticket.colour {
            None => Ink::Usual,
            Some(true) => Ink::Colour,
            Some(false) => Ink::Black,
        },
        care: match ticket.quality {
            None => Care::Usual,
            Some(Quality::Draft) => Care::Draft,
            Some(Quality::Normal) => Care::Normal,
            Some(Quality::High) => Care::High,
        },
        paper: Untrusted::claim(Text::cut(ticket.media.as_ref().map_or("", Medium::name))),
        ranges: List::new(ranges.collect()),
    }
}

impl Outbox {
    /// Offers a file that lies in the guest.
    pub fn offer_file(
        &mut self,
        path: &Path,
        asker: Asker,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) {
        let opened = self.opened(path, say).and_then(|(file, size)| {
            let name = path.file_name().context("the path has no name")?;
            let name = name.to_str().context("its name is not UTF-8")?;
            let name = Text::whole(name).context("its name is too long")?;
            if size > FILE_BYTES {
                bail!("it is too large: at most {FILE_BYTES} bytes can be sent");
            }
            Ok((file, size, name))
        });
        let (file, size, name) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.end(asker, Err(format!("{error:#}"))),
        };
        let transfer = transfers.number();
        say.say(FileOffer {
            transfer,
            size: Untrusted::claim(size),
            name: Untrusted::claim(name),
        });
        self.remember(transfer, asker, Carries::File, (file, size));
    }

    /// Offers a print job.
    pub fn offer_job(&mut self, job: Job<'_>, transfers: &mut Transfers, say: &mut Control<'_>) {
        let asker = Asker::Printer(job.id);
        if let Err(error) = self.has_room(say) {
            return self.end(asker, Err(format!("{error:#}")));
        }
        if job.size > PRINT_BYTES {
            return self.end(asker, Err(words(Verdict::TooLarge).into()));
        }
        let transfer = transfers.number();
        if say.have(Features::PRINT_TICKETS) {
            say.say(said(job.ticket, transfer));
        }
        say.say(PrintJob {
            transfer,
            size: Untrusted::claim(job.size),
            format: job.format,
            copies: job.ticket.copies.max(1),
            pages: job.pages,
            title: Untrusted::claim(Text::cut(job.title)),
        });
        self.remember(transfer, asker, Carries::Print, (job.file, job.size));
    }

    fn has_room(&self, say: &Control<'_>) -> Result<()> {
        if !say.is_open() {
            bail!("no host is connected");
        }
        if self.offers.len() >= OFFERS {
            bail!("{OFFERS} others are on their way; try again when some are there");
        }
        Ok(())
    }

    fn opened(&self, path: &Path, say: &Control<'_>) -> Result<(File, u64)> {
        self.has_room(say)?;
        // Without waiting: a named pipe would hold the agent until somebody writes into it.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
            .open(path)
            .context("cannot be opened")?;
        let found = file.metadata().context("cannot be looked at")?;
        if found.is_dir() {
            bail!("is a folder; pack it into one file first");
        }
        if !found.is_file() {
            bail!("is no file");
        }
        Ok((file, found.len()))
    }

    fn remember(&mut self, transfer: u32, asker: Asker, carries: Carries, file: (File, u64)) {
        let offer = Offer {
            asker,
            carries,
            file: Some(file),
            until: Some(Instant::now() + PATIENCE),
            deserted: false,
        };
        self.offers.insert(transfer, offer);
    }

    /// The host answers. False, if it is no answer to an offer of these.
    pub fn answered(&mut self, answer: &Answer, transfers: &mut Transfers) -> bool {
        let transfer = answer.transfer;
        let Some(offer) = self.offers.get_mut(&transfer) else {
            return false;
        };
        match (answer.verdict, offer.file.take()) {
            (Verdict::Yes, Some((file, size))) => {
                offer.until = None;
                transfers.send(transfer, offer.carries, Source::File(file, size));
                if offer.deserted {
                    transfers.stop(offer.carries, transfer);
                }
            }
            // A second yes changes nothing.
            (Verdict::Yes, None) => {}
            (verdict, _) => self.finish(transfer, Err(words(verdict).into())),
        }
        true
    }

    /// A stream ended.
    pub fn went(&mut self, transfer: u32, whole: bool) {
        let result = if whole {
            Ok(())
        } else {
            Err("it was not sent to the end".to_owned())
        };
        self.finish(transfer, result);
    }

    /// Nobody waits for it any more: it is not sent to its end.
    pub fn desert(&mut self, asker: Asker, transfers: &mut Transfers) {
        for (transfer, offer) in &mut self.offers {
            if offer.asker == asker && !std::mem::replace(&mut offer.deserted, true) {
                transfers.stop(offer.carries, *transfer);
            }
        }
    }

    /// The host is gone.
    pub fn lost(&mut self) {
        let all: Vec<u32> = self.offers.keys().copied().collect();
        for transfer in all {
            self.finish(transfer, Err("the host went away".into()));
        }
    }

    /// When to look whether the host takes too long.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.offers.values().filter_map(|offer| offer.until).min()
    }

    /// Gives up on answers that never came.
    pub fn expire(&mut self, now: Instant) {
        let late = |offer: &Offer| offer.until.is_some_and(|until| until <= now);
        let late: Vec<u32> = self
            .offers
            .iter()
            .filter(|(_, offer)| late(offer))
            .map(|(transfer, _)| *transfer)
            .collect();
        for transfer in late {
            let Some(offer) = self.offers.get_mut(&transfer) else {
                continue;
            };
            // Kept, for a yes that comes still must be followed by a stream, if only by one that ends at once.
            offer.until = None;
            offer.deserted = true;
            let asker = offer.asker;
            self.end(asker, Err("the host did not answer".into()));
        }
    }

    /// What became of offers since this was last asked.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    fn finish(&mut self, transfer: u32, result: Result<(), String>) {
        if let Some(offer) = self.offers.remove(&transfer) {
            self.end(offer.asker, result);
        }
    }

    fn end(&mut self, asker: Asker, result: Result<(), String>) {
        self.outcomes.push(Outcome { asker, result });
    }
}

const fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Yes => "the host took it",
        Verdict::Policy => "a policy of the host's forbids it",
        Verdict::TooLarge => "it is larger than the host takes",
        Verdict::Stale => "it is no longer wanted",
        Verdict::Kind => "the host takes nothing of that name or kind",
        Verdict::Declined => "somebody on the host said no",
        Verdict::Failed => "it failed on the host",
    }
}
