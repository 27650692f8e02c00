//! What goes between guest and host besides windows. The presenter judges what the guest says and asks; here is
//! who may open things: inbox, printer, bus, browser. A presenter that a guest has taken over can ask for
//! whatever it likes, so that policy, names and rates are held to here once more.

mod browse;
mod busy;
mod files;
pub(crate) mod gift;
mod inbox;
mod intake;
mod notes;
mod pace;
mod scan;
mod spool;
mod tray;
mod worker;

use crate::line::Line;
use crate::notice::{Notice, Teller};
use crate::policy::ServicesPolicy;
use crate::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use browse::Browse;
use files::{Files, Reply, Taken};
use inbox::Inbox;
use intake::Fate;
use medley_services::order::Refusal;
use medley_services::{Event, Order};
use notes::{Note, Notes};
use spool::{Job, Spool};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tray::Task;
use worker::Worker;

/// Transfers that a presenter may have open: more than its own limits let it have.
const TRANSFERS: usize = 64;

/// What has come whole when a session ends is still scanned and kept, or printed, if that takes no longer.
const LAST: Duration = Duration::from_secs(30);

/// The way to whichever presenter there is now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Post(Arc<Mutex<Option<Line>>>);

impl Post {
    /// The way to the presenter of now, and to no other that comes later.
    fn for_this_one(&self) -> Self {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Arc::new(Mutex::new(line.clone())))
    }

    /// Another presenter, or none.
    fn set(&self, line: Option<Line>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// Gives it an order without a file. Without a presenter there is nobody to whom it would mean anything.
    fn order(&self, order: &Order) -> bool {
        self.send(order, None)
    }

    fn send(&self, order: &Order, file: Option<OwnedFd>) -> bool {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.as_ref().is_some_and(|line| line.order(order, file))
    }
}

/// All services that a policy allows.
#[derive(Debug)]
pub(crate) struct Services {
    post: Post,
    teller: Teller,
    files: Option<Files>,
    spool: Option<Spool>,
    notes: Option<Notes>,
    tray: Option<Worker<Task>>,
    browse: Option<Browse>,
    /// Transfers that were taken and whose end this presenter has not told.
    transfers: BTreeMap<u32, Taken>,
    /// Nothing of the guest's is to be shown.
    locked: bool,
}

impl Services {
    /// Makes ready what the policy allows.
    ///
    /// # Errors
    /// The inbox cannot be opened, or there can be no threads.
    pub fn new(policy: &ServicesPolicy, workspace: &str, teller: Teller) -> Result<Self> {
        let post = Post::default();
        if let Some(uri) = policy
            .print
            .as_ref()
            .and_then(|print| print.printer.as_ref())
        {
            // Now, and not when the guest has been told that its first page is on its way.
            medley_print::client::check_address(uri)
                .map_err(|error| Error::Printer(error.to_string()))?;
        }
        let inbox = policy.files_out.clone();
        let inbox = inbox.map(|policy| Inbox::open(policy, workspace));
        let name = || workspace.to_owned();
        let notes = policy.notes.clone();
        let notes = notes.map(|policy| Notes::start(policy, name(), teller.clone(), post.clone()));
        let tray = policy.tray.as_ref();
        let tray = tray.map(|_| tray::start(name(), teller.clone(), post.clone()));
        let threads = || Error::system("cannot start a thread for the guest's services");
        Ok(Self {
            files: inbox
                .transpose()?
                .map(|inbox| Files::new(inbox, teller.clone())),
            spool: policy
                .print
                .clone()
                .map(|policy| Spool::new(policy, name(), teller.clone())),
            notes: notes.transpose().map_err(threads())?,
            tray: tray.transpose().map_err(threads())?,
            browse: policy
                .urls
                .clone()
                .map(|policy| Browse::new(policy, teller.clone())),
            transfers: BTreeMap::new(),
            locked: false,
            teller,
            post,
        })
    }

    /// There is a presenter.
    pub fn begin(&mut self, line: Line) {
        self.post.set(Some(line));
    }

    /// There is none any more: what it had begun is not finished, and nobody hears what is done with what it
    /// showed.
    pub fn lost(&mut self) {
        self.post.set(None);
        for (_, (fate, _)) in std::mem::take(&mut self.transfers) {
            let _ = fate.send(Fate::Broke);
        }
        self.show_nothing();
    }

    fn show_nothing(&self) {
        if let Some(notes) = &self.notes {
            notes.all_gone();
        }
        if let Some(tray) = &self.tray {
            tray.clear();
        }
    }

    /// From now on nothing of the guest's is shown and no address of its is opened, whatever a presenter says. Or it
    /// may be again: the presenter says what there is.
    pub fn set_locked(&mut self, locked: bool) {
        if locked && !self.locked {
            self.show_nothing();
        }
        self.locked = locked;
    }

    /// The presenter told something.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::FileOffered {
                transfer,
                name,
                size,
            } => {
                let (free, reply) = (self.is_free(transfer), self.reply(transfer));
                let taken = match &mut self.files {
                    Some(files) if free => files.offered(&name, size, reply),
                    Some(_) => Err(Refusal::Failed),
                    None => Err(self.denied("file")),
                };
                self.took(transfer, taken);
            }
            Event::PrintAsked {
                transfer,
                size,
                format,
                copies,
                ticket,
                pages,
                title,
            } => {
                let job = Job {
                    title,
                    format,
                    copies,
                    ticket,
                    size,
                    pages,
                };
                let (free, reply) = (self.is_free(transfer), self.reply(transfer));
                let taken = match &mut self.spool {
                    Some(spool) if free => spool.asked(job, reply),
                    Some(_) => Err(Refusal::Failed),
                    None => Err(self.denied("print")),
                };
                self.took(transfer, taken);
            }
            Event::Came { transfer, size } => self.end(transfer, Fate::Came(size)),
            Event::Broke { transfer } => self.end(transfer, Fate::Broke),
            Event::Url { .. } | Event::Note { .. } if self.locked => {
                tracing::debug!("nothing is shown while the workspace is locked");
            }
            Event::Url { url } => match &mut self.browse {
                Some(browse) => browse.open(&url),
                None => drop(self.denied("url")),
            },
            Event::Note {
                note,
                app: _,
                urgency,
                summary,
                body,
                buttons,
            } => match &mut self.notes {
                Some(notes) => notes.show(Note {
                    note,
                    urgency,
                    summary,
                    body,
                    buttons,
                }),
                None => drop(self.denied("note")),
            },
            Event::NoteGone { note } => {
                if let Some(notes) = &self.notes {
                    notes.gone(note);
                }
            }
            Event::Tray {
                item,
                app: _,
                look,
                title,
            } => self.show(Task::Item { item, look, title }),
            Event::TrayIcon { item, side, argb } => match BASE64_STANDARD.decode(argb) {
                Ok(argb) => self.show(Task::Icon { item, side, argb }),
                Err(error) => tracing::warn!(%error, "a tray item's picture"),
            },
            Event::TrayMenu { item, entries } => self.show(Task::Menu { item, entries }),
            Event::TrayGone { item } => self.show(Task::Gone(item)),
            // The desk has heard these.
            Event::Given { .. } | Event::Refused { .. } => {}
        }
    }

    fn show(&self, task: Task) {
        match &self.tray {
            _ if self.locked => {}
            Some(tray) => tray.put(task),
            None => drop(self.denied("tray")),
        }
    }

    fn is_free(&mut self, transfer: u32) -> bool {
        // Those that were refused or gave up have no thread any more, and no presenter speaks of them again.
        self.transfers
            .retain(|_, (_, alive)| alive.strong_count() > 0);
        self.transfers.len() < TRANSFERS && !self.transfers.contains_key(&transfer)
    }

    /// Brings a transfer's answer to the presenter that there is now. One that has come since does not know the
    /// number, or knows another thing by it that waits for its own answer: numbers begin anew with each, so that
    /// only the one which asked is answered.
    fn reply(&self, transfer: u32) -> Reply {
        let post = self.post.for_this_one();
        Box::new(move |taken| {
            let _ = match taken {
                Ok(writes) => post.send(&Order::Take { transfer }, Some(writes)),
                Err(verdict) => post.order(&Order::Refuse { transfer, verdict }),
            };
        })
    }

    fn took(&mut self, transfer: u32, taken: Result<Taken, Refusal>) {
        match taken {
            Ok(taken) => drop(self.transfers.insert(transfer, taken)),
            Err(verdict) => drop(self.post.order(&Order::Refuse { transfer, verdict })),
        }
    }

    fn end(&mut self, transfer: u32, fate: Fate) {
        if let Some((tell, _)) = self.transfers.remove(&transfer) {
            // It may have given up before.
            let _ = tell.send(fate);
        }
    }

    /// The presenter should not have asked.
    fn denied(&self, what: &str) -> Refusal {
        let words = format!("the guest asked for what policy denies: {what}");
        self.teller.say(Notice::new("windows-refused", words));
        Refusal::Policy
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.lost();
        let until = Instant::now() + LAST;
        let files = self.files.as_ref().is_none_or(|files| files.finish(until));
        let jobs = self.spool.as_ref().is_none_or(|spool| spool.finish(until));
        if !files || !jobs {
            let words = "what the guest handed over at the end of the session is lost: scanner or printer took too long";
            self.teller.say(Notice::new("transfer-lost", words));
        }
    }
}
