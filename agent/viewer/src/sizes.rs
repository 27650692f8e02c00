//! Who follows whom: a window the screen, until somebody gives it another size; from then on the guest is asked
//! to follow the window, once it has rested.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Sizes that a window may be on its way to.
const UNDER_WAY: usize = 8;
/// How long a window must rest before its size is worth telling.
const RESTED: Duration = Duration::from_millis(250);
/// No guest is asked for less.
const LEAST: (u16, u16) = (320, 200);
/// Nor for more: what the machine's screen can be.
const MOST: (u16, u16) = (5120, 2160);

/// What is known of both sizes. Those of windows are with their rings.
#[derive(Debug, Default)]
pub struct Sizes {
    /// The window's, as it is.
    window: (u32, u32),
    /// The window's, as we wished it: the last, and those before it that may not have come yet.
    ours: VecDeque<(u32, u32)>,
    by_user: bool,
    due: Option<Instant>,
    asked: Option<(u16, u16)>,
}

impl Sizes {
    /// The screen has another size: the one that the window is to have, if it follows.
    pub fn follow(&mut self, outer: (u32, u32)) -> Option<(u32, u32)> {
        // One that is on its way would come after what is so now.
        if self.by_user || *self.ours.back().unwrap_or(&self.window) == outer {
            return None;
        }
        if self.ours.len() == UNDER_WAY {
            self.ours.pop_front();
        }
        self.ours.push_back(outer);
        Some(outer)
    }

    /// The window has this size now.
    pub fn resized(&mut self, window: (u32, u32), now: Instant) {
        if self.window == window {
            return;
        }
        self.window = window;
        if let Some(at) = self.ours.iter().position(|ours| *ours == window) {
            // Those before it will not come any more; it stays, for its echo.
            self.ours.drain(..at);
            return;
        }
        self.by_user = true;
        self.due = Some(now + RESTED);
    }

    /// When [`Sizes::wish`] should be asked next.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The size that the guest should be asked for; `inner` is what the ring leaves.
    pub fn wish(
        &mut self,
        now: Instant,
        inner: (u32, u32),
        screen: (u16, u16),
    ) -> Option<(u16, u16)> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        let side =
            |n: u32, least: u16, most: u16| u16::try_from(n).unwrap_or(most).clamp(least, most);
        let wish = (
            side(inner.0, LEAST.0, MOST.0),
            side(inner.1, LEAST.1, MOST.1),
        );
        if wish == screen || self.asked == Some(wish) {
            return None;
        }
        self.asked = Some(wish);
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_follows_until_somebody_resizes_it() {
        let mut sizes = Sizes::default();
        let now = Instant::now();
        assert_eq!(sizes.follow((726, 406)), Some((726, 406)));
        sizes.resized((726, 406), now);
        assert_eq!(sizes.follow((1286, 806)), Some((1286, 806)));
        // An echo of the old size is nobody's wish.
        sizes.resized((726, 406), now);
        sizes.resized((1286, 806), now);
        assert_eq!((sizes.due(), sizes.follow((1286, 806))), (None, None));

        sizes.resized((906, 606), now);
        let due = sizes.due().unwrap();
        assert_eq!(sizes.wish(now, (900, 600), (1280, 800)), None);
        assert_eq!(sizes.wish(due, (900, 600), (1280, 800)), Some((900, 600)));
        assert_eq!(sizes.due(), None);
        assert_eq!(sizes.follow((646, 486)), None);
        // A guest that did not follow is not asked for the same again.
        sizes.resized((907, 606), now);
        sizes.resized((906, 606), now);
        assert_eq!(sizes.wish(due, (900, 600), (1280, 800)), None);
    }

    #[test]
    fn nobody_is_asked_for_what_no_screen_is() {
        let mut sizes = Sizes::default();
        let now = Instant::now();
        sizes.resized((20, 9006), now);
        let due = sizes.due().unwrap();
        assert_eq!(sizes.wish(due, (14, 9000), (1, 1)), Some((320, 2160)));
    }
}
