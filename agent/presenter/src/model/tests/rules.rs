//! The rules one by one.
use super::super::*;
use super::desk::*;
use medley_wire::Untrusted;
use medley_wire::pixels::Payload;
use medley_wire::window::{Change, Grip, Kind, Modifiers, Place, Seen, Shape, States};

const GREY: Payload<'_> = Payload::Solid([9, 9, 9, 0]);

#[test]
fn a_guest_speaks_only_of_windows_that_exist() {
    let here = rect(0, 0, 10, 10);
    let mut desk = Desk::new();
    assert_eq!(
        desk.map(1, 0, Kind::Normal, false),
        Err(Violation::Unknown(id(1)))
    );
    assert!(desk.model.is_ended());
    assert_eq!(desk.create(1, here), Ok(()), "nothing is taken any more");
    assert_eq!(desk.model.windows(), 0);

    let mut desk = Desk::new();
    desk.create(1, here).unwrap();
    assert_eq!(desk.create(1, here), Err(Violation::Taken(id(1))));
    assert_eq!(desk.told, [Event::Violation(Violation::Taken(id(1)))]);

    let mut desk = Desk::new();
    desk.create(1, here).unwrap();
    assert_eq!(
        desk.map(1, 2, Kind::Dialog, false),
        Err(Violation::Unknown(id(2)))
    );
}

#[test]
fn windows_are_counted() {
    let mut policy = Policy::new("w");
    policy.windows = 3;
    let mut desk = Desk::with(policy);
    for window in 1..=3 {
        desk.create(window, rect(0, 0, 5, 5)).unwrap();
    }
    desk.guest(gui::Destroy { window: id(2) }).unwrap();
    assert!(desk.said.contains(&gui::Destroyed { window: id(2) }.into()));
    desk.create(9, rect(0, 0, 5, 5)).unwrap();
    assert_eq!(desk.create(4, rect(0, 0, 5, 5)), Err(Violation::Windows(3)));
}

#[test]
fn parents_form_no_circle() {
    for chain in 1..6 {
        let mut desk = Desk::new();
        for window in 1..=chain {
            desk.create(window, rect(0, 0, 50, 50)).unwrap();
        }
        for window in 2..=chain {
            desk.map(window, window - 1, Kind::Dialog, false).unwrap();
        }
        let circle = desk.map(1, chain, Kind::Dialog, false);
        assert_eq!(circle, Err(Violation::Circle(id(1))));
    }
}

#[test]
fn pixels_are_counted_when_they_are_shown() {
    let mut policy = Policy::new("w");
    policy.pixels = Some(100 * 100 * 4 * 2);
    let mut desk = Desk::with(policy);
    for window in 1..=3 {
        desk.create(window, rect(0, 0, 100, 100)).unwrap();
    }
    desk.map(1, 0, Kind::Normal, false).unwrap();
    desk.map(2, 0, Kind::Normal, false).unwrap();
    // One that grows beyond it stays as it is, and is told so.
    desk.clear();
    desk.wish(2, rect(0, 0, 100, 101), 0).unwrap();
    assert_eq!(
        desk.configured(2).unwrap().rect.size(),
        rect(0, 0, 100, 100).size()
    );
    desk.guest(gui::Unmap { window: id(2) }).unwrap();
    desk.map(3, 0, Kind::Normal, false).unwrap();
    assert_eq!(
        desk.map(2, 0, Kind::Normal, false),
        Err(Violation::Pixels(80_000))
    );
}

/// Windows that wish all at once, before the window manager has answered any of them.
#[test]
fn wishes_are_counted_before_they_are_granted() {
    let mut policy = Policy::new("w");
    policy.pixels = Some(100 * 100 * 4 * 4);
    let mut desk = Desk::with(policy);
    for window in 1..=10 {
        desk.create(window, rect(0, 0, 10, 10)).unwrap();
        desk.map(window, 0, Kind::Normal, false).unwrap();
        desk.answer(window);
    }
    desk.clear();
    for window in 1..=10 {
        desk.wish(window, rect(0, 0, 100, 100), 0).unwrap();
    }
    // They are granted as they were asked for, all of them later.
    let mut granted = Vec::new();
    for action in std::mem::take(&mut desk.did) {
        if let Action::Place { window, rect } = action {
            granted.push((window, rect));
        }
    }
    assert_eq!(
        granted.len(),
        3,
        "the others would have no room: {granted:?}"
    );
    for (window, rect) in granted {
        desk.host(HostEvent::Moved { window, rect });
    }
    assert!(desk.model.pixels_held() <= desk.model.pixel_budget());
    // What nobody granted in time is not held against the others.
    desk.wish(1, rect(0, 0, 10, 10), 0).unwrap();
}

#[test]
fn one_question_is_open_and_the_hosts_truth_wins() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.answer(1);
    desk.clear();
    let moved = |x| HostEvent::Moved {
        window: id(1),
        rect: rect(x, 100, 300, 200),
    };
    for x in 101..150 {
        desk.host(moved(x));
    }
    let questions = desk.said.len();
    assert_eq!(questions, 1, "the others wait: {:?}", desk.said);
    let first = desk.configured(1).unwrap();
    // The guest wishes something while it has not answered: it is asked about what is so first.
    desk.wish(1, rect(0, 30, 10, 10), 0).unwrap();
    desk.wish(1, first.rect, first.serial).unwrap();
    let second = desk.configured(1).unwrap();
    assert_eq!(second.rect, rect(149, 100, 300, 200));
    desk.wish(1, second.rect, second.serial).unwrap();
    assert_eq!(desk.said.len(), 2);
    assert_eq!(
        desk.wish(1, second.rect, second.serial),
        Err(Violation::Answer(id(1)))
    );
}

#[test]
fn a_wish_during_a_question_is_heard_afterwards() {
    let mut desk = Desk::new();
    desk.create(1, rect(0, 30, 100, 100)).unwrap();
    desk.map(1, 0, Kind::Normal, false).unwrap();
    // The manager puts it somewhere; meanwhile the app resizes itself, as many do.
    desk.host(HostEvent::Moved {
        window: id(1),
        rect: rect(500, 200, 100, 100),
    });
    let question = desk.configured(1).unwrap();
    desk.wish(1, rect(500, 200, 640, 480), 0).unwrap();
    desk.clear();
    desk.wish(1, question.rect, question.serial).unwrap();
    let place = Action::Place {
        window: id(1),
        rect: rect(500, 200, 640, 480),
    };
    assert_eq!(desk.did, [place]);
}

#[test]
fn a_wish_that_the_manager_ignores_is_answered_all_the_same() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.answer(1);
    desk.clear();
    desk.wish(1, rect(5, 50, 20, 20), 0).unwrap();
    assert_eq!(desk.configured(1), None);
    let deadline = desk.model.deadline().unwrap();
    desk.model.tick(deadline);
    desk.take();
    assert_eq!(desk.configured(1).unwrap().rect, rect(100, 100, 300, 200));
    assert_eq!(desk.model.deadline(), None);
}

#[test]
fn two_frames_of_a_window_and_eight_of_a_guest() {
    let mut desk = Desk::new();
    for window in 1..=9 {
        desk.window(window, rect(0, 30, 10, 10));
    }
    let at = rect(0, 0, 10, 10);
    desk.patch(1, 1, false, at, GREY).unwrap();
    desk.patch(1, 1, true, at, GREY).unwrap();
    desk.patch(1, 2, true, at, GREY).unwrap();
    desk.clear();
    desk.host(HostEvent::Painted);
    let acknowledged = |desk: &Desk| {
        let done = |m: &&FromHost<'_>| matches!(m, FromHost::FrameDone(_));
        desk.said.iter().filter(done).count()
    };
    assert_eq!(acknowledged(&desk), 2);
    // A frame that is not whole is not acknowledged.
    desk.clear();
    desk.patch(2, 1, false, at, GREY).unwrap();
    desk.host(HostEvent::Painted);
    assert_eq!(acknowledged(&desk), 0);
    for window in 3..=9 {
        desk.patch(window, 1, true, at, GREY).unwrap();
    }
    assert_eq!(
        desk.patch(1, 3, true, at, GREY),
        Err(Violation::Frames(id(1)))
    );

    let mut desk = Desk::new();
    desk.window(1, rect(0, 30, 10, 10));
    desk.patch(1, 1, true, at, GREY).unwrap();
    desk.patch(1, 2, true, at, GREY).unwrap();
    assert_eq!(
        desk.patch(1, 3, true, at, GREY),
        Err(Violation::Frames(id(1)))
    );

    let mut desk = Desk::new();
    desk.window(1, rect(0, 30, 10, 10));
    desk.patch(1, 1, false, at, GREY).unwrap();
    assert_eq!(
        desk.patch(1, 2, true, at, GREY),
        Err(Violation::Mixed(id(1)))
    );
}

#[test]
fn a_frame_cannot_paint_for_ever() {
    let mut desk = Desk::new();
    desk.window(1, rect(0, 30, 1000, 700));
    let all = rect(0, 0, 1000, 700);
    for _ in 0..4 {
        desk.patch(1, 1, false, all, GREY).unwrap();
    }
    assert_eq!(
        desk.patch(1, 1, false, all, GREY),
        Err(Violation::Painted(id(1)))
    );
}

#[test]
fn pixels_that_do_not_unpack_end_it() {
    let mut desk = Desk::new();
    desk.window(1, rect(0, 30, 10, 10));
    let bad = Payload::Lz4(medley_wire::Bytes(&[0xff; 30]));
    assert_eq!(
        desk.patch(1, 1, true, rect(0, 0, 10, 10), bad),
        Err(Violation::Packed(id(1)))
    );
}

#[test]
fn a_buffer_outside_of_the_pool_ends_it() {
    let mut desk = Desk::new();
    desk.window(1, rect(0, 30, 10, 10));
    let attach = gui::Attach {
        window: id(1),
        buffer: Untrusted::claim(medley_wire::pixels::Buffer {
            offset: 0,
            stride: 40,
            size: rect(0, 0, 10, 10).size(),
            format: medley_wire::pixels::Format::Xrgb,
        }),
    };
    assert_eq!(desk.guest(attach), Err(Violation::Pool(id(1))));
}

#[test]
fn a_guest_that_talks_too_much_is_cut_off() {
    let mut desk = Desk::new();
    desk.create(1, rect(0, 0, 5, 5)).unwrap();
    let broken = (0..100_000).find_map(|n| desk.title(1, &n.to_string()).err());
    assert_eq!(broken, Some(Violation::Rate));
}

#[test]
fn keys_go_to_the_window_that_has_the_keyboard_and_to_no_other() {
    let mut desk = Desk::new();
    desk.key(30, true, NONE);
    desk.window(1, rect(0, 30, 50, 50));
    desk.key(30, true, NONE);
    assert_eq!(desk.keys_said(), 0);
    desk.focus(1);
    desk.key(30, true, NONE);
    desk.key(30, true, NONE);
    desk.key(30, false, NONE);
    assert_eq!(desk.keys_said(), 3, "repeats are the host's");
    desk.unfocus(1);
    assert!(desk.said.contains(&gui::Leave { window: id(1) }.into()));
    desk.key(30, true, NONE);
    assert_eq!(desk.keys_said(), 3);
}

#[test]
fn the_hosts_chords_are_the_hosts() {
    let mut desk = Desk::new();
    desk.focused(1, rect(0, 30, 50, 50));
    desk.clear();
    let held = Modifiers::MOD4.with(Modifiers::SHIFT);
    desk.key(46, true, held);
    desk.key(46, true, held);
    desk.key(46, false, held);
    assert_eq!(desk.keys_said(), 0);
    assert_eq!(desk.told, [Event::Chord(Chord::Copy)]);
    // The same key alone is the guest's.
    desk.key(46, true, NONE);
    desk.key(46, false, NONE);
    assert_eq!(desk.keys_said(), 2);
    desk.key(38, true, held);
    assert!(desk.model.is_locked() && desk.card && desk.shown.is_empty());
}

#[test]
fn a_guest_cannot_take_the_keyboard() {
    let mut desk = Desk::new();
    desk.window(1, rect(0, 30, 50, 50));
    assert!(!desk.shown[&id(1)].by_user, "nobody did anything");
    desk.focus(1);
    desk.key(28, true, NONE);
    desk.create(2, rect(0, 30, 50, 50)).unwrap();
    desk.map(2, 1, Kind::Dialog, false).unwrap();
    assert!(
        desk.shown[&id(2)].by_user,
        "somebody pressed a key a moment ago"
    );
    desk.now += Duration::from_secs(3);
    desk.create(3, rect(0, 30, 50, 50)).unwrap();
    desk.map(3, 0, Kind::Normal, false).unwrap();
    assert!(!desk.shown[&id(3)].by_user);
    // Somebody went to a window of another guest's or the host's.
    desk.key(28, true, NONE);
    desk.unfocus(1);
    desk.create(4, rect(0, 30, 50, 50)).unwrap();
    desk.map(4, 0, Kind::Normal, false).unwrap();
    assert!(!desk.shown[&id(4)].by_user);
    // Wanting to be looked at is all that is left.
    desk.clear();
    desk.state(4, States::ATTENTION, States::NONE).unwrap();
    assert!(matches!(desk.did[..], [Action::States { .. }]));
    assert_eq!(desk.model.focus(), None);
}

#[test]
fn a_launch_brings_one_window_to_the_front() {
    let mut desk = Desk::new();
    desk.host(HostEvent::Launch(5));
    desk.now += Duration::from_secs(20);
    for (window, launch, by_user) in [(1, 6, false), (2, 5, true), (3, 5, false)] {
        desk.launched(window, rect(0, 30, 50, 50), launch).unwrap();
        desk.map(window, 0, Kind::Normal, false).unwrap();
        assert_eq!(desk.shown[&id(window)].by_user, by_user, "{window}");
    }
}

#[test]
fn menus_live_as_long_as_their_owner_has_the_keyboard() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.create(2, rect(120, 120, 80, 200)).unwrap();
    desk.map(2, 1, Kind::PopupMenu, true).unwrap();
    assert!(!desk.shown[&id(2)].managed);
    desk.unfocus(1);
    assert!(!desk.shown.contains_key(&id(2)));
    assert_eq!(desk.said_to(2), [Seen::Visible, Seen::Hidden]);
    desk.focus(1);
    assert!(
        desk.shown.contains_key(&id(2)),
        "it is still there in the guest"
    );
}

#[test]
fn dragging_needs_a_held_button_in_that_window() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.window(2, rect(100, 100, 300, 200));
    let drag = |window| gui::Drag {
        window: id(window),
        grip: Grip::Move,
    };
    desk.clear();
    desk.guest(drag(1)).unwrap();
    desk.button(2, 5, 5, true);
    desk.guest(drag(1)).unwrap();
    assert!(desk.did.is_empty(), "{:?}", desk.did);
    desk.guest(drag(2)).unwrap();
    assert!(matches!(desk.did[..], [Action::Drag { button: 0x110, .. }]));
    // The manager has the button now; the guest sees it go up.
    assert!(matches!(desk.said.last(), Some(FromHost::Button(b)) if !b.down));
    desk.did.clear();
    desk.guest(drag(2)).unwrap();
    assert!(desk.did.is_empty());
}

#[test]
fn the_frame_takes_no_clicks_for_the_guest() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.clear();
    for (x, y) in [(-1, 5), (5, -1), (300, 5), (5, 200)] {
        desk.button(1, x, y, true);
        desk.button(1, x, y, false);
    }
    assert!(desk.said.is_empty(), "{:?}", desk.said);
    desk.button(1, 299, 199, true);
    // Once it is held, it is heard wherever it goes up.
    desk.button(1, -50, 900, false);
    assert_eq!(desk.said.len(), 2);
}

#[test]
fn fullscreen_without_leave_is_maximised_and_believed() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.clear();
    desk.state(1, States::FULLSCREEN, States::NONE).unwrap();
    let maximised = States::MAXIMISED_ACROSS.with(States::MAXIMISED_DOWN);
    let asked = Action::States {
        window: id(1),
        begin: maximised,
        end: States::NONE,
    };
    assert_eq!(desk.did, [asked]);
    let states = |states| HostEvent::States {
        window: id(1),
        states,
    };
    desk.host(states(maximised));
    let say = |begin, end| {
        let change = Change::new(begin, end).unwrap();
        FromHost::from(gui::State {
            window: id(1),
            change,
        })
    };
    assert_eq!(desk.said, [say(States::FULLSCREEN, States::NONE)]);
    desk.clear();
    desk.state(1, States::NONE, States::FULLSCREEN).unwrap();
    assert!(matches!(desk.did[..], [Action::States { end, .. }] if end == maximised));
    desk.host(states(States::NONE));
    assert!(desk.said.contains(&say(maximised, States::FULLSCREEN)));
    assert_eq!(desk.said.last(), Some(&say(States::NONE, maximised)));

    let mut policy = Policy::new("w");
    policy.fullscreen = true;
    let mut desk = Desk::with(policy);
    desk.window(1, rect(100, 100, 300, 200));
    desk.clear();
    desk.state(1, States::FULLSCREEN, States::NONE).unwrap();
    assert!(matches!(desk.did[..], [Action::States { begin, .. }] if begin == States::FULLSCREEN));
}

#[test]
fn a_guest_cannot_bring_a_minimised_window_back() {
    let mut desk = Desk::new();
    desk.window(1, rect(100, 100, 300, 200));
    desk.host(HostEvent::States {
        window: id(1),
        states: States::MINIMISED,
    });
    desk.clear();
    desk.state(1, States::NONE, States::MINIMISED).unwrap();
    assert!(matches!(desk.did[..], [Action::States { begin, end, .. }]
        if begin == States::ATTENTION && end == States::NONE));
}

#[test]
fn the_bell_rings_twice_a_second() {
    let mut desk = Desk::new();
    for _ in 0..50 {
        desk.guest(gui::Bell { window: None }).unwrap();
    }
    assert_eq!(desk.did, [Action::Bell, Action::Bell]);
}

#[test]
fn titles_say_whose_they_are() {
    let mut desk = Desk::new();
    desk.window(1, rect(0, 30, 50, 50));
    desk.title(1, "\u{202e}[host] Password\n").unwrap();
    let title = &desk.shown[&id(1)].title;
    assert!(title.starts_with("[w] "), "{title}");
    assert!(!title.contains(['\n', '\u{202e}']));
}

#[test]
fn a_lock_leaves_one_card_and_an_unlock_everything() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.window(2, rect(0, 30, 50, 50));
    desk.clear();
    desk.host(HostEvent::Lock);
    assert!(desk.card && desk.shown.is_empty());
    assert!(desk.said.contains(&gui::Leave { window: id(1) }.into()));
    assert_eq!(desk.said_to(2), [Seen::Hidden]);
    desk.clear();
    desk.key(30, true, NONE);
    desk.focus(1);
    desk.key(30, true, NONE);
    desk.create(3, rect(0, 30, 50, 50)).unwrap();
    desk.map(3, 0, Kind::Normal, false).unwrap();
    desk.guest(gui::Bell { window: None }).unwrap();
    assert_eq!(
        (desk.keys_said(), desk.shown.len(), desk.did.len()),
        (0, 0, 0)
    );
    desk.host(HostEvent::Unlock);
    assert!(!desk.card);
    assert_eq!(desk.shown.len(), 3);
    assert_eq!(desk.shown[&id(1)].rect, rect(100, 100, 300, 200));
    desk.check();
}

#[test]
fn the_order_is_told_as_far_as_it_changed() {
    let mut desk = Desk::new();
    for window in 1..=4 {
        desk.window(window, rect(0, 30, 50, 50));
    }
    desk.host(HostEvent::Stacked([1, 2, 3, 4].map(id).to_vec()));
    desk.clear();
    desk.host(HostEvent::Stacked([1, 2, 4, 3].map(id).to_vec()));
    let above = |window, sibling| {
        FromHost::from(gui::Stack {
            window: id(window),
            sibling: Some(id(sibling)),
            place: Place::Above,
        })
    };
    assert_eq!(desk.said, [above(4, 2), above(3, 4)]);
    // Nothing goes up while somebody works elsewhere; the guest hears how things are.
    desk.clear();
    let top = || gui::Stack {
        window: id(4),
        sibling: None,
        place: Place::Above,
    };
    desk.guest(top()).unwrap();
    assert!(desk.did.is_empty());
    assert_eq!(desk.said, [above(4, 2)]);
    // A guest's wish to be on top is a wish to be above its own topmost.
    desk.focus(2);
    desk.clear();
    desk.guest(gui::Stack {
        window: id(1),
        sibling: None,
        place: Place::Above,
    })
    .unwrap();
    let stack = Action::Stack {
        window: id(1),
        sibling: id(3),
        place: Place::Above,
    };
    assert_eq!(desk.did, [stack]);
}

#[test]
fn pictures_of_cursors_need_leave() {
    let picture = || gui::CursorPicture {
        x: 0,
        y: 0,
        picture: medley_wire::pixels::Picture::new(rect(0, 0, 1, 1).size(), &[0; 4]).unwrap(),
    };
    let mut desk = Desk::new();
    desk.guest(gui::Cursor { shape: Shape::Hand }).unwrap();
    assert_eq!(desk.did, [Action::Cursor(Shape::Hand)]);
    assert_eq!(desk.guest(picture()), Err(Violation::Cursor));
    let mut policy = Policy::new("w");
    policy.cursor_pictures = true;
    let mut desk = Desk::with(policy);
    desk.guest(picture()).unwrap();
}

#[test]
fn what_is_not_said_again_is_gone_and_what_is_stays_where_it_was() {
    let mut desk = Desk::new();
    desk.focused(1, rect(100, 100, 300, 200));
    desk.window(2, rect(0, 30, 50, 50));
    desk.clear();
    desk.host(HostEvent::Resync);
    let generation = match &desk.said[..] {
        [FromHost::Resync(resync)] => resync.generation,
        other => panic!("{other:?}"),
    };
    desk.guest(gui::Snapshot {
        generation,
        windows: 1,
    })
    .unwrap();
    desk.create(1, rect(100, 100, 300, 200)).unwrap();
    desk.map(1, 0, Kind::Normal, false).unwrap();
    desk.guest(gui::SnapshotEnd { generation }).unwrap();
    let hidden = Action::Hide(id(2));
    assert_eq!(desk.did, [hidden], "the first one was not touched");
    assert_eq!(desk.model.windows(), 1);
    assert!(desk.told.contains(&Event::Whole { windows: 1 }));
    assert_eq!(
        desk.guest(gui::SnapshotEnd { generation }),
        Err(Violation::Snapshot(generation))
    );
}

#[test]
fn a_window_that_is_found_again_after_a_restart_keeps_its_place() {
    let mut desk = Desk::with(Policy::new("w"));
    desk.guest(gui::Snapshot {
        generation: 1,
        windows: 1,
    })
    .unwrap();
    desk.create(1, rect(333, 222, 300, 200)).unwrap();
    desk.map(1, 0, Kind::Normal, false).unwrap();
    let look = &desk.shown[&id(1)];
    assert!(look.placed && !look.by_user);
    assert_eq!(look.rect, rect(333, 222, 300, 200));
}
