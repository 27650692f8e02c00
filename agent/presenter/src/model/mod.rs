//! Decides what becomes of a guest's windows. No display, no I/O, no clock of its own: it takes what the guest
//! says, what the host's window system does, and the time, and gives actions for a back end, messages for the
//! guest, and events for a supervisor.
//!
//! What the wire leaves to be judged is judged here: numbers of windows, circles of parents, budgets, rates,
//! frames on their way. A [`Violation`] ends everything: the windows are gone, and nothing more is taken.
//!
//! Where a window is, how large, how it is stacked, whether it has the keyboard: the host says, the guest asks.
mod action;
mod event;
mod fuzz;
mod input;
mod layout;
mod pixels;
mod place;
mod policy;
mod shown;
mod snapshot;
mod states;
mod tray;
mod violation;
mod window;

pub use action::{Action, Appearance, Event};
pub use event::HostEvent;
#[doc(hidden)]
pub use fuzz::fuzz_model;
pub use layout::{Layout, NOTE_MOST, Screen, UNMANAGED_MOST};
pub use policy::{Chord, HostKeys, Policy};
pub use violation::Violation;

use crate::canvas::{Canvas, Pool};
use crate::frame::Frame;
use crate::unpack::Unpacker;
use medley_services::Rate;
use medley_wire::gui::{self, FromGuest, FromHost};
use medley_wire::limits::BELLS_PER_SECOND;
use medley_wire::window::Shape;
use medley_wire::{DisplayText, Rect, Size, WindowId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use window::Window;

/// Messages of a guest at once, and in each second after that: a snapshot of all windows there can be is some
/// five thousand; whoever repaints a clock on each of them needs less.
const MESSAGES: (u32, u32) = (16_384, 8192);

/// Bytes of pixels that a guest may have whatever its monitors are: four small ones' worth would be less than
/// a dozen ordinary windows have.
const PIXELS_LEAST: u64 = 256 << 20;

/// What is to be done, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// For the back end.
    pub actions: VecDeque<Action>,
    /// For the guest.
    pub messages: VecDeque<FromHost<'static>>,
    /// For the supervisor.
    pub events: VecDeque<Event>,
}

/// The state of one guest's windows.
#[derive(Debug)]
pub struct Model {
    policy: Policy,
    frame: Frame,
    layout: Layout,
    windows: BTreeMap<WindowId, Window>,
    /// The guest's managed windows as the desktop stacks them, the lowest first.
    order: Vec<WindowId>,
    /// The window that has the keyboard.
    focus: Option<WindowId>,
    /// The window that the pointer is in.
    pointer: Option<WindowId>,
    /// Buttons that are held: which, and in which window.
    buttons: BTreeMap<u16, WindowId>,
    /// Where the pointer was last, for what it moved since.
    at: Option<(WindowId, i32, i32)>,
    /// Keys of a chord that are down, so that their release stays here, too.
    kept: BTreeSet<u16>,
    /// When somebody last did something in a window of the guest.
    gesture: Option<Duration>,
    /// Launches that the user asked for, and until when their windows may take the keyboard.
    launches: BTreeMap<u32, Duration>,
    /// Until when a menu is a tray item's: somebody clicked on one.
    tray: Option<Duration>,
    locked: bool,
    serial: u32,
    /// The snapshot that the guest was asked for.
    asked: Option<u32>,
    /// The snapshot that is under way.
    snapshot: Option<u32>,
    generation: u32,
    messages: Rate,
    bells: Rate,
    unpacker: Unpacker,
    cursor: Option<Shape>,
    ended: bool,
    out: Outbox,
}

impl Model {
    /// A model without windows. What it says first (limits, and that everything be said) is in its outbox.
    #[must_use]
    pub fn new(policy: Policy, frame: Frame, layout: Layout) -> Self {
        let mut model = Self {
            policy,
            frame,
            layout,
            windows: BTreeMap::new(),
            order: Vec::new(),
            focus: None,
            pointer: None,
            buttons: BTreeMap::new(),
            at: None,
            kept: BTreeSet::new(),
            gesture: None,
            launches: BTreeMap::new(),
            tray: None,
            locked: false,
            serial: 0,
            asked: None,
            snapshot: None,
            generation: 0,
            messages: Rate::each_second(MESSAGES.0, MESSAGES.1),
            bells: Rate::each_second(BELLS_PER_SECOND, BELLS_PER_SECOND),
            unpacker: Unpacker::default(),
            cursor: None,
            ended: false,
            out: Outbox::default(),
        };
        model.say_limits();
        model.resync();
        model
    }

    /// What is to be done since it was asked last.
    pub const fn outbox(&mut self) -> &mut Outbox {
        &mut self.out
    }

    /// The frame around every window.
    #[must_use]
    pub const fn frame(&self) -> Frame {
        self.frame
    }

    /// What the administrator decided.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The pixels of a window that is shown.
    #[must_use]
    pub fn canvas(&self, window: WindowId) -> Option<&Canvas> {
        self.windows.get(&window)?.canvas.as_ref()
    }

    /// Where a window's pixels are on the screen.
    #[must_use]
    pub fn rect(&self, window: WindowId) -> Option<Rect> {
        self.windows.get(&window).map(|w| w.rect)
    }

    /// Windows that exist.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// The window that has the keyboard.
    #[must_use]
    pub const fn focus(&self) -> Option<WindowId> {
        self.focus
    }

    /// Whether the workspace is locked.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.locked
    }

    /// Whether the guest broke a rule or said farewell: nothing more is taken from it.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Bytes of pixels that all shown windows may have.
    #[must_use]
    pub fn pixel_budget(&self) -> u64 {
        let derived = (self.layout.pixels() * 4 * 4).max(PIXELS_LEAST);
        self.policy.pixels.unwrap_or(derived)
    }

    /// Bytes of pixels that all shown windows have.
    #[must_use]
    pub fn pixels_held(&self) -> u64 {
        self.windows.values().map(Window::bytes).sum()
    }

    /// When [`tick`](Self::tick) has something to do, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let all = self.windows.values();
        let wishes = all.clone().filter_map(|w| w.wish_until);
        wishes.chain(all.filter_map(|w| w.by_tray)).min()
    }

    /// Time passed.
    pub fn tick(&mut self, now: Duration) {
        self.answer_old_wishes(now);
        self.end_tray_menus(now);
        self.launches.retain(|_, until| *until > now);
    }

    /// Takes a message of the guest's.
    ///
    /// # Errors
    /// The guest broke a rule: its windows are gone, and whatever else it says is ignored.
    pub fn guest(
        &mut self,
        message: &FromGuest<'_>,
        now: Duration,
        pool: &dyn Pool,
    ) -> Result<(), Violation> {
        if self.ended {
            return Ok(());
        }
        self.judge(message, now, pool)
            .inspect_err(|violation| self.end(Event::Violation(*violation)))
    }

    fn judge(
        &mut self,
        message: &FromGuest<'_>,
        now: Duration,
        pool: &dyn Pool,
    ) -> Result<(), Violation> {
        let paced = matches!(message, FromGuest::Pixels(_) | FromGuest::Damage(_));
        if !paced && !self.messages.take(now) {
            return Err(Violation::Rate);
        }
        match message {
            // The wire has dealt with it.
            FromGuest::Hello(_) => {}
            FromGuest::Bye(_) => self.end(Event::Bye),
            FromGuest::Create(create) => self.create(create)?,
            FromGuest::Destroy(destroy) => self.destroy(destroy.window)?,
            FromGuest::Map(map) => self.map(map, now)?,
            FromGuest::Unmap(unmap) => self.unmap(unmap.window)?,
            FromGuest::Configure(ask) => self.wished(ask, now)?,
            FromGuest::Stack(stack) => self.stack_wished(stack)?,
            FromGuest::Title(title) => self.title(title.window, title.title.display())?,
            FromGuest::Class(class) => self.class(class)?,
            FromGuest::Hints(hints) => {
                let sensible = hints.hints.sensible();
                let w = self.known(hints.window)?;
                if w.hints != sensible {
                    w.hints = sensible;
                    if w.on_host.is_some() {
                        self.act(Action::Hints {
                            window: hints.window,
                            hints: sensible,
                        });
                    }
                }
            }
            FromGuest::State(state) => self.states_wished(state)?,
            FromGuest::Shape(shape) => self.shape(shape)?,
            FromGuest::Drag(drag) => self.drag(drag)?,
            FromGuest::Attach(attach) => self.attach(attach, pool)?,
            FromGuest::Damage(damage) => self.damage(damage, now, pool)?,
            FromGuest::Pixels(pixels) => self.pixels(pixels, now)?,
            FromGuest::Cursor(cursor) => {
                if self.cursor != Some(cursor.shape) {
                    self.cursor = Some(cursor.shape);
                    self.act(Action::Cursor(cursor.shape));
                }
            }
            FromGuest::CursorPicture(picture) => self.cursor_picture(picture)?,
            FromGuest::Bell(bell) => {
                if let Some(window) = bell.window {
                    self.known(window)?;
                }
                if !self.locked && self.bells.take(now) {
                    self.act(Action::Bell);
                }
            }
            FromGuest::Snapshot(snapshot) => self.snapshot_begins(snapshot, now)?,
            FromGuest::SnapshotEnd(end) => self.snapshot_ends(end, now)?,
        }
        Ok(())
    }

    /// Takes what happened on the host.
    pub fn host(&mut self, event: HostEvent, now: Duration) {
        match event {
            _ if self.ended => {}
            HostEvent::Moved { window, rect } => self.moved(window, rect),
            HostEvent::States { window, states } => self.states_are(window, states),
            HostEvent::Seen { window, seen } => self.seen(window, seen),
            HostEvent::Stacked(order) => self.stacked(order),
            HostEvent::Focused {
                window,
                held,
                locked,
            } => self.focused(window, held, locked),
            HostEvent::Unfocused(window) => self.unfocused(window),
            HostEvent::Close(window) => {
                if self.is_on_host(window) {
                    self.say(gui::Close { window });
                }
            }
            HostEvent::Key {
                code,
                down,
                group,
                held,
                locked,
            } => self.key(code, down, group, held, locked, now),
            HostEvent::Motion { window, x, y } => self.motion(window, x, y),
            HostEvent::Button {
                window,
                x,
                y,
                code,
                down,
                held,
            } => self.button(window, (x, y), code, down, held, now),
            HostEvent::Scroll {
                window,
                across,
                down,
                held,
            } => {
                if self.is_on_host(window) {
                    self.say(gui::Scroll {
                        window,
                        across,
                        down,
                        held,
                    });
                }
            }
            HostEvent::Crossing {
                window,
                inside,
                x,
                y,
            } => self.crossing(window, inside, x, y),
            HostEvent::Layout(layout) => self.relayout(layout, now),
            HostEvent::Lock => self.lock(now),
            HostEvent::Unlock => self.unlock(now),
            HostEvent::Launch(number) => {
                self.launches.insert(number, now + shown::LAUNCH);
            }
            HostEvent::Tray => {
                self.gesture = Some(now);
                self.tray = Some(now + shown::GESTURE);
            }
            HostEvent::Resync => self.resync(),
            HostEvent::Painted => self.painted(now),
            HostEvent::Settled => self.settle(now),
        }
    }

    fn say_limits(&mut self) {
        let bounds = self.layout.bounds().size();
        // A window may be larger than the screen for a moment, never twice as large.
        let side = |n: u32| (n * 2).min(self.policy.side());
        let size = crate::frame::nearest(side(bounds.width()), side(bounds.height()));
        let limits = gui::Limits {
            windows: self.policy.windows,
            size,
            pixels: self.pixel_budget(),
            frames: self.policy.frames,
        };
        self.say(limits);
    }

    fn act(&mut self, action: Action) {
        self.out.actions.push_back(action);
    }

    fn say(&mut self, message: impl Into<FromHost<'static>>) {
        self.out.messages.push_back(message.into());
    }

    fn tell(&mut self, event: Event) {
        self.out.events.push_back(event);
    }

    /// The window that the guest speaks of.
    fn known(&mut self, window: WindowId) -> Result<&mut Window, Violation> {
        self.windows
            .get_mut(&window)
            .ok_or(Violation::Unknown(window))
    }

    fn is_on_host(&self, window: WindowId) -> bool {
        self.windows
            .get(&window)
            .is_some_and(|w| w.on_host.is_some())
    }

    fn create(&mut self, create: &gui::Create) -> Result<(), Violation> {
        let window = create.window;
        let rect = self.layout.managed(&create.rect, self.frame);
        let claim = medley_wire::Untrusted::claim(rect);
        let told = (claim == create.rect).then_some(rect);
        if let Some(old) = self.windows.get_mut(&window) {
            if !old.stale {
                return Err(Violation::Taken(window));
            }
            // It is said again: what the host shows of it stays until the guest says how it is shown.
            let mut new = Window::new(create.app, create.launch, old.rect);
            (new.on_host, new.host, new.seen) = (old.on_host, old.host, old.seen);
            (new.asked, new.owes, new.canvas) = (old.asked, old.owes, old.canvas.take());
            new.told = (medley_wire::Untrusted::claim(old.rect) == create.rect).then_some(old.rect);
            *old = new;
            return Ok(());
        }
        if self.windows.len() >= usize::from(self.policy.windows) {
            return Err(Violation::Windows(self.policy.windows));
        }
        let mut w = Window::new(create.app, create.launch, rect);
        w.told = told;
        w.placed = self.snapshot.is_some();
        self.windows.insert(window, w);
        Ok(())
    }

    fn destroy(&mut self, window: WindowId) -> Result<(), Violation> {
        self.known(window)?;
        self.forget(window);
        self.say(gui::Destroyed { window });
        Ok(())
    }

    /// A window is no more: not on the host, nobody's parent, and without keyboard or pointer.
    fn forget(&mut self, window: WindowId) {
        self.hide(window);
        self.windows.remove(&window);
        for other in self.windows.values_mut() {
            if let Some(mapped) = &mut other.mapped
                && mapped.parent == Some(window)
            {
                mapped.parent = None;
                // The host's window keeps a name that leads nowhere; it need not be shown anew for that.
                if let Some(on_host) = &mut other.on_host {
                    on_host.parent = None;
                }
            }
        }
    }

    fn title(&mut self, window: WindowId, title: DisplayText) -> Result<(), Violation> {
        let w = self.known(window)?;
        if w.title != title {
            w.title = title;
            if w.on_host.is_some() {
                let title = self.policy.title(&self.windows[&window].title);
                self.act(Action::Title { window, title });
            }
        }
        Ok(())
    }

    fn class(&mut self, class: &gui::Class<'_>) -> Result<(), Violation> {
        let (window, app) = (class.window, class.app);
        let w = self.known(window)?;
        if w.app != app {
            w.app = app;
            if w.on_host.is_some() {
                self.act(Action::App { window, app });
            }
        }
        Ok(())
    }

    fn cursor_picture(&mut self, cursor: &gui::CursorPicture<'_>) -> Result<(), Violation> {
        if !self.policy.cursor_pictures {
            return Err(Violation::Cursor);
        }
        self.cursor = None;
        self.act(Action::Picture {
            size: cursor.picture.size(),
            hotspot: cursor.hotspot(),
            pixels: cursor.picture.pixels().to_vec(),
        });
        Ok(())
    }

    /// Nothing more is taken from the guest, and nothing of it is shown.
    fn end(&mut self, event: Event) {
        let all: Vec<_> = self.windows.keys().copied().collect();
        for window in all {
            self.hide(window);
        }
        self.windows.clear();
        if self.locked {
            self.act(Action::Card(false));
        }
        self.ended = true;
        self.tell(event);
    }

    /// A size within which a guest's rectangle of a window lies.
    fn size(&self, window: WindowId) -> Option<Size> {
        self.windows.get(&window).map(|w| w.rect.size())
    }
}

#[cfg(test)]
mod tests;
