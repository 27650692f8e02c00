//! What guest and host hand to each other besides windows and clipboard: files, print jobs, addresses,
//! notifications, tray items, a newer agent. Whatever a policy of the host's does not allow is not offered.
pub mod ask;
mod folder;
mod inbox;
mod notes;
mod outbox;
pub mod printing;
mod requests;
mod tray;
pub mod updates;

use crate::apps::Apps;
use crate::bus::{self, Bus};
use crate::control::Control;
use crate::transfers::{Bulk, Done, Transfers};
use anyhow::Result;
pub use inbox::{Files, Inbox};
use medley_wire::bulk::{self, Carries};
use medley_wire::control::{Allowed, FromHost, OpenUrl};
use medley_wire::{Features, Text, Untrusted};
use nix::poll::{PollFd, PollFlags};
use notes::Notes;
use outbox::{Asker, Outbox};
use printing::Printing;
use requests::{Question, Requests};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tray::Tray;
use updates::Updates;

/// Bytes that may wait in the bulk channel while pictures are added.
const WAITING: usize = 1 << 20;

/// All of it.
#[derive(Debug)]
pub struct Handover {
    /// Files from the host.
    pub inbox: Inbox,
    outbox: Outbox,
    requests: Requests,
    bus: Bus,
    notes: Notes,
    tray: Tray,
    updates: Updates,
    printing: Printing,
    /// What the host allows; nothing before it has said so.
    allowed: Allowed,
    /// This host has said what it allows.
    settled: bool,
}

impl Handover {
    /// For an agent whose program and apps are those; its printer will listen on that port.
    ///
    /// # Errors
    /// The kernel gives no thread or descriptor.
    pub fn new(program: &Path, apps: &Apps, printer_port: u16) -> Result<Self> {
        Ok(Self {
            inbox: Inbox::new(folder::downloads()),
            outbox: Outbox::default(),
            requests: Requests::new(),
            bus: Bus::new(apps.folders().to_vec())?,
            notes: Notes::default(),
            tray: Tray::default(),
            updates: Updates::new(program),
            printing: Printing::new(printer_port),
            allowed: Allowed::NONE,
            settled: false,
        })
    }

    /// What to poll.
    pub fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let own = [Some(self.bus.as_fd()), self.printing.as_fd()];
        let own = own.into_iter().flatten();
        own.map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .chain(self.requests.interest())
    }

    /// Does what one message says; those for others come back.
    pub fn host_says<'m>(
        &mut self,
        message: FromHost<'m>,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) -> Option<FromHost<'m>> {
        match message {
            FromHost::Settings(settings) => {
                self.set_allowed(settings.allowed, say);
                // Others listen to the rest of them.
                return Some(FromHost::Settings(settings));
            }
            FromHost::FileOffer(offer) => {
                let allowed = self.allowed.has(Allowed::FILES_IN);
                self.inbox.offered(&offer, allowed, transfers, say);
            }
            FromHost::Answer(answer) => {
                self.outbox.answered(&answer, transfers);
                self.tell_outcomes();
            }
            FromHost::NoteAnswer(answer) => self.notes.answered(&answer, &self.bus),
            FromHost::TrayClick(click) => self.tray.clicked(&click, &self.bus),
            FromHost::TrayChoice(choice) => self.tray.chosen(&choice, &self.bus),
            FromHost::Update(update) => self.updates.offered(&update, transfers, say),
            other => return Some(other),
        }
        None
    }

    fn set_allowed(&mut self, allowed: Allowed, say: &mut Control<'_>) {
        self.allowed = allowed;
        let (notes, tray) = (allowed.has(Allowed::NOTES), allowed.has(Allowed::TRAY));
        let first = !self.settled;
        // A host that knows none needs not hear that they are gone.
        let mut nobody = Control::to_nobody();
        let ended = if first { &mut nobody } else { &mut *say };
        if !notes {
            self.notes.end_all(&self.bus, ended);
        }
        if !tray {
            self.tray.end_all(ended);
        }
        if first {
            self.settled = true;
            self.notes.say_all(say);
            self.tray.say_all(say);
        }
        self.bus.set_allowed(notes, tray);
        let tickets = say.have(Features::PRINT_TICKETS);
        self.printing
            .set_allowed(allowed.has(Allowed::PRINT), tickets);
    }

    /// Deals with what programs asked and printed, and with what the session bus told.
    pub fn work<'o>(&mut self, apps: &Apps, transfers: &mut Transfers, say: &mut Control<'o>) {
        // Before a host has said what it allows, nobody is there: all is said once it has.
        let mut nobody: Control<'o> = Control::to_nobody();
        let say = if self.settled { say } else { &mut nobody };
        self.bus.heard();
        while let Some(event) = self.bus.event() {
            self.bus_says(event, apps, say);
        }
        self.printing.work(&mut self.outbox, transfers, say);
        for event in self.requests.work() {
            match event {
                requests::Event::Asked(client, question) => {
                    self.asked(client, question, transfers, say);
                }
                requests::Event::Gone(client) => {
                    self.outbox.desert(Asker::Client(client), transfers);
                }
            }
        }
        self.tell_outcomes();
    }

    /// A tray icon of the old kind is there, changes or goes.
    pub fn told<'o>(&mut self, event: bus::Event, apps: &Apps, say: &mut Control<'o>) {
        let mut nobody: Control<'o> = Control::to_nobody();
        let say = if self.settled { say } else { &mut nobody };
        self.bus_says(event, apps, say);
    }

    fn bus_says(&mut self, event: bus::Event, apps: &Apps, say: &mut Control<'_>) {
        let bus = &self.bus;
        match event {
            bus::Event::Posted(posted) if self.allowed.has(Allowed::NOTES) => {
                self.notes.posted(*posted, apps, bus, say);
            }
            bus::Event::Posted(posted) => bus.note_closed(posted.id, bus::Closed::Otherwise),
            bus::Event::TakenBack(id) => self.notes.taken_back(id, bus, say),
            bus::Event::Item(item) if self.allowed.has(Allowed::TRAY) => {
                self.tray.item(*item, apps, say);
            }
            bus::Event::Item(_) => {}
            bus::Event::Menu(id, menu) => self.tray.menu(id, menu, say),
            bus::Event::ItemGone(id) => self.tray.gone(id, say),
        }
    }

    fn asked(
        &mut self,
        client: u64,
        question: Question,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) {
        let refused = match question {
            Question::Send(path) if self.allowed.has(Allowed::FILES_OUT) => {
                let asker = Asker::Client(client);
                return self.outbox.offer_file(&path, asker, transfers, say);
            }
            Question::Open(url) if self.allowed.has(Allowed::URLS) => open_url(&url, say),
            _ if !say.is_open() => Err("no host is connected"),
            _ => Err("the host's policy forbids it"),
        };
        self.requests.answer(client, refused);
    }

    /// Tells whoever asked what came of it.
    fn tell_outcomes(&mut self) {
        for outcome in self.outbox.outcomes() {
            match outcome.asker {
                Asker::Client(client) => {
                    let result = outcome.result.as_ref().map_err(String::as_str);
                    self.requests.answer(client, result.copied());
                }
                Asker::Printer(job) => self.printing.tell(job, outcome.result),
            }
        }
    }

    /// A transfer ended; those of others come back. Also tells of a newer agent that is ready to be run.
    pub fn finished(&mut self, done: Done) -> Result<Option<PathBuf>, Done> {
        match done {
            Done::Came {
                carries: Carries::File,
                transfer,
                sink,
            } => self.inbox.finished(transfer, sink),
            Done::Came {
                carries: Carries::Update,
                transfer,
                sink,
            } => return Ok(self.updates.finished(transfer, sink)),
            Done::Went {
                carries: Carries::File | Carries::Print,
                transfer,
                whole,
            } => {
                self.outbox.went(transfer, whole);
                self.tell_outcomes();
            }
            other => return Err(other),
        }
        Ok(None)
    }

    /// The host is gone.
    pub fn lost(&mut self, transfers: &mut Transfers) {
        self.settled = false;
        self.inbox.lost(transfers);
        self.updates.lost(transfers);
        self.outbox.lost();
        self.printing.lost();
        self.tell_outcomes();
    }

    /// When to look whether something has taken too long.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.outbox.deadline(), self.notes.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Gives up on what has taken too long.
    pub fn expire<'o>(&mut self, now: Instant, say: &mut Control<'o>) {
        let mut nobody: Control<'o> = Control::to_nobody();
        let say = if self.settled { say } else { &mut nobody };
        self.outbox.expire(now);
        self.tell_outcomes();
        self.notes.expire(now, &self.bus, say);
    }

    /// Sends pictures of notifications and tray items, as many as the channel takes at once.
    pub fn send_icons(&mut self, say: &mut Bulk<'_>) {
        while self.settled && say.is_open() && say.queued() < WAITING {
            let next = self.notes.next_icon();
            let Some((owner, icon)) = next.or_else(|| self.tray.next_icon()) else {
                break;
            };
            if let Some(picture) = icon.picture() {
                say.say(bulk::Icon { owner, picture });
            }
        }
    }
}

/// Hands an address to the host's browser.
fn open_url(url: &str, say: &mut Control<'_>) -> Result<(), &'static str> {
    if !say.is_open() {
        return Err("no host is connected");
    }
    let Some(url) = Text::whole(url).map(Untrusted::claim) else {
        return Err("the address is too long");
    };
    if url.web_url().is_none() {
        return Err("that is no address of the web (http or https, written in ASCII)");
    }
    say.say(OpenUrl { url });
    Ok(())
}
