//! Icons of windows and apps. They come over another channel than the windows do, before or after them: a window that is
//! shown later, or again, gets its own all the same, and one without an icon of its own gets its app's whenever that
//! comes.
use crate::error::Result;
use crate::model::Model;
use crate::screen::Screen;
use medley_wire::{AppId, Size, WindowId, bulk};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Icons that wait for the display: a burst as of a snapshot, and not more.
const WAITING: usize = 64;

/// Icons of windows that are kept, for when those are shown again.
const KEPT: usize = 64;

#[derive(Debug)]
struct Picture {
    size: Size,
    pixels: Vec<u8>,
}

/// What came, and whose windows are shown.
#[derive(Debug, Default)]
pub struct Icons {
    waiting: VecDeque<(bulk::Owner, Picture)>,
    shown: BTreeMap<WindowId, AppId>,
    own: BTreeMap<WindowId, Picture>,
    /// Windows that have icons of their own, kept or not.
    dressed: BTreeSet<WindowId>,
    again: Vec<WindowId>,
}

impl Icons {
    /// One came.
    pub fn came(&mut self, icon: &bulk::Icon<'_>) {
        if self.waiting.len() < WAITING {
            let (size, pixels) = (icon.picture.size(), icon.picture.pixels().to_vec());
            self.waiting
                .push_back((icon.owner, Picture { size, pixels }));
        }
    }

    /// A window of an app's is shown.
    pub fn opened(&mut self, window: WindowId, app: AppId) {
        self.shown.insert(window, app);
        if self.own.contains_key(&window) {
            self.again.push(window);
        }
    }

    /// A window is not shown any more.
    pub fn closed(&mut self, window: WindowId) {
        self.shown.remove(&window);
    }

    /// Gives them to the display.
    ///
    /// # Errors
    /// The display is gone.
    pub fn dress(&mut self, screen: &mut Screen, model: &Model) -> Result<()> {
        if self.waiting.is_empty() && self.again.is_empty() {
            return Ok(());
        }
        self.own.retain(|window, _| model.rect(*window).is_some());
        self.dressed.retain(|window| model.rect(*window).is_some());
        for window in std::mem::take(&mut self.again) {
            if let Some(Picture { size, pixels }) = self.own.get(&window) {
                screen.icon(AppId::NONE, &[window], *size, pixels)?;
            }
        }
        while let Some((owner, picture)) = self.waiting.pop_front() {
            let Picture { size, pixels } = &picture;
            match owner {
                bulk::Owner::Window(window) => {
                    screen.icon(AppId::NONE, &[window], *size, pixels)?;
                    self.dressed.insert(window);
                    if self.own.len() < KEPT || self.own.contains_key(&window) {
                        self.own.insert(window, picture);
                    }
                }
                bulk::Owner::App(app) => {
                    let theirs = |(window, of): &(&WindowId, &AppId)| {
                        **of == app && app != AppId::NONE && !self.dressed.contains(window)
                    };
                    let windows: Vec<_> = self.shown.iter().filter(theirs).collect();
                    let windows: Vec<_> = windows.into_iter().map(|(window, _)| *window).collect();
                    screen.icon(app, &windows, *size, pixels)?;
                }
                // The gate's.
                bulk::Owner::Tray(_) | bulk::Owner::Note(_) => {}
            }
        }
        Ok(())
    }
}
