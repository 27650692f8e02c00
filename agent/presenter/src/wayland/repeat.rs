//! Keys that are held repeat. On Wayland that is the client's own matter, unless the compositor does it; the guest
//! never repeats by itself, so that a connection that hangs cannot leave a key down.
use std::time::{Duration, Instant};

/// Keys that do not repeat on any keyboard: modifiers and locks, by evdev's codes.
const MUTE: [u16; 14] = [29, 42, 54, 56, 58, 69, 70, 84, 97, 100, 125, 126, 240, 464];

/// Which key is held, and when it comes again.
#[derive(Debug)]
pub(super) struct Repeat {
    delay: Duration,
    /// Nothing: the compositor repeats, or nobody does.
    interval: Option<Duration>,
    held: Option<(u16, Instant)>,
}

impl Default for Repeat {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(600),
            interval: Some(Duration::from_millis(40)),
            held: None,
        }
    }
}

impl Repeat {
    /// What the compositor says of it: keys in a second, and milliseconds before the first.
    pub fn set(&mut self, rate: i32, delay: i32) {
        let rate = u32::try_from(rate).ok().filter(|rate| *rate > 0);
        // More than a thousand in a second nobody reads.
        self.interval = rate.map(|rate| Duration::from_secs(1) / rate.min(1000));
        self.delay = Duration::from_millis(u64::try_from(delay).unwrap_or(0));
        self.held = None;
    }

    /// Milliseconds before a held key repeats, and between repeats.
    pub fn millis(&self) -> [u32; 2] {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(0);
        [millis(self.delay), self.interval.map_or(0, millis)]
    }

    pub fn pressed(&mut self, code: u16, now: Instant) {
        if self.interval.is_some() && !MUTE.contains(&code) {
            self.held = Some((code, now + self.delay));
        }
    }

    pub fn released(&mut self, code: u16) {
        self.held = self.held.filter(|(held, _)| *held != code);
    }

    pub const fn stop(&mut self) {
        self.held = None;
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.held.map(|(_, at)| at)
    }

    /// The key that comes again now. A presenter that was late does not catch up.
    pub fn due(&mut self, now: Instant) -> Option<u16> {
        let (code, at) = self.held?;
        let interval = self.interval?;
        if at > now {
            return None;
        }
        self.held = Some((code, now + interval));
        Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_key_repeats_until_it_goes_up() {
        let (mut repeat, start) = (Repeat::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        repeat.set(25, 500);
        assert_eq!(repeat.millis(), [500, 40]);
        repeat.pressed(30, start);
        assert_eq!(
            (repeat.due(after(499)), repeat.due(after(500))),
            (None, Some(30))
        );
        assert_eq!(
            (repeat.due(after(539)), repeat.due(after(540))),
            (None, Some(30))
        );
        // A modifier changes nothing, another key takes over, and one that is late comes once.
        repeat.pressed(42, after(541));
        assert_eq!(repeat.due(after(5000)), Some(30));
        assert_eq!(repeat.due(after(5001)), None);
        repeat.pressed(31, after(5002));
        repeat.released(30);
        assert_eq!(repeat.due(after(5502)), Some(31));
        repeat.released(31);
        assert_eq!((repeat.deadline(), repeat.due(after(9000))), (None, None));
        repeat.set(0, 0);
        repeat.pressed(30, start);
        assert_eq!(repeat.deadline(), None, "the compositor does it");
    }
}
