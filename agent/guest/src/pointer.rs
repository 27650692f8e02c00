//! The guest's pointer, moved by XTEST. Buttons that are down are known, so that none stays down when the
//! host goes away.
use crate::display::Display;
use anyhow::Result;
use medley_wire::WindowId;
use x11rb::CURRENT_TIME;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConfigureWindowAux, ConnectionExt,
    MOTION_NOTIFY_EVENT, StackMode,
};
use x11rb::protocol::xtest;

/// A notch of a wheel, as the wire counts.
const NOTCH: i32 = 120;

/// Notches that one message can make: more is no wheel.
const MOST_NOTCHES: i32 = 32;

/// Where the pointer is and what of it is down.
#[derive(Debug, Default)]
pub struct Pointer {
    inside: Option<WindowId>,
    down: Vec<u8>,
    /// Parts of notches that were turned, across and down.
    turned: (i32, i32),
    veiled: bool,
}

impl Pointer {
    /// The pointer is in that window; tells whether it was elsewhere before.
    ///
    /// # Errors
    /// The display is gone.
    pub fn enter(&mut self, display: &Display, window: WindowId) -> Result<bool> {
        if std::mem::take(&mut self.veiled) {
            display.x.unmap_window(display.veil)?;
        }
        if self.down.is_empty() {
            Ok(self.inside.replace(window) != Some(window))
        } else {
            // While something is dragged, nothing is raised over it.
            self.inside = Some(window);
            Ok(false)
        }
    }

    /// The pointer left that window for something that is not the guest's.
    ///
    /// # Errors
    /// The display is gone.
    pub fn left(&mut self, display: &Display, window: WindowId) -> Result<()> {
        if self.inside == Some(window) && self.down.is_empty() {
            self.inside = None;
            self.veil(display)?;
        }
        Ok(())
    }

    fn veil(&mut self, display: &Display) -> Result<()> {
        self.veiled = true;
        let above = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
        display.x.configure_window(display.veil, &above)?;
        display.x.map_window(display.veil)?;
        Ok(())
    }

    /// A window is gone.
    pub fn window_gone(&mut self, window: WindowId) {
        if self.inside == Some(window) {
            self.inside = None;
        }
    }

    /// Moves it on the guest's screen.
    ///
    /// # Errors
    /// The display is gone.
    pub fn move_to(&self, display: &Display, x: i32, y: i32) -> Result<()> {
        let short = |n: i32| n.clamp(0, i16::MAX.into()) as i16;
        let (x, y) = (short(x), short(y));
        xtest::fake_input(
            &display.x,
            MOTION_NOTIFY_EVENT,
            0,
            CURRENT_TIME,
            display.root,
            x,
            y,
            0,
        )?;
        Ok(())
    }

    /// Presses or releases a button, by evdev's number.
    ///
    /// # Errors
    /// The display is gone.
    pub fn button(&mut self, display: &Display, code: u16, down: bool) -> Result<()> {
        let Some(button) = button_of(code) else {
            return Ok(());
        };
        let was_down = self.down.contains(&button);
        if was_down {
            self.down.retain(|other| *other != button);
            fake(display, button, false)?;
        }
        if down {
            self.down.push(button);
            fake(display, button, true)?;
        }
        Ok(())
    }

    /// Clicks on something that is no window of the host's, and leaves it again; not while something is dragged.
    ///
    /// # Errors
    /// The display is gone.
    pub fn click_aside(&mut self, display: &Display, at: (i32, i32), code: u16) -> Result<()> {
        let Some(button) = button_of(code).filter(|_| self.down.is_empty()) else {
            return Ok(());
        };
        self.move_to(display, at.0, at.1)?;
        fake(display, button, true)?;
        fake(display, button, false)?;
        self.inside = None;
        self.veil(display)
    }

    /// Turns the wheel, in 120ths of a notch.
    ///
    /// # Errors
    /// The display is gone.
    pub fn scroll(&mut self, display: &Display, across: i32, down: i32) -> Result<()> {
        let notches = |turned: &mut i32, more: i32| {
            *turned = turned.saturating_add(more);
            let whole = *turned / NOTCH;
            *turned -= whole * NOTCH;
            whole.clamp(-MOST_NOTCHES, MOST_NOTCHES)
        };
        let steps = [
            (notches(&mut self.turned.1, down), 4, 5),
            (notches(&mut self.turned.0, across), 6, 7),
        ];
        for (count, back, forth) in steps {
            let button = if count < 0 { back } else { forth };
            for _ in 0..count.abs() {
                fake(display, button, true)?;
                fake(display, button, false)?;
            }
        }
        Ok(())
    }

    /// Releases what is down.
    ///
    /// # Errors
    /// The display is gone.
    pub fn release(&mut self, display: &Display) -> Result<()> {
        for button in std::mem::take(&mut self.down) {
            fake(display, button, false)?;
        }
        display.x.flush()?;
        Ok(())
    }
}

fn fake(display: &Display, button: u8, down: bool) -> Result<()> {
    let kind = if down {
        BUTTON_PRESS_EVENT
    } else {
        BUTTON_RELEASE_EVENT
    };
    xtest::fake_input(
        &display.x,
        kind,
        button,
        CURRENT_TIME,
        display.root,
        0,
        0,
        0,
    )?;
    Ok(())
}

/// X's number of a button: evdev counts left, right, middle, side, extra from 0x110.
fn button_of(code: u16) -> Option<u8> {
    match code {
        0x110 => Some(1),
        0x111 => Some(3),
        0x112 => Some(2),
        // Back and forward, by either of the names that mice give them.
        0x113 | 0x116 => Some(8),
        0x114 | 0x115 => Some(9),
        _ => None,
    }
}
