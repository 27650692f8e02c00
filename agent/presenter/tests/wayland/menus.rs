//! Menus beside their windows.
use super::*;

fn menu(guest: &mut Guest, window: u32, parent: u32, at: Rect, colour: u32) {
    guest.create(window, at);
    guest.map(window, parent, Kind::PopupMenu, true);
    let (width, height) = (at.size().width(), at.size().height());
    guest.fill(window, rect(0, 0, width, height), colour);
}

#[test]
fn a_menu_stands_beside_its_parent_in_a_frame_of_its_own() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    let asked = rect(100, 100, 300, 200);
    let (x, y, ..) = shown(&sway, &mut guest, 1, asked);
    focus(&mut guest, 1);
    let placed = guest.placed(1, asked);
    // Where the guest has it from its window, wherever that is on the screen.
    menu(
        &mut guest,
        2,
        1,
        rect(placed.x() + 20, placed.y() + 30, 80, 60),
        0x00ff_ff00,
    );
    let first = (x + 20, y + 30, 86, 66);
    assert_framed(&sway, first, &[0x00ff_ff00; 80 * 60]);
    // One that begins where the first one ends.
    menu(
        &mut guest,
        3,
        2,
        rect(placed.x() + 106, placed.y() + 40, 50, 40),
        0x0000_ffff,
    );
    let second = (x + 106, y + 40, 56, 46);
    assert_framed(&sway, second, &[0x0000_ffff; 50 * 40]);
    hands.click(second.0 + 13, second.1 + 14);
    let press = guest.wait("a press", |message| match message {
        FromHost::Button(button) if button.down => Some((button.window, button.x, button.y)),
        _ => None,
    });
    assert_eq!(press, (id(3), 10, 11));
    // Away with it: without a screen, sway paints the pointer into its pictures.
    hands.point(790, 590);
    // It grows, and goes elsewhere; the window has the keyboard all the time.
    guest.say(gui::Ask {
        window: id(3),
        rect: Untrusted::claim(rect(placed.x() + 100, placed.y() + 50, 70, 30)),
        answers: 0,
    });
    guest.placed(3, placed);
    guest.fill(3, rect(0, 0, 70, 30), 0x0000_ffff);
    assert_framed(&sway, (x + 100, y + 50, 76, 36), &[0x0000_ffff; 70 * 30]);
    hands.key(30);
    guest.wait("a key", |message| match message {
        FromHost::Key(key) if key.window == id(1) => Some(()),
        _ => None,
    });
    // The first one goes while the second one stands on it, as apps do that tidy up from below.
    guest.destroy(2);
    assert_framed(&sway, (x + 100, y + 50, 76, 36), &[0x0000_ffff; 70 * 30]);
    guest.destroy(3);
    assert_framed(&sway, (x, y, 306, 206), &[GREEN; 300 * 200]);
}

#[test]
fn a_menu_goes_when_its_owner_loses_the_keyboard() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let _hands = sway.hands();
    let asked = rect(100, 100, 300, 200);
    shown(&sway, &mut guest, 1, asked);
    focus(&mut guest, 1);
    let placed = guest.placed(1, asked);
    menu(
        &mut guest,
        2,
        1,
        rect(placed.x() + 20, placed.y() + 30, 80, 60),
        0x00ff_ff00,
    );
    wait_for("the menu's pixels", || {
        sway.shot()
            .pixels
            .iter()
            .filter(|pixel| **pixel == 0x00ff_ff00)
            .count()
            == 80 * 60
    });
    sway.tell("workspace 2");
    guest.wait("a word about it", |message| match message {
        FromHost::Visibility(v) if v.window == id(2) && v.seen == Seen::Hidden => Some(()),
        _ => None,
    });
    // A menu whose window is gone with it, and one that comes up meanwhile: nobody is hung up on.
    guest.destroy(1);
    guest.create(3, rect(300, 300, 50, 50));
    guest.map(3, 0, Kind::PopupMenu, true);
    guest.settle();
    assert!(!guest.gone && sway.windows().is_empty());
}

#[test]
fn a_menu_at_the_screens_edge_is_pushed_onto_it() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let _hands = sway.hands();
    let asked = rect(100, 100, 300, 200);
    shown(&sway, &mut guest, 1, asked);
    focus(&mut guest, 1);
    sway.tell("[app_id=\"medley-.*\"] move absolute position 0 380");
    wait_for("the window below", || {
        sway.place("[test] window 1").1 == 380
    });
    let placed = guest.placed(1, asked);
    menu(
        &mut guest,
        2,
        1,
        rect(placed.x() + 20, placed.y() + 190, 80, 100),
        0x00ff_ff00,
    );
    assert_framed(&sway, (20, 600 - 106, 86, 106), &[0x00ff_ff00; 80 * 100]);
}
