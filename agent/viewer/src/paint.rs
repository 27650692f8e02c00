//! Puts a screen into a window's pixels: the ring, black beside the screen, the screen smoothed to its size, and
//! the guest's cursor, which is part of the screen and never leaves it.
use crate::layout::Layout;
use medley_presenter::frame::Look;
use medley_rfb::picture::{Area, Cursor, Picture};

/// Painted beside a screen that does not fill its window.
const BESIDE: u32 = 0;

/// A window's pixels, and how they are laid out.
#[derive(Debug)]
pub struct Painter<'a> {
    /// Row by row, of the layout's window size.
    pub pixels: &'a mut [u32],
    /// Where what lies.
    pub layout: &'a Layout,
}

impl Painter<'_> {
    /// Paints the ring.
    pub fn ring(&mut self, look: Look) {
        let (width, height) = self.layout.window();
        let inside = self.layout.inside();
        for y in 0..height {
            let full = y < inside.y || y >= inside.below();
            let right = if full { 0 } else { inside.right().min(width) };
            let left = if full { 0 } else { inside.x.min(width) };
            let colour = |x: u32| look.at((x & 0xff) as u16, (y & 0xff) as u16).pixel();
            let row = self.row(y, 0, width);
            for x in (0..left).chain(right..width) {
                row[x as usize] = colour(x);
            }
        }
    }

    /// Paints what of the screen lies in an area of the window, and what lies beside it.
    pub fn screen(&mut self, picture: &Picture, area: Area, cursor: Option<(u16, u16)>) {
        let area = area.cut(self.layout.inside());
        let seen = area.cut(self.layout.place());
        if seen != area {
            for y in area.y..area.below() {
                self.row(y, area.x, area.width).fill(BESIDE);
            }
        }
        if seen.is_empty() || picture.pixels().is_empty() {
            return;
        }
        let place = self.layout.place();
        match (place.width, place.height) == self.layout.picture() {
            true => self.copy(picture, seen),
            false => self.scale(picture, seen),
        }
        if let (Some(cursor), Some(at)) = (picture.cursor(), cursor) {
            self.cursor(cursor, at, seen);
        }
    }

    fn row(&mut self, y: u32, x: u32, width: u32) -> &mut [u32] {
        let start = y as usize * self.layout.window().0 as usize + x as usize;
        &mut self.pixels[start..start + width as usize]
    }

    fn copy(&mut self, picture: &Picture, seen: Area) {
        let place = self.layout.place();
        let across = usize::from(picture.size().0);
        for y in seen.y..seen.below() {
            let start = (y - place.y) as usize * across + (seen.x - place.x) as usize;
            let source = &picture.pixels()[start..start + seen.width as usize];
            self.row(y, seen.x, seen.width).copy_from_slice(source);
        }
    }

    fn scale(&mut self, picture: &Picture, seen: Area) {
        let place = self.layout.place();
        let (across, down) = (picture.size().0, picture.size().1);
        let columns: Vec<Between> = (seen.x..seen.right())
            .map(|x| Between::new(x - place.x, place.width, across))
            .collect();
        let row = |y: usize| &picture.pixels()[y * usize::from(across)..][..usize::from(across)];
        for y in seen.y..seen.below() {
            let between = Between::new(y - place.y, place.height, down);
            let (upper, lower) = (row(between.first), row(between.second));
            let out = self.row(y, seen.x, seen.width);
            for (pixel, column) in out.iter_mut().zip(&columns) {
                let side = |row: &[u32]| mix(row[column.first], row[column.second], column.part);
                *pixel = mix(side(upper), side(lower), between.part);
            }
        }
    }

    fn cursor(&mut self, cursor: &Cursor, at: (u16, u16), seen: Area) {
        let place = self.layout.place();
        let (across, down) = self.layout.picture();
        // From the cursor's own corner, which may lie beyond the screen.
        let corner = |at: u16, hot: u16| i64::from(at) - i64::from(hot);
        let corner = (corner(at.0, cursor.hot.0), corner(at.1, cursor.hot.1));
        let pixel = |n: u32, from: u32, length: u32, pixels: u32| {
            i64::from(n - from) * i64::from(pixels) / i64::from(length.max(1))
        };
        for y in seen.y..seen.below() {
            let row = pixel(y, place.y, place.height, down) - corner.1;
            let Some(row) = usize::try_from(row)
                .ok()
                .filter(|row| *row < cursor.height.into())
            else {
                continue;
            };
            let row = &cursor.pixels[row * usize::from(cursor.width)..][..cursor.width.into()];
            let out = self.row(y, seen.x, seen.width);
            for (x, out) in (seen.x..).zip(out) {
                let column = pixel(x, place.x, place.width, across) - corner.0;
                let column = usize::try_from(column).ok();
                if let Some(Some(colour)) = column.and_then(|column| row.get(column)) {
                    *out = *colour;
                }
            }
        }
    }
}

/// The area of the screen on which a cursor at this place is drawn.
#[must_use]
pub fn cursor_area(picture: &Picture, at: (u16, u16)) -> Area {
    let Some(cursor) = picture.cursor() else {
        return Area::default();
    };
    let span = |at: u16, hot: u16, length: u16| {
        let from = u32::from(at.saturating_sub(hot));
        let to = (u32::from(at) + u32::from(length)).saturating_sub(hot.into());
        (from, to.saturating_sub(from))
    };
    let (x, width) = span(at.0, cursor.hot.0, cursor.width);
    let (y, height) = span(at.1, cursor.hot.1, cursor.height);
    let area = Area {
        x,
        y,
        width,
        height,
    };
    area.cut(picture.whole())
}

/// Where between two pixels of the screen a pixel of the window lies.
#[derive(Clone, Copy, Debug)]
struct Between {
    first: usize,
    second: usize,
    /// How far towards the second, in 256ths.
    part: u32,
}

impl Between {
    /// Of the pixel `n` of `length`, on `pixels`; middles lie on middles.
    fn new(n: u32, length: u32, pixels: u16) -> Self {
        let (n, length) = (i64::from(n), i64::from(length.max(1)));
        let most = i64::from(pixels.max(1)) - 1;
        let at = ((2 * n + 1) * (most + 1) * 128) / length - 128;
        let at = at.clamp(0, most * 256);
        let index = |n: i64| usize::try_from(n.min(most)).unwrap_or(0);
        Self {
            first: index(at >> 8),
            second: index((at >> 8) + 1),
            part: u32::try_from(at & 0xff).unwrap_or(0),
        }
    }
}

/// Two colours mixed, the second by so many 256ths. Red and blue are reckoned at once: there is room between.
const fn mix(one: u32, two: u32, part: u32) -> u32 {
    const ODD: u32 = 0x00ff_00ff;
    const GREEN: u32 = 0x0000_ff00;
    let rest = 256 - part;
    let odd = ((one & ODD) * rest + (two & ODD) * part) >> 8;
    let green = ((one & GREEN) >> 8) * rest + ((two & GREEN) >> 8) * part;
    (odd & ODD) | (green & GREEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_presenter::frame::{Colour, Frame};

    const RING: u32 = 0x00c0_2040;
    const MARK: u32 = 0xdead_beef;

    fn picture(width: u16, height: u16, colour: impl Fn(u32, u32) -> u32) -> Picture {
        let mut picture = Picture::new(width, height);
        let rows = 0..u32::from(height);
        let pixels = rows.flat_map(|y| (0..u32::from(width)).map(move |x| (x, y)));
        let bytes: Vec<u8> = pixels
            .flat_map(|(x, y)| colour(x, y).to_le_bytes())
            .collect();
        picture.put(picture.whole(), &bytes);
        picture
    }

    fn painted(
        window: (u32, u32),
        picture: &Picture,
        original: bool,
        at: Option<(u16, u16)>,
    ) -> Vec<u32> {
        let layout = Layout::new(window, Frame::new(3, 0), picture.size(), original);
        let mut pixels = vec![MARK; (window.0 * window.1) as usize];
        let mut painter = Painter {
            pixels: &mut pixels,
            layout: &layout,
        };
        painter.ring(Look::plain(Colour(0xc0, 0x20, 0x40)));
        painter.screen(picture, Area::of_size(window.0, window.1), at);
        let inside = layout.inside();
        for (n, pixel) in (0..).zip(&pixels) {
            let (x, y) = (n % window.0, n / window.0);
            let ring = x < inside.x || y < inside.y || x >= inside.right() || y >= inside.below();
            assert_eq!(*pixel == RING, ring, "{x},{y}: {pixel:x}");
            assert_ne!(*pixel, MARK, "{x},{y} is not painted");
        }
        pixels
    }

    #[test]
    fn pixels_are_copied_where_nothing_is_scaled() {
        let picture = picture(5, 4, |x, y| 0x10_0000 + x * 256 + y);
        let window = painted((11, 10), &picture, false, None);
        for (x, y) in (0..5).flat_map(|x| (0..4).map(move |y| (x, y))) {
            assert_eq!(
                window[((y + 3) * 11 + x + 3) as usize],
                0x10_0000 + x * 256 + y
            );
        }
        // Beside it is black.
        let wide = painted((31, 10), &picture, false, None);
        assert_eq!((wide[3 * 31 + 3], wide[3 * 31 + 27]), (0, 0));
    }

    #[test]
    fn scaling_keeps_colours_and_their_places() {
        let half = picture(
            40,
            40,
            |x, _| if x < 20 { 0x00ff_0000 } else { 0x0000_00ff },
        );
        for side in [26, 46, 86, 133] {
            let window = painted((side, side), &half, false, None);
            let at = |x: u32| window[(side / 2 * side + x) as usize];
            assert_eq!((at(3), at(side - 4)), (0x00ff_0000, 0x0000_00ff), "{side}");
            let lefts = (3..side - 3).filter(|x| at(*x) >> 16 > 0x7f).count();
            assert!(
                lefts.abs_diff((side as usize - 6) / 2) <= 1,
                "{side}: {lefts}"
            );
        }
        assert_eq!(mix(0x0012_3456, 0x00ff_ffff, 0), 0x0012_3456);
        assert_eq!(mix(0, 0x00ff_ffff, 128), 0x007f_7f7f);
    }

    #[test]
    fn a_cursor_is_drawn_on_the_screen_and_nowhere_else() {
        let mut picture = picture(8, 8, |_, _| 0x11);
        picture.show_cursor(Some(Cursor {
            hot: (1, 0),
            width: 4,
            height: 6,
            pixels: (0..24).map(|n| (n % 4 != 3).then_some(0x22)).collect(),
        }));
        let count = |window: &[u32]| window.iter().filter(|pixel| **pixel == 0x22).count();
        assert_eq!(count(&painted((14, 14), &picture, false, Some((2, 1)))), 18);
        // Cut at every edge: `painted` sees that the ring is whole.
        assert_eq!(count(&painted((14, 14), &picture, false, Some((0, 7)))), 2);
        assert_eq!(count(&painted((14, 14), &picture, false, Some((7, 7)))), 2);
        assert_eq!(count(&painted((14, 14), &picture, false, None)), 0);
        assert_eq!(
            count(&painted((22, 22), &picture, false, Some((2, 1)))),
            18 * 4
        );
        let area = cursor_area(&picture, (0, 7));
        assert_eq!((area.x, area.y, area.width, area.height), (0, 7, 3, 1));
    }
}
