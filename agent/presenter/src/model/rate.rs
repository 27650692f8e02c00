//! How often something may happen: a bucket that fills with time.
use std::time::Duration;

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Tokens that it holds when it is full.
    most: f64,
    /// Tokens that come in a second.
    each_second: f64,
    tokens: f64,
    last: Duration,
}

impl Rate {
    /// A full bucket.
    #[must_use]
    pub fn new(most: u32, each_second: u32) -> Self {
        Self {
            most: most.into(),
            each_second: each_second.into(),
            tokens: most.into(),
            last: Duration::ZERO,
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.tokens = (self.tokens + passed * self.each_second).min(self.most);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_in_a_second_and_not_more() {
        let mut rate = Rate::new(2, 2);
        let at = |ms| Duration::from_millis(ms);
        let heard = (0..100).filter(|n| rate.take(at(n * 10))).count();
        // Two at once, and one each half second of the 0.99 that passed.
        assert_eq!(heard, 3);
        assert!(!rate.take(at(0)), "time that goes back gives nothing");
    }
}
