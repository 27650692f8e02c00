//! Many times of one thing: the middle, and the slow ones.

use std::time::Duration;

use anyhow::{Result, ensure};

/// Times, in order.
#[derive(Debug)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Of these.
    ///
    /// # Errors
    /// There are none.
    pub fn of(mut times: Vec<Duration>) -> Result<Self> {
        ensure!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Ok(Self(times))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds that so many of a hundred did not exceed.
    pub fn ms(&self, percent: usize) -> f64 {
        // The nearest rank: of 200, the 99th percentile is the 198th.
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank.min(self.0.len()) - 1].as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis).collect()).unwrap();
        assert_eq!(
            [50, 90, 99, 100].map(|p| spread.ms(p)),
            [100.0, 180.0, 198.0, 200.0]
        );
        assert_eq!(
            Spread::of(vec![Duration::from_millis(3)]).unwrap().ms(99),
            3.0
        );
        assert!(Spread::of(Vec::new()).is_err());
    }
}
