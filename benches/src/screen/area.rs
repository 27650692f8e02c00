//! Rectangles of pixels.

/// A rectangle, seen from its window's or screen's corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: i16,
    /// Upper edge.
    pub y: i16,
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
}

impl Area {
    /// What both cover, if anything.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        let cut = |a: i16, b: i16, a_len: u16, b_len: u16| {
            let from = a.max(b);
            let to = (i32::from(a) + i32::from(a_len)).min(i32::from(b) + i32::from(b_len));
            let length = u16::try_from(to - i32::from(from)).ok()?;
            (length > 0).then_some((from, length))
        };
        let (x, width) = cut(self.x, other.x, self.width, other.width)?;
        let (y, height) = cut(self.y, other.y, self.height, other.height)?;
        Some(Self {
            x,
            y,
            width,
            height,
        })
    }

    /// The same, so far to the right and down.
    #[must_use]
    pub fn moved(self, by: u16) -> Self {
        Self {
            x: self.x + by.cast_signed(),
            y: self.y + by.cast_signed(),
            ..self
        }
    }

    /// The same without a border.
    #[must_use]
    pub fn without(self, border: u16) -> Self {
        let less = |n: u16| n.saturating_sub(2 * border).max(1);
        Self {
            width: less(self.width),
            height: less(self.height),
            ..self.moved(border)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_cut() {
        let area = |x, y, width, height| Area {
            x,
            y,
            width,
            height,
        };
        assert_eq!(
            area(0, 0, 10, 10).common(area(8, -5, 10, 10)),
            Some(area(8, 0, 2, 5))
        );
        assert_eq!(area(0, 0, 10, 10).common(area(10, 0, 5, 5)), None);
        assert_eq!(area(0, 0, 10, 10).common(area(-20, 0, 5, 5)), None);
        assert_eq!(area(2, 2, 10, 10).without(3), area(5, 5, 4, 4));
    }
}
