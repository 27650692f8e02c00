//! Where the screen lies in its window: inside of the ring, as large as fits, its proportions kept.
use medley_presenter::frame::Frame;
use medley_rfb::picture::Area;

/// A screen in a window. All numbers are pixels of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    window: (u32, u32),
    picture: (u32, u32),
    inside: Area,
    place: Area,
}

impl Layout {
    /// Lays a screen into a window; `original`: every pixel is one, and what does not fit is cut off.
    #[must_use]
    pub fn new(window: (u32, u32), frame: Frame, picture: (u16, u16), original: bool) -> Self {
        let (left, top) = frame.origin();
        let (across, down) = frame.adds();
        let inside = Area {
            x: left.into(),
            y: top.into(),
            width: window.0.saturating_sub(across.into()),
            height: window.1.saturating_sub(down.into()),
        };
        let picture = (u32::from(picture.0), u32::from(picture.1));
        let size = match original {
            true => picture,
            false => fit(picture, (inside.width, inside.height)),
        };
        let place = Area {
            x: inside.x + inside.width.saturating_sub(size.0) / 2,
            y: inside.y + inside.height.saturating_sub(size.1) / 2,
            width: size.0,
            height: size.1,
        };
        Self {
            window,
            picture,
            inside,
            place,
        }
    }

    /// The window's own size.
    #[must_use]
    pub const fn window(&self) -> (u32, u32) {
        self.window
    }

    /// The screen's own size.
    #[must_use]
    pub const fn picture(&self) -> (u32, u32) {
        self.picture
    }

    /// What the ring leaves.
    #[must_use]
    pub const fn inside(&self) -> Area {
        self.inside
    }

    /// Where the screen lies; with [`Layout::new`]'s `original` it may reach beyond what the ring leaves.
    #[must_use]
    pub const fn place(&self) -> Area {
        self.place
    }

    /// A point of the window on the screen, and the nearest one for what lies beside it.
    #[must_use]
    pub fn on_screen(&self, x: f64, y: f64) -> (u16, u16) {
        let on = |at: f64, from: u32, length: u32, pixels: u32| {
            let part = (at - f64::from(from)) / f64::from(length.max(1));
            let pixel = (part * f64::from(pixels)).floor();
            pixel.clamp(0.0, f64::from(pixels.saturating_sub(1))) as u16
        };
        (
            on(x, self.place.x, self.place.width, self.picture.0),
            on(y, self.place.y, self.place.height, self.picture.1),
        )
    }

    /// Whether a point of the window lies on the screen.
    #[must_use]
    pub fn holds(&self, x: f64, y: f64) -> bool {
        let seen = self.place.cut(self.inside);
        let within = |at: f64, from: u32, to: u32| at >= f64::from(from) && at < f64::from(to);
        within(x, seen.x, seen.right()) && within(y, seen.y, seen.below())
    }

    /// Which pixels of the window an area of the screen has a part in.
    #[must_use]
    pub fn in_window(&self, area: Area) -> Area {
        if area.is_empty() {
            return Area::default();
        }
        // Beside every pixel a neighbour is smoothed into it.
        let edge =
            u64::from(self.place.width != self.picture.0 || self.place.height != self.picture.1);
        let span = |from: u32, to: u32, start: u32, length: u32, pixels: u32| {
            let pixels = u64::from(pixels.max(1));
            let first = u64::from(from).saturating_sub(edge) * u64::from(length) / pixels;
            let last = ((u64::from(to) + edge) * u64::from(length)).div_ceil(pixels);
            let last = last.min(length.into());
            let clip = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            (start + clip(first), clip(last.saturating_sub(first)))
        };
        let Area { x, y, .. } = self.place;
        let (left, width) = span(area.x, area.right(), x, self.place.width, self.picture.0);
        let (top, height) = span(area.y, area.below(), y, self.place.height, self.picture.1);
        let area = Area {
            x: left,
            y: top,
            width,
            height,
        };
        area.cut(self.inside)
    }
}

/// The largest size of these proportions that fits, one pixel at least.
fn fit(picture: (u32, u32), room: (u32, u32)) -> (u32, u32) {
    let [width, height] = [picture.0, picture.1].map(|n| u64::from(n.max(1)));
    let [across, down] = [room.0, room.1].map(u64::from);
    let size = match across * height <= down * width {
        true => (across, (across * height + width / 2) / width),
        false => ((down * width + height / 2) / height, down),
    };
    let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    (side(size.0), side(size.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(window: (u32, u32), picture: (u16, u16), original: bool) -> Layout {
        Layout::new(window, Frame::new(3, 0), picture, original)
    }

    fn area(x: u32, y: u32, width: u32, height: u32) -> Area {
        Area {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn a_screen_fits_with_its_proportions() {
        let same = layout((726, 406), (720, 400), false);
        assert_eq!(same.place(), area(3, 3, 720, 400));
        assert_eq!(same.in_window(area(10, 20, 1, 2)), area(13, 23, 1, 2));
        let twice = layout((1446, 1006), (720, 400), false);
        assert_eq!(twice.place(), area(3, 103, 1440, 800));
        let half = layout((726, 206), (720, 400), false);
        assert_eq!(half.place(), area(183, 3, 360, 200));
        assert!(!half.holds(10.0, 10.0) && half.holds(183.0, 3.0));
        assert_eq!(half.on_screen(183.0 + 180.5, 3.0 + 199.9), (361, 399));
        assert_eq!(half.on_screen(-50.0, 1e9), (0, 399));
        let cut = layout((106, 106), (720, 400), true);
        assert_eq!(cut.place(), area(3, 3, 720, 400));
        assert_eq!(cut.in_window(area(0, 0, 720, 400)), area(3, 3, 100, 100));
    }

    proptest! {
        /// Whatever is laid out, no pixel of the screen's lies on the ring, and every one of them has a place.
        #[test]
        fn the_ring_is_never_covered(
            ww in 1..3000_u32, wh in 1..3000_u32, pw in 1..=8192_u16, ph in 1..=8192_u16,
            original: bool, x in 0..8192_u32, y in 0..8192_u32,
        ) {
            let layout = layout((ww, wh), (pw, ph), original);
            let (x, y) = (x % u32::from(pw), y % u32::from(ph));
            let all = layout.in_window(area(0, 0, pw.into(), ph.into()));
            let one = layout.in_window(area(x, y, 1, 1));
            for part in [all, one] {
                prop_assert_eq!(part.cut(layout.inside()), part);
                prop_assert!(part.is_empty() || (part.x >= 3 && part.right() + 3 <= ww));
                prop_assert!(part.is_empty() || (part.y >= 3 && part.below() + 3 <= wh));
            }
            prop_assert_eq!(all, layout.place().cut(layout.inside()));
        }
    }
}
