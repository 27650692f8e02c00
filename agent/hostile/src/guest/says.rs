//! Words of the hostile guest: the honest ones that an attack needs first, and ways to say what no agent says.

use std::time::Duration;

use anyhow::Result;
use medley_wire::pixels::{Format, Patch, Payload};
use medley_wire::window::Kind;
use medley_wire::{AppId, Rect, Size, Text, Untrusted, WindowId, bulk, control, gui};

use super::{Cut, Guest};
use crate::MARK;

/// A window's number.
///
/// # Panics
/// It is zero.
#[must_use]
pub fn id(number: u32) -> WindowId {
    WindowId::new(number).expect("a window's number is not zero")
}

/// A rectangle.
///
/// # Panics
/// There is no such rectangle.
#[must_use]
pub fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
    let size = Size::new(width, height).expect("sides within the limits");
    Rect::new(x, y, size).expect("a place within the limits")
}

impl Guest {
    /// On the gui channel. What cannot be said to a host that hung up is not said.
    pub fn say<'m>(&mut self, message: impl Into<gui::FromGuest<'m>>) {
        if let Some(line) = &mut self.line
            && line.gui.outgoing().send(&message.into()).is_err()
        {
            self.line = None;
        }
    }

    /// On the control channel.
    pub fn say_control<'m>(&mut self, message: impl Into<control::FromGuest<'m>>) {
        if let Some(line) = &mut self.line
            && line.control.outgoing().send(&message.into()).is_err()
        {
            self.line = None;
        }
    }

    /// On the bulk channel.
    pub fn say_bulk<'m>(&mut self, message: impl Into<bulk::FromGuest<'m>>) {
        if let Some(line) = &mut self.line
            && line.bulk.outgoing().send(&message.into()).is_err()
        {
            self.line = None;
        }
    }

    /// Bytes on the gui channel that are no message.
    ///
    /// # Errors
    /// The host hung up.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        // After all that was said before.
        self.rest(Duration::from_millis(50))?;
        let line = self.line.as_ref().ok_or(Cut)?;
        nix::unistd::write(&line.gui, bytes).map_err(|_| Cut)?;
        Ok(())
    }

    /// A window that is not shown yet.
    pub fn create(&mut self, window: u32, at: Rect) {
        self.heard.free.remove(&id(window));
        self.made.insert(window);
        self.say(gui::Create {
            window: id(window),
            rect: Untrusted::claim(at),
            app: AppId::new([window as u8; 16]),
            launch: 0,
        });
    }

    /// Shows it.
    pub fn map(&mut self, window: u32, parent: u32, kind: Kind, unmanaged: bool) {
        self.say(gui::Map {
            window: id(window),
            parent: WindowId::new(parent),
            kind,
            unmanaged,
        });
    }

    /// Names it.
    pub fn title(&mut self, window: u32, title: &str) {
        self.say(gui::Title {
            window: id(window),
            title: Untrusted::claim(Text::cut(title)),
        });
    }

    /// Destroys it, and waits until its number is free.
    ///
    /// # Errors
    /// The host hung up.
    pub fn destroy(&mut self, window: u32) -> Result<()> {
        let number = id(window);
        self.made.remove(&window);
        self.destroyed.insert(number);
        self.say(gui::Destroy { window: number });
        self.frames.remove(&number);
        self.heard.places.remove(&number);
        self.until("a number back", |guest| guest.heard.free.contains(&number))?;
        self.destroyed.remove(&number);
        Ok(())
    }

    /// An ordinary window, whose pixels the host has shown.
    ///
    /// # Errors
    /// The host hung up.
    pub fn window(&mut self, window: u32, title: &str, at: Rect) -> Result<()> {
        self.create(window, at);
        self.title(window, title);
        self.map(window, 0, Kind::Normal, false);
        self.shown(window)
    }

    /// A frame of one patch; its number.
    pub fn patch(&mut self, window: u32, at: Rect, payload: Payload<'_>) -> u32 {
        let frame = self.frames.entry(id(window)).or_default();
        *frame += 1;
        let frame = *frame;
        self.say(gui::Pixels {
            window: id(window),
            frame,
            took: [0, 0],
            last: true,
            patch: Untrusted::claim(Patch {
                rect: at,
                format: Format::Xrgb,
                payload,
            }),
        });
        frame
    }

    /// Paints a window, its frame and all around it as far as a message reaches, in the colour by which the
    /// judge knows a guest's pixels.
    pub fn smear(&mut self, window: u32) -> u32 {
        let everything = rect(-4000, -4000, 8000, 8000);
        self.patch(window, everything, Payload::Solid(MARK.to_le_bytes()))
    }

    /// Smears a window, and waits until that was shown.
    ///
    /// # Errors
    /// The host hung up.
    pub fn shown(&mut self, window: u32) -> Result<()> {
        let frame = self.smear(window);
        self.until("a frame's acknowledgement", |guest| {
            guest.heard.frames.get(&id(window)) == Some(&frame)
        })
    }

    /// Where a window is, as far as the host has said.
    #[must_use]
    pub fn place(&self, window: u32, asked: Rect) -> Rect {
        let places = &self.heard.places;
        places.get(&id(window)).copied().unwrap_or(asked)
    }

    /// Waits until one of the windows has the keyboard.
    ///
    /// # Errors
    /// The host hung up.
    pub fn focused(&mut self) -> Result<()> {
        self.until("the keyboard", |guest| guest.heard.focus.is_some())
    }
}
