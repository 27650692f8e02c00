//! The host's monitors, and where on them a guest's windows may be.
use crate::frame::{Frame, nearest};
use medley_wire::limits::POSITION;
use medley_wire::{Rect, Size, Untrusted};

/// Hundredths of a monitor's work area that windows without a manager may cover, all of them together:
/// a guest's menus can never look like the whole desktop.
pub const UNMANAGED_MOST: u64 = 90;
/// The same for one note that an app shows while nobody works in it.
pub const NOTE_MOST: u64 = 12;

/// A monitor of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Its number, the same as long as it is plugged in.
    pub id: u32,
    /// Where it is.
    pub rect: Rect,
    /// The part of it that task bars leave.
    pub work: Rect,
    /// Millimetres across and down; zero if nobody knows.
    pub millimetres: [u32; 2],
    /// Whether it is the main one.
    pub main: bool,
}

/// All monitors; there is always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    screens: Vec<Screen>,
}

/// Pixels of a rectangle.
pub(crate) fn area(rect: Rect) -> u64 {
    u64::from(rect.size().width()) * u64::from(rect.size().height())
}

impl Layout {
    /// The monitors that the host has, if it has one. Work areas are cut to their monitors.
    #[must_use]
    pub fn new(mut screens: Vec<Screen>) -> Option<Self> {
        for screen in &mut screens {
            let work = Untrusted::claim(screen.work).clip(screen.rect);
            screen.work = work.map_or(screen.rect, |work| work.get());
        }
        (!screens.is_empty()).then_some(Self { screens })
    }

    /// One monitor.
    #[must_use]
    pub fn single(size: Size) -> Self {
        let rect = Rect::whole(size);
        let screen = Screen {
            id: 1,
            rect,
            work: rect,
            millimetres: [0, 0],
            main: true,
        };
        Self {
            screens: vec![screen],
        }
    }

    /// All of them.
    #[must_use]
    pub fn screens(&self) -> &[Screen] {
        &self.screens
    }

    /// Pixels of all monitors.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        self.screens.iter().map(|screen| area(screen.rect)).sum()
    }

    /// The rectangle around all monitors.
    #[must_use]
    pub fn bounds(&self) -> Rect {
        let low = |at: fn(Rect) -> i32| self.screens.iter().map(|s| at(s.rect)).min().unwrap_or(0);
        let (x, y) = (low(Rect::x), low(Rect::y));
        let high = |end: fn(Rect) -> i64| self.screens.iter().map(|s| end(s.rect)).max();
        let across = high(|r| i64::from(r.x()) + i64::from(r.size().width())).unwrap_or(1);
        let down = high(|r| i64::from(r.y()) + i64::from(r.size().height())).unwrap_or(1);
        let length = |end: i64, start: i32| u32::try_from(end - i64::from(start)).unwrap_or(1);
        let size = nearest(length(across, x), length(down, y));
        Rect::new(x, y, size).unwrap_or(Rect::whole(size))
    }

    /// The monitor that has most of a rectangle; the main one, if none has any of it.
    #[must_use]
    pub fn screen_of(&self, claim: &Untrusted<Rect>) -> &Screen {
        let share = |screen: &Screen| claim.clip(screen.rect).map_or(0, |part| area(part.get()));
        let most = self.screens.iter().max_by_key(|screen| share(screen));
        let main = self.screens.iter().find(|screen| screen.main);
        most.filter(|screen| share(screen) > 0)
            .or(main)
            .unwrap_or(&self.screens[0])
    }

    /// Where a managed window goes that asks for `claim`: its pixels lie on the screen, and are not larger.
    #[must_use]
    pub fn managed(&self, claim: &Untrusted<Rect>, frame: Frame) -> Rect {
        let bounds = self.bounds();
        let room = frame.shrink(bounds).unwrap_or(bounds);
        claim.push_into(room).get()
    }

    /// Where a window without a manager goes: all of it, frame and all, lies in its monitor's work area, of
    /// which it covers at most `hundredths`.
    #[must_use]
    pub fn unmanaged(&self, claim: &Untrusted<Rect>, frame: Frame, hundredths: u64) -> Rect {
        let work = self.screen_of(claim).work;
        let room = frame.shrink(work).unwrap_or(work);
        let rect = claim.push_into(room).get();
        let (width, height) = frame.outer(rect.size());
        let most = area(work) * hundredths / 100;
        if u64::from(width) * u64::from(height) <= most {
            return rect;
        }
        // Too large: it loses its lower part.
        let down = u32::try_from(most / u64::from(width)).unwrap_or(1);
        let less = down.saturating_sub(frame.adds().1.into());
        Rect::new(rect.x(), rect.y(), nearest(rect.size().width(), less)).unwrap_or(rect)
    }

    /// Whether a window of that size, with its frame, is too large to be without a manager beside others that
    /// cover `taken` pixels already.
    #[must_use]
    pub fn too_large(&self, claim: &Untrusted<Rect>, frame: Frame, taken: u64) -> bool {
        let work = self.screen_of(claim).work;
        let (width, height) = frame.outer(claim.size());
        let wants = u64::from(width) * u64::from(height);
        let fits = u64::from(width) <= work.size().width().into()
            && u64::from(height) <= work.size().height().into();
        !fits || wants + taken > area(work) * UNMANAGED_MOST / 100
    }

    /// What somebody could make of a rectangle that the host's display reports: within the wire's limits.
    #[must_use]
    pub fn reported(x: i32, y: i32, size: Size) -> Rect {
        let near = |n: i32| n.clamp(-POSITION, POSITION);
        Rect::new(near(x), near(y), size).unwrap_or(Rect::whole(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
        Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
    }

    fn two() -> Layout {
        let screen = |id, rect, work| Screen {
            id,
            rect,
            work,
            millimetres: [0, 0],
            main: id == 1,
        };
        Layout::new(vec![
            screen(1, rect(0, 0, 1280, 800), rect(0, 0, 1280, 770)),
            screen(
                2,
                rect(1280, -100, 1920, 1080),
                rect(1280, -100, 1920, 1080),
            ),
        ])
        .unwrap()
    }

    #[test]
    fn both_monitors_are_known() {
        let layout = two();
        assert_eq!(layout.bounds(), rect(0, -100, 3200, 1080));
        let at = |x, y| layout.screen_of(&Untrusted::claim(rect(x, y, 50, 50))).id;
        assert_eq!((at(10, 10), at(2000, 10), at(-900, -900)), (1, 2, 1));
        assert_eq!(Layout::new(vec![]), None);
    }

    proptest! {
        #[test]
        fn unmanaged_windows_stay_in_a_work_area(
            x in -40000..40000_i32, y in -40000..40000_i32, w in 1..16384_u32, h in 1..16384_u32, border in 1..9_u16,
        ) {
            let (layout, frame) = (two(), Frame::new(border, 0));
            let near = |n: i32| n.clamp(-POSITION, POSITION);
            let placed = layout.unmanaged(&Untrusted::claim(rect(near(x), near(y), w, h)), frame, UNMANAGED_MOST);
            let (width, height) = frame.outer(placed.size());
            let b = i32::from(border);
            let outer = rect(placed.x() - b, placed.y() - b, width.into(), height.into());
            let home = layout.screens().iter().find(|screen| screen.work.contains(outer));
            prop_assert!(home.is_some(), "{outer:?}");
            prop_assert!(area(outer) * 100 <= area(home.unwrap().work) * UNMANAGED_MOST);
        }
    }
}
