//! Sizes and rectangles. Sums are made in 64 bits; a rectangle of a guest becomes one that may be painted
//! only by clipping.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::Fault;
use crate::fuzz::Dice;
use crate::limits::{POSITION, SIDE};
use crate::untrusted::Untrusted;

/// Width and height in pixels, each from 1 to [`SIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    width: u16,
    height: u16,
}

impl Size {
    pub(crate) const DOT: Self = Self {
        width: 1,
        height: 1,
    };

    /// A size, if both sides are from 1 to [`SIDE`].
    #[must_use]
    pub fn new(width: u32, height: u32) -> Option<Self> {
        let side = |n: u32| u16::try_from(n).ok().filter(|_| (1..=SIDE).contains(&n));
        Some(Self {
            width: side(width)?,
            height: side(height)?,
        })
    }

    /// Pixels across.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width as u32
    }

    /// Pixels down.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height as u32
    }

    /// Bytes of that many pixels, four each: at most 1 GiB.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.width as usize * self.height as usize * 4
    }
}

impl<'a> Wire<'a> for Size {
    const MIN: usize = 4;
    const MAX: usize = 4;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let (width, height) = (u16::take(reader)?, u16::take(reader)?);
        Self::new(width.into(), height.into())
            .ok_or(Fault::value(u64::from(width) | u64::from(height) << 16))
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.width.put(writer);
        self.height.put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        Self {
            width: dice.below(SIDE) as u16 + 1,
            height: dice.below(SIDE) as u16 + 1,
        }
    }
}

/// A rectangle: a corner within [`POSITION`] of the origin, and a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    x: i32,
    y: i32,
    size: Size,
}

impl Rect {
    /// A rectangle, if its corner is within [`POSITION`] of the origin.
    #[must_use]
    pub fn new(x: i32, y: i32, size: Size) -> Option<Self> {
        let near = |n| (-POSITION..=POSITION).contains(&n);
        (near(x) && near(y)).then_some(Self { x, y, size })
    }

    /// The whole of something of that size, seen from its own corner.
    #[must_use]
    pub const fn whole(size: Size) -> Self {
        Self { x: 0, y: 0, size }
    }

    /// The left edge.
    #[must_use]
    pub const fn x(self) -> i32 {
        self.x
    }

    /// The upper edge.
    #[must_use]
    pub const fn y(self) -> i32 {
        self.y
    }

    /// How large it is.
    #[must_use]
    pub const fn size(self) -> Size {
        self.size
    }

    fn overlap(self, other: Self) -> Option<Self> {
        let across = |a: i32, a_len: u32, b: i32, b_len: u32| {
            let start = a.max(b);
            let end = (i64::from(a) + i64::from(a_len)).min(i64::from(b) + i64::from(b_len));
            Some((start, u32::try_from(end - i64::from(start)).ok()?))
        };
        let (x, width) = across(self.x, self.size.width(), other.x, other.size.width())?;
        let (y, height) = across(self.y, self.size.height(), other.y, other.size.height())?;
        Some(Self {
            x,
            y,
            size: Size::new(width, height)?,
        })
    }

    /// Whether `other` lies wholly inside.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.overlap(other) == Some(other)
    }
}

impl<'a> Wire<'a> for Rect {
    const MIN: usize = 12;
    const MAX: usize = 12;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let (x, y) = (i32::take(reader)?, i32::take(reader)?);
        let bad = if (-POSITION..=POSITION).contains(&x) {
            y
        } else {
            x
        };
        Self::new(x, y, Size::take(reader)?).ok_or(Fault::value(u64::from(bad.cast_unsigned())))
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.x.put(writer);
        self.y.put(writer);
        self.size.put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        let mut edge = || (dice.below(2 * POSITION.cast_unsigned() + 1)).cast_signed() - POSITION;
        let (x, y) = (edge(), edge());
        Self {
            x,
            y,
            size: Size::invent(dice),
        }
    }
}

/// A rectangle that lies wholly inside the bounds it was clipped to: a window's inner area, or a screen.
/// There is no other way to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GuestRect(Rect);

impl GuestRect {
    /// The rectangle.
    #[must_use]
    pub const fn get(self) -> Rect {
        self.0
    }
}

impl Untrusted<Rect> {
    /// What of the rectangle lies inside `bounds`, if anything does. For pixels, `bounds` is
    /// [`Rect::whole`] of the window's present size; for windows, the screen.
    #[must_use]
    pub fn clip(&self, bounds: Rect) -> Option<GuestRect> {
        self.raw().overlap(bounds).map(GuestRect)
    }

    /// How large the rectangle claims to be: bounded by its type, so room may be weighed for it.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.raw().size()
    }

    /// The rectangle moved, and made smaller if it must be, so that it lies wholly inside `bounds`: where
    /// a window goes that asked for somewhere else.
    #[must_use]
    pub fn push_into(&self, bounds: Rect) -> GuestRect {
        let rect = self.raw();
        let fit = |at: i32, len: u16, low: i32, room: u16| {
            let len = len.min(room);
            (at.clamp(low, low + i32::from(room - len)), len)
        };
        let (x, width) = fit(rect.x, rect.size.width, bounds.x, bounds.size.width);
        let (y, height) = fit(rect.y, rect.size.height, bounds.y, bounds.size.height);
        GuestRect(Rect {
            x,
            y,
            size: Size { width, height },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rect() -> impl Strategy<Value = Rect> {
        let side = prop_oneof![1..50_u32, 1..=SIDE];
        let edge = prop_oneof![-60..60_i32, -POSITION..=POSITION];
        (edge.clone(), edge, side.clone(), side)
            .prop_map(|(x, y, w, h)| Rect::new(x, y, Size::new(w, h).unwrap()).unwrap())
    }

    fn covers(rect: Rect, x: i32, y: i32) -> bool {
        (rect.x..rect.x + i32::from(rect.size.width)).contains(&x)
            && (rect.y..rect.y + i32::from(rect.size.height)).contains(&y)
    }

    #[test]
    fn impossible_sizes_and_places() {
        assert_eq!(Size::new(0, 1), None);
        assert_eq!(Size::new(1, SIDE + 1), None);
        assert_eq!(Size::new(65536 + 5, 5), None);
        let dot = Size::new(1, 1).unwrap();
        assert_eq!(Rect::new(POSITION + 1, 0, dot), None);
        assert_eq!(Rect::new(0, i32::MIN, dot), None);
    }

    proptest! {
        #[test]
        fn clipping_keeps_what_is_inside(a in rect(), b in rect(), x in -70..70_i32, y in -70..70_i32) {
            let clipped = Untrusted::claim(a).clip(b);
            prop_assert_eq!(clipped.is_some_and(|c| covers(c.get(), x, y)), covers(a, x, y) && covers(b, x, y));
            if let Some(clipped) = clipped {
                prop_assert!(a.contains(clipped.get()) && b.contains(clipped.get()));
            }
        }

        #[test]
        fn pushed_in_is_inside(a in rect(), b in rect()) {
            let pushed = Untrusted::claim(a).push_into(b).get();
            prop_assert!(b.contains(pushed));
            if b.contains(a) {
                prop_assert_eq!(pushed, a);
            }
        }
    }
}
