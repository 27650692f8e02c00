//! How a machine's threads share: locks that outlive a panic, and events for many listeners.

use crate::{Event, Events};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that a panicking thread left behind is taken all the same: each value behind one is
/// whole between any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many events wait for a slow listener. A guest can cause events at will, so a queue without
/// a bound would let it fill the host's memory.
const QUEUE: usize = 1024;

/// Hands every event to every listener, and never waits for one.
#[derive(Debug, Default)]
pub struct Broadcast {
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
    /// Nobody listens yet.
    pub fn new() -> Broadcast {
        Broadcast {
            listeners: Mutex::new(Some(Vec::new())),
        }
    }

    /// The events from now on.
    pub fn subscribe(&self) -> Events {
        let (queue, events) = sync_channel(QUEUE);
        // After the end the sender is dropped here, and the receiver is closed from the start.
        if let Some(listeners) = lock(&self.listeners).as_mut() {
            listeners.push(Listener { queue, missed: 0 });
        }
        events
    }

    /// Tells everybody.
    pub fn send(&self, event: Event) {
        if let Some(listeners) = lock(&self.listeners).as_mut() {
            listeners.retain_mut(|listener| listener.offer(event.clone()));
        }
    }

    /// Sends the last event and closes every channel.
    pub fn finish(&self, event: Event) {
        let listeners = lock(&self.listeners).take();
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
