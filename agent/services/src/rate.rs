//! How often something may happen, and when it may happen again. Whole numbers only: whoever waits until
//! [`Rate::ready`] is let through at that very moment, and never asks in vain.
use std::time::Duration;

/// So many at once, and then one each time that so much time has passed.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    every: Duration,
    /// How far ahead of its time the next one may come.
    ahead: Duration,
    /// When the next one would come if all came evenly.
    next: Duration,
}

impl Rate {
    /// `most` at once, then one `every` so often.
    #[must_use]
    pub const fn new(most: u32, every: Duration) -> Self {
        Self {
            every,
            ahead: every.saturating_mul(most.saturating_sub(1)),
            next: Duration::ZERO,
        }
    }

    /// `most` at once, then so many `in_a_second`; at least one.
    #[must_use]
    pub const fn each_second(most: u32, in_a_second: u32) -> Self {
        let in_a_second = if in_a_second == 0 { 1 } else { in_a_second };
        Self::new(
            most,
            Duration::from_nanos(1_000_000_000 / in_a_second as u64),
        )
    }

    /// Whether it may happen now; if so, it has.
    pub fn take(&mut self, now: Duration) -> bool {
        let there = self.ready() <= now;
        if there {
            self.next = self.next.max(now).saturating_add(self.every);
        }
        there
    }

    /// From when on it may happen.
    #[must_use]
    pub const fn ready(&self) -> Duration {
        self.next.saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_evenly() {
        let at = Duration::from_millis;
        let mut rate = Rate::new(2, at(500));
        let heard = (0..100).filter(|n| rate.take(at(n * 10))).count();
        // Two at once, and one half a second later.
        assert_eq!(heard, 3);
        assert!(!rate.take(at(0)), "time that goes back gives nothing");
        let ready = rate.ready();
        assert!(!rate.take(ready - Duration::from_nanos(1)) && rate.take(ready));
    }

    #[test]
    fn one_only() {
        let mut rate = Rate::new(1, Duration::from_secs(2));
        let heard: Vec<_> = (0..10)
            .filter(|n| rate.take(Duration::from_secs(*n)))
            .collect();
        assert_eq!(heard, [0, 2, 4, 6, 8]);
        assert!(rate.take(Duration::from_secs(1000)));
        assert!(!rate.take(Duration::from_secs(1001)), "nothing is saved up");
    }
}
