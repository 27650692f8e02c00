//! The enumerator: every medium that a power cut may leave.
//!
//! A cut may come after any event. Of the events since the last sync any may have reached the medium and
//! any may not, in whole or in sectors. Up to [`EXHAUSTIVE`] of them all subsets are tried; of more, the
//! telling ones (all, none, one alone, all but one, the first so many) and random ones. Each medium is
//! made once: after an event only those that have it are new, unless what is allowed became stricter.

use std::fmt;

use crate::{Event, Medium, Random};

/// Events since a sync of which all subsets are tried.
pub const EXHAUSTIVE: usize = 12;

/// Random subsets of more events than that.
const SAMPLES: usize = 64;

/// A medium after a cut, and how it came about.
pub struct Cut<'a> {
    /// What is left.
    pub medium: Medium,
    /// How many events there were before the power went.
    pub at: usize,
    pending: &'a [Event],
    subset: u128,
    torn: bool,
}

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut after event {}", self.at)?;
        for (i, event) in self.pending.iter().enumerate() {
            let fate = if has(self.subset, i) { "done" } else { "lost" };
            match event {
                Event::Write(at, bytes) => write!(f, ", write {at}+{} {fate}", bytes.len())?,
                Event::Length(len) => write!(f, ", length {len} {fate}")?,
                Event::Punch(at, len) => write!(f, ", punch {at}+{len} {fate}")?,
                Event::Sync => {}
            }
        }
        f.write_str(if self.torn { ", torn" } else { "" })
    }
}

/// The events of a store's life, to be cut.
pub struct Cuts<'a> {
    /// What the store held at first, all of it durable.
    pub initial: Medium,
    /// What happened then.
    pub events: &'a [Event],
}

fn has(subset: u128, event: usize) -> bool {
    // Of more than 128 the last ones are told apart one by one, the first share a fate.
    subset >> event.min(127) & 1 == 1
}

/// Subsets of `n` events; with `newest`, only those that the last one is in.
fn subsets(n: usize, newest: bool, random: &mut Random) -> Vec<u128> {
    let last = if newest { 1 << (n.min(128) - 1) } else { 0 };
    if n <= EXHAUSTIVE {
        let free = n - usize::from(newest);
        return (0..1u128 << free).map(|subset| subset | last).collect();
    }
    let bits = n.min(128);
    let all = u128::MAX >> (128 - bits);
    let mut subsets = vec![all, 0];
    for i in 0..bits {
        subsets.extend([1 << i, all & !(1 << i), (1 << i) - 1]);
    }
    for _ in 0..SAMPLES {
        let wide =
            |random: &mut Random| u128::from(random.bits()) << 64 | u128::from(random.bits());
        subsets.push(wide(random) & all);
    }
    subsets.iter_mut().for_each(|subset| *subset |= last);
    subsets.sort_unstable();
    subsets.dedup();
    subsets
}

impl Cuts<'_> {
    /// Hands every medium to `judge`; answers how many there were. `stricter` says after which numbers of
    /// events something may be wrong that was right before.
    pub fn each(
        &self,
        random: &mut Random,
        stricter: impl Fn(usize) -> bool,
        mut judge: impl FnMut(Cut<'_>),
    ) -> u64 {
        let mut media = 0;
        let mut durable = self.initial.clone();
        let mut synced = 0;
        for at in 0..=self.events.len() {
            let pending = &self.events[synced..at];
            let newest = at > 0 && !stricter(at);
            // After a sync there is what was there with all of the events before it.
            let known = newest && pending.is_empty();
            let subsets = match known {
                true => Vec::new(),
                false => subsets(pending.len(), newest, random),
            };
            for subset in subsets {
                let chosen = || {
                    let chosen = pending.iter().enumerate();
                    chosen
                        .filter(|(i, _)| has(subset, *i))
                        .map(|(_, event)| event)
                };
                for torn in [false, true] {
                    if torn && !chosen().any(Event::can_tear) {
                        continue;
                    }
                    let mut medium = durable.clone();
                    for event in chosen() {
                        match torn {
                            true => event.tear(&mut medium, random),
                            false => event.apply(&mut medium),
                        }
                    }
                    judge(Cut {
                        medium,
                        at,
                        pending,
                        subset,
                        torn,
                    });
                    media += 1;
                }
            }
            if self.events.get(at) == Some(&Event::Sync) {
                pending.iter().for_each(|event| event.apply(&mut durable));
                synced = at + 1;
            }
        }
        media
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn write(at: u64, byte: u8) -> Event {
        Event::Write(at, vec![byte; 512])
    }

    #[test]
    fn every_subset_of_what_was_not_synced_comes_once_and_nothing_else() {
        let events = [
            write(0, 1),
            write(512, 2),
            Event::Sync,
            write(0, 3),
            write(1024, 4),
        ];
        let cuts = Cuts {
            initial: Medium::default(),
            events: &events,
        };
        let mut seen = HashSet::new();
        let judge = |cut: Cut<'_>| assert!(seen.insert(cut.medium.to_bytes()), "{cut}");
        // Before the sync nothing, either or both; after it, each with both.
        let count = cuts.each(&mut Random::new(1), |_| false, judge);
        // The medium with both is there before the sync and after it.
        assert_eq!(count, 4 + 1 + 3 - 1);
    }
}
