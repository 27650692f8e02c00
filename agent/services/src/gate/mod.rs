//! The host's state for everything besides windows and the clipboard. It judges what a guest says, asks the
//! supervisor where somebody must decide or a file is needed, and does what it is ordered. Nothing that a guest
//! says is passed on before a policy allows it.
mod gifts;
mod notes;
mod offers;
mod tray;
mod urls;

use crate::event::Event;
use crate::order::{Order, Refusal};
use crate::policy::{Policy, Service};
use crate::rate::Rate;
use crate::streams::{Ended, Line, Sink, Source, Streams};
use crate::violation::Violation;
use crate::word::{Launch, Word};
use gifts::Gifts;
use medley_wire::Size;
use medley_wire::bulk::{self, Carries, Owner};
use medley_wire::control::{Answer, FromGuest, FromHost, NoteAnswer, Verdict};
use notes::Notes;
use offers::Offers;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tray::Trays;
use urls::Urls;

/// How long anybody has to answer an offer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two reports that something of one kind was refused.
const REPORT: Duration = Duration::from_secs(5);

/// What there is to say.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To the guest, on the control channel.
    pub words: VecDeque<Word>,
    /// To the supervisor.
    pub events: VecDeque<Event>,
}

impl Outbox {
    fn say(&mut self, message: impl Into<FromHost<'static>>) {
        self.words.push_back(Word::Plain(message.into()));
    }

    fn answer(&mut self, transfer: u32, verdict: Verdict) {
        self.say(Answer { transfer, verdict });
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// It is done, or an event will tell.
    Done,
    /// This is to be launched by whoever counts launches.
    Launch(Launch),
    /// It cannot be carried out, for this reason.
    Wrong(&'static str),
}

/// What a guest sent for a paste; nothing, if it ended early.
#[derive(Debug, PartialEq, Eq)]
pub struct Pasted {
    /// Which paste.
    pub transfer: u32,
    /// What.
    pub bytes: Option<Vec<u8>>,
}

/// The services of one guest.
#[derive(Debug)]
pub struct Gate {
    policy: Policy,
    out: Outbox,
    streams: Streams,
    offers: Offers,
    gifts: Gifts,
    notes: Notes,
    trays: Trays,
    urls: Urls,
    locked: bool,
    refusals: BTreeMap<&'static str, Rate>,
}

impl Gate {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: policy.bounded(),
            out: Outbox::default(),
            streams: Streams::default(),
            offers: Offers::default(),
            gifts: Gifts::default(),
            notes: Notes::new(),
            trays: Trays::new(),
            urls: Urls::new(),
            locked: false,
            refusals: BTreeMap::new(),
        }
    }

    /// Numbers of files begin here, so that they are others than an earlier presenter's, which the guest may
    /// still know.
    #[must_use]
    pub fn numbered_from(mut self, number: u32) -> Self {
        self.gifts.number_from(number);
        self
    }

    /// From now on nothing of the guest's is shown, and nobody can be shown to have clicked on it: notes and tray
    /// items are taken back, addresses refused. Or all is as it was: with the tray items of now, and the notes that
    /// came meanwhile. Files and print jobs show nothing, and go on.
    pub fn set_locked(&mut self, locked: bool, now: Duration) {
        if self.locked == locked {
            return;
        }
        self.locked = locked;
        if locked {
            self.notes.lock(&mut self.out);
            self.trays.lock(&mut self.out);
        } else {
            self.notes.unlock(&mut self.out);
            self.trays.unlock(now, &mut self.out);
        }
    }

    /// What is allowed.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes what a guest says on the control channel; tells whether it was for the services.
    ///
    /// # Errors
    /// It broke a rule: everything is [lost](Self::lost), and the connection must end.
    pub fn guest_says(
        &mut self,
        message: &FromGuest<'_>,
        now: Duration,
    ) -> Result<bool, Violation> {
        let said = self.hear(message, now);
        if said.is_err() {
            self.lost();
        }
        said
    }

    fn hear(&mut self, message: &FromGuest<'_>, now: Duration) -> Result<bool, Violation> {
        let (policy, out) = (&self.policy, &mut self.out);
        match message {
            FromGuest::Answer(answer) if gifts::is_ours(answer.transfer) => {
                self.gifts.answered(answer, &mut self.streams, now, out);
            }
            FromGuest::FileOffer(offer) => {
                self.offers.is_free(offer.transfer)?;
                if policy.allows(Service::FilesOut) {
                    self.offers.file(offer, policy.file_bytes, now, out);
                } else {
                    out.answer(offer.transfer, Verdict::Policy);
                    self.refused(Service::FilesOut, now);
                }
            }
            FromGuest::PrintTicket(ticket) => {
                self.offers.is_free(ticket.transfer)?;
                // Without leave the job that follows is told of, and that is enough.
                if policy.allows(Service::Print) {
                    self.offers.ticket(ticket);
                }
            }
            FromGuest::PrintJob(job) => {
                self.offers.is_free(job.transfer)?;
                if policy.allows(Service::Print) {
                    self.offers.print(job, policy.print_bytes, now, out);
                } else {
                    out.answer(job.transfer, Verdict::Policy);
                    self.refused(Service::Print, now);
                }
            }
            FromGuest::OpenUrl(open) => {
                let may = policy.allows(Service::Urls) && !self.locked;
                if !may || !self.urls.open(open, now, out) {
                    self.refused(Service::Urls, now);
                }
            }
            FromGuest::Note(note) => {
                if policy.allows(Service::Notes) {
                    self.notes.note(note, now, out);
                } else {
                    self.refused(Service::Notes, now);
                }
            }
            FromGuest::NoteGone(gone) => self.notes.gone(gone.id, out),
            FromGuest::Tray(tray) => {
                if policy.allows(Service::Tray) {
                    self.trays.item(tray, now, out);
                } else {
                    self.refused(Service::Tray, now);
                }
            }
            FromGuest::TrayMenu(menu) => self.trays.menu(menu, now, out),
            FromGuest::TrayGone(gone) => self.trays.gone(gone.id, out),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Says that something is not allowed, but not each time.
    fn refused(&mut self, service: Service, now: Duration) {
        let what = service.word();
        let rate = self.refusals.entry(what);
        if rate.or_insert(Rate::new(1, REPORT)).take(now) {
            let what = what.to_owned();
            self.out.tell(Event::Refused { what });
        }
    }

    /// Takes what a guest says on the bulk channel. `pastes` tells how many bytes a stream of the clipboard's
    /// may have, if somebody waits for that transfer; what such a stream comes to is handed back.
    ///
    /// # Errors
    /// It broke a rule: everything is [lost](Self::lost), and the connection must end.
    pub fn bulk_says(
        &mut self,
        message: &bulk::FromGuest<'_>,
        pastes: impl FnOnce(u32) -> Option<u64>,
        now: Duration,
    ) -> Result<Option<Pasted>, Violation> {
        let said = self.stream(message, pastes, now);
        if said.is_err() {
            self.lost();
        }
        said.map(|()| self.settle())
    }

    fn stream(
        &mut self,
        message: &bulk::FromGuest<'_>,
        pastes: impl FnOnce(u32) -> Option<u64>,
        now: Duration,
    ) -> Result<(), Violation> {
        use bulk::FromGuest;
        match message {
            FromGuest::Open(open) => {
                let (sink, limit) = if open.carries == Carries::Clipboard {
                    let limit = pastes(open.transfer);
                    (limit.map(|_| Sink::Memory), limit.unwrap_or(0))
                } else {
                    let file = self.offers.open(open)?;
                    (file.map(Sink::File), u64::MAX)
                };
                self.streams.open(open, sink, limit, now)?;
            }
            FromGuest::Chunk(chunk) => {
                self.offers.moved(now);
                self.streams.chunk(chunk, now)?;
            }
            FromGuest::End(end) => self.streams.end(end)?,
            FromGuest::Cancel(cancel) => self.streams.cancel(cancel),
            FromGuest::Received(received) => self.streams.received(received, now),
            FromGuest::Icon(icon) => {
                self.icon(icon.owner, icon.picture.size(), icon.picture.pixels(), now);
            }
            FromGuest::Hello(_) | FromGuest::Bye(_) => {}
        }
        Ok(())
    }

    /// Takes a picture, if it is a tray item's; windows and apps have pictures that are not for the services.
    pub fn icon(&mut self, owner: Owner, size: Size, pixels: &[u8], now: Duration) {
        if let Owner::Tray(item) = owner
            && self.policy.allows(Service::Tray)
        {
            self.trays.icon(item, size, pixels, now, &mut self.out);
        }
    }

    /// Passes on what has come of streams.
    fn settle(&mut self) -> Option<Pasted> {
        let mut pasted = None;
        while let Some(ended) = self.streams.ended() {
            match ended {
                Ended::Came(Carries::Clipboard, transfer, _, bytes) => {
                    pasted = Some(Pasted { transfer, bytes });
                }
                Ended::Broke(Carries::Clipboard, transfer) => {
                    let bytes = None;
                    pasted = Some(Pasted { transfer, bytes });
                }
                Ended::Came(_, transfer, size, _) => {
                    self.offers.came(transfer, size, &mut self.out);
                }
                Ended::Broke(_, transfer) => self.offers.broke(transfer, &mut self.out),
                Ended::Sent(Carries::File, transfer) => {
                    self.gifts.sent(transfer, &mut self.out);
                }
                Ended::Unsent(Carries::File, transfer) => {
                    self.gifts.unsent(transfer, &mut self.out);
                }
                // A guest that does not take what it pastes will ask again.
                Ended::Sent(..) | Ended::Unsent(..) => {}
            }
        }
        pasted
    }

    /// Does what the supervisor says.
    pub fn order(&mut self, order: Order, file: Option<OwnedFd>, now: Duration) -> Ordered {
        let file = file.map(File::from);
        let out = &mut self.out;
        match order {
            Order::Take { transfer } => self.offers.take(transfer, file, now, out),
            Order::Refuse { transfer, verdict } => self.offers.refuse(transfer, verdict, out),
            Order::Give {
                file: number,
                name,
                size,
            } => {
                let refused = if self.policy.allows(Service::FilesIn) {
                    let limit = self.policy.file_bytes;
                    self.gifts.give(number, &name, size, limit, file, now, out)
                } else {
                    Err(Refusal::Policy)
                };
                if let Err(refusal) = refused {
                    let refused = Some(refusal);
                    out.tell(Event::Given {
                        file: number,
                        refused,
                    });
                }
            }
            Order::Withdraw { file } => {
                self.gifts.withdraw(file, &mut self.streams, &mut self.out);
                self.settle();
            }
            Order::Launch {
                app,
                action,
                arguments,
                files,
            } => {
                return match self.gifts.launch(&app, action, arguments, &files) {
                    Ok(launch) => Ordered::Launch(launch),
                    Err(why) => Ordered::Wrong(why),
                };
            }
            Order::NoteAnswer { note, button } => self.notes.answer(note, button, out),
            Order::TrayClick { item, click } => self.trays.click(item, click, out),
            Order::TrayChoice { item, entry } => self.trays.choose(item, entry, out),
        }
        Ordered::Done
    }

    /// Sends the guest what it asked to paste.
    pub fn paste(&mut self, transfer: u32, bytes: Vec<u8>, now: Duration) {
        let (carries, size) = (Carries::Clipboard, bytes.len() as u64);
        let source = Source::Memory(bytes);
        self.streams.send(carries, transfer, source, size, now);
    }

    /// Says on the bulk channel what may be said now.
    ///
    /// # Errors
    /// The channel is gone.
    pub fn work<L: Line>(&mut self, line: &mut L, now: Duration) -> Result<(), L::Error> {
        let worked = self.streams.work(line, now);
        // Only what goes to the guest can end here.
        self.settle();
        worked
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let all = [
            self.streams.deadline(),
            self.offers.deadline(),
            self.gifts.deadline(),
            self.trays.deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// Time passed.
    pub fn tick(&mut self, now: Duration) {
        self.streams.tick(now);
        // A paste that broke is no longer waited for: a paste's own patience is far shorter.
        self.settle();
        self.offers.tick(now, &mut self.out);
        self.gifts.tick(now, &mut self.out);
        self.trays.pump(now, &mut self.out);
    }

    /// What there is to say: to the guest once it has greeted, to the supervisor at once.
    pub fn drain(&mut self) -> Outbox {
        std::mem::take(&mut self.out)
    }

    /// The guest's connection broke: nothing that is unfinished will be finished, and nothing of the guest's is
    /// shown any more. What was not said to it yet is for nobody.
    pub fn lost(&mut self) {
        self.streams = Streams::default();
        self.offers.lost(&mut self.out);
        self.gifts.lost(&mut self.out);
        self.notes.lost(&mut self.out);
        self.trays.lost(&mut self.out);
        self.out.words.clear();
    }

    /// Bytes of the guest's and for the guest that are held in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.streams.held() + self.trays.held()
    }
}

fn closed(id: u32) -> NoteAnswer {
    NoteAnswer { id, button: 0 }
}

#[cfg(test)]
mod tests;
