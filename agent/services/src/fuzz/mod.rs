//! An entry for a fuzzer: arbitrary bytes become a guest and a supervisor that do whatever messages and orders
//! allow, and a little more. After each step what the gate promises is held against what it said.
mod guest;
mod line;
mod orders;
mod supervisor;

use crate::Gate;
use crate::policy::{Policy, Service};
use line::Far;
use medley_wire::bulk::{self, Carries};
use medley_wire::control::{self, FromHost, Verdict};
use medley_wire::limits::{CHUNK_BYTES, STREAMS};
use medley_wire::{Dice, Encoder};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::Supervisor;

/// Steps of one run.
const STEPS: usize = 400;

/// Bytes that may be held, with all that one run can ask for: a chunk, copies both ways, pictures that wait.
const HELD: usize = CHUNK_BYTES + (2 << 20);

/// Bytes of a copy.
const COPY: u64 = 1000;

/// One of the guest's streams.
#[derive(Clone, Copy)]
struct Stream {
    size: u64,
    sent: u64,
}

/// What the guest knows of something that it offered.
struct Offered {
    carries: Carries,
    size: u64,
    welcome: bool,
}

struct Play<'b> {
    dice: Dice<'b>,
    gate: Gate,
    now: Duration,
    line: Far,
    supervisor: Supervisor,
    offered: BTreeMap<u32, Offered>,
    streams: [Option<Stream>; STREAMS],
    /// Files that the guest is offered.
    gifts: Vec<u32>,
    copies: u32,
}

/// Plays guest and supervisor against the gate, and tells how much came of it: transfers that were whole,
/// addresses, notes.
///
/// # Panics
/// Something does not hold that should.
pub fn fuzz_gate(bytes: &[u8]) -> u32 {
    let mut dice = Dice::new(bytes);
    let bits = dice.below(64) | dice.below(64);
    let services = (0_u32..).zip(Service::ALL);
    let allowed = services.filter(|(n, _)| bits & (1 << n) != 0);
    let mut policy = Policy::allowing(allowed.map(|(_, service)| service));
    policy.file_bytes = 1 << 20;
    policy.print_bytes = 1 << 19;
    let mut play = Play {
        dice,
        gate: Gate::new(policy).numbered_from(u32::MAX - 2),
        now: Duration::ZERO,
        line: Far::default(),
        supervisor: Supervisor::new(policy),
        offered: BTreeMap::new(),
        streams: [None; STREAMS],
        gifts: Vec::new(),
        copies: 0,
    };
    for _ in 0..STEPS {
        if play.dice.is_empty() {
            break;
        }
        play.step();
        play.check();
    }
    play.lost();
    play.supervisor.come
}

impl Play<'_> {
    fn step(&mut self) {
        match self.dice.below(20) {
            0 | 1 => self.offer(),
            2 | 3 => self.decide(),
            4 => self.give(),
            5 => self.answer(),
            6 | 7 => self.open(),
            8..=10 => self.send(),
            11 => self.acknowledge(),
            12 | 13 => self.work(),
            14 => self.pass(),
            15 => self.order(),
            16 | 17 => {
                // Windows' and the agent's own messages are not for the gate, and hurt nobody.
                if let Some(message) = self.dice.message::<control::FromGuest<'static>>() {
                    self.say(&message);
                }
            }
            18 => self.url(),
            _ if self.dice.below(64) == 0 => self.lost(),
            _ if self.dice.below(16) == 0 => {
                // Any message of the bulk channel: mostly it is the end of the connection.
                if let Some(message) = self.dice.message::<bulk::FromGuest<'static>>() {
                    self.bulk(&message);
                }
            }
            _ if self.copies < 100 => {
                self.copies += 1;
                let bytes = vec![7; self.dice.below(2000) as usize];
                self.gate.paste(self.copies, bytes, self.now);
            }
            _ => {}
        }
    }

    fn say(&mut self, message: &control::FromGuest<'_>) {
        use control::FromGuest;
        let offered = match message {
            FromGuest::FileOffer(offer) => Some((offer.transfer, Carries::File, &offer.size)),
            FromGuest::PrintJob(job) => Some((job.transfer, Carries::Print, &job.size)),
            _ => None,
        };
        match self.gate.guest_says(message, self.now) {
            Ok(_) => {
                if let Some((transfer, carries, size)) = offered {
                    let size = size.at_most(1 << 20).unwrap_or(0);
                    let welcome = false;
                    let offered = Offered {
                        carries,
                        size,
                        welcome,
                    };
                    self.offered.insert(transfer, offered);
                }
            }
            Err(violation) => self.violated(violation),
        }
    }

    fn bulk(&mut self, message: &bulk::FromGuest<'_>) {
        let pastes = |transfer| (transfer < 4).then_some(COPY);
        match self.gate.bulk_says(message, pastes, self.now) {
            Ok(Some(pasted)) => {
                assert!(pasted.bytes.is_none_or(|bytes| bytes.len() as u64 <= COPY));
            }
            Ok(None) => {}
            Err(violation) => self.violated(violation),
        }
    }

    fn violated(&mut self, violation: crate::Violation) {
        assert!(!violation.to_string().is_empty() && !violation.code().is_empty());
        self.lost();
    }

    /// A new connection.
    fn lost(&mut self) {
        self.gate.lost();
        let out = self.gate.drain();
        assert!(out.words.is_empty(), "nobody is there");
        self.supervisor.hear(out.events);
        self.supervisor.is_settled();
        assert_eq!((self.gate.held(), self.gate.deadline()), (0, None));
        self.line = Far::default();
        self.offered.clear();
        self.gifts.clear();
        self.streams = [None; STREAMS];
    }

    fn work(&mut self) {
        self.line.room = self.dice.below(8);
        let Ok(()) = self.gate.work(&mut self.line, self.now);
        for stream in self.line.cancelled.drain(..) {
            self.streams[usize::from(stream)] = None;
        }
    }

    fn pass(&mut self) {
        let most = [10, 500, 6000, 70_000][self.dice.below(4) as usize];
        self.now += Duration::from_millis(self.dice.below(most).into());
        self.gate.tick(self.now);
        let due = self.gate.deadline();
        assert!(due.is_none_or(|due| due > self.now), "what is due is done");
    }

    /// What was said, against what should be.
    fn check(&mut self) {
        let out = self.gate.drain();
        self.supervisor.hear(out.events);
        assert!(self.gate.held() <= HELD, "{} bytes", self.gate.held());
        for word in out.words {
            let message = word.message();
            encodes(&message);
            match message {
                FromHost::Answer(answer) => {
                    let offered = self.offered.get_mut(&answer.transfer);
                    let Some(offered) = offered.filter(|offered| !offered.welcome) else {
                        // Only what the guest has taken back may be answered and not be known.
                        panic!("an answer to nothing: {answer:?}");
                    };
                    offered.welcome = answer.verdict == Verdict::Yes;
                    if !offered.welcome {
                        self.offered.remove(&answer.transfer);
                    }
                }
                FromHost::FileOffer(offer) => {
                    assert!(offer.transfer >= 1 << 31, "a number of the clipboard's");
                    self.gifts.push(offer.transfer);
                }
                _ => {}
            }
        }
    }
}

fn encodes(message: &FromHost<'_>) {
    let mut room = vec![0; 1 << 16];
    let length = Encoder::<FromHost<'static>>::new().encode(message, &mut room);
    assert!(length.is_ok(), "{length:?} {message:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of a generator with a fixed beginning: the same ones each time. A fuzzer finds better ones. More
    /// of them with `MEDLEY_RUNS`.
    #[test]
    fn a_few_hundred_runs() {
        let runs = std::env::var("MEDLEY_RUNS").ok();
        let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(300_u64);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut come = 0_u64;
        for _ in 0..runs {
            let bytes: Vec<u8> = (0..4000)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            come += u64::from(fuzz_gate(&bytes));
        }
        // Something came of them: a guest that ends at once would show nothing.
        assert!(come > 5 * runs, "{come} in {runs} runs");
    }

    proptest! {
        #[test]
        fn whatever_is_said(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            fuzz_gate(&bytes);
        }
    }
}
