//! A host and a guest that are simulated second by second, with the delays that real ones have.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const TOTAL: u64 = 8192;
const RESERVE: u64 = 512;
const FULL: u32 = 2048;
const FLOOR: u32 = 512;

/// What a balloon driver moves in a second.
const RATE: u32 = 300;

#[derive(Clone, Debug)]
struct World {
    second: u64,
    /// What the host's other programs use.
    others: u64,
    /// What the guest's programs use.
    used: u32,
    /// What they used in the last seconds, which is all that can be known late.
    lately_used: VecDeque<u32>,
    /// Whether the guest counts what the balloon took as its own, used memory.
    counts_balloon: bool,
    /// Whether the host gets back at once what the guest does not use.
    reports_free: bool,
    /// Seconds that the guest's figures are late.
    late: usize,
    stalled: Option<u32>,
    actual: u32,
    /// Figures that are on their way: total and available.
    figures: VecDeque<(u32, u32)>,
    controller: Controller,
    changes: Vec<(u64, u32, u32)>,
}

impl World {
    fn new(others: u64, used: u32) -> World {
        World {
            second: 0,
            others,
            used,
            lately_used: VecDeque::new(),
            counts_balloon: true,
            reports_free: false,
            late: 1,
            stalled: None,
            actual: FULL,
            figures: VecDeque::new(),
            controller: Controller::between(FLOOR, FULL),
            changes: Vec::new(),
        }
    }

    fn available(&self) -> u64 {
        let guest = match self.reports_free {
            true => self.actual.min(self.used + 100),
            false => self.actual,
        };
        TOTAL
            .saturating_sub(self.others)
            .saturating_sub(guest.into())
    }

    fn guest(&mut self) -> GuestRam {
        let kernel = 40;
        let total = match self.counts_balloon {
            true => FULL - kernel,
            false => self.actual - kernel,
        };
        let available = self.actual.saturating_sub(kernel + self.used);
        self.figures.push_back((total, available));
        while self.figures.len() > self.late + 1 {
            self.figures.pop_front();
        }
        let (total, available) = self.figures[0];
        GuestRam {
            actual_mib: self.actual,
            total_mib: Some(total),
            available_mib: Some(available),
        }
    }

    fn tick(&mut self) -> Option<Target> {
        self.second += 1;
        self.lately_used.push_back(self.used);
        if self.lately_used.len() > self.late + 1 {
            self.lately_used.pop_front();
        }
        let target = self.controller.target_mib();
        self.actual = match target < self.actual {
            true => target.max(self.actual.saturating_sub(RATE)),
            false => target.min(self.actual + RATE),
        };
        let room = Room {
            name: "the host".into(),
            total_mib: TOTAL,
            available_mib: self.available(),
            reserve_mib: RESERVE,
        };
        let host = Reading {
            rooms: vec![room],
            stalled_permille: self.stalled,
        };
        let guest = self.guest();
        let wants = self.controller.wants_guest(&host);
        let answer = self.controller.step(&Observation {
            at: Duration::from_secs(self.second),
            host: &host,
            guest: wants.then_some(guest),
        });
        if let Some(answer) = &answer {
            assert!((FLOOR..=FULL).contains(&answer.mib), "{answer:?}");
            assert_ne!(answer.mib, target, "{answer:?}");
            if answer.mib < target {
                // Never what the guest uses, as far as it can have told.
                let used = self.lately_used.iter().copied().min().unwrap();
                assert!(answer.mib >= used.min(target), "{answer:?} {self:?}");
            }
            self.changes.push((self.second, target, answer.mib));
        }
        answer
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.tick();
        }
    }

    /// How often it took after giving, or gave after taking.
    fn turns(&self) -> usize {
        let ups: Vec<bool> = self.changes.iter().map(|(_, from, to)| to > from).collect();
        ups.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

#[test]
fn a_calm_host_is_left_alone() {
    let mut world = World::new(1000, 800);
    world.run(600);
    assert_eq!((world.changes.len(), world.actual), (0, FULL));
}

#[test]
fn pressure_is_answered_within_five_seconds_and_memory_comes_back() {
    let mut world = World::new(4000, 400);
    world.run(10);
    // 8192 - 2048 - 5900 leaves 244 of the 512 that shall be free.
    world.others = 5900;
    world.run(5);
    assert!(world.available() >= RESERVE, "{world:?}");
    let taken = world.actual;
    assert!(taken < FULL);
    world.run(100);
    assert_eq!(world.actual, taken, "it is not calm yet");
    world.others = 4000;
    world.run(30);
    assert_eq!(world.actual, FULL, "{:?}", world.changes);
    assert!(world.controller.at_rest());
}

#[test]
fn much_pressure_takes_down_to_what_the_guest_needs() {
    for (used, kept) in [(200, FLOOR), (900, 900 + FULL / 8), (1900, FULL)] {
        for counts_balloon in [true, false] {
            let mut world = World::new(1000, used);
            world.counts_balloon = counts_balloon;
            world.run(5);
            world.others = 8000;
            world.run(60);
            assert!(world.actual.abs_diff(kept) <= 48, "{used}: {world:?}");
        }
    }
}

#[test]
fn a_silent_guest_keeps_three_quarters() {
    let mut controller = Controller::between(FLOOR, FULL);
    let room = Room {
        name: "control group /x".into(),
        total_mib: TOTAL,
        available_mib: 10,
        reserve_mib: RESERVE,
    };
    let host = Reading {
        rooms: vec![room],
        stalled_permille: None,
    };
    let mut step = |second, actual_mib| {
        controller.step(&Observation {
            at: Duration::from_secs(second),
            host: &host,
            guest: Some(GuestRam {
                actual_mib,
                ..GuestRam::default()
            }),
        })
    };
    let target = step(1, FULL).unwrap();
    assert_eq!(target.mib, 1536);
    let words = target.to_string();
    assert!(
        words.contains("control group /x has only 10 MiB"),
        "{words}"
    );
    // Without a balloon driver nothing moves, and nothing more is asked.
    for second in 2..100 {
        assert_eq!(step(second, FULL), None);
    }
}

#[test]
fn a_guest_that_needs_more_gets_it_before_the_host_is_calm() {
    let mut world = World::new(4000, 200);
    world.others = 6000;
    world.run(60);
    let taken = world.actual;
    assert!(world.available() < 2 * RESERVE && taken < FULL);
    world.others -= 200;
    world.used = taken - 50;
    world.run(5);
    assert!(world.actual > taken + 64, "{world:?}");
    assert!(world.available() >= RESERVE + RESERVE / 2 - 8);
}

#[test]
fn stalls_count_where_memory_is_short_or_the_host_suffers() {
    let mood = |available_mib, permille| {
        let room = Room {
            name: "the host".into(),
            total_mib: TOTAL,
            available_mib,
            reserve_mib: RESERVE,
        };
        match Mood::of(&Reading {
            rooms: vec![room],
            stalled_permille: permille,
        }) {
            Mood::Pressed { .. } => "pressed",
            Mood::Between { .. } => "between",
            Mood::Calm { .. } => "calm",
        }
    };
    assert_eq!(mood(511, None), "pressed");
    assert_eq!(mood(512, None), "between");
    assert_eq!(mood(1024, None), "between");
    assert_eq!(mood(1025, None), "calm");
    assert_eq!(mood(600, Some(99)), "between");
    assert_eq!(mood(600, Some(100)), "pressed");
    assert_eq!(mood(4000, Some(9)), "calm");
    assert_eq!(mood(4000, Some(399)), "between");
    assert_eq!(mood(4000, Some(400)), "pressed");
}

#[test]
fn stalls_take_little_by_little() {
    let mut world = World::new(5300, 200);
    world.stalled = Some(150);
    let target = world.tick().unwrap();
    assert_eq!(target.mib, FULL - FULL / 16);
    assert!(
        target.to_string().contains("15.0 % of the time"),
        "{target}"
    );
    world.stalled = Some(0);
    world.run(100);
    assert_eq!(world.changes.len(), 1);
}

#[test]
fn a_host_that_comes_and_goes_is_answered_ever_more_rarely() {
    // Every half minute another program takes what the guest was given back.
    let mut world = World::new(4000, 300);
    for half_minute in 0..240 {
        world.others = if half_minute % 2 == 0 { 6200 } else { 3000 };
        world.run(30);
    }
    assert!(world.turns() < 60, "{} turns", world.turns());
}

#[test]
fn it_goes_on_from_what_the_balloon_has() {
    let mut controller = Controller::between(FLOOR, FULL);
    controller.hold(700);
    assert_eq!(
        (controller.target_mib(), controller.at_rest()),
        (700, false)
    );
    controller.hold(1);
    assert_eq!(controller.target_mib(), FLOOR);
    controller.hold(9999);
    assert!(controller.at_rest());
}

proptest! {
    /// Whatever happened before: once nothing changes outside, the balloon comes to rest, and it
    /// does not go to and fro on the way.
    #[test]
    fn a_steady_world_comes_to_rest(
        past in prop::collection::vec((0u64..9000, 0u32..2000, 0u32..1001, 1u64..40), 0..6),
        others in 0u64..9000,
        used in 0u32..2000,
        counts_balloon: bool,
        reports_free: bool,
        late in 0usize..3,
    ) {
        let mut world = World::new(1000, 100);
        world.counts_balloon = counts_balloon;
        world.reports_free = reports_free;
        world.late = late;
        for (others, used, stalled, seconds) in past {
            world.others = others;
            world.used = used.min(world.actual);
            world.stalled = Some(stalled);
            world.run(seconds);
        }
        world.changes.clear();
        world.others = others;
        world.used = used.min(world.actual);
        world.stalled = Some(0);
        world.run(700);
        prop_assert!(world.turns() <= 1, "{:?}", world.changes);
        world.changes.clear();
        world.run(600);
        prop_assert!(world.changes.is_empty(), "{:?}", world);
        // At rest, the host has its reserve or the guest nothing to spare.
        let need = (world.used + FULL / 8).max(FLOOR);
        prop_assert!(
            world.available() >= RESERVE || world.actual <= need + 64,
            "{:?}", world
        );
    }

    /// Nonsense from a guest or a host neither panics nor leaves the bounds.
    #[test]
    fn nonsense_is_borne(
        floor: u32, full: u32,
        rounds in prop::collection::vec(
            (any::<u64>(), any::<u64>(), any::<u64>(), any::<Option<u32>>(),
             any::<u32>(), any::<Option<u32>>(), any::<Option<u32>>()), 0..20),
    ) {
        let mut controller = Controller::between(floor, full);
        for (at, available_mib, reserve_mib, stalled_permille, actual_mib, total_mib, free) in rounds {
            let room = Room {
                name: String::new(), total_mib: 0, available_mib, reserve_mib,
            };
            let host = Reading { rooms: vec![room], stalled_permille };
            let answer = controller.step(&Observation {
                at: Duration::from_millis(at),
                host: &host,
                guest: Some(GuestRam { actual_mib, total_mib, available_mib: free }),
            });
            if let Some(answer) = answer {
                prop_assert!(answer.mib >= floor.min(full) && answer.mib <= full);
                prop_assert_eq!(answer.mib, controller.target_mib());
            }
        }
    }
}
