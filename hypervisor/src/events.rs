//! What a machine tells those who listen: typed events, bounded queues.

use crate::Exit;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// How many events wait for a slow listener. A guest can cause events at will, so a queue without
/// a bound would let it fill the host's memory.
const QUEUE: usize = 1024;

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The processor runs for the first time.
    Started,
    /// The processor stands still; [`Event::DiskError`] says so before if that is the cause.
    Paused,
    /// The processor runs again.
    Resumed,
    /// The power button was pressed; what follows is the guest's choice.
    PowerDown,
    /// The machine was reset.
    Reset {
        /// True if the guest asked for it.
        by_guest: bool,
    },
    /// The disk failed a request.
    DiskError {
        /// True for a write, false for a read.
        write: bool,
        /// True if the machine halts because of it ([`crate::State::Faulted`]): the request is
        /// tried again by `resume`, and the guest never sees the failure.
        halted: bool,
        /// The hypervisor's words.
        reason: String,
    },
    /// The guest's kernel reported its own end.
    GuestPanicked,
    /// A program in the guest opened or closed its end of a channel. Reported at most about once
    /// a second; the last state always is.
    Channel {
        /// The channel's name.
        name: String,
        /// True if it is open now.
        open: bool,
    },
    /// The listener was too slow and this many events are lost.
    Missed {
        /// How many.
        count: u64,
    },
    /// The machine has ended. The last event: the channel closes after it.
    Stopped(Exit),
}

/// The events of one machine, from the moment of asking. The channel closes when the machine has
/// ended: a receiver that sees it closed can rely on it, even when it missed [`Event::Stopped`].
pub type Events = Receiver<Event>;

/// Hands every event to every listener, and never waits for one.
#[derive(Debug, Default)]
pub(crate) struct Broadcast {
    // `None` once the machine has ended.
    listeners: Mutex<Option<Vec<Listener>>>,
}

#[derive(Debug)]
struct Listener {
    queue: SyncSender<Event>,
    missed: u64,
}

impl Listener {
    /// False if nobody listens any more.
    fn offer(&mut self, event: Event) -> bool {
        if self.missed > 0 {
            match self.queue.try_send(Event::Missed { count: self.missed }) {
                Ok(()) => self.missed = 0,
                Err(TrySendError::Full(_)) => {
                    self.missed += 1;
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Broadcast {
    pub(crate) fn new() -> Broadcast {
        Broadcast {
            listeners: Mutex::new(Some(Vec::new())),
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        let (queue, events) = sync_channel(QUEUE);
        // After the end the sender is dropped here, and the receiver is closed from the start.
        if let Some(listeners) = crate::machine::lock(&self.listeners).as_mut() {
            listeners.push(Listener { queue, missed: 0 });
        }
        events
    }

    pub(crate) fn send(&self, event: Event) {
        if let Some(listeners) = crate::machine::lock(&self.listeners).as_mut() {
            listeners.retain_mut(|listener| listener.offer(event.clone()));
        }
    }

    /// Sends the last event and closes every channel.
    pub(crate) fn finish(&self, event: Event) {
        let listeners = crate::machine::lock(&self.listeners).take();
        for mut listener in listeners.into_iter().flatten() {
            listener.offer(event.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_listener_is_told_what_it_missed() {
        let broadcast = Broadcast::new();
        let events = broadcast.subscribe();
        for _ in 0..QUEUE + 7 {
            broadcast.send(Event::Paused);
        }
        for _ in 0..QUEUE {
            assert_eq!(events.recv().unwrap(), Event::Paused);
        }
        broadcast.send(Event::Resumed);
        assert_eq!(events.recv().unwrap(), Event::Missed { count: 7 });
        assert_eq!(events.recv().unwrap(), Event::Resumed);
    }

    #[test]
    fn the_channel_closes_after_the_last_event() {
        let broadcast = Broadcast::new();
        let events = broadcast.subscribe();
        broadcast.finish(Event::PowerDown);
        broadcast.send(Event::Paused);
        assert_eq!(events.recv().unwrap(), Event::PowerDown);
        assert!(events.recv().is_err());
        assert!(broadcast.subscribe().recv().is_err());
    }

    #[test]
    fn a_listener_that_left_costs_nothing() {
        let broadcast = Broadcast::new();
        drop(broadcast.subscribe());
        broadcast.send(Event::Paused);
        assert!(
            broadcast
                .listeners
                .lock()
                .unwrap()
                .as_ref()
                .unwrap()
                .is_empty()
        );
    }
}
