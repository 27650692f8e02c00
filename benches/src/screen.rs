//! X displays of a bench's own: their windows, keys and pixels, and an eye on what is painted there.

mod area;
mod watch;

pub use area::Area;
pub use watch::{Sight, Watch};

use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use medley_desktop::{Desktop, Options, Window};
use x11rb::connection::Connection;
use x11rb::protocol::damage::{ConnectionExt as _, ReportLevel};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ClientMessageEvent, ConfigureWindowAux, ConnectionExt,
    CreateWindowAux, EventMask, PropMode, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use crate::interrupt;

/// How long a window manager may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A display without a screen, and who looks at it.
pub struct Screen(Desktop);

impl Deref for Screen {
    type Target = Desktop;

    fn deref(&self) -> &Desktop {
        &self.0
    }
}

impl Screen {
    /// An X server.
    ///
    /// # Errors
    /// Xvfb is not there, or does not start.
    pub fn bare(width: u16, height: u16) -> Result<Self> {
        Self::start(Options::new(width, height).bare())
    }

    /// An X server with a window manager.
    ///
    /// # Errors
    /// Xvfb or openbox is not there, or does not start.
    pub fn managed(width: u16, height: u16) -> Result<Self> {
        Self::start(Options::new(width, height))
    }

    fn start(options: Options) -> Result<Self> {
        let desktop = options.without_cursor().apart().start()?;
        desktop.conn.damage_query_version(1, 1)?.reply()?;
        Ok(Self(desktop))
    }

    /// A new window of ours of this class, not yet shown.
    ///
    /// # Errors
    /// The display is gone.
    pub fn create(&self, area: Area, class: &str) -> Result<Window> {
        let window = self.conn.generate_id()?;
        let aux = CreateWindowAux::new().background_pixel(0x0020_2020);
        let Area {
            x,
            y,
            width,
            height,
        } = area;
        let kind = WindowClass::INPUT_OUTPUT;
        self.conn
            .create_window(0, window, self.root, x, y, width, height, 0, kind, 0, &aux)?;
        let name = format!("{class}\0{class}\0");
        for (property, value) in [(AtomEnum::WM_CLASS, &*name), (AtomEnum::WM_NAME, class)] {
            let mode = PropMode::REPLACE;
            self.conn.change_property8(
                mode,
                window,
                property,
                AtomEnum::STRING,
                value.as_bytes(),
            )?;
        }
        Ok(window)
    }

    /// The windows of apps that are shown and whose class holds this word, besides those that are known. Only a window
    /// manager can tell.
    ///
    /// # Errors
    /// The display is gone.
    pub fn apps(&self, class: &str, known: &[Window]) -> Result<Vec<Window>> {
        let mut found = self.numbers(self.root, "_NET_CLIENT_LIST")?;
        found.retain(|window| {
            !known.contains(window) && self.has_class(*window, class) && self.is_viewable(*window)
        });
        Ok(found)
    }

    /// A window that is gone has none.
    fn has_class(&self, window: Window, class: &str) -> bool {
        let named = self.text(window, "WM_CLASS");
        named.is_ok_and(|named| named.to_lowercase().contains(class))
    }

    /// A window's whole area, seen from its own corner.
    ///
    /// # Errors
    /// The window is gone.
    pub fn whole(&self, window: Window) -> Result<Area> {
        let size = self.conn.get_geometry(window)?.reply()?;
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
                .conn
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
            self.conn.configure_window(window, &corner)?;
            self.conn.flush()?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives a window the keyboard, as a task bar does, and waits until its manager says so: which part of it then has
    /// it is the app's own affair.
    ///
    /// # Errors
    /// The window manager does not do it.
    pub fn activate(&self, window: Window) -> Result<()> {
        let active = self.atom("_NET_ACTIVE_WINDOW")?;
        let begun = Instant::now();
        loop {
            // 2: on somebody's behest.
            let message = ClientMessageEvent::new(32, window, active, [2, 0, 0, 0, 0]);
            let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
            self.conn.send_event(false, self.root, mask, message)?;
            self.conn.flush()?;
            std::thread::sleep(Duration::from_millis(50));
            if self.active()? == window {
                return Ok(());
            }
            interrupt::go_on()?;
            ensure!(
                begun.elapsed() < LIMIT,
                "the window does not get the keyboard"
            );
        }
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
        let area = (x.into(), y.into(), width.into(), height.into());
        Ok(self.image(window, area)?.pixels)
    }

    /// Watches what is painted in a window, or, for the root, anywhere.
    ///
    /// # Errors
    /// The window is gone.
    pub fn watch(&self, window: Window) -> Result<Watch<'_>> {
        let damage = self.conn.generate_id()?;
        self.conn
            .damage_create(damage, window, ReportLevel::BOUNDING_BOX)?
            .check()?;
        Ok(Watch {
            screen: self,
            damage,
        })
    }

    /// Whether watches are told of windows that are made on this display.
    ///
    /// # Errors
    /// The display is gone.
    pub fn tell_of_windows(&self, told: bool) -> Result<()> {
        let mask = if told {
            EventMask::SUBSTRUCTURE_NOTIFY
        } else {
            EventMask::NO_EVENT
        };
        let aux = ChangeWindowAttributesAux::new().event_mask(mask);
        self.conn
            .change_window_attributes(self.root, &aux)?
            .check()?;
        Ok(())
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
            .create(
                Area {
                    x: 0,
                    y: 0,
                    width: 100,
                    height: 80,
                },
                "Bench",
            )
            .unwrap();
        assert!(screen.apps("bench", &[]).unwrap().is_empty());
        screen.conn.map_window(window).unwrap();
        screen.conn.flush().unwrap();
        let begun = Instant::now();
        while screen.apps("bench", &[]).unwrap() != [window] {
            assert!(begun.elapsed() < LIMIT, "it is not shown");
        }
        screen.put_in_sight(window).unwrap();
        screen.activate(window).unwrap();
        let watch = screen.watch(window).unwrap();
        watch.calm(Duration::from_millis(100)).unwrap();
        let soon = || Instant::now() + Duration::from_millis(100);
        assert_eq!(watch.painted(soon()).unwrap(), None);
        let gc = screen.conn.generate_id().unwrap();
        let red = CreateGCAux::new().foreground(0x00ff_0000);
        screen.conn.create_gc(gc, window, &red).unwrap();
        let there = Rectangle {
            x: 5,
            y: 6,
            width: 7,
            height: 8,
        };
        screen
            .conn
            .poly_fill_rectangle(window, gc, &[there])
            .unwrap();
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
