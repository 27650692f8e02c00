//! The cable of a machine's network card, which is pulled for a moment when its host comes into another
//! network.

use crate::{Code, Notice};
use medley_hypervisor::{Machine, State};
use medley_network::{Changes, GuestDns, HostDns, Nat, NetworkPolicy, WayOut};
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the cable is out: operating systems overlook a shorter time.
const PULLED: Duration = Duration::from_secs(2);
/// How long nothing must change before the host counts as having arrived in a network.
const CALM: Duration = Duration::from_millis(700);
/// After so long it counts all the same.
const RESTLESS: Duration = Duration::from_secs(6);
/// How often it is looked whether this is over, or the machine runs.
const GLANCE: Duration = Duration::from_millis(200);

/// The cable. Dropped, it is left where it is, plugged in.
#[derive(Debug)]
pub struct Cable {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: Mutex<bool>,
    ending: Condvar,
    // Held while the cable is out.
    still: Mutex<()>,
}

/// What the guest should know of its host's network.
#[derive(Debug, PartialEq)]
struct Surroundings {
    way: WayOut,
    dns: GuestDns,
}

struct Hand {
    shared: Arc<Shared>,
    machine: Weak<dyn Machine>,
    nat: Option<Arc<Nat>>,
    policy: NetworkPolicy,
    notices: Sender<Notice>,
}

impl Cable {
    /// Pulls the machine's cable when its host changes networks, if it `follows`, and at first when it
    /// `woke`; with `nat`, which is told first.
    pub fn lead(
        machine: Weak<dyn Machine>,
        nat: Option<Arc<Nat>>,
        policy: NetworkPolicy,
        follows: bool,
        woke: bool,
        notices: Sender<Notice>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let hand = Hand {
            shared: Arc::clone(&shared),
            machine,
            nat,
            policy,
            notices,
        };
        // Both before the caller goes on: what changes from now on is seen.
        let changes = follows.then(Changes::watch).transpose()?;
        let known = hand.look()?;
        let thread = thread::Builder::new()
            .name("network-cable".into())
            .spawn(move || hand.hold(changes, known, woke))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Leaves the cable alone, plugged in, for as long as this is held.
    pub fn hold_still(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.still)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        *lock(&self.shared.over) = true;
        self.shared.ending.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the hand at a network's cable panicked");
        }
    }
}

impl Hand {
    fn look(&self) -> io::Result<Surroundings> {
        Ok(Surroundings {
            way: WayOut::now()?,
            dns: GuestDns::plan(&self.policy, &HostDns::read()?),
        })
    }

    fn hold(&self, changes: Option<Changes>, mut known: Surroundings, woke: bool) {
        if woke {
            self.pull();
        }
        let Some(mut changes) = changes else {
            return;
        };
        while !self.is_over(Duration::ZERO) {
            let changed = match changes.next(GLANCE) {
                Ok(changed) => !changed.is_empty(),
                Err(error) => {
                    tracing::warn!(%error, "cannot watch the host's network");
                    if self.is_over(CALM) {
                        return;
                    }
                    true
                }
            };
            if !changed {
                continue;
            }
            let since = Instant::now();
            while since.elapsed() < RESTLESS
                && !self.is_over(Duration::ZERO)
                && changes.next(CALM).is_ok_and(|more| !more.is_empty())
            {}
            match self.look() {
                Ok(now) if now != known => {
                    self.tell(&known, &now);
                    known = now;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "cannot look at the host's network"),
            }
        }
    }

    fn tell(&self, before: &Surroundings, now: &Surroundings) {
        tracing::debug!(?before, ?now, "the host's network changed");
        if let Some(nat) = &self.nat {
            nat.renew(now.dns.clone());
        }
        self.pull();
        let text = match now.way.is_there() {
            true => "the host is in another network; the guest's cable was pulled for a moment",
            false => "the host is in no network any more",
        };
        drop(self.notices.send(Notice::new(Code::NetworkChanged, text)));
    }

    /// Pulls the cable and plugs it in again, once the machine runs: one that stands still sees nothing.
    fn pull(&self) {
        let pulled = loop {
            let still = lock(&self.shared.still);
            let Some(machine) = self.machine.upgrade() else {
                return;
            };
            match machine.state() {
                State::Stopped => return,
                State::Running => break (machine, still),
                _ => drop(still),
            }
            if self.is_over(GLANCE) {
                return;
            }
        };
        let (machine, _still) = pulled;
        let set = |up| {
            if let Err(error) = machine.set_link(up) {
                tracing::debug!(%error, up, "the network card's cable");
            }
        };
        set(false);
        self.is_over(PULLED);
        set(true);
    }

    /// Whether it is over; waits so long for it.
    fn is_over(&self, wait: Duration) -> bool {
        let over = lock(&self.shared.over);
        let waited = self
            .shared
            .ending
            .wait_timeout_while(over, wait, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
