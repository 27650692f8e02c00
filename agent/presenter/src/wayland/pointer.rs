//! The pointer. Movements that came together are one; a wheel's turns are counted in 120ths of a notch, whichever
//! way the compositor counts them.
use super::{Name, State};
use crate::model::HostEvent;
use crate::screen::Heard;
use wayland_client::protocol::wl_pointer::{self, Axis, ButtonState, WlPointer};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle, WEnum};

/// A notch of the wheel.
const NOTCH: i32 = 120;
/// What a notch is to compositors that count in lengths of a surface: fifteen, a wheel's degrees.
const NOTCH_LENGTH: f64 = 15.0;

/// Where it is, and what of a turn is not said yet.
#[derive(Debug, Default)]
pub(super) struct Pointer {
    pointer: Option<WlPointer>,
    /// The surface below, and the point of it.
    at: Option<(Name, f64, f64)>,
    /// The number of the last time that it came into a surface: only with that can it be dressed.
    pub entered: u32,
    /// A movement that no other event has followed.
    motion: Option<HostEvent>,
    wheel: [Turn; 2],
}

/// Turns of one wheel within a frame of events.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// In 120ths of a notch, if it was said so.
    exact: Option<i32>,
    length: f64,
    /// Less than a 120th, for the next time.
    rest: f64,
}

impl Turn {
    /// What has come together, in 120ths.
    fn take(&mut self) -> i32 {
        let (exact, length) = (self.exact.take(), std::mem::take(&mut self.length));
        if let Some(exact) = exact {
            self.rest = 0.0;
            return exact;
        }
        let all = self.rest + length * f64::from(NOTCH) / NOTCH_LENGTH;
        // A compositor that says nonsense turns by no more than a hundred notches.
        let whole = all.trunc().clamp(-12_000.0, 12_000.0);
        self.rest = (all - all.trunc()).clamp(-1.0, 1.0);
        whole as i32
    }
}

impl Pointer {
    /// The movement that came last goes its way.
    pub fn rest(&mut self, heard: &mut Heard) {
        heard.events.extend(self.motion.take());
    }

    pub const fn get(&self) -> Option<&WlPointer> {
        self.pointer.as_ref()
    }

    /// Whether it is in one of the surfaces.
    pub const fn is_inside(&self) -> bool {
        self.at.is_some()
    }

    pub fn forget(&mut self, name: Name) {
        self.at = self.at.filter(|(at, ..)| *at != name);
        self.motion = None;
    }
}

impl State {
    /// The seat has a pointer, or has none.
    pub(super) fn pointer_is(&mut self, seat: &WlSeat, has: bool, qh: &QueueHandle<Self>) {
        if has && self.pointer.pointer.is_none() {
            let pointer = seat.get_pointer(qh, ());
            self.cursors.dress(&self.globals, &pointer, qh);
            self.pointer.pointer = Some(pointer);
        } else if !has && let Some(pointer) = self.pointer.pointer.take() {
            self.crossed(false);
            self.pointer.at = None;
            self.cursors.undress();
            if pointer.version() >= 3 {
                pointer.release();
            }
        }
    }

    /// The window below the pointer, the point seen from its guest's first pixel, and whether that is inside of
    /// the ring.
    fn below(&self) -> Option<(Name, i32, i32, bool)> {
        let (name, x, y) = self.pointer.at?;
        let host = self.hosts.get(&name)?;
        let short = |n: f64| n.floor().clamp(-32_768.0, 32_767.0) as i16;
        let (x, y, inside) = self.dress.frame.point(short(x), short(y), host.inner());
        Some((name, x, y, inside))
    }

    fn crossed(&mut self, inside: bool) {
        if let Some((Name::Window(window), x, y, _)) = self.below() {
            if inside && let Name::Window(root) = self.root_of(Name::Window(window)) {
                self.touched(root);
            }
            self.heard.events.push(HostEvent::Crossing {
                window,
                inside,
                x,
                y,
            });
        }
    }

    fn moved(&mut self) {
        let Some((Name::Window(window), x, y, _)) = self.below() else {
            return;
        };
        self.pointer.motion = Some(HostEvent::Motion { window, x, y });
    }

    fn pressed(&mut self, code: u32, down: bool) {
        let Ok(code) = u16::try_from(code) else {
            return;
        };
        match self.below() {
            Some((Name::Card, ..)) => self.heard.unlock |= down,
            Some((Name::Window(window), x, y, _)) => self.heard.events.push(HostEvent::Button {
                window,
                x,
                y,
                code,
                down,
                held: self.keyboard.held(),
            }),
            None => {}
        }
    }

    fn turned(&mut self) {
        let [down, across] = &mut self.pointer.wheel;
        let (down, across) = (down.take(), across.take());
        if let Some((Name::Window(window), _, _, true)) = self.below()
            && (across, down) != (0, 0)
        {
            self.heard.events.push(HostEvent::Scroll {
                window,
                across,
                down,
                held: self.keyboard.held(),
            });
        }
    }

    fn came(&mut self, surface: &WlSurface, x: f64, y: f64) {
        self.pointer.at = self.name_of(surface).map(|name| (name, x, y));
        self.pointer.wheel = Default::default();
        self.dress_pointer();
        self.crossed(true);
    }
}

fn wheel(axis: WEnum<Axis>) -> Option<usize> {
    match axis {
        WEnum::Value(Axis::VerticalScroll) => Some(0),
        WEnum::Value(Axis::HorizontalScroll) => Some(1),
        _ => None,
    }
}

impl Dispatch<WlPointer, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlPointer,
        event: wl_pointer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wl_pointer::Event;
        if !matches!(event, Event::Motion { .. } | Event::Frame) {
            state.pointer.rest(&mut state.heard);
        }
        match event {
            Event::Enter {
                serial,
                surface,
                surface_x,
                surface_y,
            } => {
                state.pointer.entered = serial;
                state.came(&surface, surface_x, surface_y);
            }
            Event::Leave { .. } => {
                state.crossed(false);
                state.pointer.at = None;
            }
            Event::Motion {
                surface_x,
                surface_y,
                ..
            } => {
                if let Some((_, x, y)) = &mut state.pointer.at {
                    (*x, *y) = (surface_x, surface_y);
                }
                state.moved();
            }
            Event::Button {
                serial,
                button,
                state: WEnum::Value(how),
                ..
            } => {
                let down = how == ButtonState::Pressed;
                if down {
                    state.keyboard.serial = serial;
                }
                state.pressed(button, down);
            }
            Event::Axis { axis, value, .. } => {
                if let Some(n) = wheel(axis) {
                    state.pointer.wheel[n].length += value;
                }
            }
            Event::AxisDiscrete { axis, discrete } => {
                if let Some(n) = wheel(axis) {
                    let exact = state.pointer.wheel[n].exact.unwrap_or(0);
                    let more = discrete.saturating_mul(NOTCH);
                    state.pointer.wheel[n].exact = Some(exact.saturating_add(more));
                }
            }
            Event::AxisValue120 { axis, value120 } => {
                if let Some(n) = wheel(axis) {
                    let exact = state.pointer.wheel[n].exact.unwrap_or(0);
                    state.pointer.wheel[n].exact = Some(exact.saturating_add(value120));
                }
            }
            Event::Frame => state.turned(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_in_120ths() {
        let mut turn = Turn {
            exact: Some(120),
            length: 15.0,
            rest: 0.5,
        };
        assert_eq!(
            turn.take(),
            120,
            "said exactly, its length is the same once more"
        );
        // A touch pad: lengths only, and nothing of them is lost.
        let mut sum = 0;
        for _ in 0..100 {
            turn.length = 0.3;
            sum += turn.take();
        }
        assert!((239..=240).contains(&sum), "{sum}");
        turn.length = f64::INFINITY;
        assert_eq!(turn.take(), 12_000);
    }
}
