//! Somebody who types and points. Keys have evdev's codes.

use std::time::Duration;

use anyhow::{Context, Result};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    MOTION_NOTIFY_EVENT,
};
use x11rb::protocol::xtest::ConnectionExt;

use crate::Desktop;

const SHIFT: u8 = 42;
const SUPER: u8 = 125;

/// Rows of keys on the keymap that servers begin with: the first one's code, what is on them, and what with Shift.
const ROWS: [(u8, &str, &str); 5] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]\n", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", ""),
];

/// A letter's key, and whether it wants Shift, on the keymap that servers begin with.
#[must_use]
pub fn key_of(letter: char) -> Option<(u8, bool)> {
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let at = |row: &str| row.find(letter).map(|at| first + at as u8);
        let shift = || Some((at(shifted)?, true));
        at(plain).map(|code| (code, false)).or_else(shift)
    })
}

impl Desktop {
    fn fake(&self, kind: u8, detail: u8, (x, y): (i32, i32)) -> Result<()> {
        let (x, y) = (x as i16, y as i16);
        self.conn
            .xtest_fake_input(kind, detail, 0, self.root, x, y, 0)?;
        Ok(self.conn.flush()?)
    }

    /// Presses a key or lets go of it.
    ///
    /// # Errors
    /// The display is gone.
    pub fn key(&self, code: u8, down: bool) -> Result<()> {
        let kind = if down {
            KEY_PRESS_EVENT
        } else {
            KEY_RELEASE_EVENT
        };
        // X counts from eight.
        self.fake(kind, code + 8, (0, 0))
    }

    /// Presses a key and lets go of it.
    ///
    /// # Errors
    /// The display is gone.
    pub fn tap(&self, code: u8) -> Result<()> {
        self.press(&[code])
    }

    /// Taps keys, one after the other.
    ///
    /// # Errors
    /// The display is gone.
    pub fn keys(&self, codes: &[u8]) -> Result<()> {
        codes.iter().try_for_each(|code| self.tap(*code))
    }

    /// Presses keys, each while those before it are held, and lets them go.
    ///
    /// # Errors
    /// The display is gone.
    pub fn press(&self, codes: &[u8]) -> Result<()> {
        codes.iter().try_for_each(|code| self.key(*code, true))?;
        let mut back = codes.iter().rev();
        back.try_for_each(|code| self.key(*code, false))
    }

    /// Presses Super, Shift and a key: chords of the host's.
    ///
    /// # Errors
    /// The display is gone.
    pub fn chord(&self, code: u8) -> Result<()> {
        self.press(&[SUPER, SHIFT, code])
    }

    /// Types a text, with a pause after each letter for whoever reads slowly.
    ///
    /// # Errors
    /// There is no key for a letter of it; or the display is gone.
    pub fn type_text(&self, text: &str, pause: Duration) -> Result<()> {
        for letter in text.chars() {
            let (code, shift) = key_of(letter).with_context(|| format!("no key for {letter:?}"))?;
            let codes = [SHIFT, code];
            self.press(&codes[usize::from(!shift)..])?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Moves the pointer there.
    ///
    /// # Errors
    /// The display is gone.
    pub fn point(&self, x: i32, y: i32) -> Result<()> {
        self.fake(MOTION_NOTIFY_EVENT, 0, (x, y))
    }

    /// Moves the pointer by so much.
    ///
    /// # Errors
    /// The display is gone.
    pub fn nudge(&self, x: i32, y: i32) -> Result<()> {
        self.fake(MOTION_NOTIFY_EVENT, 1, (x, y))
    }

    /// Presses a button or lets go of it: the first is the left one, the third the right one, the fourth and fifth
    /// are the wheel.
    ///
    /// # Errors
    /// The display is gone.
    pub fn button(&self, number: u8, down: bool) -> Result<()> {
        let kind = if down {
            BUTTON_PRESS_EVENT
        } else {
            BUTTON_RELEASE_EVENT
        };
        self.fake(kind, number, (0, 0))
    }

    /// Presses a button there and lets go of it.
    ///
    /// # Errors
    /// The display is gone.
    pub fn click(&self, number: u8, x: i32, y: i32) -> Result<()> {
        self.point(x, y)?;
        self.button(number, true)?;
        self.button(number, false)
    }
}
