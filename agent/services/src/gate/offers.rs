//! What a guest offers and somebody on the host decides about: files and print jobs, from the offer to the last
//! byte. The supervisor knows an offer by a number that is never used again, so that an order that comes late
//! cannot meet an offer that the guest made since under its own old number.
use super::{Outbox, PATIENCE};
use crate::event::{self, Event, Format, Ticket};
use crate::order::Refusal;
use crate::rate::Rate;
use crate::violation::Violation;
use medley_wire::Untrusted;
use medley_wire::bulk::{Carries, Open};
use medley_wire::control::{
    Care, FileOffer, Ink, PrintFormat, PrintJob, PrintTicket, Sides, Verdict,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

/// Files and print jobs that wait for an answer at once.
const WAITING: (usize, usize) = (8, 4);

/// Files and print jobs that were taken and have not come yet, each with an open descriptor. As many as wait may
/// still be taken when it is reached.
const TAKEN: (usize, usize) = (32, 16);

/// Files at once, and then one each time; print jobs likewise.
const FILES: Rate = Rate::new(64, Duration::from_millis(500));
const PRINTS: Rate = Rate::new(8, Duration::from_secs(5));

#[derive(Debug)]
enum Stage {
    /// Somebody has to decide, until then.
    Waiting(Duration),
    /// The guest was told to send it, at that time.
    Taken(File, Duration),
    /// It comes.
    Coming,
}

#[derive(Debug)]
struct Offer {
    /// How the supervisor calls it.
    number: u32,
    carries: Carries,
    size: u64,
    stage: Stage,
}

/// All that has begun and not ended, by the guest's numbers.
#[derive(Debug)]
pub struct Offers {
    live: BTreeMap<u32, Offer>,
    numbers: u32,
    files: Rate,
    prints: Rate,
    /// How the next job is to be printed, and the number that it must have.
    ticket: Option<(u32, Ticket)>,
    /// When a byte came last: those that wait for a free stream wait no longer than that.
    moved: Duration,
}

impl Default for Offers {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            numbers: 0,
            files: FILES,
            prints: PRINTS,
            ticket: None,
            moved: Duration::ZERO,
        }
    }
}

impl Offers {
    /// A file is offered, under a number that is free.
    pub fn file(&mut self, offer: &FileOffer<'_>, limit: u64, now: Duration, out: &mut Outbox) {
        let name = offer.name.file_name().ok_or(Verdict::Kind);
        let asked = name.and_then(|name| {
            let (transfer, size) =
                self.admit(offer.transfer, Carries::File, &offer.size, limit, now)?;
            let name = name.as_str().to_owned();
            Ok(Event::FileOffered {
                transfer,
                name,
                size,
            })
        });
        ask(offer.transfer, asked, out);
    }

    /// How the job is to be printed that comes next.
    pub fn ticket(&mut self, said: &PrintTicket<'_>) {
        let paper = said.paper.display().as_str().to_owned();
        let ticket = Ticket {
            sides: match said.sides {
                Sides::Usual => None,
                Sides::One => Some(event::Sides::One),
                Sides::LongEdge => Some(event::Sides::LongEdge),
                Sides::ShortEdge => Some(event::Sides::ShortEdge),
            },
            colour: match said.ink {
                Ink::Usual => None,
                Ink::Colour => Some(true),
                Ink::Black => Some(false),
            },
            care: match said.care {
                Care::Usual => None,
                Care::Draft => Some(event::Care::Draft),
                Care::Normal => Some(event::Care::Normal),
                Care::High => Some(event::Care::High),
            },
            paper: (!paper.is_empty()).then_some(paper),
            ranges: (said.ranges.iter())
                .map(|range| (range.first, range.last))
                .collect(),
        };
        self.ticket = Some((said.transfer, ticket));
    }

    /// Something is to be printed, likewise.
    pub fn print(&mut self, job: &PrintJob<'_>, limit: u64, now: Duration, out: &mut Outbox) {
        let ticket = self.ticket.take();
        let ticket = ticket.filter(|(transfer, _)| *transfer == job.transfer);
        let ticket = ticket.map(|(_, ticket)| ticket).unwrap_or_default();
        let admitted = self.admit(job.transfer, Carries::Print, &job.size, limit, now);
        let asked = admitted.map(|(transfer, size)| Event::PrintAsked {
            transfer,
            size,
            format: match job.format {
                PrintFormat::Pdf => Format::Pdf,
                PrintFormat::Raster => Format::Raster,
            },
            copies: job.copies.max(1),
            ticket,
            pages: job.pages,
            title: job.title.display().as_str().to_owned(),
        });
        ask(job.transfer, asked, out);
    }

    /// A number stands for one thing until that has ended. What a second one would mean for answers and streams
    /// nobody could say.
    pub fn is_free(&self, transfer: u32) -> Result<(), Violation> {
        if self.live.contains_key(&transfer) {
            return Err(Violation::Taken(transfer));
        }
        Ok(())
    }

    /// Whether somebody may be asked about it: its number for the supervisor and its size, or why not.
    fn admit(
        &mut self,
        transfer: u32,
        carries: Carries,
        size: &Untrusted<u64>,
        limit: u64,
        now: Duration,
    ) -> Result<(u32, u64), Verdict> {
        let size = size.at_most(limit).ok_or(Verdict::TooLarge)?;
        let alike = || self.live.values().filter(|offer| offer.carries == carries);
        let waits = |offer: &&Offer| matches!(offer.stage, Stage::Waiting(_));
        let waiting = alike().filter(waits).count();
        let pick = |(files, prints)| {
            if carries == Carries::File {
                files
            } else {
                prints
            }
        };
        if waiting >= pick(WAITING) || alike().count() - waiting >= pick(TAKEN) {
            return Err(Verdict::Failed);
        }
        let rate = match carries {
            Carries::Print => &mut self.prints,
            _ => &mut self.files,
        };
        if !rate.take(now) {
            return Err(Verdict::Failed);
        }
        self.numbers = self.numbers.wrapping_add(1);
        let offer = Offer {
            number: self.numbers,
            carries,
            size,
            stage: Stage::Waiting(now + PATIENCE),
        };
        self.live.insert(transfer, offer);
        Ok((self.numbers, size))
    }

    fn find(&mut self, number: u32) -> Option<(u32, &mut Offer)> {
        let mut all = self.live.iter_mut();
        let (transfer, offer) = all.find(|(_, offer)| offer.number == number)?;
        Some((*transfer, offer))
    }

    /// Whether an order speaks of an offer that waits for one; says so if there never was such an offer. One
    /// that has ended has been told of, and the order came too late.
    fn awaits(&mut self, number: u32, out: &mut Outbox) -> Option<u32> {
        match self.find(number) {
            Some((transfer, offer)) => matches!(offer.stage, Stage::Waiting(_)).then_some(transfer),
            None => {
                if number == 0 || number > self.numbers {
                    out.tell(Event::Broke { transfer: number });
                }
                None
            }
        }
    }

    /// The supervisor takes it, into this file.
    pub fn take(&mut self, number: u32, file: Option<File>, now: Duration, out: &mut Outbox) {
        let Some(transfer) = self.awaits(number, out) else {
            return;
        };
        match (file, self.live.get_mut(&transfer)) {
            (Some(file), Some(offer)) => {
                offer.stage = Stage::Taken(file, now);
                out.answer(transfer, Verdict::Yes);
            }
            _ => {
                out.answer(transfer, Verdict::Failed);
                self.broke(transfer, out);
            }
        }
    }

    /// The supervisor does not take it.
    pub fn refuse(&mut self, number: u32, refusal: Refusal, out: &mut Outbox) {
        if let Some(transfer) = self.awaits(number, out) {
            self.live.remove(&transfer);
            let verdict = match refusal {
                Refusal::Policy => Verdict::Policy,
                Refusal::TooLarge => Verdict::TooLarge,
                Refusal::Kind => Verdict::Kind,
                Refusal::Declined => Verdict::Declined,
                Refusal::Failed => Verdict::Failed,
            };
            out.answer(transfer, verdict);
        }
    }

    /// The guest begins to send: where that goes. Nowhere, if it comes too late.
    pub fn open(&mut self, open: &Open) -> Result<Option<File>, Violation> {
        let transfer = open.transfer;
        // Updates go the other way.
        if !matches!(open.carries, Carries::File | Carries::Print) {
            return Err(Violation::Kind(transfer));
        }
        let Some(offer) = self.live.get_mut(&transfer) else {
            return Ok(None);
        };
        if offer.carries != open.carries {
            return Err(Violation::Kind(transfer));
        }
        if open.size.at_most(offer.size) != Some(offer.size) {
            return Err(Violation::Size(transfer));
        }
        match std::mem::replace(&mut offer.stage, Stage::Coming) {
            Stage::Taken(file, _) => Ok(Some(file)),
            Stage::Waiting(_) => Err(Violation::Unasked(transfer)),
            Stage::Coming => Err(Violation::Twice(transfer)),
        }
    }

    /// A byte of anything came.
    pub fn moved(&mut self, now: Duration) {
        self.moved = now;
    }

    /// All of it is in its file.
    pub fn came(&mut self, transfer: u32, size: u64, out: &mut Outbox) {
        if let Some(offer) = self.live.remove(&transfer) {
            let transfer = offer.number;
            out.tell(Event::Came { transfer, size });
        }
    }

    /// It will not be whole.
    pub fn broke(&mut self, transfer: u32, out: &mut Outbox) {
        if let Some(offer) = self.live.remove(&transfer) {
            let transfer = offer.number;
            out.tell(Event::Broke { transfer });
        }
    }

    fn due(&self, offer: &Offer) -> Option<Duration> {
        match &offer.stage {
            Stage::Waiting(until) => Some(*until),
            Stage::Taken(_, since) => Some(self.moved.max(*since) + PATIENCE),
            // The stream has its own.
            Stage::Coming => None,
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.live.values().filter_map(|offer| self.due(offer)).min()
    }

    pub fn tick(&mut self, now: Duration, out: &mut Outbox) {
        let old = |offer: &Offer| self.due(offer).is_some_and(|due| due <= now);
        let old: Vec<_> = self
            .live
            .iter()
            .filter(|(_, offer)| old(offer))
            .map(|(transfer, offer)| (*transfer, matches!(offer.stage, Stage::Waiting(_))))
            .collect();
        for (transfer, waiting) in old {
            if waiting {
                out.answer(transfer, Verdict::Failed);
            }
            self.broke(transfer, out);
        }
    }

    pub fn lost(&mut self, out: &mut Outbox) {
        for transfer in self.live.keys().copied().collect::<Vec<_>>() {
            self.broke(transfer, out);
        }
    }
}

fn ask(transfer: u32, asked: Result<Event, Verdict>, out: &mut Outbox) {
    match asked {
        Ok(event) => out.tell(event),
        Err(verdict) => out.answer(transfer, verdict),
    }
}
