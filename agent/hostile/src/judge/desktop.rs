//! The host's desktop, under the judge's eyes.

use std::ops::Deref;

use anyhow::Result;

/// The desktop, across and down.
pub const SCREEN: (u16, u16) = (1280, 800);

/// A desktop of that size. What the judge sees there and who copies is said where it belongs.
#[derive(Debug)]
pub struct Desktop(medley_desktop::Desktop);

impl Desktop {
    /// Starts one, and waits until its windows are managed.
    ///
    /// # Errors
    /// Xvfb or openbox is not installed, or does not start.
    pub fn start() -> Result<Self> {
        medley_desktop::Desktop::start(SCREEN.0, SCREEN.1).map(Self)
    }
}

impl Deref for Desktop {
    type Target = medley_desktop::Desktop;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
