//! A desktop without a display: it does what the model wants, as a window manager would, and keeps what can be
//! asserted.
use super::super::*;
use crate::canvas::NoPool;
use medley_wire::pixels::{Format, Patch, Payload};
use medley_wire::window::{Change, Kind, Modifiers, Seen, States};
use medley_wire::{AppId, Text, Untrusted};

pub(super) const NONE: Modifiers = Modifiers::NONE;

pub(super) fn id(n: u32) -> WindowId {
    WindowId::new(n).unwrap()
}

pub(super) fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
    Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
}

/// A model, what it has shown, and what it has said.
pub(super) struct Desk {
    pub model: Model,
    pub now: Duration,
    pub shown: BTreeMap<WindowId, Appearance>,
    pub card: bool,
    pub said: Vec<FromHost<'static>>,
    pub did: Vec<Action>,
    pub told: Vec<Event>,
}

pub(super) fn layout() -> Layout {
    let screen = Screen {
        id: 1,
        rect: rect(0, 0, 1280, 800),
        work: rect(0, 30, 1280, 770),
        millimetres: [300, 200],
        main: true,
    };
    Layout::new(vec![screen]).unwrap()
}

impl Desk {
    pub fn with(policy: Policy) -> Self {
        let mut desk = Self {
            model: Model::new(policy, Frame::new(3, 0), layout()),
            now: Duration::from_secs(1),
            shown: BTreeMap::new(),
            card: false,
            said: Vec::new(),
            did: Vec::new(),
            told: Vec::new(),
        };
        desk.settle();
        desk
    }

    /// A model whose guest has nothing to show yet.
    pub fn new() -> Self {
        let mut desk = Self::with(Policy::new("w"));
        desk.guest(gui::Snapshot {
            generation: 1,
            windows: 0,
        })
        .unwrap();
        desk.guest(gui::SnapshotEnd { generation: 1 }).unwrap();
        desk.clear();
        desk
    }

    pub fn clear(&mut self) {
        self.said.clear();
        self.did.clear();
        self.told.clear();
    }

    pub fn settle(&mut self) {
        self.model.host(HostEvent::Settled, self.now);
        self.take();
    }

    /// Does what the model wants.
    pub fn take(&mut self) {
        let out = std::mem::take(self.model.outbox());
        for action in out.actions {
            match &action {
                Action::Show(look) => {
                    let old = self.shown.insert(look.window, (**look).clone());
                    assert_eq!(old, None, "shown twice");
                }
                Action::Hide(window) => {
                    assert!(self.shown.remove(window).is_some(), "hidden twice");
                }
                Action::Place { window, rect } => {
                    let look = self.shown.get_mut(window);
                    look.expect("only what is shown is moved").rect = *rect;
                }
                Action::Title { window, title } => {
                    self.shown.get_mut(window).unwrap().title = title.clone();
                }
                Action::Card(shown) => self.card = *shown,
                _ => {}
            }
            self.did.push(action);
        }
        self.said.extend(out.messages);
        self.told.extend(out.events);
    }

    pub fn guest<'m>(&mut self, message: impl Into<FromGuest<'m>>) -> Result<(), Violation> {
        let done = self.model.guest(&message.into(), self.now, &NoPool);
        self.take();
        done
    }

    pub fn host(&mut self, event: HostEvent) {
        self.model.host(event, self.now);
        self.take();
    }

    pub fn create(&mut self, window: u32, at: Rect) -> Result<(), Violation> {
        self.launched(window, at, 0)
    }

    pub fn launched(&mut self, window: u32, at: Rect, launch: u32) -> Result<(), Violation> {
        self.guest(gui::Create {
            window: id(window),
            rect: Untrusted::claim(at),
            app: AppId::NONE,
            launch,
        })
    }

    pub fn map(
        &mut self,
        window: u32,
        parent: u32,
        kind: Kind,
        unmanaged: bool,
    ) -> Result<(), Violation> {
        self.guest(gui::Map {
            window: id(window),
            parent: WindowId::new(parent),
            kind,
            unmanaged,
        })
    }

    /// A window that is shown, and that its manager has put where it wanted to be.
    pub fn window(&mut self, window: u32, at: Rect) {
        self.create(window, at).unwrap();
        self.map(window, 0, Kind::Normal, false).unwrap();
        let rect = self.shown[&id(window)].rect;
        self.host(HostEvent::Moved {
            window: id(window),
            rect,
        });
    }

    /// The same, with the keyboard.
    pub fn focused(&mut self, window: u32, at: Rect) {
        self.window(window, at);
        self.focus(window);
    }

    pub fn focus(&mut self, window: u32) {
        self.host(HostEvent::Focused {
            window: id(window),
            held: NONE,
            locked: NONE,
        });
        self.settle();
    }

    pub fn unfocus(&mut self, window: u32) {
        self.host(HostEvent::Unfocused(id(window)));
        self.settle();
    }

    pub fn key(&mut self, code: u16, down: bool, held: Modifiers) {
        self.host(HostEvent::Key {
            code,
            down,
            group: 0,
            held,
            locked: NONE,
        });
    }

    pub fn button(&mut self, window: u32, x: i32, y: i32, down: bool) {
        self.host(HostEvent::Button {
            window: id(window),
            x,
            y,
            code: 0x110,
            down,
            held: NONE,
        });
    }

    pub fn state(&mut self, window: u32, begin: States, end: States) -> Result<(), Violation> {
        self.guest(gui::State {
            window: id(window),
            change: Change::new(begin, end).unwrap(),
        })
    }

    pub fn title(&mut self, window: u32, title: &str) -> Result<(), Violation> {
        self.guest(gui::Title {
            window: id(window),
            title: Untrusted::claim(Text::cut(title)),
        })
    }

    pub fn patch(
        &mut self,
        window: u32,
        frame: u32,
        last: bool,
        at: Rect,
        payload: Payload<'_>,
    ) -> Result<(), Violation> {
        self.guest(gui::Pixels {
            window: id(window),
            frame,
            took: [0, 0],
            last,
            patch: Untrusted::claim(Patch {
                rect: at,
                format: Format::Xrgb,
                payload,
            }),
        })
    }

    pub fn wish(&mut self, window: u32, at: Rect, answers: u32) -> Result<(), Violation> {
        self.guest(gui::Ask {
            window: id(window),
            rect: Untrusted::claim(at),
            answers,
        })
    }

    /// The configure that was said last, and when it was not answered.
    pub fn configured(&self, window: u32) -> Option<gui::Configure> {
        self.said.iter().rev().find_map(|message| match message {
            FromHost::Configure(configure) if configure.window == id(window) => {
                Some(configure.clone())
            }
            _ => None,
        })
    }

    /// Answers whatever was asked about a window until nothing is.
    pub fn answer(&mut self, window: u32) {
        while let Some(asked) = self.model.windows[&id(window)].asked {
            let at = self.configured(window).unwrap();
            assert_eq!(at.serial, asked);
            self.wish(window, at.rect, asked).unwrap();
        }
    }

    pub fn keys_said(&self) -> usize {
        let keys = |m: &&FromHost<'_>| matches!(m, FromHost::Key(_));
        self.said.iter().filter(keys).count()
    }

    pub fn said_to(&self, window: u32) -> Vec<Seen> {
        let seen = |message: &FromHost<'_>| match message {
            FromHost::Visibility(v) if v.window == id(window) => Some(v.seen),
            _ => None,
        };
        self.said.iter().filter_map(seen).collect()
    }

    /// What must be so at any time.
    pub fn check(&self) {
        let model = &self.model;
        assert!(model.windows.len() <= usize::from(model.policy.windows));
        assert!(model.pixels_held() <= model.pixel_budget());
        let frames: usize = model.windows.values().map(|w| w.frames.len()).sum();
        assert!(frames <= 8);
        for (window, w) in &model.windows {
            assert!(w.frames.len() <= 2);
            assert_eq!(
                w.on_host.is_some(),
                self.shown.contains_key(window),
                "model and desktop agree about {window:?}"
            );
            if w.on_host.is_some() {
                let canvas = w.canvas.as_ref().expect("what is shown has pixels");
                assert_eq!(canvas.size(), w.rect.size());
                assert!(!model.locked, "nothing is shown while locked");
            }
            if let Some(on_host) = w.on_host.filter(|on_host| !on_host.managed) {
                let (width, height) = model.frame.outer(w.rect.size());
                let outer = rect(w.rect.x() - 3, w.rect.y() - 3, width.into(), height.into());
                let home = model
                    .layout
                    .screens()
                    .iter()
                    .find(|s| s.work.contains(outer));
                let home = home.unwrap_or_else(|| panic!("{outer:?} of {on_host:?} sticks out"));
                let (outer, work) = (layout::area(outer), layout::area(home.work));
                assert!(outer * 100 <= work * UNMANAGED_MOST);
                assert_eq!(self.shown[window].rect, w.rect, "nobody else places it");
            }
            // The ring is around the guest's pixels, whatever these are.
            let bars = model.frame.ring(w.rect.size());
            assert!(
                bars.iter()
                    .all(|(_, _, width, height)| *width > 0 && *height > 0)
            );
        }
        if let Some(focus) = model.focus {
            assert!(model.windows[&focus].on_host.is_some_and(|m| m.managed));
            assert!(!model.locked);
        }
        assert!(!model.ended || self.shown.is_empty());
    }
}
