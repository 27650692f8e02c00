//! Defects of others, by name: bulletins of the Qubes project about its windows, and what MED-V documented as
//! not working. Each once was true of somebody's presenter.
use super::super::*;
use super::desk::*;
use medley_wire::Untrusted;
use medley_wire::pixels::Payload;
use medley_wire::window::{Kind, States};

/// Bulletin 1: a message about the tray was used before it was judged. Here no message names anything of the
/// host's, and one about what does not exist ends the connection.
#[test]
fn qsb_001_no_message_is_used_before_it_is_judged() {
    for number in [1, 7, u32::MAX] {
        let messages: [FromGuest<'_>; 6] = [
            gui::Unmap { window: id(number) }.into(),
            gui::Destroy { window: id(number) }.into(),
            gui::Stack {
                window: id(number),
                sibling: None,
                place: medley_wire::window::Place::Above,
            }
            .into(),
            gui::Drag {
                window: id(number),
                grip: medley_wire::window::Grip::Move,
            }
            .into(),
            gui::Bell {
                window: Some(id(number)),
            }
            .into(),
            gui::WindowShape {
                window: id(number),
                of: medley_wire::window::ShapeOf::Input,
                rects: medley_wire::List::default(),
            }
            .into(),
        ];
        for message in messages {
            let mut desk = Desk::new();
            assert_eq!(desk.guest(message), Err(Violation::Unknown(id(number))));
            assert!(desk.did.is_empty());
        }
    }
}

/// Bulletin 10: a sum of two numbers of the guest's overflowed. Every number of a guest's is at its limit here.
#[test]
fn qsb_010_no_sum_overflows() {
    let far = rect(32767, 32767, 16384, 16384);
    let near = rect(-32767, -32767, 16384, 16384);
    for at in [far, near] {
        let mut desk = Desk::new();
        desk.focused(1, at);
        desk.answer(1);
        desk.wish(1, near, 0).unwrap();
        desk.wish(1, far, 0).unwrap();
        desk.create(2, at).unwrap();
        desk.map(2, 1, Kind::Tooltip, true).unwrap();
        desk.patch(1, u32::MAX, true, far, Payload::Solid([1; 4]))
            .unwrap();
        let step = Payload::Scroll {
            dx: -32767,
            dy: -32767,
        };
        desk.patch(1, 0, true, rect(0, 0, 16384, 16384), step)
            .unwrap();
        desk.host(HostEvent::Motion {
            window: id(1),
            x: i32::MIN,
            y: i32::MAX,
        });
        desk.host(HostEvent::Motion {
            window: id(1),
            x: i32::MAX,
            y: i32::MIN,
        });
        desk.check();
        let buffer = medley_wire::pixels::Buffer {
            offset: u64::MAX,
            stride: u32::MAX,
            size: far.size(),
            format: medley_wire::pixels::Format::Xrgb,
        };
        let attach = gui::Attach {
            window: id(1),
            buffer: Untrusted::claim(buffer),
        };
        assert_eq!(desk.guest(attach), Err(Violation::Pool(id(1))));
    }
}

/// Bulletin 26: the flag that decides whether there is a frame was changed while the window was shown.
#[test]
fn qsb_026_a_shown_window_cannot_change_its_kind() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    let managed = desk.shown[&id(1)].managed;
    assert!(managed);
    let again = desk.map(1, 0, Kind::PopupMenu, true);
    assert_eq!(again, Err(Violation::Mapped(id(1))));
    assert!(desk.shown.is_empty(), "the guest has no windows any more");
}

/// Bulletin 34: a window lost its frame by becoming fullscreen.
#[test]
fn qsb_034_fullscreen_does_not_take_the_frame_away() {
    let mut policy = Policy::new("w");
    policy.fullscreen = true;
    let mut desk = Desk::with(policy);
    desk.window(1, rect(100, 100, 300, 200));
    desk.state(1, States::FULLSCREEN, States::NONE).unwrap();
    desk.host(HostEvent::Moved {
        window: id(1),
        rect: rect(3, 3, 1274, 794),
    });
    // The frame is inside of the screen: its ring and the guest's pixels make up the monitor exactly.
    let (width, height) = desk
        .model
        .frame()
        .outer(desk.model.rect(id(1)).unwrap().size());
    assert_eq!((width, height), (1280, 800));
    desk.check();
}

/// Bulletin 39: a window without a manager covered the screen, and looked like the host's desktop.
#[test]
fn qsb_039_unmanaged_windows_cannot_cover_the_screen() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.create(2, rect(0, 0, 1280, 800)).unwrap();
    desk.map(2, 1, Kind::PopupMenu, true).unwrap();
    assert!(
        desk.shown[&id(2)].managed,
        "it gets the manager's decoration"
    );

    // Nor do several together.
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    let mut managed = Vec::new();
    for (window, x) in [(2, 0), (3, 430), (4, 860)] {
        desk.create(window, rect(x, 33, 400, 760)).unwrap();
        desk.map(window, 1, Kind::PopupMenu, true).unwrap();
        managed.push(desk.shown[&id(window)].managed);
    }
    assert_eq!(managed, [false, false, true]);

    // Nor one that grows after it was shown.
    desk.wish(2, rect(0, 0, 1280, 800), 0).unwrap();
    desk.check();
    assert!(!desk.shown[&id(2)].managed);
    // Nor many that each grow, and could not have been shown so together.
    let covered = |desk: &Desk| -> u64 {
        let free = desk.shown.values().filter(|window| !window.managed);
        free.map(|window| super::super::layout::area(window.rect))
            .sum()
    };
    for window in 2..=3 {
        desk.answer(window);
        desk.wish(window, rect(0, 0, 1280, 700), 0).unwrap();
    }
    assert!(
        covered(&desk) <= 1280 * 800 * 90 / 100,
        "{}",
        covered(&desk)
    );

    // Nor those of two monitors, when one of these goes.
    let mut desk = Desk::new();
    let screen = |id, x| Screen {
        id,
        rect: rect(x, 0, 1280, 800),
        work: rect(x, 0, 1280, 800),
        millimetres: [300, 200],
        main: id == 1,
    };
    desk.host(HostEvent::Layout(
        Layout::new(vec![screen(1, 0), screen(2, 1280)]).unwrap(),
    ));
    desk.focused(1, rect(100, 100, 300, 200));
    for (window, x) in [(2, 0), (3, 430), (4, 1280), (5, 1710)] {
        desk.create(window, rect(x, 3, 400, 760)).unwrap();
        desk.map(window, 1, Kind::PopupMenu, true).unwrap();
        assert!(!desk.shown[&id(window)].managed, "{window}");
    }
    desk.host(HostEvent::Layout(Layout::new(vec![screen(1, 0)]).unwrap()));
    assert!(covered(&desk) > 0);
    assert!(
        covered(&desk) <= 1280 * 800 * 90 / 100,
        "{}",
        covered(&desk)
    );
    desk.check();

    // Nor one that is moved away from where it would be seen.
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.create(3, rect(0, 33, 400, 300)).unwrap();
    desk.map(3, 1, Kind::PopupMenu, true).unwrap();
    desk.answer(3);
    desk.wish(3, rect(-32000, 32000, 50, 50), 0).unwrap();
    desk.check();
}

/// Bulletin 72: a child window lay over the frame. There are no child windows: a parent is only what a window
/// stands before, and each has a frame of its own.
#[test]
fn qsb_072_what_has_a_parent_has_a_frame_of_its_own() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.create(2, rect(97, 97, 306, 206)).unwrap();
    desk.map(2, 1, Kind::Utility, true).unwrap();
    let outer = desk.model.frame().outer(desk.shown[&id(2)].rect.size());
    assert_eq!(outer, (312, 212));
    // Pixels that would lie on the frame are cut, on every side.
    let big = rect(-50, -50, 1000, 1000);
    desk.patch(1, 1, true, big, Payload::Solid([1, 2, 3, 4]))
        .unwrap();
    let painted = desk.did.iter().rev().find_map(|action| match action {
        Action::Paint { rect, .. } => Some(rect.get()),
        _ => None,
    });
    assert_eq!(painted, Some(rect(0, 0, 300, 200)));
}

/// Bulletin 73: daemon and window manager disagreed for a moment about who draws the frame. The manager draws
/// none of ours: it is part of the window from its first pixel, and each change of kind is another window.
#[test]
fn qsb_073_no_moment_without_a_frame() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.create(2, rect(120, 120, 90, 90)).unwrap();
    for n in 0..50 {
        let unmanaged = n % 2 == 0;
        let kind = if unmanaged {
            Kind::PopupMenu
        } else {
            Kind::Normal
        };
        desk.map(2, 1, kind, unmanaged).unwrap();
        assert_eq!(desk.shown[&id(2)].managed, !unmanaged);
        desk.check();
        desk.guest(gui::Unmap { window: id(2) }).unwrap();
        assert!(
            !desk.shown.contains_key(&id(2)),
            "the old host window is gone"
        );
    }
}

/// Bulletin 104: keys repeated in the guest after the host had seen them go up.
#[test]
fn qsb_104_keys_end_when_the_keyboard_leaves() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.key(30, true, NONE);
    desk.clear();
    desk.unfocus(1);
    // Leave is the guest's order to let go of every key. The release comes when nobody may hear it.
    desk.key(30, false, NONE);
    assert_eq!(
        desk.said.first(),
        Some(&gui::Leave { window: id(1) }.into())
    );
    assert_eq!(desk.keys_said(), 0);
    // A lock and a window that vanishes are the same.
    desk.focus(1);
    desk.clear();
    desk.host(HostEvent::Lock);
    assert!(desk.said.contains(&gui::Leave { window: id(1) }.into()));
    desk.host(HostEvent::Unlock);
    desk.focus(1);
    desk.clear();
    desk.guest(gui::Destroy { window: id(1) }).unwrap();
    assert!(desk.said.contains(&gui::Leave { window: id(1) }.into()));
}

/// MED-V 4.11: with a second monitor windows came up on the wrong screen, and stayed on one that was unplugged.
#[test]
fn medv_4_11_windows_come_back_from_a_monitor_that_is_gone() {
    let screen = |id, at: Rect| Screen {
        id,
        rect: at,
        work: at,
        millimetres: [0, 0],
        main: id == 1,
    };
    let left = screen(1, rect(0, 0, 1280, 800));
    let right = screen(2, rect(1280, 0, 1920, 1080));
    let mut desk = Desk::new();
    desk.host(HostEvent::Layout(Layout::new(vec![left, right]).unwrap()));
    desk.focused(1, rect(1500, 300, 400, 300));
    assert_eq!(
        desk.shown[&id(1)].rect,
        rect(1500, 300, 400, 300),
        "it is where it asked to be"
    );
    // A menu stays on the monitor of its place, and does not straddle two.
    desk.create(2, rect(1250, 300, 200, 100)).unwrap();
    desk.map(2, 1, Kind::PopupMenu, true).unwrap();
    assert_eq!(desk.shown[&id(2)].rect.x(), 1283);
    desk.answer(1);
    desk.clear();
    desk.host(HostEvent::Layout(Layout::new(vec![left]).unwrap()));
    let inside = |desk: &Desk, n| rect(0, 0, 1280, 800).contains(desk.shown[&id(n)].rect);
    assert!(inside(&desk, 1) && inside(&desk, 2));
    desk.check();
}

/// MED-V 4.12: a maximised window covered the task bar.
#[test]
fn medv_4_12_a_guest_cannot_place_itself_over_the_task_bar_by_maximising() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.clear();
    let maximised = States::MAXIMISED_ACROSS.with(States::MAXIMISED_DOWN);
    desk.state(1, maximised, States::NONE).unwrap();
    // The host's manager is asked, which knows its task bar; the model makes up no place of its own.
    assert!(matches!(desk.did[..], [Action::States { .. }]));
    // A menu keeps off it, too: the task bar is the upper 30 rows here.
    desk.focus(1);
    desk.create(2, rect(0, 0, 100, 20)).unwrap();
    desk.map(2, 1, Kind::DropdownMenu, true).unwrap();
    assert_eq!(desk.shown[&id(2)].rect.y(), 33);
}

/// MED-V 4.12: after the Windows key the guest heard no key any more.
#[test]
fn medv_4_12_the_super_key_does_not_end_typing() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    let logo = medley_wire::window::Modifiers::MOD4;
    desk.key(125, true, NONE);
    desk.key(125, false, logo);
    desk.key(30, true, NONE);
    desk.key(30, false, NONE);
    assert_eq!(desk.keys_said(), 4);
    // A desktop that takes the keyboard for the key gives it back.
    desk.key(125, true, NONE);
    desk.unfocus(1);
    desk.focus(1);
    desk.clear();
    desk.key(30, true, NONE);
    desk.key(30, false, NONE);
    assert_eq!(desk.keys_said(), 2);
}

/// MED-V 4.12: the desktop was black after the resolution changed.
#[test]
fn medv_4_12_a_new_resolution_keeps_the_pixels() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    let all = rect(0, 0, 300, 200);
    desk.patch(1, 1, true, all, Payload::Solid([1, 2, 3, 4]))
        .unwrap();
    desk.host(HostEvent::Layout(Layout::single(
        rect(0, 0, 640, 480).size(),
    )));
    desk.host(HostEvent::Moved {
        window: id(1),
        rect: rect(10, 10, 200, 250),
    });
    let canvas = desk.model.canvas(id(1)).unwrap();
    let kept = canvas.rows(rect(0, 0, 200, 200)).all(|row| {
        row.as_chunks::<4>()
            .0
            .iter()
            .all(|pixel| *pixel == [1, 2, 3, 4])
    });
    assert!(kept);
}

/// MED-V 4.13: frames made apps slow. Here a frame is never painted because a guest paints: an update costs
/// what its own pixels cost.
#[test]
fn medv_4_13_an_update_paints_no_frame() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.clear();
    let spot = rect(10, 10, 16, 24);
    desk.patch(1, 1, true, spot, Payload::Solid([1; 4]))
        .unwrap();
    assert!(matches!(&desk.did[..], [Action::Paint { rect, .. }] if rect.get() == spot));
}

/// MED-V 4.25: pinned and grouped by title, windows lost their place in the task bar. Ours go by the app.
#[test]
fn medv_4_25_a_windows_class_is_its_app_and_not_its_title() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    let app = medley_wire::AppId::new([5; 16]);
    desk.clear();
    desk.title(1, "another document").unwrap();
    desk.guest(gui::Class {
        window: id(1),
        app,
        instance: Untrusted::claim(medley_wire::Text::cut("evil\0name")),
        class: Untrusted::claim(medley_wire::Text::cut("Firefox")),
    })
    .unwrap();
    let window = id(1);
    assert_eq!(desk.did.last(), Some(&Action::App { window, app }));
}

/// MED-V 4.30: a banner before the log-on broke seamless mode: a window without app or parent is one, too.
#[test]
fn medv_4_30_windows_of_no_app_are_shown() {
    let mut desk = Desk::new();
    desk.create(1, rect(0, 0, 1280, 800)).unwrap();
    desk.map(1, 0, Kind::Splash, true).unwrap();
    assert!(
        desk.shown[&id(1)].managed,
        "it is too large for a splash, and shown as a window"
    );
}
