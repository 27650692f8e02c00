//! The pointer in the window: where it is on the guest's screen, or, for a guest that knows no places, how far it
//! moves while it is caught.
use super::App;
use crate::error::Result;
use crate::pointer::{Caught, button};
use medley_rfb::picture::hold;
use winit::dpi::PhysicalPosition;
use winit::event::{MouseButton, MouseScrollDelta};
use winit::window::CursorGrabMode;

/// Pixels of a touchpad's that are a notch of a wheel.
const NOTCH: f64 = 40.0;

impl App<'_> {
    pub(super) fn is_placed(&self) -> bool {
        let screen = self.screen.as_ref();
        screen.is_none_or(|screen| hold(screen.link.picture()).is_placed())
    }

    /// Catches the pointer, or gives it back.
    pub(super) fn catch(&mut self, caught: bool) {
        let Some(screen) = &self.screen else {
            return;
        };
        let window = screen.shown.window();
        let grab = |mode| window.set_cursor_grab(mode);
        let here = (self.at.x, self.at.y);
        let how = match caught {
            false => grab(CursorGrabMode::None).map(|()| Caught::No),
            true => grab(CursorGrabMode::Locked)
                .map(|()| Caught::Locked)
                .or_else(|_| {
                    let confined = Caught::Confined {
                        last: here,
                        put: None,
                    };
                    grab(CursorGrabMode::Confined).map(|()| confined)
                }),
        };
        let how = how.unwrap_or_else(|error| {
            tracing::warn!(%error, caught, "the pointer");
            Caught::No
        });
        self.pointer.catch(how);
        window.set_title(&self.title());
        self.update_cursor();
    }

    /// Draws the guest's cursor where the pointer is, in place of the host's.
    pub(super) fn update_cursor(&mut self) {
        let placed = self.is_placed();
        let Some(screen) = &mut self.screen else {
            return;
        };
        let picture = hold(screen.link.picture());
        let over = screen.shown.layout().holds(self.at.x, self.at.y);
        let drawn = placed && over && picture.cursor().is_some();
        let to = drawn.then(|| self.pointer.place());
        screen.shown.move_cursor(&picture, to);
        let hidden = drawn || self.pointer.is_caught();
        if hidden != self.hidden {
            self.hidden = hidden;
            screen.shown.window().set_cursor_visible(!hidden);
        }
    }

    pub(super) fn came(&mut self, at: PhysicalPosition<f64>) -> Result<()> {
        self.at = at;
        if self.pointer.is_caught() {
            return self.moved_to(at);
        }
        let Some(screen) = &self.screen else {
            return Ok(());
        };
        let layout = screen.shown.layout();
        let on = layout.on_screen(at.x, at.y);
        let said = match self.is_placed() && layout.holds(at.x, at.y) {
            true => {
                let say = self.pointer.come(on);
                self.say(say)
            }
            false => Ok(()),
        };
        self.update_cursor();
        said
    }

    /// A caught pointer came to a place in the window.
    pub(super) fn moved_to(&mut self, at: PhysicalPosition<f64>) -> Result<()> {
        let Some(screen) = &self.screen else {
            return Ok(());
        };
        let window = screen.shown.window();
        let size = window.inner_size();
        let middle = (f64::from(size.width / 2), f64::from(size.height / 2));
        let (by, back) = self.pointer.caught().came((at.x, at.y), middle);
        if back
            && let Err(error) =
                window.set_cursor_position(PhysicalPosition::new(middle.0, middle.1))
        {
            tracing::debug!(%error, "the pointer stays at the edge");
        }
        self.pointer.moved(by).map_or(Ok(()), |say| self.say(say))
    }

    pub(super) fn pressed(&mut self, button: MouseButton, down: bool) -> Result<()> {
        let bit = match button {
            MouseButton::Left => button::LEFT,
            MouseButton::Middle => button::MIDDLE,
            MouseButton::Right => button::RIGHT,
            _ => return Ok(()),
        };
        let placed = self.is_placed();
        if !placed && !self.pointer.is_caught() {
            // The guest's pointer is elsewhere: what is meant cannot be told yet.
            if down && bit == button::LEFT {
                self.catch(true);
            }
            return Ok(());
        }
        let over = self
            .screen
            .as_ref()
            .is_some_and(|screen| screen.shown.layout().holds(self.at.x, self.at.y));
        if down && placed && !over {
            return Ok(());
        }
        let say = self.pointer.press(bit, down, placed);
        self.say(say)
    }

    pub(super) fn turned(&mut self, delta: MouseScrollDelta) -> Result<()> {
        let notches = match delta {
            MouseScrollDelta::LineDelta(_, lines) => lines.into(),
            MouseScrollDelta::PixelDelta(by) => by.y / NOTCH,
        };
        let placed = self.is_placed();
        if !placed && !self.pointer.is_caught() {
            return Ok(());
        }
        let mut turns = self.pointer.turn(notches, placed).into_iter();
        turns.try_for_each(|say| self.say(say))
    }
}
