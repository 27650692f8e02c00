//! A host's desktop without a screen: an X server, a window manager, somebody who types and copies.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ClientMessageEvent, ConnectionExt, CreateWindowAux, EventMask, ImageFormat,
    MapState, PropMode, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

/// The desktop, across and down.
pub const SCREEN: (u16, u16) = (1280, 800);
/// The colour of the host's own windows.
pub const OWN: u32 = 0x0033_6699;

/// A process that ends with its owner.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It.
#[derive(Debug)]
pub struct Desktop {
    /// What programs call it.
    pub name: String,
    pub(super) conn: RustConnection,
    pub(super) root: Window,
    // The manager goes before the server.
    _manager: Process,
    _server: Process,
    _home: tempfile::TempDir,
}

/// Pixels of the screen.
#[derive(Debug, PartialEq, Eq)]
pub struct Shot {
    /// Pixels across.
    pub width: usize,
    /// Rows, without gaps.
    pub pixels: Vec<u32>,
}

/// A rectangle of the screen: x, y, width, height.
pub type Area = (i32, i32, i32, i32);

impl Desktop {
    /// Starts one, and waits until its windows are managed.
    ///
    /// # Errors
    /// Xvfb or openbox is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut server = Command::new("Xvfb");
        server
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"])
            .args(["-screen", "0", &format!("{}x{}x24", SCREEN.0, SCREEN.1)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut server = Process(server.spawn().context("cannot start Xvfb")?);
        let mut number = String::new();
        let output = server.0.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut number)?;
        let name = format!(":{}", number.trim());
        let mut manager = Command::new("openbox");
        manager
            .arg("--sm-disable")
            .env("DISPLAY", &name)
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path())
            .env("XDG_CACHE_HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let manager = Process(manager.spawn().context("cannot start openbox")?);
        let (conn, screen) = x11rb::connect(Some(&name))?;
        let root = conn.setup().roots[screen].root;
        let desktop = Self {
            name,
            conn,
            root,
            _manager: manager,
            _server: server,
            _home: home,
        };
        // The manager says that it is there a moment before it is: what is mapped in between is never shown.
        desktop.until("the window manager", Duration::from_secs(30), || {
            let probe = desktop.window_of("probe", (0, 0, 9, 9))?;
            let begun = Instant::now();
            while !desktop.is_viewable(probe) && begun.elapsed() < Duration::from_millis(300) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let managed = desktop.is_viewable(probe) && desktop.active()? != 0;
            desktop.destroy(probe)?;
            Ok(managed)
        })?;
        Ok(desktop)
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// It does not become so in time.
    pub fn until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let until = Instant::now() + limit;
        while !holds()? {
            ensure!(Instant::now() < until, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(super) fn atom(&self, name: &str) -> Result<Atom> {
        Ok(self.conn.intern_atom(false, name.as_bytes())?.reply()?.atom)
    }

    /// A property's numbers.
    pub(super) fn numbers(&self, window: Window, name: &str) -> Result<Vec<u32>> {
        let atom = self.atom(name)?;
        let asked = self
            .conn
            .get_property(false, window, atom, AtomEnum::ANY, 0, 4096)?;
        // A window that is gone has none.
        let numbers = asked.reply().ok().and_then(|reply| {
            let numbers: Vec<u32> = reply.value32()?.collect();
            Some(numbers)
        });
        Ok(numbers.unwrap_or_default())
    }

    /// A property's text.
    ///
    /// # Errors
    /// The display is gone.
    pub fn text(&self, window: Window, name: &str) -> Result<String> {
        let atom = self.atom(name)?;
        let asked = self
            .conn
            .get_property(false, window, atom, AtomEnum::ANY, 0, 4096)?;
        let text = asked.reply().map(|reply| reply.value).unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub(super) fn is_viewable(&self, window: Window) -> bool {
        let asked = self.conn.get_window_attributes(window);
        asked
            .map(|asked| {
                asked
                    .reply()
                    .is_ok_and(|a| a.map_state == MapState::VIEWABLE)
            })
            .unwrap_or_default()
    }

    /// Where a window is on the screen; nothing, if it is gone.
    #[must_use]
    pub fn place(&self, window: Window) -> Option<Area> {
        let size = self.conn.get_geometry(window).ok()?.reply().ok()?;
        let at = self
            .conn
            .translate_coordinates(window, self.root, 0, 0)
            .ok()?
            .reply()
            .ok()?;
        Some((
            at.dst_x.into(),
            at.dst_y.into(),
            size.width.into(),
            size.height.into(),
        ))
    }

    /// The whole screen.
    ///
    /// # Errors
    /// The display is gone.
    pub fn shot(&self) -> Result<Shot> {
        let (width, height) = SCREEN;
        let image = self
            .conn
            .get_image(ImageFormat::Z_PIXMAP, self.root, 0, 0, width, height, !0)?
            .reply()?;
        let pixels = image.data.as_chunks::<4>().0.iter();
        Ok(Shot {
            width: width.into(),
            pixels: pixels
                .map(|[b, g, r, _]| u32::from_be_bytes([0, *r, *g, *b]))
                .collect(),
        })
    }

    fn window_of(&self, title: &str, (x, y, width, height): Area) -> Result<Window> {
        let window = self.conn.generate_id()?;
        let aux = CreateWindowAux::new()
            .background_pixel(OWN)
            .event_mask(EventMask::KEY_PRESS | EventMask::PROPERTY_CHANGE);
        let class = WindowClass::INPUT_OUTPUT;
        self.conn.create_window(
            0,
            window,
            self.root,
            x as i16,
            y as i16,
            width as u16,
            height as u16,
            0,
            class,
            0,
            &aux,
        )?;
        let (name, utf8) = (self.atom("_NET_WM_NAME")?, self.atom("UTF8_STRING")?);
        self.conn
            .change_property8(PropMode::REPLACE, window, name, utf8, title.as_bytes())?;
        self.conn.map_window(window)?;
        self.conn.flush()?;
        Ok(window)
    }

    /// A window of the host's own.
    ///
    /// # Errors
    /// It is not shown.
    pub fn own_window(&self, title: &str, place: Area) -> Result<Window> {
        let window = self.window_of(title, place)?;
        self.until("a window of the host", Duration::from_secs(10), || {
            Ok(self.is_viewable(window))
        })?;
        Ok(window)
    }

    /// A task bar across the screen's upper edge.
    ///
    /// # Errors
    /// It is not shown, or takes no room.
    pub fn task_bar(&self, height: u32) -> Result<Window> {
        let bar = self.conn.generate_id()?;
        let aux = CreateWindowAux::new().background_pixel(OWN);
        let class = WindowClass::INPUT_OUTPUT;
        self.conn.create_window(
            0,
            bar,
            self.root,
            0,
            0,
            SCREEN.0,
            height as u16,
            0,
            class,
            0,
            &aux,
        )?;
        let kind = [self.atom("_NET_WM_WINDOW_TYPE_DOCK")?];
        let mut strut = [0; 12];
        (strut[2], strut[9]) = (height, u32::from(SCREEN.0) - 1);
        for (name, of, numbers) in [
            ("_NET_WM_WINDOW_TYPE", AtomEnum::ATOM, &kind[..]),
            ("_NET_WM_STRUT_PARTIAL", AtomEnum::CARDINAL, &strut[..]),
            ("_NET_WM_STRUT", AtomEnum::CARDINAL, &strut[..4]),
        ] {
            let name = self.atom(name)?;
            self.conn
                .change_property32(PropMode::REPLACE, bar, name, of, numbers)?;
        }
        self.conn.map_window(bar)?;
        self.conn.flush()?;
        self.until("the task bar's room", Duration::from_secs(10), || {
            let area = self.numbers(self.root, "_NET_WORKAREA")?;
            Ok(area.get(1) == Some(&height))
        })?;
        Ok(bar)
    }

    /// Takes a window of the host's own away.
    ///
    /// # Errors
    /// The display is gone.
    pub fn destroy(&self, window: Window) -> Result<()> {
        self.conn.destroy_window(window)?;
        self.conn.flush()?;
        Ok(())
    }

    /// The window that has the keyboard, as the manager says.
    ///
    /// # Errors
    /// The display is gone.
    pub fn active(&self) -> Result<Window> {
        let active = self.numbers(self.root, "_NET_ACTIVE_WINDOW")?;
        Ok(active.first().copied().unwrap_or_default())
    }

    /// Gives a window the keyboard, as a task bar would.
    ///
    /// # Errors
    /// It does not get it.
    pub fn activate(&self, window: Window) -> Result<()> {
        let name = self.atom("_NET_ACTIVE_WINDOW")?;
        let event = ClientMessageEvent::new(32, window, name, [2, 0, 0, 0, 0]);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.conn.send_event(false, self.root, mask, event)?;
        self.conn.flush()?;
        self.until("the keyboard", Duration::from_secs(10), || {
            let real = self.conn.get_input_focus()?.reply()?.focus;
            Ok(real == window && self.active()? == window)
        })
    }

    /// Presses a key or lets go of it; evdev's code.
    ///
    /// # Errors
    /// The display is gone.
    pub fn key(&self, code: u8, down: bool) -> Result<()> {
        let kind = if down { 2 } else { 3 };
        self.conn
            .xtest_fake_input(kind, code + 8, 0, self.root, 0, 0, 0)?;
        self.conn.flush()?;
        Ok(())
    }

    /// Types keys, one after the other.
    ///
    /// # Errors
    /// The display is gone.
    pub fn keys(&self, codes: &[u8]) -> Result<()> {
        for code in codes {
            self.key(*code, true)?;
            self.key(*code, false)?;
        }
        Ok(())
    }

    /// Presses Super, Shift and a key: chords of the host's.
    ///
    /// # Errors
    /// The display is gone.
    pub fn chord(&self, code: u8) -> Result<()> {
        self.key(125, true)?;
        self.key(42, true)?;
        self.keys(&[code])?;
        self.key(42, false)?;
        self.key(125, false)
    }

    /// Moves the pointer.
    ///
    /// # Errors
    /// The display is gone.
    pub fn point(&self, x: i32, y: i32) -> Result<()> {
        self.conn
            .xtest_fake_input(6, 0, 0, self.root, x as i16, y as i16, 0)?;
        self.conn.flush()?;
        Ok(())
    }
}
