//! A desktop that obeys the presenter's state machine, and looks at everything it wants: whether it is allowed,
//! and whether it could be drawn and said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use medley_presenter::canvas::Pool;
use medley_presenter::frame::{Frame, nearest};
use medley_presenter::model::{Action, Event, HostEvent, Layout, Model, Policy};
use medley_wire::gui::{FromGuest, FromHost};
use medley_wire::window::{Modifiers, Seen, States};
use medley_wire::{Encoder, Features, HEADER, Hello, Rect, Set, WindowId};

/// Windows that a guest may have here.
const WINDOWS: u16 = 16;
/// Bytes of their pixels.
const PIXELS: u64 = 16 << 20;
const SCREEN: (u32, u32) = (1280, 800);

/// The state machine and what it is answered by.
pub struct Desktop {
    pub model: Model,
    said: Encoder<FromHost<'static>>,
    shown: BTreeMap<WindowId, States>,
    /// The number of the last question about each window.
    asked: BTreeMap<WindowId, u32>,
    locked: bool,
    room: Vec<u8>,
}

impl Desktop {
    /// A desktop with a policy of four.
    pub fn new(how: usize) -> Self {
        let mut policy = Policy::new("fuzz");
        policy.windows = WINDOWS;
        policy.pixels = Some(PIXELS);
        policy.fullscreen = how % 2 == 1;
        policy.cursor_pictures = how % 4 >= 2;
        policy.features = policy.features.with(Features::SHARED_PIXELS);
        let layout = Layout::single(nearest(SCREEN.0, SCREEN.1));
        let mut desktop = Self {
            model: Model::new(policy, Frame::new(3, 0), layout),
            said: Encoder::new(),
            shown: BTreeMap::new(),
            asked: BTreeMap::new(),
            locked: false,
            room: Vec::new(),
        };
        let hello = Hello::new(medley_wire::Channel::Gui, Features::NONE, [0; 32]);
        desktop.encode(&hello.into());
        desktop.obey(Duration::ZERO);
        desktop
    }

    /// The guest says something. Questions have other numbers than when it was recorded: an answer is taken as
    /// one to the last question, unless its number is a very large one.
    pub fn guest(&mut self, mut message: FromGuest<'_>, now: Duration, pool: &dyn Pool) {
        if let FromGuest::Configure(ask) = &mut message
            && (1..1 << 31).contains(&ask.answers)
        {
            ask.answers = self.asked.remove(&ask.window).unwrap_or(0);
        }
        let judged = self.model.guest(&message, now, pool);
        assert_eq!(
            judged.is_err() || matches!(message, FromGuest::Bye(_)),
            self.model.is_ended()
        );
        self.after(now);
    }

    /// What the host said is told as what had happened.
    pub fn host(&mut self, message: &FromHost<'_>, now: Duration) {
        let event = match message {
            FromHost::Configure(m) => HostEvent::Moved {
                window: m.window,
                rect: within_reason(m.rect),
            },
            FromHost::State(m) => {
                let states = m
                    .change
                    .apply(self.shown.get(&m.window).copied().unwrap_or_default());
                HostEvent::States {
                    window: m.window,
                    states,
                }
            }
            FromHost::Focus(m) => HostEvent::Focused {
                window: m.window,
                held: m.held,
                locked: m.locked,
            },
            FromHost::Leave(m) => HostEvent::Unfocused(m.window),
            FromHost::Close(m) => HostEvent::Close(m.window),
            FromHost::Visibility(m) => HostEvent::Seen {
                window: m.window,
                seen: m.seen,
            },
            FromHost::Key(m) => HostEvent::Key {
                code: m.code.0,
                down: m.down,
                group: m.group,
                held: m.held,
                locked: m.locked,
            },
            FromHost::Motion(m) => HostEvent::Motion {
                window: m.window,
                x: m.x,
                y: m.y,
            },
            FromHost::Button(m) => HostEvent::Button {
                window: m.window,
                x: m.x,
                y: m.y,
                code: m.code,
                down: m.down,
                held: m.held,
            },
            FromHost::Scroll(m) => HostEvent::Scroll {
                window: m.window,
                across: m.across,
                down: m.down,
                held: m.held,
            },
            FromHost::Crossing(m) => HostEvent::Crossing {
                window: m.window,
                inside: m.inside,
                x: m.x,
                y: m.y,
            },
            // The first was said before anything else, here as well.
            FromHost::Resync(m) if m.generation > 1 => HostEvent::Resync,
            FromHost::FrameDone(_) => HostEvent::Painted,
            _ => HostEvent::Settled,
        };
        self.model.host(event, now);
        self.after(now);
    }

    /// What happens without a word to the guest.
    pub fn happens(&mut self, what: &[u8], now: Duration) {
        let Some((first, rest)) = what.split_first() else {
            return;
        };
        let more = rest.first().copied().unwrap_or_default();
        let event = match first % 6 {
            0 => {
                self.locked = true;
                HostEvent::Lock
            }
            1 => {
                self.locked = false;
                HostEvent::Unlock
            }
            2 => {
                let side = 200 + u32::from(more) * 5;
                HostEvent::Layout(Layout::single(nearest(side, side)))
            }
            3 => HostEvent::Launch(more.into()),
            4 => HostEvent::Stacked(
                rest.iter()
                    .filter_map(|n| WindowId::new((*n).into()))
                    .collect(),
            ),
            _ => HostEvent::Settled,
        };
        self.model.host(event, now);
        self.after(now);
    }

    fn after(&mut self, now: Duration) {
        // What is done leads to more, and comes to an end.
        for _ in 0..4 {
            self.obey(now);
        }
        self.model.host(HostEvent::Settled, now);
        self.model.tick(now);
        self.obey(now);
        self.model.host(HostEvent::Painted, now);
        self.obey(now);
        assert!(self.model.windows() <= usize::from(WINDOWS));
        // The desktop may make windows larger than the guest may, and no larger than itself.
        let most = PIXELS + u64::from(WINDOWS) * u64::from(SCREEN.0 * SCREEN.1 * 4);
        assert!(self.model.pixels_held() <= most);
        if self.model.is_ended() {
            assert!(self.shown.is_empty(), "windows of a guest that is gone");
        }
        if self.locked {
            assert!(
                self.shown.is_empty(),
                "windows of a workspace that is locked"
            );
        }
    }

    fn obey(&mut self, now: Duration) {
        let out = std::mem::take(self.model.outbox());
        let mut gone = BTreeSet::new();
        for action in out.actions {
            self.act(action, &mut gone, now);
        }
        for message in out.messages {
            self.judge(&message);
            self.encode(&message);
        }
        for event in out.events {
            if let Event::Violation(violation) = event {
                assert!(!violation.code().is_empty() && self.model.is_ended());
            }
        }
    }

    fn act(&mut self, action: Action, gone: &mut BTreeSet<WindowId>, now: Duration) {
        match action {
            Action::Show(look) => {
                assert!(look.title.starts_with("[fuzz] "), "{:?}", look.title);
                assert!(!self.locked, "shown while it is locked");
                let window = look.window;
                assert!(self.shown.insert(window, look.states).is_none());
                let rect = within_reason(look.rect);
                let seen = Seen::Visible;
                self.model.host(HostEvent::Moved { window, rect }, now);
                self.model.host(HostEvent::Seen { window, seen }, now);
            }
            Action::Hide(window) => {
                assert!(self.shown.remove(&window).is_some(), "it was not shown");
                gone.insert(window);
            }
            Action::Place { window, rect } => {
                assert!(self.shown.contains_key(&window) || gone.contains(&window));
                let rect = within_reason(rect);
                self.model.host(HostEvent::Moved { window, rect }, now);
            }
            Action::States { window, begin, end } => {
                if let Some(states) = self.shown.get_mut(&window) {
                    *states = states.without(end).with(begin);
                    let states = *states;
                    self.model.host(HostEvent::States { window, states }, now);
                }
            }
            Action::Title { title, .. } => assert!(title.starts_with("[fuzz] "), "{title:?}"),
            Action::Paint { window, rect } => self.paint(window, rect),
            Action::Picture {
                size,
                hotspot,
                pixels,
            } => {
                assert!(self.model.policy().cursor_pictures);
                assert!(pixels.len() == size.bytes());
                assert!(hotspot.0 < size.width() && hotspot.1 < size.height());
            }
            _ => {}
        }
    }

    /// What is painted lies inside of the ring, and its pixels are there.
    fn paint(&self, window: WindowId, rect: medley_wire::GuestRect) {
        let (Some(canvas), frame) = (self.model.canvas(window), self.model.frame()) else {
            return;
        };
        let Some(inside) = frame.place(rect, canvas.size()) else {
            return;
        };
        let (width, height) = frame.outer(canvas.size());
        let (size, border) = (inside.source().size(), u32::from(frame.border()));
        assert!(u32::from(inside.x()) >= border && u32::from(inside.y()) >= border);
        assert!(u32::from(inside.x()) + size.width() + border <= width.into());
        assert!(u32::from(inside.y()) + size.height() + border <= height.into());
        let pixels: usize = canvas.rows(inside.source()).map(<[u8]>::len).sum();
        assert_eq!(pixels, size.bytes());
    }

    /// Whether the guest may hear this now.
    fn judge(&mut self, message: &FromHost<'_>) {
        match message {
            FromHost::Key(key) => {
                assert!(!self.locked, "a key while it is locked");
                assert_eq!(self.model.focus(), Some(key.window), "a key elsewhere");
            }
            FromHost::Configure(configure) => {
                assert_ne!(configure.serial, 0);
                self.asked.insert(configure.window, configure.serial);
            }
            FromHost::Destroyed(destroyed) => {
                self.asked.remove(&destroyed.window);
            }
            FromHost::Focus(focus) => {
                let keys = focus.held.without(Modifiers::ALL);
                assert_eq!(keys.bits(), 0);
            }
            _ => {}
        }
    }

    /// Whatever is said, the wire takes.
    fn encode(&mut self, message: &FromHost<'static>) {
        let length = HEADER + <FromHost<'static> as Set>::len(message);
        self.room.resize(length, 0);
        let written = self.said.encode(message, &mut self.room);
        assert_eq!(written, Ok(length), "{message:?}");
    }
}

/// A place that a desktop of this size might give a window.
fn within_reason(rect: Rect) -> Rect {
    let size = rect.size();
    let size = nearest(size.width().min(SCREEN.0), size.height().min(SCREEN.1));
    Rect::new(rect.x(), rect.y(), size).unwrap_or(rect)
}
