//! From a key pressed on the host to a pixel that changed there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use medley_benches::interrupt;
use medley_benches::screen::{Area, Screen};
use x11rb::protocol::xproto::Window;

/// Letters of the middle row, by evdev's numbers.
const LETTERS: std::ops::Range<u8> = 30..39;
const LEFT_CONTROL: u8 = 29;
const U: u8 = 22;
/// A line is thrown away before it fills the terminal.
const LINE: usize = 60;
/// A key that takes longer was lost.
const LIMIT: Duration = Duration::from_secs(3);
/// Nothing is painted for so long before a key: what changes then is the key's.
const CALM: Duration = Duration::from_millis(40);

/// Types so many letters into a terminal that waits for a line, one when the last has been seen; how long each took. No
/// letter may be lost.
pub fn typed(screen: &Screen, window: Window, border: u16, count: usize) -> Result<Vec<Duration>> {
    screen.activate(window)?;
    let watch = screen.watch(window)?;
    let inside = screen.whole(window)?.without(border);
    let mut times = Vec::with_capacity(count);
    let letters = LETTERS.cycle().take(count);
    for (n, letter) in letters.enumerate() {
        interrupt::go_on()?;
        if n % LINE == LINE - 1 {
            screen.key(LEFT_CONTROL, true)?;
            screen.key(U, true)?;
            screen.key(U, false)?;
            screen.key(LEFT_CONTROL, false)?;
        }
        watch.calm(CALM)?;
        let before = Shot::take(screen, window, inside)?;
        // Nobody types in step with a timer.
        std::thread::sleep(Duration::from_millis(n as u64 * 7 % 20));
        let pressed = Instant::now();
        screen.key(letter, true)?;
        let took = loop {
            let Some(area) = watch.painted(pressed + LIMIT)? else {
                break None;
            };
            if before.differs(screen, window, area)? {
                break Some(pressed.elapsed());
            }
        };
        screen.key(letter, false)?;
        ensure!(took.is_some(), "key {n} changed nothing within {LIMIT:?}");
        times.extend(took);
    }
    Ok(times)
}

/// What a window showed.
struct Shot {
    area: Area,
    pixels: Vec<u32>,
}

impl Shot {
    fn take(screen: &Screen, window: Window, area: Area) -> Result<Self> {
        let pixels = screen.pixels(window, area)?;
        Ok(Self { area, pixels })
    }

    /// Whether the window shows something else by now, where something was painted.
    fn differs(&self, screen: &Screen, window: Window, painted: Area) -> Result<bool> {
        let Some(part) = painted.common(self.area) else {
            return Ok(false);
        };
        let now = screen.pixels(window, part)?;
        let width = usize::from(self.area.width);
        let left = usize::from((part.x - self.area.x).unsigned_abs());
        let top = usize::from((part.y - self.area.y).unsigned_abs());
        let rows = now.chunks_exact(usize::from(part.width)).enumerate();
        Ok(rows.into_iter().any(|(row, now)| {
            let at = (top + row) * width + left;
            self.pixels.get(at..at + now.len()) != Some(now)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_benches::process::Killed;

    /// Without anything between: a terminal in the same X server.
    #[test]
    fn every_letter_is_seen() {
        let screen = Screen::managed(700, 500).unwrap();
        let mut xterm = screen.program("xterm");
        let _xterm = Killed::start(xterm.args(["-e", "cat"]).env("HOME", "/nonexistent")).unwrap();
        let begun = Instant::now();
        let window = loop {
            if let Some(window) = screen.apps("xterm", &[]).unwrap().first() {
                break *window;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no terminal");
            std::thread::sleep(Duration::from_millis(20));
        };
        screen.put_in_sight(window).unwrap();
        let times = typed(&screen, window, 0, 65).unwrap();
        assert_eq!(times.len(), 65);
        assert!(times.iter().all(|time| *time < LIMIT && !time.is_zero()));
    }
}
