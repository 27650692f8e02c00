//! What a task bar asks of the window manager.

use std::time::Duration;

use anyhow::Result;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ClientMessageEvent, ConnectionExt, EventMask, Window};

use crate::Desktop;

/// What a window manager does at once.
pub const SOON: Duration = Duration::from_secs(10);

impl Desktop {
    fn message(&self, window: Window, name: &str, data: [u32; 5]) -> Result<()> {
        let event = ClientMessageEvent::new(32, window, self.atom(name)?, data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.conn.send_event(false, self.root, mask, event)?;
        Ok(self.conn.flush()?)
    }

    /// The window that has the keyboard, as the manager says; 0, if none has.
    ///
    /// # Errors
    /// The display is gone.
    pub fn active(&self) -> Result<Window> {
        let active = self.numbers(self.root, "_NET_ACTIVE_WINDOW")?;
        Ok(active.first().copied().unwrap_or_default())
    }

    /// The window that has the keyboard, as the server says.
    ///
    /// # Errors
    /// The display is gone.
    pub fn focus(&self) -> Result<Window> {
        Ok(self.conn.get_input_focus()?.reply()?.focus)
    }

    /// Gives a window the keyboard, and waits until it has it.
    ///
    /// # Errors
    /// It does not get it.
    pub fn activate(&self, window: Window) -> Result<()> {
        // 2: at a person's wish.
        self.message(window, "_NET_ACTIVE_WINDOW", [2, 0, 0, 0, 0])?;
        self.until("the keyboard", SOON, || {
            Ok(self.focus()? == window && self.active()? == window)
        })
    }

    /// Wishes a window another size. It comes when its manager gives it.
    ///
    /// # Errors
    /// The display is gone.
    pub fn resize(&self, window: Window, width: i32, height: i32) -> Result<()> {
        // Gravity of the window itself, width and height are given, a person asks.
        let flags = 10 | 1 << 10 | 1 << 11 | 2 << 12;
        let size = [flags, 0, 0, width as u32, height as u32];
        self.message(window, "_NET_MOVERESIZE_WINDOW", size)
    }

    /// Closes a window; its app may ask first.
    ///
    /// # Errors
    /// The display is gone.
    pub fn close(&self, window: Window) -> Result<()> {
        self.message(window, "_NET_CLOSE_WINDOW", [0, 2, 0, 0, 0])
    }
}
