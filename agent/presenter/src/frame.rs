//! The frame: a ring of the workspace's colour and pattern around all pixels of a guest, of every kind of
//! window. Here it is arithmetic: where the ring is, what colour each of its pixels has, and where a guest's
//! pixels may go. A place for those ([`Inside`]) can be made only out of a [`GuestRect`], and never in the ring.
use medley_wire::limits::SIDE;
use medley_wire::{GuestRect, Rect, Size, Untrusted};

/// Most pixels of a border: half of what a small window has.
pub const BORDER_MOST: u16 = 64;
/// Most pixels of a caption strip.
pub const CAPTION_MOST: u16 = 64;

/// How wide the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    border: u16,
    caption: u16,
}

/// A part of the ring, seen from the outer corner: x, y, width, height.
pub type Bar = (u16, u16, u16, u16);

/// A rectangle of a guest's pixels inside of a framed window, seen from the window's outer corner. It lies
/// wholly within the ring: there is no way to make another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    x: u16,
    y: u16,
    source: GuestRect,
}

impl Inside {
    /// Left edge, from the outer corner.
    #[must_use]
    pub const fn x(self) -> u16 {
        self.x
    }

    /// Upper edge, from the outer corner.
    #[must_use]
    pub const fn y(self) -> u16 {
        self.y
    }

    /// The guest's own rectangle: what is shown there.
    #[must_use]
    pub const fn source(self) -> Rect {
        self.source.get()
    }
}

impl Frame {
    /// A frame of `border` pixels on every side, and a strip of `caption` pixels above. It is never thinner
    /// than one pixel: a window of a guest without a frame does not exist.
    #[must_use]
    pub fn new(border: u16, caption: u16) -> Self {
        Self {
            border: border.clamp(1, BORDER_MOST),
            caption: caption.min(CAPTION_MOST),
        }
    }

    /// Pixels on each side.
    #[must_use]
    pub const fn border(self) -> u16 {
        self.border
    }

    /// Pixels of the strip above, without the border.
    #[must_use]
    pub const fn caption(self) -> u16 {
        self.caption
    }

    /// Where the guest's first pixel lies, from the outer corner.
    #[must_use]
    pub const fn origin(self) -> (u16, u16) {
        (self.border, self.border + self.caption)
    }

    /// Pixels that the frame adds across and down.
    #[must_use]
    pub const fn adds(self) -> (u16, u16) {
        (2 * self.border, 2 * self.border + self.caption)
    }

    /// Width and height with the frame.
    #[must_use]
    pub fn outer(self, inner: Size) -> (u16, u16) {
        let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let (across, down) = self.adds();
        (side(inner.width()) + across, side(inner.height()) + down)
    }

    /// The size inside of an outer size; one pixel at least.
    #[must_use]
    pub fn inner(self, width: u16, height: u16) -> Size {
        let (across, down) = self.adds();
        nearest(
            width.saturating_sub(across).into(),
            height.saturating_sub(down).into(),
        )
    }

    /// The rectangle of the screen that is left for a guest's pixels in `outer`, if any is.
    #[must_use]
    pub fn shrink(self, outer: Rect) -> Option<Rect> {
        let (x, y) = self.origin();
        let (across, down) = self.adds();
        let width = outer.size().width().checked_sub(across.into())?;
        let height = outer.size().height().checked_sub(down.into())?;
        Rect::new(
            outer.x() + i32::from(x),
            outer.y() + i32::from(y),
            Size::new(width, height)?,
        )
    }

    /// The four bars of the ring: above, left, right, below. They do not overlap.
    #[must_use]
    pub fn ring(self, inner: Size) -> [Bar; 4] {
        let (width, height) = self.outer(inner);
        let (x, y) = self.origin();
        let middle = height - y - self.border;
        [
            (0, 0, width, y),
            (0, y, x, middle),
            (width - x, y, x, middle),
            (0, height - self.border, width, self.border),
        ]
    }

    /// Where a guest's rectangle goes in a window whose inner size is `inner`, cut to that size once more:
    /// the window may have become smaller since the rectangle was clipped.
    #[must_use]
    pub fn place(self, rect: GuestRect, inner: Size) -> Option<Inside> {
        let source = Untrusted::claim(rect.get()).clip(Rect::whole(inner))?;
        let (x, y) = self.origin();
        let at = |n: i32, from: u16| u16::try_from(n).ok().map(|n| n + from);
        Some(Inside {
            x: at(source.get().x(), x)?,
            y: at(source.get().y(), y)?,
            source,
        })
    }

    /// A point of the window seen from the guest's first pixel, and whether it lies inside of the ring.
    #[must_use]
    pub fn point(self, x: i16, y: i16, inner: Size) -> (i32, i32, bool) {
        let (left, top) = self.origin();
        let (x, y) = (
            i32::from(x) - i32::from(left),
            i32::from(y) - i32::from(top),
        );
        let inside = |n: i32, len: u32| u32::try_from(n).is_ok_and(|n| n < len);
        (x, y, inside(x, inner.width()) && inside(y, inner.height()))
    }
}

/// The size that is nearest to this one and within the limits of sizes.
#[must_use]
pub fn nearest(width: u32, height: u32) -> Size {
    Size::new(width.clamp(1, SIDE), height.clamp(1, SIDE))
        .expect("both sides are within the limits")
}

/// A colour, red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// A colour as six hexadecimal digits say it.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let digits = digits.strip_prefix('#').unwrap_or(digits);
        let hex = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let [_, r, g, b] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
        hex.then_some(Self(r, g, b))
    }

    /// The colour as a pixel of 24 bits.
    #[must_use]
    pub const fn pixel(self) -> u32 {
        u32::from_be_bytes([0, self.0, self.1, self.2])
    }

    /// Whether black is better read on it than white.
    #[must_use]
    pub const fn is_light(self) -> bool {
        // Weights of the eye, in hundredths.
        self.0 as u32 * 30 + self.1 as u32 * 59 + self.2 as u32 * 11 > 14_000
    }

    /// The second tone of the pattern: the same colour, clearly darker or, if it is dark, clearly lighter.
    #[must_use]
    pub fn second(self) -> Self {
        let tone = |n: u8| {
            if self.is_light() { n / 2 } else { n / 2 + 112 }
        };
        Self(tone(self.0), tone(self.1), tone(self.2))
    }
}

/// What a ring looks like: told apart by its colour and, by those who do not see it, by its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    colour: Colour,
    pattern: u8,
}

/// Pixels after which a pattern begins again, across and down.
pub const TILE: u16 = 8;

impl Look {
    /// The look of a workspace: its colour, and one of five patterns, chosen by its name.
    #[must_use]
    pub fn new(colour: Colour, workspace: &str) -> Self {
        let sum = workspace
            .bytes()
            .fold(7_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte));
        Self {
            colour,
            pattern: u8::try_from(sum % 5).unwrap_or(0),
        }
    }

    /// One colour, no pattern.
    #[must_use]
    pub const fn plain(colour: Colour) -> Self {
        Self { colour, pattern: 0 }
    }

    /// The main colour.
    #[must_use]
    pub const fn colour(self) -> Colour {
        self.colour
    }

    /// The colour of a pixel of the ring, by its place from the outer corner.
    #[must_use]
    pub fn at(self, x: u16, y: u16) -> Colour {
        let (x, y) = (x % TILE, y % TILE);
        let second = match self.pattern {
            0 => false,
            1 => (x + y) % TILE < 4,
            2 => (x + TILE - y) % TILE < 3,
            3 => (x / 4 + y / 4) % 2 == 1,
            _ => (x + y) % 4 == 0,
        };
        if second {
            self.colour.second()
        } else {
            self.colour
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size::new(width, height).unwrap()
    }

    #[test]
    fn a_frame_cannot_be_had_without_one() {
        assert_eq!(Frame::new(0, 0).border(), 1);
        assert_eq!(Frame::new(900, 900), Frame::new(BORDER_MOST, CAPTION_MOST));
    }

    #[test]
    fn patterns_differ_where_colours_do_not() {
        let colour = Colour::parse("0000c0").unwrap();
        let looks: std::collections::BTreeSet<Vec<u32>> = (b'a'..=b'z')
            .map(|name| Look::new(colour, &char::from(name).to_string()))
            .map(|look| {
                (0..64)
                    .map(|n| look.at(n % TILE, n / TILE).pixel())
                    .collect()
            })
            .collect();
        assert_eq!(looks.len(), 5);
        assert_eq!(Colour::parse("12345"), None);
        assert_eq!(Colour::parse("+12345"), None);
    }

    proptest! {
        /// Every pixel of a window is the ring's or the guest's, never both, and a guest's rectangle
        /// lands on the guest's whatever it claims.
        #[test]
        fn no_guest_pixel_reaches_the_ring(
            border in 0..12_u16, caption in 0..24_u16, w in 1..40_u32, h in 1..40_u32,
            x in -60..60_i32, y in -60..60_i32, rw in 1..90_u32, rh in 1..90_u32,
            now_w in 1..40_u32, now_h in 1..40_u32,
        ) {
            let frame = Frame::new(border, caption);
            let inner = size(w, h);
            let (width, height) = frame.outer(inner);
            let mut owner = vec![0_u8; usize::from(width) * usize::from(height)];
            for (bx, by, bw, bh) in frame.ring(inner) {
                for row in by..by + bh {
                    for column in bx..bx + bw {
                        owner[usize::from(row) * usize::from(width) + usize::from(column)] += 1;
                    }
                }
            }
            prop_assert!(owner.iter().all(|n| *n <= 1));
            let ring = owner.iter().filter(|n| **n == 1).count();
            prop_assert_eq!(owner.len() - ring, inner.bytes() / 4);
            // Clipped to the size that the window had, painted into the size that it has.
            let claim = Untrusted::claim(Rect::new(x, y, size(rw, rh)).unwrap());
            let place = claim.clip(Rect::whole(size(now_w, now_h))).and_then(|rect| frame.place(rect, inner));
            if let Some(place) = place {
                let (pw, ph) = (place.source().size().width(), place.source().size().height());
                for row in 0..ph as usize {
                    for column in 0..pw as usize {
                        let at = (usize::from(place.y()) + row) * usize::from(width) + usize::from(place.x()) + column;
                        prop_assert_eq!(owner[at], 0);
                    }
                }
            }
        }

        #[test]
        fn inner_and_outer_are_each_others_inverse(border in 0..12_u16, caption in 0..24_u16, w in 1..3000_u32, h in 1..3000_u32) {
            let frame = Frame::new(border, caption);
            let (width, height) = frame.outer(size(w, h));
            prop_assert_eq!(frame.inner(width, height), size(w, h));
        }
    }
}
