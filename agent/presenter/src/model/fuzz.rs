//! An entry for a fuzzer: arbitrary bytes become a guest and a desktop that do whatever their messages and events
//! allow. Nothing may panic, and the limits hold after each step.
use super::{HostEvent, Layout, Model, Policy, Screen};
use crate::canvas::NoPool;
use crate::frame::{Frame, nearest};
use medley_wire::gui::FromGuest;
use medley_wire::pixels::{Payload, Placed};
use medley_wire::window::{Modifiers, Seen, States};
use medley_wire::{Dice, Rect, WindowId};
use std::time::Duration;

/// Steps of one run.
const STEPS: usize = 400;

/// Plays a guest against the model, and tells how many of its messages were taken.
///
/// # Panics
/// A limit does not hold.
pub fn fuzz_model(bytes: &[u8]) -> u32 {
    let mut dice = Dice::new(bytes);
    let mut policy = Policy::new("fuzz");
    // So small that a guest meets it, and that a run is quick.
    policy.pixels = Some(8 << 20);
    policy.windows = 6;
    policy.fullscreen = dice.below(2) == 0;
    policy.cursor_pictures = dice.below(2) == 0;
    let frame = Frame::new(dice.below(6) as u16, dice.below(20) as u16);
    let mut model = Model::new(policy, frame, layout(&mut dice));
    let mut now = Duration::ZERO;
    let mut steps = 0;
    for _ in 0..STEPS {
        if dice.is_empty() || model.is_ended() {
            break;
        }
        now += Duration::from_millis(dice.below(200).into());
        if dice.below(3) == 0 {
            model.host(event(&mut dice), now);
        } else if let Some(message) = dice.message::<FromGuest<'static>>() {
            // A guest that is only mad ends at its first word, and nothing is learnt from it. Mostly it says
            // what it may say; now and then it does not, and whatever is wrong then ends it.
            let mad = dice.below(256) == 255;
            let message = if mad {
                Some(message)
            } else {
                sober(&model, message)
            };
            if let Some(message) = message {
                let done = model.guest(&message, now, &NoPool);
                steps += u32::from(done.is_ok());
            }
        }
        model.tick(now);
        check(&mut model);
    }
    steps
}

/// The message as a guest would say it that keeps to the rules; nothing, if it cannot be said at present.
fn sober<'m>(model: &Model, mut message: FromGuest<'m>) -> Option<FromGuest<'m>> {
    let known = |window: &WindowId| model.windows.get(window);
    match &mut message {
        FromGuest::Create(create) => {
            let free = known(&create.window).is_none_or(|w| w.stale);
            (free && model.windows.len() < 6).then_some(())?;
        }
        FromGuest::Map(map) => {
            known(&map.window).filter(|w| w.mapped.is_none())?;
            let older = |parent: &WindowId| *parent < map.window && known(parent).is_some();
            map.parent = map.parent.filter(older);
        }
        FromGuest::Configure(ask) => {
            let asked = known(&ask.window)?.asked;
            ask.answers = asked.filter(|_| ask.answers % 2 == 0).unwrap_or(0);
        }
        FromGuest::Stack(stack) => {
            known(&stack.window)?;
            stack.sibling = stack.sibling.filter(|sibling| known(sibling).is_some());
        }
        FromGuest::Pixels(pixels) => {
            let size = known(&pixels.window)?.rect.size();
            let packed =
                |placed: Placed<'_>| matches!(placed.payload, Payload::Lz4(_) | Payload::Zstd(_));
            // Made-up bytes hardly ever unpack.
            (!pixels.patch.place(size).is_some_and(packed)).then_some(())?;
            let frames = &known(&pixels.window)?.frames;
            match frames.iter().find(|frame| frame.whole.is_none()) {
                Some(open) => pixels.frame = open.number,
                None => {
                    let all: usize = model.windows.values().map(|w| w.frames.len()).sum();
                    (frames.len() < 2 && all < 8).then_some(())?;
                    let last = frames.last().map_or(0, |frame| frame.number);
                    pixels.frame = last.wrapping_add(1);
                }
            }
        }
        FromGuest::Snapshot(snapshot) => {
            snapshot.generation = model.asked.filter(|_| model.snapshot.is_none())?;
        }
        FromGuest::SnapshotEnd(end) => end.generation = model.snapshot?,
        FromGuest::Bell(bell) => bell.window = bell.window.filter(|w| known(w).is_some()),
        FromGuest::CursorPicture(_) => model.policy.cursor_pictures.then_some(())?,
        // There is no shared memory, and a farewell is the end.
        FromGuest::Attach(_) | FromGuest::Damage(_) | FromGuest::Bye(_) => return None,
        FromGuest::Destroy(m) => known(&m.window).map(|_| ())?,
        FromGuest::Unmap(m) => known(&m.window).map(|_| ())?,
        FromGuest::Title(m) => known(&m.window).map(|_| ())?,
        FromGuest::Class(m) => known(&m.window).map(|_| ())?,
        FromGuest::Hints(m) => known(&m.window).map(|_| ())?,
        FromGuest::State(m) => known(&m.window).map(|_| ())?,
        FromGuest::Shape(m) => known(&m.window).map(|_| ())?,
        FromGuest::Drag(m) => known(&m.window).map(|_| ())?,
        FromGuest::Hello(_) | FromGuest::Cursor(_) => {}
    }
    Some(message)
}

fn check(model: &mut Model) {
    assert!(model.windows() <= 6, "too many windows");
    // The desktop may make windows larger than the guest may: at most six, no larger than itself.
    assert!(model.pixels_held() <= model.pixel_budget() + 6 * (4 << 20));
    let out = std::mem::take(model.outbox());
    for action in out.actions {
        if let super::Action::Paint { window, rect } = action
            && let Some(canvas) = model.canvas(window)
        {
            let place = model.frame().place(rect, canvas.size());
            let (width, height) = model.frame().outer(canvas.size());
            if let Some(place) = place {
                let size = place.source().size();
                let border = u32::from(model.frame().border());
                assert!(u32::from(place.x()) + size.width() + border <= width.into());
                assert!(u32::from(place.y()) + size.height() + border <= height.into());
            }
        }
    }
}

fn layout(dice: &mut Dice<'_>) -> Layout {
    let size = nearest(200 + dice.below(1000), 200 + dice.below(800));
    let rect = Rect::whole(size);
    let bar = dice.below(50);
    let work = Rect::new(
        0,
        bar.cast_signed(),
        nearest(size.width(), size.height() - bar),
    );
    let screen = Screen {
        id: 1,
        rect,
        work: work.unwrap_or(rect),
        millimetres: [0, 0],
        main: true,
    };
    Layout::new(vec![screen]).unwrap_or(Layout::single(size))
}

fn event(dice: &mut Dice<'_>) -> HostEvent {
    let window = WindowId::new(dice.below(8) + 1);
    let Some(window) = window else {
        return HostEvent::Settled;
    };
    let at = |dice: &mut Dice<'_>| dice.below(2400).cast_signed() - 1200;
    let (x, y) = (at(dice), at(dice));
    let modifiers = Modifiers::known(dice.below(256) as u8);
    match dice.below(18) {
        0..=2 => {
            let size = nearest(dice.below(1000), dice.below(800));
            let rect = Layout::reported(x, y, size);
            HostEvent::Moved { window, rect }
        }
        3 => HostEvent::States {
            window,
            states: States::known(dice.below(128) as u16),
        },
        4 => HostEvent::Seen {
            window,
            seen: [Seen::Visible, Seen::Covered, Seen::Hidden][dice.below(3) as usize],
        },
        5 => HostEvent::Stacked(
            (0..dice.below(7))
                .filter_map(|_| WindowId::new(dice.below(8)))
                .collect(),
        ),
        6 | 7 => HostEvent::Focused {
            window,
            held: modifiers,
            locked: Modifiers::NONE,
        },
        8 => HostEvent::Unfocused(window),
        9 => HostEvent::Key {
            code: dice.below(256) as u16,
            down: dice.below(2) == 0,
            group: 0,
            held: modifiers,
            locked: Modifiers::NONE,
        },
        10 => HostEvent::Button {
            window,
            x,
            y,
            code: 0x110 + dice.below(3) as u16,
            down: dice.below(2) == 0,
            held: modifiers,
        },
        11 => HostEvent::Crossing {
            window,
            inside: dice.below(2) == 0,
            x,
            y,
        },
        12 => HostEvent::Layout(layout(dice)),
        13 if dice.below(4) == 0 => HostEvent::Lock,
        13 => HostEvent::Unlock,
        14 => HostEvent::Painted,
        15 if dice.below(4) == 0 => HostEvent::Resync,
        15 => HostEvent::Launch(dice.below(4)),
        16 => HostEvent::Close(window),
        17 if dice.below(3) == 0 => HostEvent::Tray,
        _ => HostEvent::Settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a generator with a fixed beginning: the same ones each time. A fuzzer finds better ones. More
    /// of them with `MEDLEY_RUNS`.
    #[test]
    fn a_few_thousand_runs() {
        let runs = std::env::var("MEDLEY_RUNS").ok();
        let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(1000_u64);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut taken = 0_u64;
        for _ in 0..runs {
            let bytes: Vec<u8> = (0..4000)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            taken += u64::from(fuzz_model(&bytes));
        }
        // They came somewhere: guests that end at once would show nothing.
        assert!(taken > 20 * runs, "{taken} messages in {runs} runs");
    }
}
