//! Menus of tray items, which open while no window of the guest has the keyboard.
use super::super::*;
use super::desk::*;
use medley_wire::window::Kind;

const MENU: (i32, i32, u32, u32) = (900, 500, 120, 200);

fn menu(desk: &mut Desk, window: u32, parent: u32) {
    let (x, y, width, height) = MENU;
    desk.create(window, rect(x, y, width, height)).unwrap();
    desk.map(window, parent, Kind::PopupMenu, true).unwrap();
    desk.settle();
}

fn crossing(desk: &mut Desk, window: u32, inside: bool) {
    desk.host(HostEvent::Crossing {
        window: id(window),
        inside,
        x: 5,
        y: 5,
    });
}

fn later(desk: &mut Desk, seconds: u64) {
    desk.now += Duration::from_secs(seconds);
    desk.settle();
    let now = desk.now;
    desk.model.tick(now);
    desk.take();
}

#[test]
fn a_menu_is_shown_after_a_click_on_a_tray_item_and_only_then() {
    let mut desk = Desk::new();
    menu(&mut desk, 1, 0);
    assert!(desk.shown.is_empty(), "nobody asked for it");
    desk.guest(gui::Unmap { window: id(1) }).unwrap();

    desk.host(HostEvent::Tray);
    desk.map(1, 0, Kind::PopupMenu, true).unwrap();
    assert!(desk.shown.contains_key(&id(1)));
    // One that was there before the click is none of its.
    later(&mut desk, 3);
    menu(&mut desk, 2, 0);
    assert!(!desk.shown.contains_key(&id(2)), "too late");
    // Other windows that manage themselves are no menus.
    desk.host(HostEvent::Tray);
    desk.create(3, rect(0, 100, 50, 50)).unwrap();
    desk.map(3, 0, Kind::Combo, true).unwrap();
    desk.settle();
    assert!(!desk.shown.contains_key(&id(3)));
}

#[test]
fn it_stays_while_somebody_points_at_it_and_is_closed_in_the_guest_after_that() {
    let mut desk = Desk::new();
    desk.host(HostEvent::Tray);
    menu(&mut desk, 1, 0);
    assert_eq!(
        desk.model.deadline(),
        Some(desk.now + Duration::from_secs(6))
    );
    crossing(&mut desk, 1, true);
    later(&mut desk, 60);
    assert!(desk.shown.contains_key(&id(1)), "somebody points at it");
    // A menu out of it is shown, too.
    menu(&mut desk, 2, 1);
    assert!(desk.shown.contains_key(&id(2)));
    crossing(&mut desk, 1, false);
    desk.clear();
    later(&mut desk, 11);
    assert!(desk.shown.is_empty(), "{:?}", desk.shown);
    let key = |message: &FromHost<'_>| matches!(message, FromHost::Key(key) if key.code.0 == 1);
    assert_eq!(desk.said.iter().filter(|message| key(message)).count(), 4);
    assert_eq!(desk.model.deadline(), None);
    // Mapped again without a click, it stays hidden.
    desk.guest(gui::Unmap { window: id(1) }).unwrap();
    desk.map(1, 0, Kind::PopupMenu, true).unwrap();
    desk.settle();
    assert!(desk.shown.is_empty());
}

#[test]
fn a_lock_takes_it_away() {
    let mut desk = Desk::new();
    desk.host(HostEvent::Tray);
    menu(&mut desk, 1, 0);
    desk.host(HostEvent::Lock);
    assert!(desk.shown.is_empty());
}
