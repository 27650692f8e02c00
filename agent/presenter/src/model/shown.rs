//! What of a guest's windows is on the desktop: what it maps, unless the workspace is locked, or it is a menu
//! whose owner has lost the keyboard.
use super::layout::{NOTE_MOST, UNMANAGED_MOST, area};
use super::states::MAXIMISED;
use super::window::Mapped;
use super::{Action, Appearance, Event, Model, Violation};
use crate::canvas::Canvas;
use medley_wire::gui::{self, Map, WindowShape};
use medley_wire::window::{Kind, Seen, ShapeOf, States};
use medley_wire::{Rect, Untrusted, WindowId};
use std::time::Duration;

/// How long after a key or click a new window may take the keyboard.
pub(super) const GESTURE: Duration = Duration::from_secs(2);

/// How long after a launch its window may take the keyboard: apps on a slow guest take their time.
pub(super) const LAUNCH: Duration = Duration::from_secs(60);

/// How many hundredths of a work area a window without a manager may cover.
pub(super) fn share(kind: Kind) -> u64 {
    if kind == Kind::Note {
        NOTE_MOST
    } else {
        UNMANAGED_MOST
    }
}

impl Model {
    pub(super) fn map(&mut self, map: &Map, now: Duration) -> Result<(), Violation> {
        let window = map.window;
        if self.known(window)?.mapped.is_some() {
            return Err(Violation::Mapped(window));
        }
        self.check_parents(window, map.parent)?;
        let mapped = Mapped {
            parent: map.parent,
            kind: map.kind,
            unmanaged: map.unmanaged,
            managed: !map.unmanaged || self.is_too_large(window, map.kind),
        };
        if !mapped.managed {
            self.force(window, share(map.kind));
        }
        let by_tray = self.is_by_tray(mapped, now);
        let budget = self.pixel_budget();
        let others = self.pixels_held();
        let w = self.known(window)?;
        w.mapped = Some(mapped);
        w.by_tray = by_tray;
        let size = w.rect.size();
        if w.canvas.is_none() {
            if others + size.bytes() as u64 > budget {
                return Err(Violation::Pixels(budget));
            }
            w.canvas = Some(Canvas::new(size));
        }
        if !mapped.managed {
            self.correct(window);
        }
        self.refresh(window, now);
        Ok(())
    }

    /// A window's parent exists, and is not the window's own child.
    fn check_parents(&self, window: WindowId, parent: Option<WindowId>) -> Result<(), Violation> {
        let mut next = parent;
        while let Some(parent) = next {
            if parent == window {
                return Err(Violation::Circle(window));
            }
            let w = self.windows.get(&parent);
            let w = w.ok_or(Violation::Unknown(parent))?;
            // Those that were made first have no circle, so this ends.
            next = w.mapped.and_then(|mapped| mapped.parent);
        }
        Ok(())
    }

    /// Whether a window is too large to go without a manager, beside those that do already.
    fn is_too_large(&self, window: WindowId, kind: Kind) -> bool {
        let Some(w) = self.windows.get(&window) else {
            return false;
        };
        let claim = Untrusted::claim(w.rect);
        let rect = self.layout.unmanaged(&claim, self.frame, share(kind));
        self.layout
            .too_large(&claim, self.frame, self.taken(window, w.rect, |_| true))
            || self.are_too_many(window, kind, rect)
    }

    /// Whether windows without a manager would cover too much together, were this one here: all of them, and
    /// notes by themselves, which are there also while somebody works elsewhere.
    pub(super) fn are_too_many(&self, window: WindowId, kind: Kind, here: Rect) -> bool {
        let work = area(self.layout.screen_of(&Untrusted::claim(here)).work);
        let wants = area(self.outer(here));
        let over = |taken: u64, most: u64| taken + wants > work * most / 100;
        over(self.taken(window, here, |_| true), UNMANAGED_MOST)
            || kind == Kind::Note
                && over(
                    self.taken(window, here, |kind| kind == Kind::Note),
                    NOTE_MOST,
                )
    }

    /// What other windows without a manager, of some kinds, cover of the monitor that has most of a rectangle.
    fn taken(&self, window: WindowId, here: Rect, of: impl Fn(Kind) -> bool) -> u64 {
        let screen = |rect: Rect| self.layout.screen_of(&Untrusted::claim(rect)).id;
        let home = screen(here);
        let counts = |mapped: Mapped| !mapped.managed && of(mapped.kind);
        self.windows
            .iter()
            .filter(|(other, w)| **other != window && w.mapped.is_some_and(counts))
            .filter(|(_, w)| screen(w.rect) == home)
            .map(|(_, w)| area(self.outer(w.rect)))
            .sum()
    }

    pub(super) fn outer(&self, rect: Rect) -> Rect {
        let (width, height) = self.frame.outer(rect.size());
        let size = crate::frame::nearest(width.into(), height.into());
        Rect::new(rect.x(), rect.y(), size).unwrap_or(rect)
    }

    pub(super) fn unmap(&mut self, window: WindowId) -> Result<(), Violation> {
        let w = self.known(window)?;
        (w.mapped, w.by_tray) = (None, None);
        self.hide(window);
        if let Some(w) = self.windows.get_mut(&window) {
            (w.canvas, w.buffer) = (None, None);
            (w.pretends, w.host, w.told_states) = (false, States::NONE, States::NONE);
            // Shown again, it is placed like a new one.
            w.placed = false;
        }
        Ok(())
    }

    pub(super) fn shape(&mut self, shape: &WindowShape) -> Result<(), Violation> {
        let window = shape.window;
        let bounds = Rect::whole(self.known(window)?.rect.size());
        if shape.of == ShapeOf::Input
            && let Some(w) = self.windows.get_mut(&window)
        {
            let clipped = shape.rects.iter().filter_map(|rect| rect.clip(bounds));
            w.input = (!shape.rects.is_empty()).then(|| clipped.collect());
        }
        // An outline is not cut out of the host's window: a hole in a frame would frame what lies below it.
        Ok(())
    }

    /// How a window shall be on the desktop at present.
    fn wanted(&self, window: WindowId) -> Option<Mapped> {
        let w = self.windows.get(&window)?;
        let mapped = w.mapped?;
        let may = mapped.managed
            || self.focus.is_some()
            || w.by_tray.is_some()
            || match mapped.kind {
                // Somebody points at a window that has no keyboard.
                Kind::Tooltip => self.pointer.is_some(),
                Kind::Drag => !self.buttons.is_empty(),
                // It says something by itself, and has little room for it.
                Kind::Note => true,
                _ => false,
            };
        (may && !self.locked).then_some(mapped)
    }

    /// Gives a window to the desktop's manager, decoration and all.
    pub(super) fn manage(&mut self, window: WindowId, now: Duration) {
        if let Some(w) = self.windows.get_mut(&window)
            && let Some(mapped) = &mut w.mapped
        {
            (mapped.managed, w.placed) = (true, false);
        }
        self.refresh(window, now);
    }

    /// Makes the desktop show a window as it should be.
    pub(super) fn refresh(&mut self, window: WindowId, now: Duration) {
        let want = self.wanted(window);
        let have = self.windows.get(&window).and_then(|w| w.on_host);
        if want == have {
            return;
        }
        self.hide(window);
        if let Some(mapped) = want {
            self.show(window, mapped, now);
        }
    }

    fn show(&mut self, window: WindowId, mapped: Mapped, now: Duration) {
        let by_user = self.snapshot.is_none() && self.is_by_user(window, now);
        let fullscreen = self.policy.fullscreen;
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        w.on_host = Some(mapped);
        w.seen = None;
        let mut states = w.own;
        if states.has(States::FULLSCREEN) && !fullscreen {
            w.pretends = true;
            states = states.without(States::FULLSCREEN).with(MAXIMISED);
        }
        let appearance = Appearance {
            window,
            rect: w.rect,
            placed: w.placed || !mapped.managed,
            managed: mapped.managed,
            kind: mapped.kind,
            parent: mapped.parent,
            title: self.policy.title(&w.title),
            app: w.app,
            hints: w.hints,
            states,
            by_user,
        };
        let (app, launch) = (w.app, w.launch);
        w.placed = true;
        self.act(Action::Show(Box::new(appearance)));
        self.tell(Event::Opened {
            window,
            app,
            launch,
        });
        self.seen(window, Seen::Visible);
    }

    /// Whether somebody did something that led to a window: a key or click a moment ago, or a launch. A
    /// launch counts once.
    fn is_by_user(&mut self, window: WindowId, now: Duration) -> bool {
        let launch = self.windows.get(&window).map_or(0, |w| w.launch);
        let launched = self.launches.remove(&launch);
        let recent = self.gesture.is_some_and(|at| now <= at + GESTURE);
        launched.is_some_and(|until| now <= until) || recent
    }

    /// Takes a window from the desktop, if it is there.
    pub(super) fn hide(&mut self, window: WindowId) {
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        if w.on_host.take().is_none() {
            return;
        }
        w.host = States::NONE;
        self.seen(window, Seen::Hidden);
        if self.focus == Some(window) {
            self.unfocused(window);
        }
        if self.pointer == Some(window) {
            self.pointer = None;
        }
        self.release_buttons(Some(window));
        self.order.retain(|other| *other != window);
        self.act(Action::Hide(window));
        self.tell(Event::Closed(window));
    }

    /// The guest captures nothing of a window that nobody sees.
    pub(super) fn seen(&mut self, window: WindowId, seen: Seen) {
        let frames = if seen == Seen::Visible {
            self.policy.frames
        } else {
            0
        };
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        let hidden = w.on_host.is_none() && seen != Seen::Hidden;
        if w.seen == Some(seen) || hidden {
            return;
        }
        w.seen = Some(seen);
        self.say(gui::Visibility {
            window,
            seen,
            frames,
        });
    }

    fn refresh_all(&mut self, now: Duration) {
        let all: Vec<_> = self.windows.keys().copied().collect();
        for window in all {
            self.refresh(window, now);
        }
    }

    /// Decides what depends on the keyboard and pointer as they are after all that happened.
    pub(super) fn settle(&mut self, now: Duration) {
        let unmanaged = |(window, w): (&WindowId, &super::Window)| {
            w.mapped
                .is_some_and(|mapped| !mapped.managed)
                .then_some(*window)
        };
        let menus: Vec<_> = self.windows.iter().filter_map(unmanaged).collect();
        for window in menus {
            self.refresh(window, now);
        }
    }

    pub(super) fn lock(&mut self, now: Duration) {
        if self.locked {
            return;
        }
        self.locked = true;
        self.kept.clear();
        self.gesture = None;
        if let Some(window) = self.focus {
            self.unfocused(window);
        }
        // What its user made of a window's size is so again afterwards.
        let facts = MAXIMISED.with(States::FULLSCREEN);
        for w in self.windows.values_mut().filter(|w| !w.pretends) {
            if w.on_host.is_some() {
                let host = States::known(w.host.bits() & facts.bits());
                w.own = w.own.without(facts).with(host);
            }
        }
        self.refresh_all(now);
        self.act(Action::Card(true));
        self.tell(Event::Locked(true));
    }

    pub(super) fn unlock(&mut self, now: Duration) {
        if !self.locked {
            return;
        }
        self.locked = false;
        self.act(Action::Card(false));
        self.refresh_all(now);
        self.tell(Event::Locked(false));
    }
}
