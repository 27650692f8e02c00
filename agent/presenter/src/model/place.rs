//! Where windows are. One question to the guest is open for each window; whatever changes meanwhile is asked
//! when it was answered, and what the host says wins over what the guest wishes.
use super::layout::area;
use super::shown::share;
use super::{Action, Layout, Model, Violation};
use medley_wire::gui::{self, Ask};
use medley_wire::{Rect, Untrusted, WindowId};
use std::time::Duration;

/// How long the window manager may think about a wish before the guest is told how things are.
const PATIENCE: Duration = Duration::from_millis(250);

impl Model {
    /// Tells the guest where a window is, now or once it has answered what it was asked before.
    pub(super) fn configure(&mut self, window: WindowId) {
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        if w.asked.is_some() {
            w.owes = true;
            return;
        }
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        (w.asked, w.owes, w.told, w.wish_until) = (Some(self.serial), false, Some(w.rect), None);
        let (rect, serial) = (w.rect, self.serial);
        self.say(gui::Configure {
            window,
            rect,
            serial,
        });
    }

    /// Tells the guest where a window is, if it believes something else.
    pub(super) fn correct(&mut self, window: WindowId) {
        let wrong = self
            .windows
            .get(&window)
            .is_some_and(|w| w.told != Some(w.rect) || w.owes || w.wish_until.is_some());
        if wrong {
            self.configure(window);
        }
    }

    fn set_rect(&mut self, window: WindowId, rect: Rect) {
        if let Some(w) = self.windows.get_mut(&window) {
            w.rect = rect;
            if let Some(canvas) = &mut w.canvas {
                canvas.resize(rect.size());
            }
            // Rectangles that were clipped to another size must be clipped again.
            if let Some(input) = &mut w.input {
                let bounds = Rect::whole(rect.size());
                *input = input
                    .iter()
                    .filter_map(|part| Untrusted::claim(part.get()).clip(bounds))
                    .collect();
            }
        }
    }

    /// The guest answers, or wishes.
    pub(super) fn wished(&mut self, ask: &Ask, now: Duration) -> Result<(), Violation> {
        let window = ask.window;
        let w = self.known(window)?;
        if ask.answers != 0 {
            if w.asked != Some(ask.answers) {
                return Err(Violation::Answer(window));
            }
            w.asked = None;
            // What the guest made of it does not matter: its pixels are cut to what is so.
            let wish = w.wish.take();
            if w.owes || w.told != Some(w.rect) {
                self.configure(window);
            } else if let Some(wish) = wish {
                self.wish(window, wish, now);
            }
        } else if w.asked.is_some() {
            w.wish = Some(ask.rect);
        } else {
            self.wish(window, ask.rect, now);
        }
        Ok(())
    }

    fn wish(&mut self, window: WindowId, claim: Untrusted<Rect>, now: Duration) {
        let others = self.pixels_held();
        let budget = self.pixel_budget();
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        let free = w.mapped.filter(|mapped| !mapped.managed);
        let (had, held, canvas) = (w.rect, w.bytes(), w.canvas.is_some());
        let rect = match free {
            None => self.layout.managed(&claim, self.frame),
            Some(free) => self.layout.unmanaged(&claim, self.frame, share(free.kind)),
        };
        // A menu that was small when it was mapped may not grow over what it could not have been mapped over.
        let grows = area(rect) > area(had) || !self.are_together(rect, had);
        if let Some(free) = free
            && grows
            && self.are_too_many(window, free.kind, rect)
        {
            return self.configure(window);
        }
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        if canvas && others - held + rect.size().bytes() as u64 > budget {
            // No room for that: it stays as it is.
            return self.configure(window);
        }
        let asks_manager = w.on_host.is_some_and(|on_host| on_host.managed);
        if asks_manager {
            if rect == w.rect {
                return self.configure(window);
            }
            (w.wish_until, w.wished) = (Some(now + PATIENCE), rect.size().bytes() as u64);
        } else {
            self.set_rect(window, rect);
            self.configure(window);
        }
        if self.is_on_host(window) {
            self.act(Action::Place { window, rect });
        }
    }

    /// The window manager said nothing: what was so is still so.
    pub(super) fn answer_old_wishes(&mut self, now: Duration) {
        let over = |until: Option<Duration>| until.is_some_and(|until| until <= now);
        let old: Vec<_> = self
            .windows
            .iter()
            .filter(|(_, w)| over(w.wish_until))
            .map(|(window, _)| *window)
            .collect();
        for window in old {
            if let Some(w) = self.windows.get_mut(&window) {
                w.wish_until = None;
            }
            self.configure(window);
        }
    }

    /// The host's display says where a window is.
    pub(super) fn moved(&mut self, window: WindowId, rect: Rect) {
        let Some(on_host) = self.windows.get(&window).and_then(|w| w.on_host) else {
            return;
        };
        // Where an unmanaged window is, is decided here and nowhere else.
        if !on_host.managed {
            return;
        }
        self.set_rect(window, rect);
        self.correct(window);
    }

    /// Monitors changed: menus must lie in a work area that exists. The window manager moves the others.
    pub(super) fn relayout(&mut self, layout: Layout, now: Duration) {
        if layout == self.layout {
            return;
        }
        self.layout = layout;
        self.say_limits();
        let all: Vec<_> = self.windows.keys().copied().collect();
        for window in all {
            let w = &self.windows[&window];
            let on_host = w.on_host;
            let free = w.mapped.filter(|mapped| !mapped.managed);
            let claim = Untrusted::claim(w.rect);
            let old = w.rect;
            let rect = if let Some(free) = free {
                let share = share(free.kind);
                let rect = self.layout.unmanaged(&claim, self.frame, share);
                if self.are_too_many(window, free.kind, rect) {
                    // With the others it would cover what is left: from here on it is an ordinary window.
                    let rect = self.layout.managed(&claim, self.frame);
                    self.set_rect(window, rect);
                    self.manage(window, now);
                    self.correct(window);
                    continue;
                }
                rect
            } else if claim.clip(self.layout.bounds()).is_none() || on_host.is_none() {
                // It was on a monitor that is gone, and nobody would find it.
                self.layout.managed(&claim, self.frame)
            } else {
                continue;
            };
            if rect == old {
                continue;
            }
            match on_host {
                Some(on_host) if on_host.managed => {
                    if let Some(w) = self.windows.get_mut(&window) {
                        (w.wish_until, w.wished) =
                            (Some(now + PATIENCE), rect.size().bytes() as u64);
                    }
                }
                _ => {
                    self.set_rect(window, rect);
                    self.correct(window);
                }
            }
            if on_host.is_some() {
                self.act(Action::Place { window, rect });
            }
        }
    }

    /// Whether both lie on the same monitor.
    fn are_together(&self, one: Rect, other: Rect) -> bool {
        let screen = |rect: Rect| self.layout.screen_of(&Untrusted::claim(rect)).id;
        screen(one) == screen(other)
    }

    /// Puts a window that is about to be mapped without a manager where it may be.
    pub(super) fn force(&mut self, window: WindowId, hundredths: u64) {
        if let Some(w) = self.windows.get(&window) {
            let rect = self
                .layout
                .unmanaged(&Untrusted::claim(w.rect), self.frame, hundredths);
            self.set_rect(window, rect);
        }
    }
}
