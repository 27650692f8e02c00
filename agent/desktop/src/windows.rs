//! Windows: which are there, where, and what they say of themselves.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt, GetPropertyReply, GetWindowAttributesReply, MapState, Window,
};

use crate::{Area, Desktop};

impl Desktop {
    /// A name's number.
    ///
    /// # Errors
    /// The display is gone.
    pub fn atom(&self, name: &str) -> Result<Atom> {
        Ok(self.conn.intern_atom(false, name.as_bytes())?.reply()?.atom)
    }

    /// A window that is gone has no properties.
    fn property(&self, window: Window, name: &str) -> Result<Option<GetPropertyReply>> {
        let (atom, any) = (self.atom(name)?, AtomEnum::ANY);
        let asked = self.conn.get_property(false, window, atom, any, 0, 1 << 16);
        Ok(asked?.reply().ok())
    }

    /// A property's numbers.
    ///
    /// # Errors
    /// The display is gone.
    pub fn numbers(&self, window: Window, name: &str) -> Result<Vec<u32>> {
        let reply = self.property(window, name)?;
        let numbers = reply.and_then(|reply| Some(reply.value32()?.collect()));
        Ok(numbers.unwrap_or_default())
    }

    /// A property's text.
    ///
    /// # Errors
    /// The display is gone.
    pub fn text(&self, window: Window, name: &str) -> Result<String> {
        let bytes = self.property(window, name)?.map(|reply| reply.value);
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    }

    /// What a window's title bar says.
    ///
    /// # Errors
    /// The display is gone.
    pub fn title(&self, window: Window) -> Result<String> {
        let title = self.text(window, "_NET_WM_NAME")?;
        // Older apps have only the older name.
        if title.is_empty() {
            return self.text(window, "WM_NAME");
        }
        Ok(title)
    }

    fn attributes(&self, window: Window) -> Option<GetWindowAttributesReply> {
        self.conn.get_window_attributes(window).ok()?.reply().ok()
    }

    /// Whether a window is shown, though others may lie above it.
    #[must_use]
    pub fn is_viewable(&self, window: Window) -> bool {
        self.attributes(window)
            .is_some_and(|it| it.map_state == MapState::VIEWABLE)
    }

    /// Whether no window manager manages a window; one that is gone is not meant.
    #[must_use]
    pub fn is_unmanaged(&self, window: Window) -> bool {
        self.attributes(window)
            .is_some_and(|it| it.override_redirect)
    }

    /// Where a window is on the screen; nothing, if it is gone.
    #[must_use]
    pub fn place(&self, window: Window) -> Option<Area> {
        let size = self.conn.get_geometry(window).ok()?.reply().ok()?;
        let at = self.conn.translate_coordinates(window, self.root, 0, 0);
        let at = at.ok()?.reply().ok()?;
        let (x, y) = (at.dst_x.into(), at.dst_y.into());
        Some((x, y, size.width.into(), size.height.into()))
    }

    /// A window's children, the lowest first.
    ///
    /// # Errors
    /// The display is gone.
    pub fn children(&self, window: Window) -> Result<Vec<Window>> {
        let tree = self.conn.query_tree(window)?.reply();
        Ok(tree.map(|tree| tree.children).unwrap_or_default())
    }

    /// All windows that are shown, whoever's they are; what encloses another comes before it.
    ///
    /// # Errors
    /// The display is gone.
    pub fn shown(&self) -> Result<Vec<Window>> {
        let (mut shown, mut next) = (Vec::new(), vec![self.root]);
        while let Some(window) = next.pop() {
            if self.is_viewable(window) {
                next.extend(self.children(window)?);
                shown.push(window);
            }
        }
        Ok(shown)
    }

    /// The window that is shown with this title, if there is one.
    ///
    /// # Errors
    /// The display is gone.
    pub fn titled(&self, title: &str) -> Result<Option<Window>> {
        for window in self.shown()? {
            if self.title(window)? == title {
                return Ok(Some(window));
            }
        }
        Ok(None)
    }

    /// The same, once there is one.
    ///
    /// # Errors
    /// There is none in time, but what it names.
    pub fn window(&self, title: &str, limit: Duration) -> Result<Window> {
        let until = Instant::now() + limit;
        loop {
            if let Some(window) = self.titled(title)? {
                return Ok(window);
            }
            let in_time = Instant::now() < until;
            ensure!(in_time, "no window {title:?}, but\n{}", self.describe());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything on the desktop, for a test that fails.
    #[must_use]
    pub fn describe(&self) -> String {
        let (mut words, mut next) = (String::new(), vec![(self.root, 0)]);
        while let Some((window, depth)) = next.pop() {
            let children = self.children(window).unwrap_or_default();
            next.extend(children.into_iter().map(|child| (child, depth + 1)));
            let _ = writeln!(
                words,
                "{depth} {window:x} {:?} {:?} viewable {} {:?}",
                self.text(window, "WM_CLASS").unwrap_or_default(),
                self.title(window).unwrap_or_default(),
                self.is_viewable(window),
                self.place(window),
            );
        }
        words
    }
}
