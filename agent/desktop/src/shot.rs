//! Pixels, as a person sees them.

use anyhow::{Context, Result};
use x11rb::protocol::xproto::{ConnectionExt, ImageFormat, Window};

use crate::{Area, Desktop};

/// Some.
#[derive(Debug, PartialEq, Eq)]
pub struct Shot {
    /// Pixels across.
    pub width: usize,
    /// Rows, without gaps: red, green and blue in the lower three bytes.
    pub pixels: Vec<u32>,
}

impl Shot {
    /// One pixel.
    ///
    /// # Panics
    /// It is outside.
    #[must_use]
    pub fn at(&self, x: u32, y: u32) -> u32 {
        self.pixels[y as usize * self.width + x as usize]
    }
}

impl Desktop {
    /// The whole screen.
    ///
    /// # Errors
    /// The display is gone.
    pub fn shot(&self) -> Result<Shot> {
        self.shot_of(self.root)
    }

    /// A part of the screen.
    ///
    /// # Errors
    /// It is not on the screen.
    pub fn shot_at(&self, area: Area) -> Result<Shot> {
        self.image(self.root, area)
    }

    /// A window as it is on the screen, with what lies above it.
    ///
    /// # Errors
    /// It is gone, or not wholly on the screen.
    pub fn shot_of(&self, window: Window) -> Result<Shot> {
        self.shot_at(self.place(window).context("the window is gone")?)
    }

    /// A part of a window as its server has it.
    ///
    /// # Errors
    /// It is gone or not shown, or the part is outside of it.
    pub fn image(&self, window: Window, (x, y, width, height): Area) -> Result<Shot> {
        let (x, y) = (x as i16, y as i16);
        let format = ImageFormat::Z_PIXMAP;
        let asked = self
            .conn
            .get_image(format, window, x, y, width as u16, height as u16, !0)?;
        let data = asked.reply()?.data;
        let pixels = data.as_chunks::<4>().0.iter();
        Ok(Shot {
            width: width as usize,
            // The fourth byte means nothing.
            pixels: pixels
                .map(|bytes| u32::from_le_bytes(*bytes) & 0x00ff_ffff)
                .collect(),
        })
    }
}
