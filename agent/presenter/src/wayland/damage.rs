//! What of a window's pixels is to be painted: rectangles, or all of it.
use medley_wire::{GuestRect, Rect, Size, Untrusted};

/// Rectangles that wait; beyond that, all is painted.
const WAITING: usize = 64;

/// What is to be painted.
#[derive(Clone, Debug, Default)]
pub(super) struct Damage {
    rects: Vec<GuestRect>,
}

impl Damage {
    pub const fn is_empty(&self) -> bool {
        self.rects.is_empty()
    }

    pub fn rects(&self) -> &[GuestRect] {
        &self.rects
    }

    /// One more rectangle of a window of that size.
    pub fn add(&mut self, rect: GuestRect, size: Size) {
        let (rects, new) = (&mut self.rects, rect.get());
        if rects.iter().any(|old| old.get().contains(new)) {
            return;
        }
        rects.retain(|old| !new.contains(old.get()));
        if rects.len() >= WAITING {
            self.all(size);
        } else {
            rects.push(rect);
        }
    }

    /// All of a window of that size.
    pub fn all(&mut self, size: Size) {
        let whole = Rect::whole(size);
        self.rects.clear();
        self.rects.extend(Untrusted::claim(whole).clip(whole));
    }

    /// What another has, too.
    pub fn join(&mut self, other: &Self, size: Size) {
        for rect in &other.rects {
            self.add(*rect, size);
        }
    }

    pub fn clear(&mut self) {
        self.rects.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: i32, y: i32, width: u32, height: u32) -> GuestRect {
        let size = Size::new(width, height).unwrap();
        let rect = Rect::new(x, y, size).unwrap();
        Untrusted::claim(rect).clip(rect).unwrap()
    }

    #[test]
    fn many_rectangles_become_one() {
        let (mut damage, size) = (Damage::default(), Size::new(400, 400).unwrap());
        damage.add(rect(5, 5, 2, 2), size);
        damage.add(rect(0, 0, 10, 10), size);
        damage.add(rect(1, 1, 2, 2), size);
        assert_eq!(damage.rects(), [rect(0, 0, 10, 10)]);
        for n in 0..80 {
            damage.add(rect(n * 4, 200, 2, 2), size);
        }
        assert_eq!(damage.rects(), [rect(0, 0, 400, 400)]);
    }
}
