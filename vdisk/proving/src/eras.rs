//! What is true from when on.

/// Values that follow one another, each true from a number of events on.
#[derive(Debug, Clone)]
pub struct Eras<T>(Vec<Era<T>>);

#[derive(Debug, Clone)]
struct Era<T> {
    from: usize,
    value: T,
    stricter: bool,
}

impl<T> Eras<T> {
    /// One value, true from the start.
    pub fn new(value: T) -> Self {
        Self(vec![Era {
            from: 0,
            value,
            stricter: true,
        }])
    }

    /// From `from` events on, `value` is true too: whatever was right before is right still.
    pub fn loosen(&mut self, from: usize, value: T) {
        self.0.push(Era {
            from,
            value,
            stricter: false,
        });
    }

    /// From `from` events on, only `value` is true.
    pub fn tighten(&mut self, from: usize, value: T) {
        self.0.push(Era {
            from,
            value,
            stricter: true,
        });
    }

    /// What is true after `events` events.
    pub fn at(&self, events: usize) -> &T {
        let after = self.0.partition_point(|era| era.from <= events);
        &self.0[after.max(1) - 1].value
    }

    /// Whether something that was right a moment before may be wrong after `events` events.
    pub fn is_stricter_at(&self, events: usize) -> bool {
        let first = self.0.partition_point(|era| era.from < events);
        self.0[first..]
            .iter()
            .take_while(|era| era.from == events)
            .any(|era| era.stricter)
    }
}
