//! The Qubes project's bulletins about windows, tried on a real desktop by a guest that means harm. Those that need
//! no display are beside the model and the clipboard.
#![allow(clippy::unwrap_used)]
mod support;

use medley_wire::gui::{self, FromHost};
use medley_wire::window::{Change, Kind, States};
use std::time::{Duration, Instant};
use support::*;

/// Bulletin 26: a shown window is turned into one without a manager.
#[test]
fn qsb_026_a_shown_window_that_changes_its_kind_ends_it() {
    for (kind, unmanaged) in [
        (Kind::PopupMenu, true),
        (Kind::Normal, false),
        (Kind::Note, true),
    ] {
        let (desk, _sockets, mut presenter, mut guest) = begun(&[]);
        focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
        guest.map(1, 0, kind, unmanaged);
        assert_eq!(presenter.event("violation")["code"], "mapped-twice");
        assert_eq!(presenter.ended(), 6);
        assert!(windows(&desk).is_empty());
    }
}

/// Bulletin 34: fullscreen with leave keeps the ring, at the edges of the screen.
#[test]
fn qsb_034_a_fullscreen_window_has_its_ring_at_the_screens_edges() {
    let (desk, _sockets, _presenter, mut guest) = begun(&["--fullscreen"]);
    let (window, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::FULLSCREEN, States::NONE).unwrap(),
    });
    wait_for("the whole screen", || {
        desk.place(window).unwrap() == (0, 0, 800, 600)
    });
    assert_eq!(guest.placed(1, placed), rect(3, 3, 794, 594));
    // It paints more than it has.
    guest.fill(1, rect(-10, -10, 900, 700), GREEN);
    assert_eq!(ring_fault(&desk, window), None);
    assert_eq!(
        desk.shot_at((3, 3, 794, 594)).unwrap().pixels,
        vec![GREEN; 794 * 594]
    );
}

/// Bulletin 39: what covers the screen is not left without a manager, alone or together.
#[test]
fn qsb_039_menus_cannot_cover_the_desktop() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let mut number = 1;
    for y in [0, 200, 400] {
        for x in [0, 270, 540] {
            number += 1;
            guest.create(number, rect(x, y, 300, 220));
            guest.map(number, 1, Kind::PopupMenu, true);
            guest.fill(number, rect(0, 0, 300, 220), 0x00ff_ffff);
        }
    }
    guest.create(40, rect(0, 0, 800, 600));
    guest.map(40, 1, Kind::Splash, true);
    guest.settle();
    let mut covered = 0;
    for window in windows(&desk) {
        let (x, y, width, height) = desk.place(window).unwrap();
        if desk.is_unmanaged(window) {
            assert!(x >= 0 && y >= 0 && x + width <= 800 && y + height <= 600);
            covered += width * height;
        }
    }
    assert!(covered > 0 && covered <= 800 * 600 * 9 / 10, "{covered}");
}

/// Bulletin 72: a window that lies exactly over its parent's frame has a ring where its edge is.
#[test]
fn qsb_072_a_window_over_its_parents_frame_has_its_own() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (parent, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    guest.create(2, rect(placed.x() - 3, placed.y() - 3, 306, 20));
    guest.title(2, "over");
    guest.map(2, 1, Kind::Utility, true);
    let over = desk.window("[test] over", PATIENCE).unwrap();
    guest.fill(2, rect(0, 0, 306, 20), GREEN);
    assert_eq!(ring_fault(&desk, over), None);
    // Pixels for the parent that would lie on its ring do not.
    guest.fill(1, rect(-20, -20, 400, 300), 0x0012_3456);
    guest.destroy(2);
    wait_for("its end", || windows(&desk) == [parent]);
    let mut fault = None;
    wait_for("the ring", || {
        fault = ring_fault(&desk, parent);
        fault.is_none()
    });
}

/// Bulletin 73: shown and hidden as fast as it goes, as this and as that, while it paints: whatever is on the
/// screen at any time and has been painted has its ring.
#[test]
fn qsb_073_no_moment_without_a_frame() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (_, placed) = focused(&desk, &mut guest, 1, rect(50, 50, 100, 100));
    let mut seen = 0;
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(2) {
        n += 1;
        let unmanaged = n % 2 == 0;
        guest.create(2, rect(placed.x() + 200, placed.y() + 150, 120, 90));
        let kind = if unmanaged {
            Kind::PopupMenu
        } else {
            Kind::Dialog
        };
        guest.map(2, 1, kind, unmanaged);
        guest.fill(2, rect(0, 0, 120, 90), GREEN);
        for window in windows(&desk) {
            let (_, _, width, height) = desk.place(window).unwrap();
            if (width, height) == (126, 96) && desk.is_viewable(window) {
                let fault = ring_fault(&desk, window);
                // What is being moved by its manager at this moment is looked at again.
                let fault = fault.and_then(|_| {
                    std::thread::sleep(Duration::from_millis(100));
                    ring_fault(&desk, window)
                });
                assert_eq!(fault, None, "round {n}");
                seen += 1;
            }
        }
        guest.destroy(2);
    }
    assert!(seen > 3 && n > 5, "{seen} of {n}");
}

/// Bulletin 104: a key that is held when the keyboard goes elsewhere ends, and repeats nowhere.
#[test]
fn qsb_104_a_held_key_ends_with_the_keyboard() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    desk.key(30, true).unwrap();
    guest.wait("the key", |message| match message {
        FromHost::Key(key) if key.down => Some(()),
        _ => None,
    });
    let other = own_window(&desk, "host");
    desk.activate(other).unwrap();
    guest.wait("the order to let go", |message| match message {
        FromHost::Leave(_) => Some(()),
        _ => None,
    });
    guest.inbox.clear();
    std::thread::sleep(Duration::from_millis(900));
    guest.settle();
    desk.key(30, false).unwrap();
    let keys = |m: &FromHost<'_>| matches!(m, FromHost::Key(_));
    assert!(!guest.inbox.iter().any(keys), "{:?}", guest.inbox);
}
