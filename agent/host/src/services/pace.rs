//! How often something may happen, by this process's clock. The gate has such limits, too; these hold for a presenter
//! that a guest has taken over.
use medley_services::Rate;
use std::time::{Duration, Instant};

/// Leave to do something.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    began: Instant,
}

impl Pace {
    /// `most` at once, then one in `each`.
    pub fn new(most: u32, each: Duration) -> Self {
        Self {
            rate: Rate::new(most, each),
            began: Instant::now(),
        }
    }

    /// Takes leave, if there is any.
    pub fn take(&mut self, now: Instant) -> bool {
        self.rate.take(now.saturating_duration_since(self.began))
    }
}
