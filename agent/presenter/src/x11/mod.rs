//! The back end for X11: host windows for what the model shows, and events of the host's for the model.
//!
//! A guest's number never names an X window and an X window's never goes to the guest: a table joins them.
//! Every window is one X window without children; its frame is painted around the guest's pixels and cannot
//! be reached by them ([`paint`]).
mod atoms;
mod card;
mod cursor;
mod events;
mod keyboard;
mod monitors;
mod names;
mod paint;
mod segment;
mod selection;
mod text;
mod window;

use crate::error::{Error, Result};
use crate::model::{Action, Layout, Model};
use crate::screen::Dress;
use atoms::Atoms;
use cursor::Cursors;
use keyboard::Keyboard;
use medley_wire::{AppId, WindowId};
use medley_x11::Conn;
use nix::poll::PollFlags;
use paint::Painter;
use selection::Selection;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use text::Writer;
use window::HostWindow;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{self, ConnectionExt, ImageOrder, Window};

/// The host's display and the guest's windows on it.
pub struct Display {
    conn: Conn,
    root: Window,
    depth: u8,
    atoms: Atoms,
    dress: Dress,
    windows: BTreeMap<WindowId, HostWindow>,
    names: BTreeMap<Window, WindowId>,
    icons: BTreeMap<AppId, Vec<u32>>,
    painter: Painter,
    cursors: Cursors,
    keyboard: Keyboard,
    writer: Option<Writer>,
    card: Option<Window>,
    selection: Option<Selection>,
    /// The server's time of the last key or click.
    time: xproto::Timestamp,
    layout: Layout,
    /// Windows whose frame must be painted again.
    stale: BTreeSet<WindowId>,
}

impl std::fmt::Debug for Display {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Display")
            .field("windows", &self.windows.len())
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Display {
    /// Opens a display (by default the environment's), and all that is needed later: files are not opened
    /// once the guest is heard.
    ///
    /// # Errors
    /// It cannot be opened, or its pixels are not of the one kind that is drawn here.
    pub fn open(name: Option<&str>, dress: Dress) -> Result<Self> {
        let (conn, screen) = medley_x11::connect(name).map_err(|source| Error::Open {
            name: name.unwrap_or("of the environment").to_owned(),
            source,
        })?;
        let setup = conn.setup();
        let (root, depth) = (setup.roots[screen].root, setup.roots[screen].root_depth);
        let wide = setup
            .pixmap_formats
            .iter()
            .any(|format| format.depth == depth && format.bits_per_pixel == 32);
        if depth != 24 || !wide || setup.image_byte_order != ImageOrder::LSB_FIRST {
            return Err(Error::Unfit {
                what: "its pixels are not 24 bits deep in 4 bytes, blue first; set its depth to 24",
            });
        }
        let atoms = Atoms::new(&conn)?.reply()?;
        monitors::listen(&conn, root)?;
        let layout = monitors::read(&conn, root, &atoms)?;
        let keyboard = Keyboard::open(&conn)?;
        let cursors = Cursors::load(&conn, screen, dress.look.colour())?;
        let writer = Writer::open(&conn)?;
        let painter = Painter::open(&conn, root, depth, &dress, writer.as_ref())?;
        conn.flush()?;
        Ok(Self {
            conn,
            root,
            depth,
            atoms,
            dress,
            windows: BTreeMap::new(),
            names: BTreeMap::new(),
            icons: BTreeMap::new(),
            painter,
            cursors,
            keyboard,
            writer,
            card: None,
            selection: None,
            time: 0,
            layout,
            stale: BTreeSet::new(),
        })
    }

    /// The monitors as they are.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The connection's descriptor.
    #[must_use]
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        vec![(self.conn.stream().as_fd(), PollFlags::POLLIN)]
    }

    /// Does what the model wants.
    ///
    /// # Errors
    /// The display is gone.
    pub fn act(&mut self, action: Action, model: &Model) -> Result<()> {
        match action {
            Action::Show(appearance) => self.show(&appearance),
            Action::Hide(window) => self.hide(window),
            Action::Place { window, rect } => self.place(window, rect),
            Action::Title { window, title } => self.title(window, &title),
            Action::App { window, app } => self.class(window, app),
            Action::Hints { window, hints } => self.hints(window, hints),
            Action::States { window, begin, end } => self.states(window, begin, end),
            Action::Stack {
                window,
                sibling,
                place,
            } => self.stack(window, sibling, place),
            Action::Drag {
                window,
                grip,
                button,
            } => self.drag(window, grip, button),
            Action::Paint { window, rect } => {
                if let Some(canvas) = model.canvas(window) {
                    self.painter.ask(window, rect, canvas.size());
                }
                Ok(())
            }
            Action::Cursor(shape) => {
                self.cursors.name(shape);
                self.dress_pointer()
            }
            Action::Picture {
                size,
                hotspot,
                pixels,
            } => {
                self.cursors.picture(&self.conn, size, hotspot, &pixels)?;
                self.dress_pointer()
            }
            Action::Bell => {
                self.conn.bell(0)?;
                Ok(())
            }
            Action::Card(shown) => self.card(shown),
        }
    }

    fn dress_pointer(&self) -> Result<()> {
        let cursor = self.cursors.current();
        for host in self.windows.values() {
            let change = xproto::ChangeWindowAttributesAux::new().cursor(cursor);
            self.conn.change_window_attributes(host.id, &change)?;
        }
        Ok(())
    }

    /// Paints what is due and waits until the display has it. Tells that it has.
    ///
    /// # Errors
    /// The display is gone.
    pub fn paint(&mut self, model: &Model) -> Result<bool> {
        for window in std::mem::take(&mut self.stale) {
            if let Some(host) = self.windows.get(&window) {
                self.painter
                    .ring(&self.conn, host, &self.dress, self.writer.as_ref())?;
                if let Some(canvas) = model.canvas(window) {
                    self.painter.ask_all(window, canvas.size());
                }
            }
        }
        self.painter.paint(&self.conn, &self.windows, model)?;
        self.conn.flush()?;
        Ok(true)
    }
}
