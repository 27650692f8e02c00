//! Keys and pointer. Keys go to the window that has the keyboard and nowhere else; the host's own chords go to
//! no guest at all. Nothing is sent while the workspace is locked.
use super::{Chord, Event, HostEvent, Model};
use medley_wire::WindowId;
use medley_wire::gui;
use medley_wire::window::{KeyCode, Modifiers};
use std::time::Duration;

impl Model {
    pub(super) fn focused(&mut self, window: WindowId, held: Modifiers, locked: Modifiers) {
        let managed = self
            .windows
            .get(&window)
            .and_then(|w| w.on_host)
            .is_some_and(|on_host| on_host.managed);
        if !managed || self.locked || self.focus == Some(window) {
            return;
        }
        self.focus = Some(window);
        self.say(gui::Focus {
            window,
            held,
            locked,
        });
        self.looked_at(window);
    }

    pub(super) fn unfocused(&mut self, window: WindowId) {
        if self.focus == Some(window) {
            self.focus = None;
            self.kept.clear();
            // What somebody does elsewhere from now on is no leave for windows of this guest.
            self.gesture = None;
            self.say(gui::Leave { window });
        }
    }

    pub(super) fn key(
        &mut self,
        code: u16,
        down: bool,
        group: u8,
        held: Modifiers,
        locked: Modifiers,
        now: Duration,
    ) {
        let Some(window) = self.focus.filter(|_| !self.locked) else {
            return;
        };
        if !down && self.kept.remove(&code) {
            return;
        }
        if down && let Some(chord) = self.policy.chord(code, held) {
            // A key that repeats is one chord.
            if self.kept.insert(code) {
                self.tell(Event::Chord(chord));
                if chord == Chord::Lock {
                    self.host(HostEvent::Lock, now);
                }
            }
            return;
        }
        if down {
            self.gesture = Some(now);
        }
        self.say(gui::Key {
            window,
            code: KeyCode(code),
            down,
            group,
            held,
            locked,
        });
    }

    pub(super) fn motion(&mut self, window: WindowId, x: i32, y: i32) {
        if !self.is_on_host(window) {
            return;
        }
        let last = self.at.replace((window, x, y));
        let moved = |from: i32, to: i32| to.saturating_sub(from).saturating_mul(256);
        let (dx, dy) = match last {
            Some((same, lx, ly)) if same == window => (moved(lx, x), moved(ly, y)),
            _ => (0, 0),
        };
        self.say(gui::Motion {
            window,
            x,
            y,
            dx,
            dy,
        });
    }

    pub(super) fn button(
        &mut self,
        window: WindowId,
        (x, y): (i32, i32),
        code: u16,
        down: bool,
        held: Modifiers,
        now: Duration,
    ) {
        let Some(w) = self.windows.get(&window).filter(|w| w.on_host.is_some()) else {
            return;
        };
        if down {
            let size = w.rect.size();
            let inside = |n: i32, len: u32| u32::try_from(n).is_ok_and(|n| n < len);
            // The frame is the host's, and what the guest has cut off its window takes no clicks.
            if !inside(x, size.width()) || !inside(y, size.height()) || !w.takes(x, y) {
                return;
            }
            self.buttons.insert(code, window);
            self.gesture = Some(now);
        } else if self.buttons.remove(&code).is_none() {
            // Its press was the host's.
            return;
        }
        self.say(gui::Button {
            window,
            x,
            y,
            code,
            down,
            held,
        });
    }

    /// Buttons go up for the guest, because the host will not see it: all of a window, or all.
    pub(super) fn release_buttons(&mut self, of: Option<WindowId>) {
        let held = std::mem::take(&mut self.buttons);
        let (go, stay) = held
            .into_iter()
            .partition(|(_, window)| of.is_none_or(|of| of == *window));
        self.buttons = stay;
        for (code, window) in go {
            let at = self.at.filter(|(last, ..)| *last == window);
            let (_, x, y) = at.unwrap_or((window, 0, 0));
            self.say(gui::Button {
                window,
                x,
                y,
                code,
                down: false,
                held: Modifiers::NONE,
            });
        }
    }

    pub(super) fn crossing(&mut self, window: WindowId, inside: bool, x: i32, y: i32) {
        if !self.is_on_host(window) {
            return;
        }
        if inside {
            self.pointer = Some(window);
        } else if self.pointer == Some(window) {
            self.pointer = None;
        }
        self.say(gui::Crossing {
            window,
            inside,
            x,
            y,
        });
    }
}
