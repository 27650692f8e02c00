//! What is not windows: apps, launches, monitors, the keyboard's layout, health, the clipboard. They have
//! channels of their own, so that none of them delays a key. A presenter alone does without; given the two
//! channels it does what is here, and whatever is not here is refused.
mod clipboard;
mod health;
mod icons;
mod picture;

pub use clipboard::{Policy as ClipboardPolicy, Way};

use crate::error::{Error, Result};
use crate::model::{Chord, Event, Layout, Model};
use crate::report::Report;
use crate::screen::{Content, Form, Keymap, Said, Screen};
use clipboard::{Act, Clipboard};
use health::Health;
use icons::Icons;
use medley_link::End;
use medley_services::{Gate, Launch, Order, Ordered, Rate};
use medley_wire::control::{self, Allowed, Monitor, Outcome, Settings};
use medley_wire::limits::{APPS, LOGS_PER_SECOND};
use medley_wire::{AppId, Channel, Features, Hello, List, Text, bulk};
use nix::poll::PollFlags;
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// What an administrator decides about them.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The clipboard.
    pub clipboard: ClipboardPolicy,
    /// Files, print jobs, notifications, tray items, addresses.
    pub allowed: medley_services::Policy,
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
    Service(medley_services::Word),
    Settings(Allowed),
    Keymap(Keymap),
    Launch(u32, Launch),
}

/// A copy of the host's that the guest asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    transfer: u32,
    form: Form,
    most: u64,
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
    gate: Gate,
    health: Health,
    /// Transfers that wait for the host's owner, in the order they were asked for.
    fetches: VecDeque<Wanted>,
    acts: Vec<Act>,
    icons: Icons,
    apps: BTreeSet<AppId>,
    launches: u32,
    lists: u32,
    logs: Rate,
    messages: Rate,
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
        screen: &mut Screen,
    ) -> Result<Option<Self>> {
        if control.is_none() && bulk.is_none() {
            return Ok(None);
        }
        let hello = |channel| Hello::new(channel, Features::PRINT_TICKETS, crate::run::build());
        let control = control.map(|path| -> Result<Control> {
            Ok(End::host(reach("control", path)?, hello(Channel::Control))?)
        });
        let bulk = bulk.map(|path| -> Result<Bulk> {
            Ok(End::host(reach("bulk", path)?, hello(Channel::Bulk))?)
        });
        let mut services = Self {
            control: control.transpose()?,
            bulk: bulk.transpose()?,
            waiting: VecDeque::new(),
            workspace: policy.workspace.clone(),
            clipboard: Clipboard::new(policy.clipboard),
            // Other numbers than an earlier presenter's, which the guest may still name.
            gate: Gate::new(policy.allowed).numbered_from(std::process::id().wrapping_mul(256)),
            health: Health::new(),
            fetches: VecDeque::new(),
            acts: Vec::new(),
            icons: Icons::default(),
            apps: BTreeSet::new(),
            // Another number than an earlier presenter's, whose windows the guest may still name.
            launches: std::process::id().wrapping_mul(256),
            lists: 0,
            logs: Rate::each_second(LOGS_PER_SECOND, LOGS_PER_SECOND),
            messages: Rate::each_second(MESSAGES, MESSAGES_PER_SECOND),
            began: Instant::now(),
        };
        let mut allowed = policy.allowed.allowed();
        for (way, bit) in [
            (policy.clipboard.inward, Allowed::CLIPBOARD_IN),
            (policy.clipboard.outward, Allowed::CLIPBOARD_OUT),
        ] {
            if way != Way::Denied {
                allowed = allowed.with(bit);
            }
        }
        services.waiting.push_back(Word::Settings(allowed));
        services.monitors(screen.layout())?;
        services.keymap(screen)?;
        services.list();
        let copied = screen.clipboard(policy.clipboard.forms())?;
        if copied.any() {
            services.clipboard.host_copied(copied, &mut services.acts);
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
        let next = [beat, self.clipboard.deadline(), self.gate.deadline()]
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
    pub fn keymap(&mut self, screen: &Screen) -> Result<()> {
        if let Some(keymap) = screen.keymap()? {
            self.waiting.push_back(Word::Keymap(keymap));
        }
        Ok(())
    }

    /// Something happened to the guest's windows.
    pub fn window(&mut self, event: &Event) {
        match event {
            Event::Opened { window, app, .. } => self.icons.opened(*window, *app),
            Event::Closed(window) => self.icons.closed(*window),
            _ => {}
        }
    }

    /// Somebody pressed keys of the host's.
    pub fn chord(&mut self, chord: Chord) {
        match chord {
            Chord::Copy => self.clipboard.copy_chord(&mut self.acts),
            Chord::Paste => self.clipboard.paste_chord(&mut self.acts),
            Chord::Lock => {}
        }
    }

    /// Something happened to the host's clipboard.
    ///
    /// # Errors
    /// The display is gone.
    pub fn said(&mut self, said: Said, screen: &mut Screen) -> Result<()> {
        let now = self.now();
        match said {
            Said::Copied(forms) => self.clipboard.host_copied(forms, &mut self.acts),
            Said::Pastes(ticket, form) => {
                self.clipboard
                    .host_pastes(ticket, form, now, &mut self.acts);
            }
            Said::Got(content) => {
                if let Some(Wanted { transfer, .. }) = self.fetches.pop_front() {
                    self.clipboard.host_gave(transfer, content, &mut self.acts);
                }
                self.fetch(screen)?;
            }
        }
        Ok(())
    }

    /// Asks the host's owner for what is wanted next: one at a time.
    fn fetch(&self, screen: &mut Screen) -> Result<()> {
        match self.fetches.front() {
            Some(wanted) => screen.fetch(wanted.form, wanted.most),
            None => Ok(()),
        }
    }

    /// An owner that does not answer holds up nobody who asks after it.
    fn give_up(&mut self, screen: &mut Screen) -> Result<()> {
        let asked = self.fetches.front().map(|wanted| wanted.transfer);
        let clipboard = &self.clipboard;
        self.fetches
            .retain(|wanted| clipboard.waits(wanted.transfer));
        if asked == self.fetches.front().map(|wanted| wanted.transfer) {
            return Ok(());
        }
        self.fetch(screen)
    }

    /// A command of the supervisor's: `launch` and an app's id, or `apps`.
    pub fn command(&mut self, command: &str) -> Option<Asked> {
        match command.split_once(' ') {
            None if command == "apps" => {
                self.list();
                Some(Asked::Done)
            }
            Some(("launch", id)) => {
                AppId::parse(id.trim()).map(|app| self.launch(Launch::app(app)))
            }
            _ => None,
        }
    }

    /// An order of the supervisor's, with its file if one belongs to it.
    ///
    /// # Errors
    /// Why it cannot be carried out.
    pub fn order(&mut self, order: Order, file: Option<OwnedFd>) -> Result<Asked, &'static str> {
        let now = self.now();
        match self.gate.order(order, file, now) {
            Ordered::Done => Ok(Asked::Done),
            Ordered::Launch(launch) => Ok(self.launch(launch)),
            Ordered::Wrong(why) => Err(why),
        }
    }

    fn launch(&mut self, launch: Launch) -> Asked {
        self.launches = self.launches.wrapping_add(1).max(1);
        self.waiting.push_back(Word::Launch(self.launches, launch));
        Asked::Launch(self.launches)
    }

    /// Reads what came.
    ///
    /// # Errors
    /// A channel failed, or the guest broke a rule.
    pub fn read(&mut self, control: bool, bulk: bool, report: &Report) -> Result<()> {
        let read = self.read_both(control, bulk, report);
        if read.is_err() {
            self.gate.lost();
            self.pass_on(report);
        }
        read
    }

    fn read_both(&mut self, control: bool, bulk: bool, report: &Report) -> Result<()> {
        if control && let Some(mut end) = self.control.take() {
            let progress =
                end.read(|_, received| -> Result<()> { self.control(&received.message, report) })?;
            if progress == medley_link::Progress::Open {
                self.control = Some(end);
            } else {
                self.gate.lost();
                report.say("control-ended", json!({}));
            }
        }
        if bulk && let Some(mut end) = self.bulk.take() {
            let progress =
                end.read(|_, received| -> Result<()> { self.bulk_says(&received.message) })?;
            if progress == medley_link::Progress::Open {
                self.bulk = Some(end);
            } else {
                self.gate.lost();
                report.say("bulk-ended", json!({}));
            }
        }
        Ok(())
    }

    /// What the gate has to say: to the guest, and to whoever runs this presenter.
    fn pass_on(&mut self, report: &Report) {
        let out = self.gate.drain();
        self.waiting
            .extend(out.words.into_iter().map(Word::Service));
        for event in &out.events {
            report.told(event);
        }
    }

    fn control(&mut self, message: &control::FromGuest<'_>, report: &Report) -> Result<()> {
        use control::FromGuest;
        let now = self.now();
        if !self.messages.take(now) {
            return Err(Error::Service { service: "control" });
        }
        if self.gate.guest_says(message, now)? {
            return Ok(());
        }
        match message {
            FromGuest::Stage(stage) => report.say(
                "stage",
                json!({ "progress": format!("{:?}", stage.progress), "words": stage.words.display().as_str() }),
            ),
            FromGuest::Health(health) if self.health.answered(health.sequence).is_some() => {
                report.say("well", json!({}));
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
                report.say("app", listed(app));
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
            // The gate has taken all that is about services.
            _ => {}
        }
        Ok(())
    }

    fn bulk_says(&mut self, message: &bulk::FromGuest<'_>) -> Result<()> {
        let now = self.now();
        if let bulk::FromGuest::Icon(icon) = message {
            self.icons.came(icon);
        }
        let clipboard = &self.clipboard;
        let pastes = |transfer| clipboard.expects(transfer);
        if let Some(pasted) = self.gate.bulk_says(message, pastes, now)? {
            self.clipboard
                .guest_sent(pasted.transfer, pasted.bytes.as_deref(), &mut self.acts);
        }
        Ok(())
    }

    /// Does what is due, and says what there is to say.
    ///
    /// # Errors
    /// The display is gone, or a channel failed.
    pub fn work(&mut self, screen: &mut Screen, model: &Model, report: &Report) -> Result<()> {
        let now = self.now();
        let focused = model.focus().is_some();
        self.clipboard.focus(focused, &mut self.acts);
        if model.is_locked() {
            self.clipboard.lock(&mut self.acts);
        }
        self.gate.set_locked(model.is_locked(), now);
        self.clipboard.tick(now, &mut self.acts);
        self.give_up(screen)?;
        if self.control.as_ref().is_some_and(|c| c.agreed().is_some()) {
            for act in self.health.tick(now) {
                match act {
                    health::Act::Ask(sequence) => self.say(control::Heartbeat { sequence }),
                    health::Act::Ill => report.say("ill", json!({})),
                    health::Act::Well => report.say("well", json!({})),
                }
            }
        }
        self.icons.dress(screen, model)?;
        for act in std::mem::take(&mut self.acts) {
            match act {
                Act::Say(message) => self.say(message),
                Act::Own(forms) => screen.own(forms)?,
                Act::Disown => screen.disown()?,
                Act::Give { ticket, content } => {
                    let left = copied(content.as_ref());
                    let given = screen.give(ticket, content)?;
                    report.say("clipboard-out", if given { left } else { copied(None) });
                }
                Act::Fetch {
                    transfer,
                    form,
                    most,
                } => {
                    let wanted = Wanted {
                        transfer,
                        form,
                        most,
                    };
                    self.fetches.push_back(wanted);
                    if self.fetches.len() == 1 {
                        self.fetch(screen)?;
                    }
                }
                Act::Send { transfer, content } => {
                    report.say("clipboard-in", copied(Some(&content)));
                    self.gate.paste(transfer, content.into_bytes(), now);
                }
                Act::Refused(words) => {
                    report.say("refused", json!({ "what": "clipboard", "words": words }));
                }
            }
        }
        self.gate.tick(now);
        self.pass_on(report);
        self.speak()?;
        // What came to its end while it was sent.
        self.pass_on(report);
        Ok(())
    }

    fn speak(&mut self) -> Result<()> {
        let now = self.now();
        if let Some(end) = self.control.as_mut().filter(|c| c.agreed().is_some()) {
            let out = end.outgoing();
            for word in std::mem::take(&mut self.waiting) {
                match word {
                    Word::Plain(message) => out.send(&message)?,
                    Word::Service(word) => out.send(&word.message())?,
                    Word::Settings(allowed) => out.send(
                        &Settings {
                            allowed,
                            dark: false,
                            locale: Text::default(),
                            workspace: Text::cut(&self.workspace),
                        }
                        .into(),
                    )?,
                    Word::Keymap(keymap) => out.send(&keymap.message().into())?,
                    Word::Launch(request, launch) => out.send(&launch.message(request).into())?,
                }
            }
            end.flush()?;
        }
        if let Some(end) = self.bulk.as_mut().filter(|b| b.agreed().is_some()) {
            self.gate.work(end.outgoing(), now)?;
            end.flush()?;
        }
        Ok(())
    }
}

/// How much crossed, and in which form; never what.
fn copied(content: Option<&Content>) -> serde_json::Value {
    let form = match content.map(Content::form) {
        Some(Form::Text) => "text",
        Some(Form::Picture) => "picture",
        None => "none",
    };
    let bytes = content.map_or(0, |content| content.bytes().len());
    json!({ "bytes": bytes, "form": form })
}

/// An app as a supervisor reads it: every text made fit for display, every name of the kind it says it is.
fn listed(app: &control::App<'_>) -> serde_json::Value {
    let types = app.types.iter().filter_map(|name| name.mime_type());
    let schemes = app.schemes.iter().filter_map(|name| name.scheme());
    let actions = app
        .actions
        .iter()
        .map(|action| json!({ "number": action.number, "name": action.name.display().as_str() }));
    json!({
        "app": app.id.to_string(),
        "name": app.name.display().as_str(),
        "folder": app.folder.display().as_str(),
        "comment": app.comment.display().as_str(),
        "keywords": app.keywords.display().as_str(),
        "types": types.map(|name| name.to_string()).collect::<Vec<_>>(),
        "schemes": schemes.map(|name| name.to_string()).collect::<Vec<_>>(),
        "actions": actions.collect::<Vec<_>>(),
    })
}
