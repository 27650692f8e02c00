//! When a running guest gives memory to its host and when it gets it back: a pure state machine.
//!
//! The host is *pressed* when it or a control group has less free than its reserve, or when programs
//! wait for memory while little is free. Then the guest gives what is missing to one and a half
//! reserves, at once, but keeps what it needs. The host is *calm* when two reserves are free and
//! nobody waits: after a while the guest gets its memory back, in steps that leave the host calm.
//! Between the two nothing happens, but that a guest in need is helped. Whoever must take soon after
//! giving waits twice as long before giving again, so that host and guest do not fight.

use crate::{Plan, Reading, Room};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Programs wait so long, in thousandths of the time: worth an answer if little is free, and in any
/// case. Free memory can look plenty while what programs need is read again and again.
const WAITING: u32 = 100;
const SUFFERING: u32 = 400;
/// Below this nobody waits.
const AT_EASE: u32 = 10;

/// How long the host must be calm before the guest gets memory back, at first and at most.
const DWELL: Duration = Duration::from_secs(5);
const LONGEST_DWELL: Duration = Duration::from_secs(300);
/// Taking so soon after giving is fighting.
const FIGHT: Duration = Duration::from_secs(60);
/// From one step of giving back to the next.
const PACE: Duration = Duration::from_secs(2);

/// How long the guest may take to follow before it is asked for more.
const IN_FLIGHT: Duration = Duration::from_secs(5);
/// What a guest tells of its memory is at most so old.
const STALE: Duration = Duration::from_secs(3);

/// Differences smaller than this, in MiB, are not worth a change.
const QUANTUM: u32 = 8;

/// A guest's RAM as its balloon and its own kernel tell, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GuestRam {
    /// What the balloon leaves the guest now.
    pub actual_mib: u32,
    /// What the guest's kernel manages in all; unknown until its balloon driver has spoken.
    pub total_mib: Option<u32>,
    /// What the guest's kernel could still hand out; unknown until its balloon driver has spoken.
    pub available_mib: Option<u32>,
}

/// Host and guest at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// When, on a clock that never goes back.
    pub at: Duration,
    /// The host.
    pub host: &'a Reading,
    /// The guest, where [`Controller::wants_guest`] wanted it.
    pub guest: Option<GuestRam>,
}

/// What the balloon shall leave the guest, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// In MiB.
    pub mib: u32,
    /// Why.
    pub reason: Reason,
}

/// Why the balloon moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Less than the reserve is free.
    Short {
        /// The host or the control group.
        of: String,
        /// What it has free.
        available_mib: u64,
    },
    /// Programs wait for memory.
    Stalled {
        /// In thousandths of the time.
        permille: u32,
    },
    /// The guest needs more, and the host can spare it.
    Need,
    /// The host is calm.
    Calm,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.mib;
        match &self.reason {
            Reason::Short { of, available_mib } => {
                write!(
                    f,
                    "{of} has only {available_mib} MiB free: the guest keeps {mib} MiB"
                )
            }
            Reason::Stalled { permille } => write!(
                f,
                "the host's programs wait for memory {}.{} % of the time: the guest keeps {mib} MiB",
                permille / 10,
                permille % 10
            ),
            Reason::Need => write!(f, "the guest needs more, and gets {mib} MiB"),
            Reason::Calm => write!(f, "the host is calm: the guest has {mib} MiB again"),
        }
    }
}

/// How the host is.
enum Mood {
    /// It lacks so much.
    Pressed { short: u64, reason: Reason },
    /// It can spare so much for a guest in need.
    Between { spare: u64 },
    /// It can spare so much for a guest in need, and stays calm if it gives so much.
    Calm { spare: u64, slack: u64 },
}

impl Mood {
    fn of(host: &Reading) -> Mood {
        let low = |room: &&Room| room.available_mib < room.reserve_mib;
        let half = |room: &Room| room.reserve_mib.saturating_add(room.reserve_mib / 2);
        let beyond = |wanted: fn(&Room) -> u64| {
            let rooms = host.rooms.iter();
            let slack = rooms.map(move |room| room.available_mib.saturating_sub(wanted(room)));
            slack.min().unwrap_or(0)
        };
        let slack = beyond(|room| room.reserve_mib.saturating_mul(2));
        let spare = beyond(|room| room.reserve_mib.saturating_add(room.reserve_mib / 2));
        let stalled = host.stalled_permille.unwrap_or(0);

        let lacks = |room: &Room| half(room).saturating_sub(room.available_mib);
        if let Some(room) = host.rooms.iter().filter(low).max_by_key(|room| lacks(room)) {
            let reason = Reason::Short {
                of: room.name.clone(),
                available_mib: room.available_mib,
            };
            let short = lacks(room);
            Mood::Pressed { short, reason }
        } else if stalled >= SUFFERING || (stalled >= WAITING && slack == 0) {
            let reason = Reason::Stalled { permille: stalled };
            Mood::Pressed { short: 0, reason }
        } else if slack > 0 && stalled < AT_EASE {
            Mood::Calm { spare, slack }
        } else {
            Mood::Between { spare }
        }
    }
}

/// Decides what one guest's balloon shall leave it.
#[derive(Clone, Debug)]
pub struct Controller {
    full: u32,
    floor: u32,
    target: u32,
    /// When the target last changed, and what the guest had then.
    changed: Option<(Duration, u32)>,
    calm_since: Option<Duration>,
    gave: Option<Duration>,
    dwell: Duration,
    /// What the guest had lately.
    lately: Vec<(Duration, u32)>,
}

impl Controller {
    /// For a guest that starts with what was planned.
    pub fn new(plan: &Plan) -> Controller {
        Controller::between(plan.floor_mib, plan.guest_mib)
    }

    /// For a guest of `full` MiB that keeps at least `floor`.
    pub fn between(floor: u32, full: u32) -> Controller {
        Controller {
            full,
            floor: floor.min(full),
            target: full,
            changed: None,
            calm_since: None,
            gave: None,
            dwell: DWELL,
            lately: Vec::new(),
        }
    }

    /// Goes on from what the balloon leaves the guest already.
    pub fn hold(&mut self, actual: u32) {
        self.target = actual.clamp(self.floor, self.full);
    }

    /// What the balloon shall leave the guest, in MiB.
    pub fn target_mib(&self) -> u32 {
        self.target
    }

    /// Whether the guest has all of its memory.
    pub fn at_rest(&self) -> bool {
        self.target == self.full
    }

    /// Whether the next step needs to know of the guest: not while it has all of its memory and the
    /// host can do without.
    pub fn wants_guest(&self, host: &Reading) -> bool {
        !self.at_rest() || matches!(Mood::of(host), Mood::Pressed { .. })
    }

    /// Takes note of an observation; answers with a target when it changes.
    pub fn step(&mut self, now: &Observation<'_>) -> Option<Target> {
        let guest = now.guest?;
        let at = now.at;
        self.lately
            .retain(|(then, _)| at.saturating_sub(*then) <= STALE);
        self.lately.push((at, guest.actual_mib));
        let need = self.need(guest);
        let (mib, reason) = match Mood::of(now.host) {
            Mood::Pressed { short, reason } => {
                self.calm_since = None;
                (self.take(at, guest, need, short)?, reason)
            }
            Mood::Between { spare } => {
                self.calm_since = None;
                (self.relieve(need, spare)?, Reason::Need)
            }
            Mood::Calm { spare, slack } => match self.give(at, slack) {
                Some(mib) => (mib, Reason::Calm),
                None => (self.relieve(need, spare)?, Reason::Need),
            },
        };
        self.target = mib;
        self.changed = Some((at, guest.actual_mib));
        Some(Target { mib, reason })
    }

    /// What the guest needs now, with a cushion: for its kernel, for what it may want next, and
    /// because its figures are some seconds old.
    fn need(&self, guest: GuestRam) -> Option<u32> {
        let (total, available) = (guest.total_mib?, guest.available_mib?);
        let used = total.saturating_sub(available);
        // A guest may count what the balloon took as used (those that take it back before they run
        // out of memory do), or no longer as its own. The balloon may have moved since it told.
        let had = self.lately.iter().map(|(_, actual)| *actual).max()?;
        let used = match total > had {
            true => used.saturating_sub(self.full.saturating_sub(had)),
            false => used,
        };
        let cushion = (self.full / 8).max(64);
        let need = used.saturating_add(cushion);
        // One that has next to nothing left needs more than it shows.
        let starves = available < cushion / 4;
        let need = if starves { need.max(self.target) } else { need };
        Some(need.min(self.full))
    }

    fn take(
        &mut self,
        at: Duration,
        guest: GuestRam,
        need: Option<u32>,
        short: u64,
    ) -> Option<u32> {
        if self.in_flight(at, guest) {
            return None;
        }
        let step = u32::try_from(short).unwrap_or(u32::MAX);
        let step = step.max(self.full / 16).max(2 * QUANTUM);
        // Who does not say what it needs keeps most of it.
        let need = need.unwrap_or(self.full - self.full / 4);
        let mib = self.target.saturating_sub(step).max(need).max(self.floor);
        if mib.saturating_add(QUANTUM) > self.target {
            return None;
        }
        let fights = |gave: Duration| at.saturating_sub(gave) < FIGHT.max(self.dwell);
        self.dwell = match self.gave.is_some_and(fights) {
            true => (self.dwell * 2).min(LONGEST_DWELL),
            false => DWELL,
        };
        Some(mib)
    }

    /// Whether the guest has yet to do what it was asked. A guest that has not moved at all has no
    /// balloon driver yet, and is not asked for more.
    fn in_flight(&self, at: Duration, guest: GuestRam) -> bool {
        let Some((changed, had)) = self.changed else {
            return false;
        };
        let behind = guest.actual_mib > self.target.saturating_add(QUANTUM);
        behind && (at.saturating_sub(changed) < IN_FLIGHT || guest.actual_mib >= had)
    }

    fn give(&mut self, at: Duration, slack: u64) -> Option<u32> {
        let missing = self.full - self.target;
        if missing == 0 {
            return None;
        }
        let since = *self.calm_since.get_or_insert(at);
        if at.saturating_sub(since) < self.dwell {
            return None;
        }
        let slack = u32::try_from(slack).unwrap_or(u32::MAX);
        let step = missing.min(slack).min((self.full / 4).max(64));
        if step < QUANTUM.min(missing) {
            return None;
        }
        self.gave = Some(at);
        self.calm_since = Some(at.saturating_sub(self.dwell.saturating_sub(PACE)));
        Some(self.target + step)
    }

    fn relieve(&self, need: Option<u32>, spare: u64) -> Option<u32> {
        let spare = u32::try_from(spare).unwrap_or(u32::MAX);
        let mib = need?.min(self.target.saturating_add(spare)).min(self.full);
        (mib >= self.target.saturating_add(QUANTUM)).then_some(mib)
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
