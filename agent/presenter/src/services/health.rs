//! Whether the guest's agent still lives: it is asked now and then, and answers, or does not.
use std::time::Duration;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(5);

/// Questions without an answer, after which the guest counts as ill.
const MISSED: u32 = 3;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask, with this number.
    Ask(u32),
    /// It has not answered for a while.
    Ill,
    /// It answers again.
    Well,
}

/// The heartbeat's state.
#[derive(Debug)]
pub struct Health {
    next: Duration,
    sequence: u32,
    missed: u32,
    ill: bool,
}

impl Health {
    /// The first question comes at once.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: Duration::ZERO,
            sequence: 0,
            missed: 0,
            ill: false,
        }
    }

    /// When the next question is due.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.next
    }

    /// Time passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = Vec::new();
        if now < self.next {
            return acts;
        }
        self.next = now + EVERY;
        if self.missed == MISSED && !self.ill {
            self.ill = true;
            acts.push(Act::Ill);
        }
        self.missed = self.missed.saturating_add(1);
        self.sequence = self.sequence.wrapping_add(1);
        acts.push(Act::Ask(self.sequence));
        acts
    }

    /// It answered. An answer to an older question is none.
    pub fn answered(&mut self, sequence: u32) -> Option<Act> {
        if sequence != self.sequence {
            return None;
        }
        self.missed = 0;
        std::mem::take(&mut self.ill).then_some(Act::Well)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_once_and_so_is_its_end() {
        let mut health = Health::new();
        let mut ill = 0;
        for n in 0..10 {
            ill += health
                .tick(EVERY * n)
                .iter()
                .filter(|act| **act == Act::Ill)
                .count();
        }
        assert_eq!(ill, 1);
        assert_eq!(health.answered(3), None, "too old");
        assert_eq!(health.answered(10), Some(Act::Well));
        assert_eq!(health.tick(EVERY * 9), []);
    }
}
