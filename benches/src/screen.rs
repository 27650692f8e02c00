//! X displays of a bench's own: their windows, keys and pixels, and an eye on what is painted there.

mod area;
mod watch;

pub use area::Area;
pub use watch::Watch;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use x11rb::connection::Connection;
use x11rb::protocol::damage::{ConnectionExt as _, ReportLevel};
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt, CreateWindowAux, EventMask,
    ImageFormat, KEY_PRESS_EVENT, KEY_RELEASE_EVENT, MapState, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::interrupt;
use crate::process::Killed;

/// How long an X server or a window manager may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A display without a screen, and who looks at it.
pub struct Screen {
    /// As `DISPLAY` wants it.
    pub name: String,
    /// The eye's connection.
    pub x: RustConnection,
    /// The root window.
    pub root: Window,
    // In this order: the manager before the server.
    _manager: Option<Killed>,
    _server: Killed,
    _home: TempDir,
}

impl Screen {
    /// An X server.
    ///
    /// # Errors
    /// Xvfb is not there, or does not start.
    pub fn bare(width: u16, height: u16) -> Result<Self> {
        let mut command = Command::new("Xvfb");
        // Screens draw their cursors beside the pixels; this one takes its own away for whoever reads them, and says
        // of that in the middle of its answer that something was painted.
        command.arg("-nocursor");
        command.args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"]);
        command.args(["-screen", "0", &format!("{width}x{height}x24")]);
        let silent = command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut server = Killed::start(silent.stdout(Stdio::piped()))?;
        let mut number = String::new();
        let told = server.child().stdout.take().context("Xvfb has no output")?;
        BufReader::new(told).read_line(&mut number)?;
        ensure!(!number.trim().is_empty(), "Xvfb did not start");
        let name = format!(":{}", number.trim());
        let (x, screen) = RustConnection::connect(Some(&name))?;
        let root = x.setup().roots[screen].root;
        x.damage_query_version(1, 1)?.reply()?;
        Ok(Self {
            name,
            x,
            root,
            _manager: None,
            _server: server,
            _home: tempfile::tempdir()?,
        })
    }

    /// An X server with a window manager.
    ///
    /// # Errors
    /// Xvfb or openbox is not there, or does not start.
    pub fn managed(width: u16, height: u16) -> Result<Self> {
        let mut screen = Self::bare(width, height)?;
        let home = screen._home.path().to_owned();
        let mut command = screen.program("openbox");
        for folder in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(folder, &home);
        }
        screen._manager = Some(Killed::start(command.arg("--sm-disable"))?);
        // It says that it is there a moment before it is: what is mapped in between stays unmapped for ever.
        let begun = Instant::now();
        while !screen.maps_a_window()? {
            interrupt::go_on()?;
            ensure!(begun.elapsed() < LIMIT, "openbox did not begin to work");
        }
        Ok(screen)
    }

    fn maps_a_window(&self) -> Result<bool> {
        if self
            .numbers(self.root, "_NET_SUPPORTING_WM_CHECK")?
            .is_empty()
        {
            std::thread::sleep(Duration::from_millis(20));
            return Ok(false);
        }
        let probe = self.window(
            Area {
                x: 0,
                y: 0,
                width: 40,
                height: 40,
            },
            "probe",
        )?;
        self.x.map_window(probe)?;
        let begun = Instant::now();
        let mut shown = false;
        while !shown && begun.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(10));
            shown = self.is_shown(probe)?;
        }
        self.x.destroy_window(probe)?;
        Ok(shown)
    }

    /// A program with this display.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DISPLAY", &self.name).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// A new window of ours of this class, not yet shown.
    ///
    /// # Errors
    /// The display is gone.
    pub fn window(&self, area: Area, class: &str) -> Result<Window> {
        let window = self.x.generate_id()?;
        let aux = CreateWindowAux::new().background_pixel(0x0020_2020);
        let Area {
            x,
            y,
            width,
            height,
        } = area;
        let kind = WindowClass::INPUT_OUTPUT;
        self.x
            .create_window(0, window, self.root, x, y, width, height, 0, kind, 0, &aux)?;
        let name = format!("{class}\0{class}\0");
        for (property, value) in [(AtomEnum::WM_CLASS, &*name), (AtomEnum::WM_NAME, class)] {
            use x11rb::wrapper::ConnectionExt as _;
            let mode = x11rb::protocol::xproto::PropMode::REPLACE;
            self.x
                .change_property8(mode, window, property, AtomEnum::STRING, value.as_bytes())?;
        }
        Ok(window)
    }

    fn is_shown(&self, window: Window) -> Result<bool> {
        let attributes = self.x.get_window_attributes(window)?.reply();
        Ok(attributes.is_ok_and(|all| all.map_state == MapState::VIEWABLE))
    }

    fn numbers(&self, window: Window, property: &str) -> Result<Vec<u32>> {
        let atom = self
            .x
            .intern_atom(false, property.as_bytes())?
            .reply()?
            .atom;
        let value = self
            .x
            .get_property(false, window, atom, AtomEnum::ANY, 0, 64)?
            .reply()?;
        Ok(value.value32().map(Iterator::collect).unwrap_or_default())
    }

    /// The windows of apps that are shown and whose class holds this word, besides those that are known. Only a window
    /// manager can tell.
    ///
    /// # Errors
    /// The display is gone.
    pub fn shown(&self, class: &str, known: &[Window]) -> Result<Vec<Window>> {
        let mut found = self.numbers(self.root, "_NET_CLIENT_LIST")?;
        found.retain(|window| {
            !known.contains(window)
                && self.has_class(*window, class)
                && self.is_shown(*window).unwrap_or(false)
        });
        Ok(found)
    }

    /// A window that is gone has none.
    fn has_class(&self, window: Window, class: &str) -> bool {
        let (kind, string) = (AtomEnum::WM_CLASS, AtomEnum::STRING);
        let asked = self.x.get_property(false, window, kind, string, 0, 64);
        let named = asked.ok().and_then(|asked| asked.reply().ok());
        named.is_some_and(|named| {
            let named = String::from_utf8_lossy(&named.value).to_lowercase();
            named.contains(class)
        })
    }

    /// A window's whole area, seen from its own corner.
    ///
    /// # Errors
    /// The window is gone.
    pub fn whole(&self, window: Window) -> Result<Area> {
        let size = self.x.get_geometry(window)?.reply()?;
        Ok(Area {
            x: 0,
            y: 0,
            width: size.width,
            height: size.height,
        })
    }

    /// Puts a window where all of it can be seen: what is outside of the screen has no pixels.
    ///
    /// # Errors
    /// It does not go there.
    pub fn put_in_sight(&self, window: Window) -> Result<()> {
        let whole = self.whole(window)?;
        let screen = self.whole(self.root)?;
        let begun = Instant::now();
        loop {
            let at = self
                .x
                .translate_coordinates(window, self.root, 0, 0)?
                .reply()?;
            let place = Area {
                x: at.dst_x,
                y: at.dst_y,
                ..whole
            };
            if place.common(screen) == Some(place) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < LIMIT,
                "a window of {whole:?} stays at {place:?}"
            );
            let corner = ConfigureWindowAux::new().x(10).y(10);
            self.x.configure_window(window, &corner)?;
            self.x.flush()?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives a window the keyboard, as a task bar does, and waits until it has it.
    ///
    /// # Errors
    /// The window manager does not do it.
    pub fn activate(&self, window: Window) -> Result<()> {
        let active = self
            .x
            .intern_atom(false, b"_NET_ACTIVE_WINDOW")?
            .reply()?
            .atom;
        let begun = Instant::now();
        loop {
            // 2: on somebody's behest.
            let message = ClientMessageEvent::new(32, window, active, [2, 0, 0, 0, 0]);
            let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
            self.x.send_event(false, self.root, mask, message)?;
            self.x.flush()?;
            std::thread::sleep(Duration::from_millis(50));
            if self.numbers(self.root, "_NET_ACTIVE_WINDOW")?.first() == Some(&window) {
                return Ok(());
            }
            interrupt::go_on()?;
            ensure!(
                begun.elapsed() < LIMIT,
                "the window does not get the keyboard"
            );
        }
    }

    /// Presses or releases a key, by evdev's number.
    ///
    /// # Errors
    /// The display is gone.
    pub fn key(&self, code: u8, down: bool) -> Result<()> {
        let kind = if down {
            KEY_PRESS_EVENT
        } else {
            KEY_RELEASE_EVENT
        };
        self.x
            .xtest_fake_input(kind, code + 8, 0, self.root, 0, 0, 0)?;
        Ok(self.x.flush()?)
    }

    /// Pixels of a window as the server has them, row by row, without the byte that nobody sees.
    ///
    /// # Errors
    /// The window is gone or out of sight.
    pub fn pixels(&self, window: Window, area: Area) -> Result<Vec<u32>> {
        let Area {
            x,
            y,
            width,
            height,
        } = area;
        let format = ImageFormat::Z_PIXMAP;
        let image = self
            .x
            .get_image(format, window, x, y, width, height, !0)?
            .reply()?;
        let pixels = image.data.as_chunks::<4>().0.iter();
        Ok(pixels
            .map(|pixel| u32::from_le_bytes(*pixel) & 0x00ff_ffff)
            .collect())
    }

    /// Watches what is painted in a window, or, for the root, anywhere.
    ///
    /// # Errors
    /// The window is gone.
    pub fn watch(&self, window: Window) -> Result<Watch<'_>> {
        let damage = self.x.generate_id()?;
        self.x
            .damage_create(damage, window, ReportLevel::BOUNDING_BOX)?
            .check()?;
        Ok(Watch {
            screen: self,
            damage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x11rb::protocol::xproto::{CreateGCAux, Rectangle};

    #[test]
    fn what_is_painted_is_seen_once() {
        let screen = Screen::managed(300, 200).unwrap();
        let window = screen
            .window(
                Area {
                    x: 0,
                    y: 0,
                    width: 100,
                    height: 80,
                },
                "Bench",
            )
            .unwrap();
        assert!(screen.shown("bench", &[]).unwrap().is_empty());
        screen.x.map_window(window).unwrap();
        screen.x.flush().unwrap();
        let begun = Instant::now();
        while screen.shown("bench", &[]).unwrap() != [window] {
            assert!(begun.elapsed() < LIMIT, "it is not shown");
        }
        screen.put_in_sight(window).unwrap();
        screen.activate(window).unwrap();
        let watch = screen.watch(window).unwrap();
        watch.calm(Duration::from_millis(100)).unwrap();
        let soon = || Instant::now() + Duration::from_millis(100);
        assert_eq!(watch.painted(soon()).unwrap(), None);
        let gc = screen.x.generate_id().unwrap();
        let red = CreateGCAux::new().foreground(0x00ff_0000);
        screen.x.create_gc(gc, window, &red).unwrap();
        let there = Rectangle {
            x: 5,
            y: 6,
            width: 7,
            height: 8,
        };
        screen.x.poly_fill_rectangle(window, gc, &[there]).unwrap();
        let area = watch.painted(soon()).unwrap().unwrap();
        assert_eq!(
            area,
            Area {
                x: 5,
                y: 6,
                width: 7,
                height: 8
            }
        );
        let pixels = screen.pixels(window, area).unwrap();
        assert!(pixels.len() == 56 && pixels.iter().all(|pixel| *pixel == 0x00ff_0000));
        assert_eq!(watch.painted(soon()).unwrap(), None);
    }
}
