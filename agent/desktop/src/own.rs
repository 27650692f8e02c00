//! The desktop's own windows: somebody works there, and has a task bar.

use anyhow::Result;
use x11rb::connection::Connection;
use x11rb::properties::{WmSizeHints, WmSizeHintsSpecification};
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt, CreateWindowAux, EventMask, PropMode, Window, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use crate::manager::SOON;
use crate::{Area, Desktop};

/// The colour of the desktop's own windows.
pub const OWN: u32 = 0x0033_6699;

/// An edge of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The upper one.
    Upper,
    /// The lower one.
    Lower,
}

impl Desktop {
    fn created(&self, title: &str, (x, y, width, height): Area) -> Result<Window> {
        let window = self.conn.generate_id()?;
        // Somebody types there.
        let aux = CreateWindowAux::new()
            .background_pixel(OWN)
            .event_mask(EventMask::KEY_PRESS);
        let (x, y, width, height) = (x as i16, y as i16, width as u16, height as u16);
        let class = WindowClass::INPUT_OUTPUT;
        self.conn
            .create_window(0, window, self.root, x, y, width, height, 0, class, 0, &aux)?;
        let (name, utf8) = (self.atom("_NET_WM_NAME")?, self.atom("UTF8_STRING")?);
        self.conn
            .change_property8(PropMode::REPLACE, window, name, utf8, title.as_bytes())?;
        Ok(window)
    }

    /// A window that nobody may have shown yet.
    pub(crate) fn mapped(&self, title: &str, area: Area) -> Result<Window> {
        let window = self.created(title, area)?;
        self.conn.map_window(window)?;
        self.conn.flush()?;
        Ok(window)
    }

    /// A window of somebody who works on this desktop.
    ///
    /// # Errors
    /// It is not shown.
    pub fn own_window(&self, title: &str, area: Area) -> Result<Window> {
        let window = self.mapped(title, area)?;
        self.until("a window of the host's", SOON, || {
            Ok(self.is_viewable(window))
        })?;
        Ok(window)
    }

    /// A task bar along an edge of the screen.
    ///
    /// # Errors
    /// It takes no room.
    pub fn task_bar(&self, edge: Edge, height: u16) -> Result<Window> {
        let screen = self.conn.get_geometry(self.root)?.reply()?;
        let rest = screen.height - height;
        // Left, right, upper, lower; then from where to where on each.
        let mut strut = [0; 12];
        let (y, side, end) = match edge {
            Edge::Upper => (0, 2, 9),
            Edge::Lower => (rest, 3, 11),
        };
        (strut[side], strut[end]) = (height.into(), u32::from(screen.width) - 1);
        let area = (0, y.into(), screen.width.into(), height.into());
        let bar = self.created("task bar", area)?;
        let kind = [self.atom("_NET_WM_WINDOW_TYPE_DOCK")?];
        for (name, of, numbers) in [
            ("_NET_WM_WINDOW_TYPE", AtomEnum::ATOM, &kind[..]),
            ("_NET_WM_STRUT_PARTIAL", AtomEnum::CARDINAL, &strut[..]),
            ("_NET_WM_STRUT", AtomEnum::CARDINAL, &strut[..4]),
        ] {
            let name = self.atom(name)?;
            self.conn
                .change_property32(PropMode::REPLACE, bar, name, of, numbers)?;
        }
        let mut hints = WmSizeHints::new();
        // Else its manager looks for a place.
        hints.position = Some((WmSizeHintsSpecification::ProgramSpecified, area.0, area.1));
        hints.set_normal_hints(&self.conn, bar)?;
        self.conn.map_window(bar)?;
        self.conn.flush()?;
        self.until("the task bar's room", SOON, || {
            let area = self.numbers(self.root, "_NET_WORKAREA")?;
            Ok(area.get(3) == Some(&rest.into()))
        })?;
        Ok(bar)
    }

    /// Takes one of them away.
    ///
    /// # Errors
    /// The display is gone.
    pub fn destroy(&self, window: Window) -> Result<()> {
        self.conn.destroy_window(window)?;
        Ok(self.conn.flush()?)
    }
}
