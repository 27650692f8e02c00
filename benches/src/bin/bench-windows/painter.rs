//! The app that is measured: a window that paints what it is told, so that its colours say when it was seen.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_benches::screen::{Area, Screen, Watch};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    ChangeGCAux, ConnectionExt, CreateGCAux, Gcontext, ImageFormat, Pixmap, Rectangle, Window,
};

/// Pixels of the window.
pub const WIDTH: u16 = 1280;
pub const HEIGHT: u16 = 800;
/// A letter and a cursor.
const SPOT: (u16, u16) = (16, 24);
/// A repaint that takes longer was lost.
const LIMIT: Duration = Duration::from_secs(5);

/// The app.
pub struct Painter<'a> {
    screen: &'a Screen,
    pub window: Window,
    gc: Gcontext,
    pictures: [Pixmap; 2],
    painted: u32,
}

/// Where the app's pixels are to be seen.
pub struct Seen<'a> {
    pub screen: &'a Screen,
    pub window: Window,
    pub watch: &'a Watch<'a>,
    /// Of the frame around them.
    pub border: u16,
    /// Repaints that painted more there than the app did.
    pub beyond: Cell<u32>,
}

/// A page of text, more or less: dark on light, or the other way round, so that no pixel is the same in both.
fn pixel(x: u16, y: u16, dark: bool) -> u32 {
    let mut dice = u64::from(x / 7) << 32 | u64::from(y / 14) << 1 | 1;
    dice = dice.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    dice ^= dice >> 29;
    let bit = u32::from(x % 7) + u32::from(y % 14) * 5;
    let ink = x % 7 < 5 && y % 14 < 11 && dice % 7 != 0 && dice.rotate_right(bit) & 5 == 1;
    let colour = if ink { 0x0010_1840 } else { 0x00f4_f0e8 };
    if dark { colour ^ 0x00ff_ffff } else { colour }
}

impl<'a> Painter<'a> {
    /// The app on this display.
    pub fn open(screen: &'a Screen) -> Result<Self> {
        let x = &screen.conn;
        let whole = Area {
            x: 0,
            y: 0,
            width: WIDTH,
            height: HEIGHT,
        };
        let window = screen.create(whole, "painter")?;
        let gc = x.generate_id()?;
        x.create_gc(gc, window, &CreateGCAux::new().graphics_exposures(0))?;
        let picture = |dark| -> Result<Pixmap> {
            let pixmap = x.generate_id()?;
            x.create_pixmap(24, pixmap, window, WIDTH, HEIGHT)?;
            // In strips that a request has room for.
            let rows = 40;
            for top in (0..HEIGHT).step_by(rows.into()) {
                let all = (top..top + rows).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
                let bytes: Vec<u8> = all
                    .flat_map(|(x, y)| pixel(x, y, dark).to_le_bytes())
                    .collect();
                let (format, down) = (ImageFormat::Z_PIXMAP, top.cast_signed());
                x.put_image(format, pixmap, gc, WIDTH, rows, 0, down, 0, 24, &bytes)?;
            }
            Ok(pixmap)
        };
        let pictures = [picture(false)?, picture(true)?];
        x.map_window(window)?;
        x.flush()?;
        Ok(Self {
            screen,
            window,
            gc,
            pictures,
            painted: 0,
        })
    }

    /// Paints a spot in a new colour; how long until it is seen.
    pub fn spot(&mut self, seen: &Seen) -> Result<Duration> {
        self.painted += 1;
        let n = self.painted;
        let (width, height) = SPOT;
        let at = |n: u32, room: u16| i16::try_from(n % u32::from(room)).unwrap_or(0);
        let (x, y) = (at(n * 37, WIDTH - width), at(n * 23, HEIGHT - height));
        // Odd factors, so that no colour comes twice within millions.
        let colour = n.wrapping_mul(0x9e_3779) & 0x00ff_ffff;
        let connection = &self.screen.conn;
        let begun = Instant::now();
        connection.change_gc(self.gc, &ChangeGCAux::new().foreground(colour))?;
        let spot = Rectangle {
            x,
            y,
            width,
            height,
        };
        connection.poly_fill_rectangle(self.window, self.gc, &[spot])?;
        connection.flush()?;
        let spot = Area {
            x,
            y,
            width,
            height,
        };
        seen.wait(begun, spot, &[(spot, &|_, _| colour)])
    }

    /// Paints the whole window; how long until all of it is seen. What is looked at are its outermost columns, which
    /// no part of a frame is without.
    pub fn whole(&mut self, seen: &Seen) -> Result<Duration> {
        self.painted += 1;
        let dark = self.painted.is_multiple_of(2);
        let picture = self.pictures[usize::from(dark)];
        let connection = &self.screen.conn;
        let begun = Instant::now();
        connection.copy_area(picture, self.window, self.gc, 0, 0, 0, 0, WIDTH, HEIGHT)?;
        connection.flush()?;
        let column = |x| Area {
            x,
            y: 0,
            width: 1,
            height: HEIGHT,
        };
        let last = WIDTH.cast_signed() - 1;
        let first = |_, y| pixel(0, y, dark);
        let other = |_, y| pixel(WIDTH - 1, y, dark);
        let whole = Area {
            width: WIDTH,
            ..column(0)
        };
        seen.wait(begun, whole, &[(column(0), &first), (column(last), &other)])
    }
}

type Expected<'a> = (Area, &'a dyn Fn(u16, u16) -> u32);

impl Seen<'_> {
    /// Waits until these areas have their colours, after this one was painted by the app; how long after `begun`. Where
    /// the server says in one word that it has painted all of it, that word counts, and looking at the colours does not.
    fn wait(&self, begun: Instant, changed: Area, expected: &[Expected]) -> Result<Duration> {
        let changed = changed.moved(self.border);
        let mut beyond = false;
        loop {
            let painted = self.watch.painted(begun + LIMIT)?;
            let painted =
                painted.with_context(|| format!("a repaint is not seen within {LIMIT:?}"))?;
            let heard = begun.elapsed();
            let common = painted.common(changed);
            beyond |= common != Some(painted);
            if self.all_there(expected)? {
                let at_once = common == Some(changed);
                let took = if at_once { heard } else { begun.elapsed() };
                self.beyond.set(self.beyond.get() + u32::from(beyond));
                return Ok(took);
            }
        }
    }

    fn all_there(&self, expected: &[Expected]) -> Result<bool> {
        for (area, colour) in expected {
            let pixels = self.screen.pixels(self.window, area.moved(self.border))?;
            ensure!(pixels.len() == usize::from(area.width) * usize::from(area.height));
            let all = (0..area.height).flat_map(|y| (0..area.width).map(move |x| (x, y)));
            if !all.zip(pixels).all(|((x, y), pixel)| colour(x, y) == pixel) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_share_no_pixel_and_look_like_text() {
        let mut ink = 0;
        for (x, y) in (0..200).flat_map(|x| (0..100).map(move |y| (x, y))) {
            assert_ne!(pixel(x, y, false), pixel(x, y, true));
            ink += u32::from(pixel(x, y, false) == 0x0010_1840);
        }
        assert!((1000..6000).contains(&ink), "{ink} of 20000");
    }

    #[test]
    fn what_is_painted_is_waited_for() {
        let screen = Screen::bare(1300, 820).unwrap();
        let mut painter = Painter::open(&screen).unwrap();
        let watch = screen.watch(painter.window).unwrap();
        watch.calm(Duration::from_millis(100)).unwrap();
        let window = painter.window;
        let seen = Seen {
            screen: &screen,
            window,
            watch: &watch,
            border: 0,
            beyond: Cell::default(),
        };
        for _ in 0..3 {
            assert!(painter.spot(&seen).unwrap() < LIMIT);
            assert!(painter.whole(&seen).unwrap() < LIMIT);
        }
        assert_eq!(seen.beyond.get(), 0);
        // Nothing changed, so that nothing is seen: the wait is one that can fail.
        let never = seen.all_there(&[(
            Area {
                x: 0,
                y: 0,
                width: 1,
                height: 1,
            },
            &|_, _| 0x12,
        )]);
        assert!(!never.unwrap());
    }
}
