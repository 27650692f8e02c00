//! How often something may happen: some at once, and then one in a while. The presenter has such limits, too;
//! these hold for a presenter that a guest has taken over.
use std::time::{Duration, Instant};

/// Leave to do something.
#[derive(Debug)]
pub(crate) struct Pace {
    most: f64,
    each: Duration,
    left: f64,
    last: Instant,
}

impl Pace {
    /// `most` at once, then one in `each`.
    pub fn new(most: u32, each: Duration) -> Self {
        Self {
            most: most.into(),
            each,
            left: most.into(),
            last: Instant::now(),
        }
    }

    /// Takes leave, if there is any.
    pub fn take(&mut self, now: Instant) -> bool {
        let gained =
            now.saturating_duration_since(self.last).as_secs_f64() / self.each.as_secs_f64();
        self.left = (self.left + gained).min(self.most);
        self.last = self.last.max(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_then_one_in_a_while() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(3, 2 * second);
        let now = Instant::now();
        let taken: Vec<_> = (0..5).map(|_| pace.take(now)).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        assert!(!pace.take(now + second));
        assert!(pace.take(now + 2 * second));
        assert!(!pace.take(now + 3 * second));
        let later = now + 100 * second;
        assert_eq!((0..5).filter(|_| pace.take(later)).count(), 3);
    }
}
