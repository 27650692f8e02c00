//! What is not windows: apps, launches, monitors, the keyboard's layout, health, the clipboard. They have
//! channels of their own, so that none of them delays a key. A presenter alone does without; given the two
//! channels it does what is here, and whatever is not here is refused.
mod clipboard;
mod health;
mod keymap;
mod selection;
mod streams;

pub use clipboard::{Policy as ClipboardPolicy, Way};

use crate::error::{Error, Result};
use crate::model::{Chord, Layout, Model};
use crate::report::Report;
use crate::x11::Display;
use clipboard::{Act, Clipboard};
use health::Health;
use medley_link::End;
use medley_wire::control::{self, Allowed, Answer, Monitor, Outcome, Settings, Verdict};
use medley_wire::limits::{APPS, LOGS_PER_SECOND};
use medley_wire::{AppId, Channel, Features, Hello, List, Text, bulk};
use nix::poll::PollFlags;
use selection::{Said, Selection};
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use streams::Streams;

/// What an administrator decides about them.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The clipboard.
    pub clipboard: ClipboardPolicy,
    /// The workspace's name, for the guest's own words.
    pub workspace: String,
}

/// Messages on the control channel: all apps several times over at once, and then far more than a person causes.
const MESSAGES: u32 = 8192;
const MESSAGES_PER_SECOND: u32 = 512;

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The guest was asked to launch; its window will name this number.
    Launch(u32),
    /// It was done.
    Done,
}

type Control = End<control::FromGuest<'static>, control::FromHost<'static>>;
type Bulk = End<bulk::FromGuest<'static>, bulk::FromHost<'static>>;

/// What is to be said, with whatever the message would borrow.
#[derive(Debug)]
enum Word {
    Plain(control::FromHost<'static>),
    Settings(Allowed),
    Keymap(keymap::Names),
    Launch(u32, AppId),
}

/// The services of one guest.
#[derive(Debug)]
pub struct Services {
    control: Option<Control>,
    bulk: Option<Bulk>,
    /// What the guest is told once it has greeted.
    waiting: VecDeque<Word>,
    workspace: String,
    clipboard: Clipboard,
    selection: Selection,
    streams: Streams,
    health: Health,
    /// Transfers that wait for the host's owner, in the order they were asked for.
    fetches: VecDeque<u32>,
    acts: Vec<Act>,
    icons: VecDeque<(bulk::Owner, medley_wire::Size, Vec<u8>)>,
    apps: BTreeSet<AppId>,
    launches: u32,
    lists: u32,
    logs: crate::model::Rate,
    messages: crate::model::Rate,
    began: Instant,
}

impl Services {
    /// Opens the channels that are given; without any, there are no services.
    ///
    /// # Errors
    /// A channel cannot be reached.
    pub fn open(
        policy: &Policy,
        control: Option<&Path>,
        bulk: Option<&Path>,
        reach: &dyn Fn(&'static str, &Path) -> Result<OwnedFd>,
        display: &Display,
    ) -> Result<Option<Self>> {
        if control.is_none() && bulk.is_none() {
            return Ok(None);
        }
        let hello = |channel| Hello::new(channel, Features::NONE, crate::run::build());
        let control = control.map(|path| -> Result<Control> {
            Ok(End::host(reach("control", path)?, hello(Channel::Control))?)
        });
        let bulk = bulk.map(|path| -> Result<Bulk> {
            Ok(End::host(reach("bulk", path)?, hello(Channel::Bulk))?)
        });
        let selection = Selection::open(display)?;
        let mut services = Self {
            control: control.transpose()?,
            bulk: bulk.transpose()?,
            waiting: VecDeque::new(),
            workspace: policy.workspace.clone(),
            clipboard: Clipboard::new(policy.clipboard),
            selection,
            streams: Streams::default(),
            health: Health::new(),
            fetches: VecDeque::new(),
            acts: Vec::new(),
            icons: VecDeque::new(),
            apps: BTreeSet::new(),
            // Another number than an earlier presenter's, whose windows the guest may still name.
            launches: std::process::id().wrapping_mul(256),
            lists: 0,
            logs: crate::model::Rate::new(LOGS_PER_SECOND, LOGS_PER_SECOND),
            messages: crate::model::Rate::new(MESSAGES, MESSAGES_PER_SECOND),
            began: Instant::now(),
        };
        let mut allowed = Allowed::NONE;
        for (way, bit) in [
            (policy.clipboard.inward, Allowed::CLIPBOARD_IN),
            (policy.clipboard.outward, Allowed::CLIPBOARD_OUT),
        ] {
            if way != Way::Denied {
                allowed = allowed.with(bit);
            }
        }
        services.waiting.push_back(Word::Settings(allowed));
        services.monitors(display.layout())?;
        services.keymap(display)?;
        services.list();
        if services.selection.is_there(display)? {
            services.clipboard.host_copied(true, &mut services.acts);
        }
        Ok(Some(services))
    }

    fn say(&mut self, message: impl Into<control::FromHost<'static>>) {
        self.waiting.push_back(Word::Plain(message.into()));
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn list(&mut self) {
        self.lists = self.lists.wrapping_add(1);
        let generation = self.lists;
        self.say(control::ListApps {
            generation,
            icons: crate::frame::nearest(64, 64),
        });
    }

    /// The control channel's descriptor.
    #[must_use]
    pub fn control_fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let control = self.control.as_ref()?;
        Some((control.as_fd(), control.interest()))
    }

    /// The bulk channel's descriptor.
    #[must_use]
    pub fn bulk_fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let bulk = self.bulk.as_ref()?;
        Some((bulk.as_fd(), bulk.interest()))
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let beat = self.control.as_ref().map(|_| self.health.deadline());
        let next = [beat, self.clipboard.deadline()]
            .into_iter()
            .flatten()
            .min()?;
        // The caller's clock began at another time.
        Some(now + next.saturating_sub(self.now()))
    }

    /// The host's monitors, from now on.
    ///
    /// # Errors
    /// None at present; the channel may be full one day.
    pub fn monitors(&mut self, layout: &Layout) -> Result<()> {
        let monitors = layout.screens().iter().map(|screen| Monitor {
            id: screen.id,
            rect: screen.rect,
            work: screen.work,
            millimetres: screen.millimetres,
            scale: 120,
            main: screen.main,
        });
        self.say(control::Monitors {
            monitors: List::new(monitors.collect()),
        });
        Ok(())
    }

    /// The host's keyboard has another layout, or has one at all.
    ///
    /// # Errors
    /// The display is gone.
    pub fn keymap(&mut self, display: &Display) -> Result<()> {
        if let Some(keymap) = keymap::read(display)? {
            self.waiting.push_back(Word::Keymap(keymap));
        }
        Ok(())
    }

    /// Somebody pressed keys of the host's.
    pub fn chord(&mut self, chord: Chord) {
        match chord {
            Chord::Copy => self.clipboard.copy_chord(&mut self.acts),
            Chord::Paste => self.clipboard.paste_chord(&mut self.acts),
            Chord::Lock => {}
        }
    }

    /// An event of the display's that may be about the clipboard.
    ///
    /// # Errors
    /// The display is gone.
    pub fn selection(&mut self, event: &x11rb::protocol::Event, display: &Display) -> Result<()> {
        let now = self.now();
        match self.selection.hear(event, display)? {
            Some(Said::Copied(something)) => {
                self.clipboard.host_copied(something, &mut self.acts);
            }
            Some(Said::Pastes(ticket)) => {
                self.clipboard.host_pastes(ticket, now, &mut self.acts);
            }
            Some(Said::Text(text)) => {
                if let Some(transfer) = self.fetches.pop_front() {
                    self.clipboard.host_gave(transfer, text, &mut self.acts);
                }
                // One is asked for at a time: they share a property.
                if !self.fetches.is_empty() {
                    self.selection.fetch(display)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    /// A command of the supervisor's: `launch` and an app's id, or `apps`.
    ///
    /// # Errors
    /// None at present.
    pub fn command(&mut self, command: &str) -> Result<Option<Asked>> {
        match command.split_once(' ') {
            None if command == "apps" => {
                self.list();
                Ok(Some(Asked::Done))
            }
            Some(("launch", id)) => Ok(AppId::parse(id.trim()).map(|app| {
                self.launches = self.launches.wrapping_add(1).max(1);
                self.waiting.push_back(Word::Launch(self.launches, app));
                Asked::Launch(self.launches)
            })),
            _ => Ok(None),
        }
    }

    /// Reads what came.
    ///
    /// # Errors
    /// A channel failed, or the guest broke a rule.
    pub fn read(&mut self, control: bool, bulk: bool, report: &Report) -> Result<()> {
        if control && let Some(mut end) = self.control.take() {
            let progress =
                end.read(|_, received| -> Result<()> { self.control(&received.message, report) })?;
            if progress == medley_link::Progress::Open {
                self.control = Some(end);
            } else {
                report.say("control-ended", json!({}));
            }
        }
        if bulk && let Some(mut end) = self.bulk.take() {
            let progress =
                end.read(|out, received| -> Result<()> { self.bulk_says(out, &received.message) })?;
            if progress == medley_link::Progress::Open {
                self.bulk = Some(end);
            } else {
                report.say("bulk-ended", json!({}));
            }
        }
        Ok(())
    }

    fn control(&mut self, message: &control::FromGuest<'_>, report: &Report) -> Result<()> {
        use control::FromGuest;
        let now = self.now();
        if !self.messages.take(now) {
            return Err(Error::Service { service: "control" });
        }
        match message {
            FromGuest::Stage(stage) => report.say(
                "stage",
                json!({ "progress": format!("{:?}", stage.progress), "words": stage.words.display().as_str() }),
            ),
            FromGuest::Health(health) => {
                if self.health.answered(health.sequence).is_some() {
                    report.say("well", json!({}));
                }
            }
            FromGuest::Log(log) => {
                let now = self.now();
                if self.logs.take(now) {
                    tracing::info!(
                        part = log.part.display().as_str(),
                        words = log.words.display().as_str(),
                        "the guest's agent"
                    );
                }
            }
            FromGuest::App(app) => {
                if self.apps.len() >= APPS as usize && !self.apps.contains(&app.id) {
                    return Err(Error::Service { service: "apps" });
                }
                self.apps.insert(app.id);
                report.say(
                    "app",
                    json!({ "app": app.id.to_string(), "name": app.name.display().as_str() }),
                );
            }
            FromGuest::AppGone(gone) => {
                self.apps.remove(&gone.id);
                report.say("app-gone", json!({ "app": gone.id.to_string() }));
            }
            FromGuest::AppsEnd(end) => report.say("apps", json!({ "count": end.count })),
            FromGuest::Launched(launched) => report.say(
                "launched",
                json!({
                    "request": launched.request,
                    "started": launched.outcome == Outcome::Started,
                    "outcome": format!("{:?}", launched.outcome),
                    "words": launched.words.display().as_str(),
                }),
            ),
            FromGuest::ClipboardOffer(offer) => {
                self.clipboard.guest_offers(offer, &mut self.acts);
            }
            FromGuest::ClipboardRequest(request) => {
                let now = self.now();
                self.clipboard.guest_pastes(request, now, &mut self.acts);
            }
            FromGuest::Answer(answer) => self.clipboard.guest_answers(answer, &mut self.acts),
            // What is not here yet is refused, as a policy would.
            FromGuest::FileOffer(offer) => self.refuse(offer.transfer, "file", report),
            FromGuest::PrintJob(job) => self.refuse(job.transfer, "print", report),
            FromGuest::OpenUrl(_) => report.say("refused", json!({ "what": "url" })),
            FromGuest::Hello(_)
            | FromGuest::Bye(_)
            | FromGuest::Ready(_)
            | FromGuest::ClockRead(_)
            | FromGuest::Note(_)
            | FromGuest::NoteGone(_)
            | FromGuest::Tray(_)
            | FromGuest::TrayMenu(_)
            | FromGuest::TrayGone(_) => {}
        }
        Ok(())
    }

    fn refuse(&mut self, transfer: u32, what: &str, report: &Report) {
        self.say(Answer {
            transfer,
            verdict: Verdict::Policy,
        });
        report.say("refused", json!({ "what": what }));
    }

    fn bulk_says(
        &mut self,
        out: &mut medley_link::Outgoing<bulk::FromHost<'static>>,
        message: &bulk::FromGuest<'_>,
    ) -> Result<()> {
        use bulk::FromGuest;
        /// Icons that wait for the display: a burst as of a snapshot, and not more.
        const ICONS: usize = 64;
        let broken = |_| Error::Service { service: "bulk" };
        match message {
            FromGuest::Open(open) => {
                let limit = self.clipboard.expects(open.transfer);
                self.streams.open(open, limit).map_err(broken)?;
            }
            FromGuest::Chunk(chunk) => {
                let bytes = self.streams.chunk(chunk).map_err(broken)?;
                let stream = chunk.stream;
                out.send(&bulk::Received { stream, bytes }.into())?;
            }
            FromGuest::End(end) => {
                let (transfer, bytes) = self.streams.end(end).map_err(broken)?;
                self.clipboard
                    .guest_sent(transfer, bytes.as_deref(), &mut self.acts);
            }
            FromGuest::Cancel(cancel) => {
                if let Some(transfer) = self.streams.cancel(cancel.stream, cancel.own) {
                    self.clipboard.guest_sent(transfer, None, &mut self.acts);
                }
            }
            FromGuest::Received(received) => self.streams.received(received),
            FromGuest::Icon(icon) => {
                if self.icons.len() < ICONS {
                    let (size, pixels) = (icon.picture.size(), icon.picture.pixels().to_vec());
                    self.icons.push_back((icon.owner, size, pixels));
                }
            }
            FromGuest::Hello(_) | FromGuest::Bye(_) => {}
        }
        Ok(())
    }

    /// Does what is due, and says what there is to say.
    ///
    /// # Errors
    /// The display is gone, or a channel failed.
    pub fn work(&mut self, display: &mut Display, model: &Model, report: &Report) -> Result<()> {
        let now = self.now();
        let focused = model.focus().is_some();
        self.clipboard.focus(focused, &mut self.acts);
        if model.is_locked() {
            self.clipboard.lock(&mut self.acts);
        }
        self.clipboard.tick(now, &mut self.acts);
        if self.control.as_ref().is_some_and(|c| c.agreed().is_some()) {
            for act in self.health.tick(now) {
                match act {
                    health::Act::Ask(sequence) => self.say(control::Heartbeat { sequence }),
                    health::Act::Ill => report.say("ill", json!({})),
                    health::Act::Well => report.say("well", json!({})),
                }
            }
        }
        while let Some((owner, size, pixels)) = self.icons.pop_front() {
            match owner {
                bulk::Owner::Window(window) => {
                    display.icon(AppId::NONE, &[window], size, &pixels)?;
                }
                bulk::Owner::App(app) => display.icon(app, &[], size, &pixels)?,
                // Trays and notes are not shown.
                bulk::Owner::Tray(_) | bulk::Owner::Note(_) => {}
            }
        }
        for act in std::mem::take(&mut self.acts) {
            match act {
                Act::Say(message) => self.say(message),
                Act::Own => self.selection.own(display)?,
                Act::Disown => self.selection.disown(display)?,
                Act::Give { ticket, text } => {
                    report.say(
                        "clipboard-out",
                        json!({ "bytes": text.as_ref().map_or(0, String::len) }),
                    );
                    self.selection.give(display, ticket, text.as_deref())?;
                }
                Act::Fetch(transfer) => {
                    self.fetches.push_back(transfer);
                    if self.fetches.len() == 1 {
                        self.selection.fetch(display)?;
                    }
                }
                Act::Send { transfer, text } => {
                    report.say("clipboard-in", json!({ "bytes": text.len() }));
                    self.streams.send(transfer, text);
                }
                Act::Refused(words) => {
                    report.say("refused", json!({ "what": "clipboard", "words": words }));
                }
            }
        }
        self.speak()
    }

    fn speak(&mut self) -> Result<()> {
        if let Some(end) = self.control.as_mut().filter(|c| c.agreed().is_some()) {
            let out = end.outgoing();
            for word in std::mem::take(&mut self.waiting) {
                match word {
                    Word::Plain(message) => out.send(&message)?,
                    Word::Settings(allowed) => out.send(
                        &Settings {
                            allowed,
                            dark: false,
                            locale: Text::default(),
                            workspace: Text::cut(&self.workspace),
                        }
                        .into(),
                    )?,
                    Word::Keymap(names) => out.send(&names.message().into())?,
                    Word::Launch(request, app) => out.send(
                        &control::Launch {
                            request,
                            app,
                            action: 0,
                            arguments: List::default(),
                            files: List::default(),
                        }
                        .into(),
                    )?,
                }
            }
            end.flush()?;
        }
        if let Some(end) = self.bulk.as_mut().filter(|b| b.agreed().is_some()) {
            self.streams.work(end.outgoing())?;
            end.flush()?;
        }
        Ok(())
    }
}
