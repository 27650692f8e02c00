//! Random guests and random desktops, interleaved: whatever they do, the rules hold.
use super::super::*;
use super::desk::*;
use crate::canvas::NoPool;
use medley_wire::window::{Kind, Modifiers, Seen, States};
use medley_wire::{Dice, Set};
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// The guest makes up any message of any kind.
    Any(u16, Vec<u8>),
    /// The guest behaves, mostly: so that there is something to break.
    Create(u32, i32, i32, u32, u32),
    Map(u32, u32, u8, bool),
    Wish(u32, i32, i32, u32, u32),
    Answer(u32),
    Paint(u32),
    Host(u8, u32, i32, i32, u32, u32),
    Time(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let window = 1..7_u32;
    let x = prop_oneof![-50..1400_i32, -32767..32767_i32];
    let side = prop_oneof![1..400_u32, 1..1400_u32, 1..16384_u32];
    let at = (x.clone(), x, side.clone(), side);
    let raw = (10..38_u16, prop::collection::vec(any::<u8>(), 0..60));
    prop_oneof![
        2 => raw.prop_map(|(kind, bytes)| Step::Any(kind, bytes)),
        4 => (window.clone(), at.clone()).prop_map(|(w, (x, y, a, b))| Step::Create(w, x, y, a, b)),
        6 => (window.clone(), 0..7_u32, 0..10_u8, any::<bool>()).prop_map(|(w, p, k, u)| Step::Map(w, p, k, u)),
        4 => (window.clone(), at.clone()).prop_map(|(w, (x, y, a, b))| Step::Wish(w, x, y, a, b)),
        4 => window.clone().prop_map(Step::Answer),
        4 => window.clone().prop_map(Step::Paint),
        12 => (0..16_u8, window, at).prop_map(|(what, w, (x, y, a, b))| Step::Host(what, w, x, y, a, b)),
        1 => (0..5000_u32).prop_map(Step::Time),
    ]
}

const KINDS: [Kind; 10] = [
    Kind::Normal,
    Kind::Dialog,
    Kind::Utility,
    Kind::Splash,
    Kind::DropdownMenu,
    Kind::PopupMenu,
    Kind::Combo,
    Kind::Tooltip,
    Kind::Drag,
    Kind::Note,
];

fn host_event(what: u8, w: u32, at: (i32, i32, u32, u32)) -> HostEvent {
    let (x, y, a, b) = at;
    let window = id(w);
    match what {
        0 | 1 => HostEvent::Moved {
            window,
            // A host's window is not larger than its screens.
            rect: rect(x % 1280, y % 800, a.min(1280), b.min(800)),
        },
        2 => HostEvent::States {
            window,
            states: States::known((a % 16) as u16),
        },
        3 => HostEvent::Seen {
            window,
            seen: [Seen::Visible, Seen::Covered, Seen::Hidden][a as usize % 3],
        },
        4 => HostEvent::Stacked((1..7).map(|n| id((n + a) % 6 + 1)).collect()),
        5 | 6 => HostEvent::Focused {
            window,
            held: Modifiers::NONE,
            locked: Modifiers::NONE,
        },
        7 => HostEvent::Unfocused(window),
        8 => HostEvent::Key {
            code: (a % 60) as u16,
            down: b % 2 == 0,
            group: 0,
            held: Modifiers::known((b % 256) as u8),
            locked: Modifiers::NONE,
        },
        9 => HostEvent::Button {
            window,
            x,
            y,
            code: 0x110 + (a % 3) as u16,
            down: b % 2 == 0,
            held: Modifiers::NONE,
        },
        10 => HostEvent::Crossing {
            window,
            inside: a % 2 == 0,
            x,
            y,
        },
        11 if a % 4 == 0 => HostEvent::Lock,
        11 => HostEvent::Unlock,
        12 => HostEvent::Painted,
        13 => HostEvent::Settled,
        14 if a % 8 == 0 => HostEvent::Resync,
        14 => HostEvent::Close(window),
        _ => HostEvent::Motion { window, x, y },
    }
}

/// What was asked and not answered, by what was said.
fn open_questions(desk: &Desk, answered: &[u32]) -> BTreeMap<WindowId, usize> {
    let mut open = BTreeMap::new();
    for message in &desk.said {
        if let FromHost::Configure(configure) = message
            && !answered.contains(&configure.serial)
        {
            *open.entry(configure.window).or_default() += 1;
        }
    }
    open
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_rules_hold_whatever_happens(steps in prop::collection::vec(step(), 1..90)) {
        let mut policy = Policy::new("w");
        policy.pixels = Some(24 << 20);
        let mut desk = Desk::with(policy);
        let (mut answered, mut gesture) = (Vec::new(), None);
        for step in steps {
            let before = desk.shown.clone();
            let launched = desk.did.len();
            let done = match step {
                Step::Any(kind, bytes) => {
                    let message = <FromGuest<'static> as Set>::invent(kind, &mut Dice::new(&bytes));
                    match message {
                        Some(message) => {
                            let done = desk.model.guest(&message, desk.now, &NoPool);
                            desk.take();
                            done
                        }
                        None => Ok(()),
                    }
                }
                Step::Create(w, x, y, a, b) if !desk.model.windows.contains_key(&id(w)) => {
                    desk.create(w, rect(x, y, a, b))
                }
                Step::Map(w, p, k, u) if desk.model.windows.get(&id(w)).is_some_and(|w| w.mapped.is_none()) => {
                    let parent = if p < w && desk.model.windows.contains_key(&id(p.max(1))) { p } else { 0 };
                    desk.map(w, parent, KINDS[usize::from(k)], u)
                }
                Step::Wish(w, x, y, a, b) if desk.model.windows.contains_key(&id(w)) => {
                    desk.wish(w, rect(x, y, a, b), 0)
                }
                Step::Answer(w) => {
                    let asked = desk.model.windows.get(&id(w)).and_then(|w| w.asked);
                    match asked {
                        Some(serial) => {
                            answered.push(serial);
                            desk.wish(w, rect(0, 0, 5, 5), serial)
                        }
                        None => Ok(()),
                    }
                }
                Step::Paint(w) if desk.model.windows.get(&id(w)).is_some_and(|w| w.frames.is_empty()) => {
                    let frames: usize = desk.model.windows.values().map(|w| w.frames.len()).sum();
                    if frames < 8 {
                        let solid = medley_wire::pixels::Payload::Solid([1; 4]);
                        desk.patch(w, 1, true, rect(-5, -5, 90, 90), solid)
                    } else {
                        Ok(())
                    }
                }
                Step::Host(what, w, x, y, a, b) => {
                    let event = host_event(what, w, (x, y, a, b));
                    if matches!(event, HostEvent::Key { down: true, .. } | HostEvent::Button { down: true, .. }) {
                        gesture = Some(desk.now);
                    }
                    desk.host(event);
                    Ok(())
                }
                Step::Time(ms) => {
                    desk.now += Duration::from_millis(ms.into());
                    desk.model.tick(desk.now);
                    desk.take();
                    Ok(())
                }
                _ => Ok(()),
            };
            if done.is_err() {
                prop_assert!(desk.model.is_ended() && desk.shown.is_empty());
                break;
            }
            desk.check();
            // One question for each window, counted by what went over the wire. A window that is gone
            // takes its question with it.
            for (window, open) in open_questions(&desk, &answered) {
                if desk.model.windows.contains_key(&window) {
                    let asked = desk.model.windows[&window].asked;
                    let old = open - usize::from(asked.is_some());
                    // Older ones belong to windows that had the number before.
                    let destroyed = desk.said.iter().filter(|m| matches!(m, FromHost::Destroyed(d) if d.window == window)).count();
                    let forgotten = desk.told.iter().filter(|e| matches!(e, Event::Whole { .. })).count();
                    prop_assert!(old <= destroyed + forgotten, "{window:?}: {open} open");
                }
            }
            // Nothing took the keyboard without somebody's doing.
            for action in &desk.did[launched..] {
                if let Action::Show(look) = action && look.by_user {
                    let recent = gesture.is_some_and(|at: Duration| desk.now <= at + Duration::from_secs(2));
                    prop_assert!(recent, "{look:?}");
                }
            }
            // A window keeps its kind as long as it is shown.
            for (window, look) in &desk.shown {
                let shown = desk.did[launched..].iter().any(|a| matches!(a, Action::Show(l) if l.window == *window));
                if let Some(old) = before.get(window) && !shown {
                    prop_assert_eq!(old.managed, look.managed);
                }
            }
        }
    }
}
