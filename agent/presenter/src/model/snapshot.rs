//! The guest says everything again: after a new connection, after sleep. What it does not say again is gone.
use super::{Event, Model, Violation};
use medley_wire::gui::{self, Snapshot, SnapshotEnd};
use medley_wire::window::States;
use std::time::Duration;

impl Model {
    /// Asks the guest to say everything again.
    pub(super) fn resync(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.asked = Some(self.generation);
        let generation = self.generation;
        self.say(gui::Resync { generation });
    }

    pub(super) fn snapshot_begins(
        &mut self,
        snapshot: &Snapshot,
        now: Duration,
    ) -> Result<(), Violation> {
        if self.asked != Some(snapshot.generation) || self.snapshot.is_some() {
            return Err(Violation::Snapshot(snapshot.generation));
        }
        self.snapshot = self.asked.take();
        // Frames that were on their way are overtaken by what follows.
        self.painted(now);
        for w in self.windows.values_mut() {
            w.stale = true;
        }
        Ok(())
    }

    pub(super) fn snapshot_ends(
        &mut self,
        end: &SnapshotEnd,
        now: Duration,
    ) -> Result<(), Violation> {
        if self.snapshot != Some(end.generation) {
            return Err(Violation::Snapshot(end.generation));
        }
        let gone = |(window, w): (&_, &super::Window)| w.stale.then_some(*window);
        let gone: Vec<_> = self.windows.iter().filter_map(gone).collect();
        for window in gone {
            self.forget(window);
        }
        let all: Vec<_> = self.windows.keys().copied().collect();
        for window in all {
            if let Some(w) = self.windows.get_mut(&window)
                && w.mapped.is_none()
            {
                w.canvas = None;
            }
            self.refresh(window, now);
            self.say_again(window);
        }
        self.snapshot = None;
        self.tell(Event::Whole {
            windows: self.windows.len(),
        });
        Ok(())
    }

    /// What the guest has forgotten of a window that stayed on the desktop.
    fn say_again(&mut self, window: medley_wire::WindowId) {
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        let (host, seen) = (w.host, w.seen.take());
        w.told_states = States::NONE;
        if let Some(seen) = seen {
            self.seen(window, seen);
        }
        self.states_are(window, host);
        self.correct(window);
        if self.focus == Some(window) {
            self.say(gui::Focus {
                window,
                held: medley_wire::window::Modifiers::NONE,
                locked: medley_wire::window::Modifiers::NONE,
            });
        }
    }
}
