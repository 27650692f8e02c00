//! A window and its pixels: what of them is out of date, and how they are painted.
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::paint::{Painter, cursor_area};
use medley_presenter::frame::{Frame, Look};
use medley_rfb::picture::{Area, Picture};
use softbuffer::{Context, Surface};
use std::num::NonZeroU32;
use std::rc::Rc;
use winit::event_loop::OwnedDisplayHandle;
use winit::window::Window;

/// Frames whose damage is remembered: a compositor may hand back pixels that are so old.
const REMEMBERED: usize = 3;
/// The largest window, 8K, by its number of pixels. X's shared memory is made for it at once, though used by
/// nobody yet: later it could not be made any more ([`crate::sandbox`]).
const ROOM: (NonZeroU32, NonZeroU32) = match (NonZeroU32::new(8192), NonZeroU32::new(4096)) {
    (Some(width), Some(height)) => (width, height),
    _ => (NonZeroU32::MIN, NonZeroU32::MIN),
};

/// What a window looks like.
#[derive(Clone, Debug)]
pub struct Dress {
    /// The ring's width.
    pub frame: Frame,
    /// The ring's colours.
    pub look: Look,
    /// Every pixel of the guest's is one of the host's.
    pub original: bool,
}

/// A window.
pub struct Shown {
    // Dropped in this order: pixels before what they are shown in.
    surface: Surface<OwnedDisplayHandle, Rc<Window>>,
    window: Rc<Window>,
    dress: Dress,
    layout: Layout,
    /// Where the guest's cursor is drawn.
    cursor: Option<(u16, u16)>,
    /// What was painted in the last frames, the newest first.
    painted: [Area; REMEMBERED],
    /// What must be painted besides what the screen says.
    stale: Area,
}

impl Shown {
    /// Shows a window that nothing is painted in yet.
    ///
    /// # Errors
    /// The display gives no pixels.
    pub fn new(display: OwnedDisplayHandle, window: Window, dress: Dress) -> Result<Self> {
        let window = Rc::new(window);
        let context = Context::new(display).map_err(display_failed)?;
        let mut surface = Surface::new(&context, Rc::clone(&window)).map_err(display_failed)?;
        surface.resize(ROOM.0, ROOM.1).map_err(display_failed)?;
        Ok(Self {
            layout: Layout::new((0, 0), dress.frame, (1, 1), dress.original),
            surface,
            window,
            dress,
            cursor: None,
            painted: [Area::default(); REMEMBERED],
            stale: Area::default(),
        })
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// How it is laid out.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What it looks like.
    #[must_use]
    pub const fn dress(&self) -> &Dress {
        &self.dress
    }

    /// One pixel for one, or fitted.
    pub fn set_original(&mut self, original: bool) {
        self.dress.original = original;
        self.ask();
    }

    /// Asks to be painted.
    pub fn ask(&self) {
        self.window.request_redraw();
    }

    /// Draws the guest's cursor elsewhere, or not at all.
    pub fn move_cursor(&mut self, picture: &Picture, to: Option<(u16, u16)>) {
        let drawn = |at: Option<(u16, u16)>| {
            let area = at.map(|at| self.layout.in_window(cursor_area(picture, at)));
            area.unwrap_or_default()
        };
        let stale = drawn(self.cursor).with(drawn(to));
        self.cursor = to;
        if !stale.is_empty() {
            self.stale = self.stale.with(stale);
            self.ask();
        }
    }

    /// Paints what is out of date, and presents all: a window that was uncovered asks to be painted as one does
    /// whose screen has changed, and both may ask at once.
    ///
    /// # Errors
    /// The display takes no pixels.
    pub fn paint(&mut self, picture: &mut Picture) -> Result<()> {
        let size = self.window.inner_size();
        let sides = (NonZeroU32::new(size.width), NonZeroU32::new(size.height));
        let (Some(width), Some(height)) = sides else {
            return Ok(());
        };
        let layout = Layout::new(
            (size.width, size.height),
            self.dress.frame,
            picture.size(),
            self.dress.original,
        );
        let all = Area::of_size(size.width, size.height);
        let damage = picture.take_damage();
        let stale = std::mem::take(&mut self.stale);
        let fresh = match layout == self.layout {
            true => layout.in_window(damage).with(stale),
            false => all,
        };
        if layout.window() != self.layout.window() {
            self.surface.resize(width, height).map_err(display_failed)?;
        }
        self.layout = layout;
        let mut buffer = self.surface.buffer_mut().map_err(display_failed)?;
        let age = usize::from(buffer.age());
        let before = self.painted.get(..age.saturating_sub(1));
        let area = match before {
            Some(before) if age > 0 => before.iter().fold(fresh, |sum, area| sum.with(*area)),
            _ => all,
        };
        let mut painter = Painter {
            pixels: &mut buffer,
            layout: &self.layout,
        };
        if area.cut(self.layout.inside()) != area {
            painter.ring(self.dress.look);
        }
        painter.screen(picture, area, self.cursor);
        self.painted.rotate_right(1);
        self.painted[0] = fresh;
        self.window.pre_present_notify();
        buffer.present().map_err(display_failed)
    }
}

fn display_failed(error: impl std::fmt::Display) -> Error {
    Error::Display(error.to_string())
}
