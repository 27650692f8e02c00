//! The screen as it was last said: its pixels, what of them is new, and the cursor on it.
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

impl Area {
    /// From the corner on.
    #[must_use]
    pub const fn of_size(width: u32, height: u32) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    /// Whether it has no pixel.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// The first column that is no longer in it.
    #[must_use]
    pub const fn right(self) -> u32 {
        self.x + self.width
    }

    /// The first row that is no longer in it.
    #[must_use]
    pub const fn below(self) -> u32 {
        self.y + self.height
    }

    /// The smallest that both are in.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return if self.is_empty() { other } else { self };
        }
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        Self {
            x,
            y,
            width: self.right().max(other.right()) - x,
            height: self.below().max(other.below()) - y,
        }
    }

    /// What is in both.
    #[must_use]
    pub fn cut(self, other: Self) -> Self {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        Self {
            x,
            y,
            width: self.right().min(other.right()).saturating_sub(x),
            height: self.below().min(other.below()).saturating_sub(y),
        }
    }
}

/// A guest's cursor: a colour where it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The pixel that points.
    pub hot: (u16, u16),
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// Row by row.
    pub pixels: Vec<Option<u32>>,
}

/// A screen's picture.
#[derive(Debug)]
pub struct Picture {
    size: (u16, u16),
    pixels: Vec<u32>,
    /// What changed since somebody looked.
    damage: Area,
    cursor: Option<Cursor>,
    takes_keys: bool,
    placed: bool,
}

/// Holds a picture that others change, too.
pub fn hold(picture: &Mutex<Picture>) -> MutexGuard<'_, Picture> {
    picture.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Picture {
    /// A black one.
    #[must_use]
    pub fn new(width: u16, height: u16) -> Self {
        let mut picture = Self {
            size: (0, 0),
            pixels: Vec::new(),
            damage: Area::default(),
            cursor: None,
            takes_keys: false,
            placed: true,
        };
        picture.resize(width, height);
        picture
    }

    /// Its size.
    #[must_use]
    pub const fn size(&self) -> (u16, u16) {
        self.size
    }

    /// All of it.
    #[must_use]
    pub fn whole(&self) -> Area {
        Area::of_size(self.size.0.into(), self.size.1.into())
    }

    /// Its pixels, row by row: 0x00RRGGBB.
    #[must_use]
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// The guest's cursor, if it shows one.
    #[must_use]
    pub const fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Whether keys are taken by their codes.
    #[must_use]
    pub const fn has_keys(&self) -> bool {
        self.takes_keys
    }

    /// Whether the guest's pointer is where it is told to be; else it only moves.
    #[must_use]
    pub const fn is_placed(&self) -> bool {
        self.placed
    }

    /// What changed since this was last asked.
    pub fn take_damage(&mut self) -> Area {
        std::mem::take(&mut self.damage)
    }

    /// Keys are taken by their codes.
    pub const fn takes_keys(&mut self) {
        self.takes_keys = true;
    }

    /// How the pointer is told.
    pub const fn place_pointer(&mut self, placed: bool) {
        self.placed = placed;
    }

    /// Another cursor, or none.
    pub fn show_cursor(&mut self, cursor: Option<Cursor>) {
        self.cursor = cursor;
        // Where it is drawn is not known here.
        self.damage = self.whole();
    }

    /// Becomes black and of another size; nothing, if it has that one.
    pub fn resize(&mut self, width: u16, height: u16) -> bool {
        if self.size == (width, height) {
            return false;
        }
        self.size = (width, height);
        self.pixels.clear();
        self.pixels
            .resize(usize::from(width) * usize::from(height), 0);
        // A screen of a large mode keeps no memory in a small one.
        self.pixels.shrink_to_fit();
        self.damage = self.whole();
        true
    }

    /// Puts pixels of four bytes on an area of it, which must lie within.
    pub fn put(&mut self, area: Area, bytes: &[u8]) {
        let width = area.width as usize;
        let rows = bytes.chunks_exact(4 * width.max(1));
        for (row, bytes) in rows.enumerate().take(area.height as usize) {
            let start = self.at(area.x, area.y + row as u32);
            let pixels = self.pixels[start..start + width].iter_mut();
            for (pixel, bytes) in pixels.zip(bytes.as_chunks::<4>().0) {
                *pixel = u32::from_le_bytes(*bytes) & 0x00ff_ffff;
            }
        }
        self.damage = self.damage.with(area);
    }

    /// Copies an area of it to another place; both must lie within and be of one size.
    pub fn copy(&mut self, from: Area, to: Area) {
        let rows = to.height.min(from.height);
        let width = to.width.min(from.width) as usize;
        let mut copy = |row: u32| {
            let source = self.at(from.x, from.y + row);
            let target = self.at(to.x, to.y + row);
            self.pixels.copy_within(source..source + width, target);
        };
        // A row is not overwritten before it was copied.
        match to.y > from.y {
            true => (0..rows).rev().for_each(&mut copy),
            false => (0..rows).for_each(&mut copy),
        }
        self.damage = self.damage.with(to);
    }

    fn at(&self, x: u32, y: u32) -> usize {
        y as usize * usize::from(self.size.0) + x as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(x: u32, y: u32, width: u32, height: u32) -> Area {
        Area {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn areas_are_joined_and_cut() {
        let (one, two) = (area(2, 3, 4, 5), area(5, 1, 10, 3));
        assert_eq!(one.with(two), area(2, 1, 13, 7));
        assert_eq!(one.cut(two), area(5, 3, 1, 1));
        assert!(one.cut(area(6, 3, 1, 1)).is_empty());
        assert_eq!(Area::default().with(one), one);
    }

    #[test]
    fn copies_may_overlap() {
        for (from, to) in [((0, 0), (1, 1)), ((1, 1), (0, 0)), ((0, 1), (1, 0))] {
            let mut picture = Picture::new(4, 4);
            let bytes: Vec<u8> = (0..16).flat_map(|n: u32| n.to_le_bytes()).collect();
            picture.put(picture.whole(), &bytes);
            let before = picture.pixels().to_vec();
            picture.copy(area(from.0, from.1, 3, 3), area(to.0, to.1, 3, 3));
            for (y, x) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
                let at = |corner: (u32, u32)| ((corner.1 + y) * 4 + corner.0 + x) as usize;
                assert_eq!(
                    picture.pixels()[at(to)],
                    before[at(from)],
                    "{from:?} {to:?}"
                );
            }
        }
    }
}
