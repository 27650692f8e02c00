//! What a window manager and a person expect of a window: transients, hints, minimising, stacking, dragging, pointers.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::Desktop;
use medley_wire::Untrusted;
use medley_wire::gui::{self, FromHost};
use medley_wire::pixels::Picture;
use medley_wire::window::{Change, Given, Grip, Hints, Kind, Place, Seen, Shape, States};
use std::time::Duration;
use support::*;
use x11rb::properties::WmSizeHints;
use x11rb::protocol::xfixes::ConnectionExt as _;

#[test]
fn a_dialog_stands_before_its_parent_and_takes_no_keyboard_by_itself() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (parent, _) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let other = own_window(&desk, "host");
    desk.activate(other).unwrap();
    guest.settle();
    guest.create(2, rect(150, 150, 100, 60));
    guest.title(2, "Ünïcode ✓");
    guest.map(2, 1, Kind::Dialog, false);
    let dialog = desk.window("[test] Ünïcode ✓", PATIENCE).unwrap();
    assert_eq!(desk.numbers(dialog, "WM_TRANSIENT_FOR").unwrap(), [parent]);
    assert_eq!(desk.numbers(dialog, "_NET_WM_USER_TIME").unwrap(), [0]);
    let kind = desk.atom("_NET_WM_WINDOW_TYPE_DIALOG").unwrap();
    assert_eq!(desk.numbers(dialog, "_NET_WM_WINDOW_TYPE").unwrap(), [kind]);
    guest.settle();
    let active = desk.numbers(desk.root, "_NET_ACTIVE_WINDOW").unwrap();
    assert_eq!(active, [other], "whoever types goes on typing there");
    assert!(!guest.inbox.iter().any(|m| matches!(m, FromHost::Focus(_))));
}

#[test]
fn hints_are_the_guests_and_the_frame() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    guest.create(1, rect(50, 50, 200, 100));
    guest.title(1, "steps");
    guest.say(gui::WindowHints {
        window: id(1),
        hints: Untrusted::claim(Hints {
            given: Given::SMALLEST
                .with(Given::STEP)
                .with(Given::BASE)
                .with(Given::LARGEST),
            smallest: [40, 30],
            // Madness, which is dropped alone.
            largest: [3, 3],
            step: [6, 13],
            base: [4, 4],
            aspect: [0; 4],
        }),
    });
    guest.map(1, 0, Kind::Normal, false);
    let window = desk.window("[test] steps", PATIENCE).unwrap();
    let hints = WmSizeHints::get_normal_hints(&desk.conn, window)
        .unwrap()
        .reply()
        .unwrap()
        .unwrap();
    assert_eq!(hints.min_size, Some((46, 36)));
    assert_eq!(hints.base_size, Some((10, 10)));
    assert_eq!(hints.size_increment, Some((6, 13)));
    assert_eq!(hints.max_size, None);
}

#[test]
fn a_minimised_window_costs_nothing_and_stays_minimised() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (window, _) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let old = desk.place(window).unwrap();
    guest.inbox.clear();
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::MINIMISED, States::NONE).unwrap(),
    });
    guest.wait("a word that it is hidden", |message| match message {
        FromHost::Visibility(v) if v.seen == Seen::Hidden && v.frames == 0 => Some(()),
        _ => None,
    });
    guest.wait("the fact", |message| match message {
        FromHost::State(state) if state.change.apply(States::NONE) == States::MINIMISED => Some(()),
        _ => None,
    });
    assert!(!desk.is_viewable(window));
    // The guest cannot bring it back. Somebody on the host can.
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::NONE, States::MINIMISED).unwrap(),
    });
    guest.settle();
    assert!(!desk.is_viewable(window));
    guest.inbox.clear();
    desk.activate(window).unwrap();
    guest.wait("a word that it is seen", |message| match message {
        FromHost::Visibility(v) if v.seen == Seen::Visible => Some(()),
        _ => None,
    });
    wait_for("its pixels", || {
        desk.is_viewable(window)
            && desk.place(window).unwrap() == old
            && desk.shot_of(window).unwrap().at(50, 50) == GREEN
    });
}

#[test]
fn windows_are_stacked_both_ways() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (first, _) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let (second, _) = focused(&desk, &mut guest, 2, rect(150, 150, 300, 200));
    let order = |desk: &Desktop| {
        desk.numbers(desk.root, "_NET_CLIENT_LIST_STACKING")
            .unwrap()
    };
    wait_for("the second on top", || order(&desk) == [first, second]);
    guest.settle();
    guest.inbox.clear();
    // Somebody raises the first one.
    desk.activate(first).unwrap();
    let told = guest.wait("an order", |message| match message {
        FromHost::Stack(stack) => Some((stack.window, stack.sibling, stack.place)),
        _ => None,
    });
    assert!(
        told == (id(1), Some(id(2)), Place::Above) || told == (id(2), None, Place::Below),
        "{told:?}"
    );
    wait_for("the first on top", || order(&desk) == [second, first]);
    // The guest's own wish, among its own.
    guest.say(gui::Stack {
        window: id(2),
        sibling: Some(id(1)),
        place: Place::Above,
    });
    wait_for("the second on top again", || {
        order(&desk) == [first, second]
    });
    // Above a window of the host's it cannot go.
    desk.activate(second).unwrap();
    guest.settle();
    guest.inbox.clear();
    let other = own_window(&desk, "host");
    desk.activate(other).unwrap();
    wait_for("the host's on top", || order(&desk).last() == Some(&other));
    guest.wait("the keyboard's end", |message| {
        matches!(message, FromHost::Leave(_)).then_some(())
    });
    guest.say(gui::Stack {
        window: id(1),
        sibling: None,
        place: Place::Above,
    });
    guest.settle();
    assert_eq!(order(&desk).last(), Some(&other));
}

#[test]
fn an_app_drags_its_window_while_a_button_is_held() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (window, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let drag = gui::Drag {
        window: id(1),
        grip: Grip::Move,
    };
    let old = desk.place(window).unwrap();
    // Without a button nothing moves.
    guest.say(drag.clone());
    desk.point(placed.x() + 20, placed.y() + 20).unwrap();
    desk.point(placed.x() + 90, placed.y() + 90).unwrap();
    guest.settle();
    assert_eq!(desk.place(window).unwrap(), old);
    desk.point(placed.x() + 20, placed.y() + 20).unwrap();
    desk.button(1, true).unwrap();
    guest.wait("the press", |message| match message {
        FromHost::Button(button) if button.down => Some(()),
        _ => None,
    });
    guest.say(drag);
    guest.wait("its end for the guest", |message| match message {
        FromHost::Button(button) if !button.down => Some(()),
        _ => None,
    });
    std::thread::sleep(Duration::from_millis(200));
    for step in 1..=10 {
        desk.point(placed.x() + 20 + step * 5, placed.y() + 20 + step * 4)
            .unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    desk.button(1, false).unwrap();
    wait_for("the window at its new place", || {
        let (x, y, ..) = desk.place(window).unwrap();
        (x - old.0 - 50).abs() < 12 && (y - old.1 - 40).abs() < 12
    });
    let now = guest.placed(1, placed);
    let (x, y, ..) = desk.place(window).unwrap();
    assert_eq!((now.x(), now.y()), (x + 3, y + 3));
}

#[test]
fn a_picture_of_a_pointer_has_an_outline_and_needs_leave() {
    let (desk, _sockets, _presenter, mut guest) = begun(&["--cursor-pictures"]);
    let (_, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    desk.conn
        .xfixes_query_version(5, 0)
        .unwrap()
        .reply()
        .unwrap();
    desk.point(placed.x() + 50, placed.y() + 50).unwrap();
    let size = rect(0, 0, 8, 8).size();
    let pixels = vec![0xff; 8 * 8 * 4];
    guest.say(gui::FromGuest::from(gui::CursorPicture {
        x: 2,
        y: 3,
        picture: Picture::new(size, &pixels).unwrap(),
    }));
    let image = |desk: &Desktop| {
        desk.conn
            .xfixes_get_cursor_image()
            .unwrap()
            .reply()
            .unwrap()
    };
    wait_for("the picture", || image(&desk).width == 10);
    let picture = image(&desk);
    assert_eq!((picture.height, picture.xhot, picture.yhot), (10, 3, 4));
    assert_eq!(picture.cursor_image[11], 0xffff_ffff);
    assert_eq!(
        picture.cursor_image[1], 0xffc0_2040,
        "the workspace's colour"
    );
    guest.say(gui::Cursor {
        shape: Shape::Hidden,
    });
    wait_for("nothing", || {
        image(&desk).cursor_image.iter().all(|pixel| *pixel == 0)
    });

    let (desk, _sockets, mut presenter, mut guest) = begun(&[]);
    focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    guest.say(gui::FromGuest::from(gui::CursorPicture {
        x: 0,
        y: 0,
        picture: Picture::new(size, &pixels).unwrap(),
    }));
    assert_eq!(presenter.event("violation")["code"], "cursor-picture");
}
