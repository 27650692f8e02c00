//! The presenter on a real Wayland compositor (sway, without a screen), and a guest that says what the test wants.
#![allow(clippy::unwrap_used)]
mod support;
#[path = "support/sway.rs"]
mod sway;
#[path = "support/weston.rs"]
mod weston;

use medley_wire::control::{ClipboardForm, ClipboardKind, ClipboardOffer, Verdict};
use medley_wire::gui::{self, FromHost};
use medley_wire::pixels::Payload;
use medley_wire::window::{Change, Given, Hints, Kind, Modifiers, Seen, Shape, States};
use medley_wire::{AppId, Channel, List, Rect, Untrusted, bulk, control};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::*;
use sway::{FLOATING, Hands, Sway};

/// A desk, a guest that has begun, and a presenter between them.
fn begun(config: &str, more: &[&str]) -> Option<(Sway, Sockets, Presenter, Guest)> {
    if !sway::is_installed() {
        return None;
    }
    let (sway, sockets) = (Sway::new(config), Sockets::new());
    let mut presenter = sway.presenter(&sockets, more);
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    Some((sway, sockets, presenter, guest))
}

/// Skips a test where there is no compositor; that was said.
macro_rules! desk {
    ($config:expr, $more:expr) => {
        match begun($config, $more) {
            Some(all) => all,
            None => return,
        }
    };
}

/// A window of one colour that is on the screen and has the keyboard: where its surface is on the screen.
fn shown(sway: &Sway, guest: &mut Guest, window: u32, at: Rect) -> (i32, i32, u32, u32) {
    let title = format!("window {window}");
    guest.window(window, &title, at);
    let size = at.size();
    guest.fill(window, rect(0, 0, size.width(), size.height()), GREEN);
    let title = format!("[test] {title}");
    sway.sized(&title, size.width() + 6, size.height() + 6)
}

fn focus(guest: &mut Guest, window: u32) {
    guest.wait("the keyboard", |message| match message {
        FromHost::Focus(focus) if focus.window == id(window) => Some(()),
        _ => None,
    });
}

/// What differs between the screen and a frame around these pixels at that place, if anything does.
fn fault(
    sway: &Sway,
    (x, y, width, height): (i32, i32, u32, u32),
    inner: &[u32],
) -> Option<String> {
    assert_eq!(inner.len() as u32, (width - 6) * (height - 6));
    let shot = sway.shot();
    let mut pixels = inner.iter();
    for row in 0..height {
        for column in 0..width {
            let inside = (BORDER..width - BORDER).contains(&column)
                && (BORDER..height - BORDER).contains(&row);
            let expect = if inside {
                *pixels.next().unwrap()
            } else {
                look().at(column as u16, row as u16).pixel()
            };
            let got = shot.at(x as u32 + column, y as u32 + row);
            if got != expect {
                return Some(format!(
                    "{got:06x} instead of {expect:06x} at {column},{row} of {width}x{height}, inside: {inside}"
                ));
            }
        }
    }
    None
}

/// The compositor shows what it was given a moment later.
fn assert_framed(sway: &Sway, place: (i32, i32, u32, u32), inner: &[u32]) {
    let began = Instant::now();
    while let Some(fault) = fault(sway, place, inner) {
        assert!(began.elapsed() < PATIENCE, "{fault}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn as_pixels(bytes: &[u8]) -> Vec<u32> {
    let pixels = bytes.as_chunks::<4>().0.iter();
    pixels
        .map(|p| u32::from_le_bytes(*p) & 0x00ff_ffff)
        .collect()
}

fn keys(guest: &mut Guest) -> Vec<(u16, bool)> {
    guest.settle();
    let keys = guest.inbox.iter().filter_map(|message| match message {
        FromHost::Key(key) => Some((key.code.0, key.down)),
        _ => None,
    });
    let keys = keys.collect();
    guest.inbox.clear();
    keys
}

#[test]
fn a_window_has_its_pixels_its_frame_and_its_name() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    guest.window(1, "hello", rect(50, 60, 200, 120));
    let bytes = picture(200, 120);
    let frame = guest.patch(1, rect(0, 0, 200, 120), raw(&bytes));
    guest.shown(1, frame);
    let place = sway.sized("[test] hello", 206, 126);
    assert_framed(&sway, place, &as_pixels(&bytes));
    let app = "01".repeat(16);
    let window = sway.window("[test] hello");
    assert_eq!(window["app_id"], format!("medley-test.{app}"));
    // A piece of it, and one that sticks out on every side: the frame stays what it is.
    let mut pixels = as_pixels(&bytes);
    guest.fill(1, rect(10, 20, 30, 5), 0x0012_3456);
    for row in 20..25 {
        pixels[row * 200 + 10..row * 200 + 40].fill(0x0012_3456);
    }
    assert_framed(&sway, place, &pixels);
    let big = vec![0x77; 400 * 300 * 4];
    let frame = guest.patch(1, rect(-100, -100, 400, 300), raw(&big));
    guest.shown(1, frame);
    assert_framed(&sway, place, &[0x0077_7777; 200 * 120]);
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
    wait_for("an empty desktop", || sway.windows().is_empty());
}

#[test]
fn many_frames_are_all_shown_in_the_end() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let place = shown(&sway, &mut guest, 1, rect(50, 60, 200, 120));
    let mut pixels = vec![GREEN; 200 * 120];
    // Each is another piece, so that the two buffers must show what the other one was given.
    for n in 0..60_u32 {
        let at = rect((n % 20 * 10) as i32, (n / 20 * 40) as i32, 10, 40);
        let colour = 0x0001_0204 * (n + 1);
        let frame = guest.patch(1, at, Payload::Solid(colour.to_le_bytes()));
        guest.shown(1, frame);
        for row in at.y()..at.y() + 40 {
            let start = (row * 200 + at.x()) as usize;
            pixels[start..start + 10].fill(colour);
        }
    }
    assert_framed(&sway, place, &pixels);
}

#[test]
fn a_tiling_desktop_says_how_large_windows_are() {
    let (sway, _sockets, _presenter, mut guest) = desk!("default_border none\n", &[]);
    guest.window(1, "a", rect(50, 60, 200, 120));
    let got = guest.wait("a size", |message| match message {
        FromHost::Configure(c) if c.rect.size().width() > 700 => Some(c.rect),
        _ => None,
    });
    assert_eq!(got.size(), rect(0, 0, 794, 594).size());
    guest.fill(1, rect(0, 0, 794, 594), GREEN);
    assert_framed(&sway, (0, 0, 800, 600), &[GREEN; 794 * 594]);
    // A wish for another size is answered with the truth.
    guest.inbox.clear();
    guest.say(gui::Ask {
        window: id(1),
        rect: Untrusted::claim(rect(0, 0, 100, 100)),
        answers: 0,
    });
    let answer = guest.wait("an answer", |message| match message {
        FromHost::Configure(c) => Some(c.rect.size()),
        _ => None,
    });
    assert_eq!(answer, got.size());
    // A second window takes half of it, and the guest is asked once at a time while an edge is dragged.
    guest.window(2, "b", rect(0, 0, 100, 100));
    let half = guest.wait("half of it", |message| match message {
        FromHost::Configure(c) if c.window == id(1) => Some(c.rect.size()),
        _ => None,
    });
    assert_eq!(half, rect(0, 0, 394, 594).size());
    guest.fill(1, rect(0, 0, 394, 594), 0x0011_2233);
    guest.fill(2, rect(0, 0, 394, 594), 0x0044_5566);
    assert_framed(&sway, (0, 0, 400, 600), &[0x0011_2233; 394 * 594]);
    assert_framed(&sway, (400, 0, 400, 600), &[0x0044_5566; 394 * 594]);
}

#[test]
fn resizing_keeps_the_frame_around() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 200, 150));
    guest.inbox.clear();
    guest.answers = false;
    for width in (156..=396).step_by(20) {
        sway.tell(&format!("[app_id=\"medley-.*\"] resize set {width} 246"));
    }
    let place = sway.sized("[test] window 1", 396, 246);
    guest.settle();
    let asked: Vec<_> = guest
        .inbox
        .iter()
        .filter_map(|message| match message {
            FromHost::Configure(configure) => Some(configure.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 1, "one question is open");
    guest.answers = true;
    guest.answer(&asked[0]);
    let last = guest.placed(1, rect(0, 0, 1, 1));
    assert_eq!(last.size(), rect(0, 0, 390, 240).size());
    guest.fill(1, rect(0, 0, 390, 240), 0x0011_2233);
    assert_framed(&sway, place, &[0x0011_2233; 390 * 240]);
    // Smaller again: the ring lies where the guest's pixels were, without the guest.
    sway.tell("[app_id=\"medley-.*\"] resize set 106 86");
    let place = sway.sized("[test] window 1", 106, 86);
    assert_framed(&sway, place, &[0x0011_2233; 100 * 80]);
}

#[test]
fn a_guest_that_resizes_its_window_is_heard() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 200, 150));
    guest.inbox.clear();
    let wish = rect(40, 50, 333, 222);
    guest.say(gui::Ask {
        window: id(1),
        rect: Untrusted::claim(wish),
        answers: 0,
    });
    assert_eq!(guest.placed(1, wish), wish, "its place is its own affair");
    guest.fill(1, rect(0, 0, 333, 222), 0x0044_5566);
    let place = sway.sized("[test] window 1", 339, 228);
    assert_framed(&sway, place, &[0x0044_5566; 333 * 222]);
}

#[test]
fn typing_reaches_the_guest_as_evdev_codes() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    guest.inbox.clear();
    hands.key(18);
    hands.key_down(42);
    hands.modifiers(1, 0);
    hands.key(46);
    hands.modifiers(0, 0);
    hands.key_up(42);
    let shifted = guest.wait("a key with Shift", |message| match message {
        FromHost::Key(key) if key.code.0 == 46 && key.down => Some(key.held),
        _ => None,
    });
    assert_eq!(shifted, Modifiers::SHIFT);
    hands.key(35);
    let all = keys(&mut guest);
    let expect = [
        (18, true),
        (18, false),
        (42, true),
        (46, false),
        (42, false),
        (35, true),
        (35, false),
    ];
    assert_eq!(all, expect, "and the one with Shift between");
    // The host's chord is not the guest's.
    hands.modifiers(0x41, 0);
    hands.key(47);
    hands.modifiers(0, 0);
    assert!(keys(&mut guest).iter().all(|(code, _)| *code != 47));
    assert_eq!(presenter.event("chord")["chord"], "paste");
    // A key that is held repeats, without going up between; a modifier does not.
    hands.key_down(42);
    hands.key_down(30);
    std::thread::sleep(Duration::from_millis(1000));
    hands.key_up(30);
    hands.key_up(42);
    let held = keys(&mut guest);
    let count = |key| held.iter().filter(|other| **other == key).count();
    assert!((5..=20).contains(&count((30, true))), "{held:?}");
    assert_eq!((count((30, false)), count((42, true))), (1, 1));
    // Somebody looks at another workspace: nothing more is typed here, and what is held goes up.
    hands.key_down(30);
    sway.tell("workspace 2");
    guest.wait("the keyboard's end", |message| match message {
        FromHost::Leave(_) => Some(()),
        _ => None,
    });
    guest.inbox.clear();
    hands.key_up(30);
    hands.key(31);
    std::thread::sleep(Duration::from_millis(800));
    assert!(keys(&mut guest).is_empty());
}

#[test]
fn the_pointer_reaches_the_guest_and_not_through_the_frame() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    let (x, y, ..) = shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    enter(&mut hands, &mut guest, x + 33, y + 43);
    guest.inbox.clear();
    hands.click(x + 33, y + 43);
    let press = guest.wait("a press", |message| match message {
        FromHost::Button(button) => Some((button.code, button.down, button.x, button.y)),
        _ => None,
    });
    assert_eq!(press, (0x110, true, 30, 40));
    guest.wait("a release", |message| match message {
        FromHost::Button(button) if !button.down => Some(()),
        _ => None,
    });
    guest.inbox.clear();
    // The frame is the host's.
    hands.click(x + 1, y + 40);
    hands.wheel(1);
    guest.settle();
    let strange = |m: &FromHost<'_>| matches!(m, FromHost::Button(_) | FromHost::Scroll(_));
    assert!(!guest.inbox.iter().any(strange), "{:?}", guest.inbox);
    hands.point(x + 12, y + 12);
    hands.wheel(-2);
    let turned = guest.wait("the wheel", |message| match message {
        FromHost::Scroll(scroll) => Some((scroll.across, scroll.down)),
        _ => None,
    });
    assert_eq!(turned, (0, -240));
    // Dragged out of the window, it is still heard.
    guest.settle();
    guest.inbox.clear();
    hands.button(0x110, true);
    hands.point(x - 20, y - 10);
    let at = guest.wait("a movement outside", |message| match message {
        FromHost::Motion(m) if m.x < 0 => Some((m.x, m.y)),
        _ => None,
    });
    assert_eq!(at, (-23, -13));
    hands.button(0x110, false);
    guest.wait("a release outside", |message| match message {
        FromHost::Button(button) if !button.down => Some(()),
        _ => None,
    });
}

/// Moves the pointer into a window of the guest's, and waits until that has reached it: a presenter learns that the seat
/// has a pointer some time after it has, and clicks until then are nobody's.
fn enter(hands: &mut Hands, guest: &mut Guest, x: i32, y: i32) {
    hands.point(x, y);
    guest.wait("the pointer inside", |message| match message {
        FromHost::Crossing(crossing) if crossing.inside => Some(()),
        _ => None,
    });
}

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

#[test]
fn dialogs_belong_to_their_windows() {
    let (sway, _sockets, _presenter, mut guest) = desk!("default_border none\n", &[]);
    guest.window(1, "main", rect(0, 0, 400, 300));
    sway.sized("[test] main", 800, 600);
    guest.create(2, rect(50, 50, 200, 100));
    guest.title(2, "dialog");
    guest.map(2, 1, Kind::Dialog, false);
    guest.fill(2, rect(0, 0, 200, 100), GREEN);
    // Sway floats what has a parent.
    let place = sway.sized("[test] dialog", 206, 106);
    assert_eq!(sway.window("[test] dialog")["type"], "floating_con");
    assert_framed(&sway, place, &[GREEN; 200 * 100]);
}

#[test]
fn sizes_have_their_limits() {
    let (sway, _sockets, _presenter, mut guest) = desk!("default_border none\n", &[]);
    guest.create(1, rect(0, 0, 200, 100));
    guest.title(1, "fixed");
    guest.say(gui::WindowHints {
        window: id(1),
        hints: Untrusted::claim(Hints {
            given: Given::SMALLEST.with(Given::LARGEST),
            smallest: [200, 100],
            largest: [200, 100],
            step: [0; 2],
            base: [0; 2],
            aspect: [0; 4],
        }),
    });
    guest.map(1, 0, Kind::Normal, false);
    guest.fill(1, rect(0, 0, 200, 100), GREEN);
    // Sway floats what has one size only; the limits count the frame.
    let place = sway.sized("[test] fixed", 206, 106);
    assert_framed(&sway, place, &[GREEN; 200 * 100]);
}

#[test]
fn closing_is_asked_of_the_guest() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    sway.tell("[app_id=\"medley-.*\"] kill");
    guest.wait("a close", |message| match message {
        FromHost::Close(close) if close.window == id(1) => Some(()),
        _ => None,
    });
    assert_eq!(sway.windows().len(), 1, "the app may ask first");
    guest.destroy(1);
    presenter.event("closed");
    wait_for("the window's end", || sway.windows().is_empty());
}

#[test]
fn fullscreen_is_the_hosts() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &["--fullscreen"]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    guest.inbox.clear();
    let state = |message: &FromHost<'static>| match message {
        FromHost::State(state) => Some(state.change.apply(States::FULLSCREEN)),
        _ => None,
    };
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::FULLSCREEN, States::NONE).unwrap(),
    });
    assert_eq!(guest.wait("a state", state), States::FULLSCREEN);
    let all = guest.placed(1, rect(0, 0, 1, 1));
    assert_eq!(all, rect(3, 3, 794, 594), "it begins in the corner");
    guest.fill(1, rect(0, 0, 794, 594), GREEN);
    assert_framed(&sway, (0, 0, 800, 600), &[GREEN; 794 * 594]);
    sway.tell("[app_id=\"medley-.*\"] fullscreen disable");
    let ended = guest.wait("a state's end", state);
    assert_eq!(ended, States::NONE);
    assert_eq!(guest.placed(1, all).size(), rect(0, 0, 300, 200).size());
}

#[test]
fn a_lock_shows_nothing_of_the_guest() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    let count = || {
        let shot = sway.shot();
        shot.pixels.iter().filter(|pixel| **pixel == GREEN).count()
    };
    wait_for("its pixels", || count() == 300 * 200);
    presenter.command("lock");
    presenter.event("locked");
    let (x, y, ..) = sway.sized("[test] locked", 426, 126);
    guest.wait("the keyboard's end", |message| match message {
        FromHost::Leave(_) => Some(()),
        _ => None,
    });
    guest.inbox.clear();
    let frame = guest.patch(1, rect(0, 0, 300, 200), Payload::Solid(GREEN.to_le_bytes()));
    guest.shown(1, frame);
    wait_for("words on the card", || {
        let shot = sway.shot();
        let all = (0..400 * 100_u32).map(|n| shot.at(x as u32 + n % 400, y as u32 + n / 400));
        all.filter(|pixel| *pixel == 0x00ff_ffff).count() > 100
    });
    assert_eq!((count(), sway.windows().len()), (0, 1));
    // A key or a click on the card asks for an unlock and gives none.
    hands.key(30);
    presenter.event("unlock-asked");
    hands.click(x + 50, y + 50);
    presenter.event("unlock-asked");
    guest.settle();
    let heard = |m: &FromHost<'_>| matches!(m, FromHost::Key(_) | FromHost::Button(_));
    assert!(!guest.inbox.iter().any(heard));
    assert_eq!(count(), 0);
    presenter.command("unlock");
    presenter.event("unlocked");
    wait_for("its pixels", || count() == 300 * 200);
    assert_eq!(sway.windows().len(), 1, "the card is gone");
}

#[test]
fn what_nobody_sees_is_not_painted() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    sway.tell("workspace 2");
    // The compositor wants no more of it: frames are acknowledged all the same, and the guest is told.
    for n in 0..6 {
        guest.fill(1, rect(0, 0, 300, 200), n);
    }
    guest.wait("a word about it", |message| match message {
        FromHost::Visibility(v) if v.seen == Seen::Covered && v.frames == 0 => Some(()),
        _ => None,
    });
    // A second window is shown without waiting for the first one.
    shown(&sway, &mut guest, 2, rect(100, 100, 200, 100));
    sway.tell("workspace 1");
    guest.wait("a word about it", |message| match message {
        FromHost::Visibility(v) if v.window == id(1) && v.seen == Seen::Visible => Some(()),
        _ => None,
    });
    let place = sway.place("[test] window 1");
    assert_framed(&sway, place, &[5; 300 * 200]);
}

#[test]
fn monitors_come_and_go() {
    if !sway::is_installed() {
        return;
    }
    // The desktop's monitors are windows of another one.
    let outer = Sway::new("default_border none\nworkspace_layout tabbed\n");
    let (sway, sockets) = (Sway::within(&outer, FLOATING), Sockets::new());
    let listener = sockets.listen("control");
    let path = sockets.dir.path().join("control");
    let _presenter = sway.presenter(&sockets, &["--control", path.to_str().unwrap()]);
    let mut guest = sockets.accept();
    let mut line: Line<control::FromHost<'static>, control::FromGuest<'static>> =
        Line::accept(&listener, Channel::Control);
    guest.begin();
    let mut until = |count: usize| {
        let rects = |message: &control::FromHost<'_>| match message {
            control::FromHost::Monitors(monitors) => {
                let all = monitors.monitors.iter().map(|m| m.rect);
                Some(all.collect::<Vec<_>>())
            }
            _ => None,
        };
        loop {
            let all = line.wait(&format!("{count} monitors"), rects);
            if all.len() == count {
                return all;
            }
        }
    };
    let first = until(1)[0];
    let asked = rect(20, 20, 200, 100);
    shown(&sway, &mut guest, 1, asked);
    sway.tell("create_output");
    let second = until(2)[1];
    assert!(
        second.x() >= first.size().width() as i32,
        "{first:?} {second:?}"
    );
    // A window that is moved there is there for the guest, too.
    sway.tell("[app_id=\"medley-.*\"] move container to output WL-2");
    let there = guest.wait("a move", |message| match message {
        FromHost::Configure(c) if c.rect.x() >= second.x() => Some(c.rect),
        _ => None,
    });
    assert_eq!(there.size(), asked.size());
    outer.tell("[title=\".*WL-2.*\"] kill");
    assert_eq!(until(1), [first]);
    guest.wait("the window's return", |message| match message {
        FromHost::Configure(c) if c.rect.x() < second.x() => Some(()),
        _ => None,
    });
    sway.tell("workspace 2");
    guest.fill(1, rect(0, 0, 200, 100), 0x0012_3456);
    let place = sway.sized("[test] window 1", 206, 106);
    assert_framed(&sway, place, &[0x0012_3456; 200 * 100]);
}

/// The guest types what the host's keys mean, whatever layout the guest began with.
#[test]
fn the_keymap_reaches_the_guest() {
    if !sway::is_installed() {
        return;
    }
    let (sway, sockets) = (Sway::new(FLOATING), Sockets::new());
    let _hands: Hands = sway.hands();
    let listener = sockets.listen("control");
    let path = sockets.dir.path().join("control");
    let _presenter = sway.presenter(&sockets, &["--control", path.to_str().unwrap()]);
    let mut guest = sockets.accept();
    let mut line: Line<control::FromHost<'static>, control::FromGuest<'static>> =
        Line::accept(&listener, Channel::Control);
    guest.begin();
    let text = line.wait("a keymap", |message| match message {
        control::FromHost::Keymap(keymap) => {
            let text = keymap.compiled.as_str().unwrap_or_default().to_owned();
            (text.len() > 1000).then_some((text, keymap.repeat))
        }
        _ => None,
    });
    let (text, repeat) = text;
    assert!(
        text.starts_with("xkb_keymap {") && text.trim_end().ends_with("};"),
        "{text}"
    );
    assert!(text.contains("adiaeresis"), "German letters");
    assert_eq!(repeat, [600, 40]);
    // What was squeezed is still a keymap, to the program that guests give it to.
    // Into a file of its own: xkbcomp removes what is there first, also a device.
    let dir = tempfile::tempdir().unwrap();
    let compiled = std::process::Command::new("xkbcomp")
        .args(["-w", "0", "-xkb", "-"])
        .arg(dir.path().join("keymap"))
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut compiled) = compiled else {
        eprintln!("SKIPPED: xkbcomp is not installed");
        return;
    };
    let mut stdin = compiled.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert!(compiled.wait().unwrap().success());
}

#[test]
fn attention_is_asked_for_and_no_keyboard_is_taken() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let _hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    sway.tell("workspace 2");
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::ATTENTION, States::NONE).unwrap(),
    });
    wait_for("the desktop's attention", || {
        sway.window("[test] window 1")["urgent"] == true
    });
    let workspaces = sway.ask("get_workspaces");
    let focused = workspaces
        .as_array()
        .unwrap()
        .iter()
        .find(|w| w["focused"] == true);
    assert_eq!(focused.unwrap()["name"], "2");
}

#[test]
fn captions_and_watermarks_are_the_hosts() {
    let (sway, _sockets, _presenter, mut guest) =
        desk!(FLOATING, &["--caption", "--watermark", "alice 12:00"]);
    guest.window(1, "a", rect(100, 150, 400, 300));
    guest.fill(1, rect(0, 0, 400, 300), 0x00ff_ffff);
    let (x, y, ..) = sway.sized("[test] a", 406, 300 + 6 + 18);
    let marked = |shot: &Shot| {
        let all =
            (0..400 * 300_u32).map(|n| shot.at(x as u32 + 3 + n % 400, y as u32 + 21 + n / 400));
        all.filter(|pixel| *pixel != 0x00ff_ffff).count()
    };
    wait_for("a watermark", || {
        (300..30_000).contains(&marked(&sway.shot()))
    });
    let before = sway.shot();
    let strip = (3..200).flat_map(|x| (3..21).map(move |y| (x, y)));
    let white = strip.filter(|(dx, dy)| before.at(x as u32 + dx, y as u32 + dy) == 0x00ff_ffff);
    assert!(white.count() > 20, "words on the caption");
    for n in 0..400 {
        let pixel = before.at(x as u32 + n, y as u32 + 323);
        assert_eq!(pixel, look().at(n as u16, 323).pixel());
    }
    // Painted in pieces, it is the same.
    for x in (0..400).step_by(37) {
        guest.fill(1, rect(x, 0, 37, 300), 0x00ff_ffff);
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(sway.shot() == before);
}

/// Cursors are of the desktop's theme, or an arrow of ours; a name that the guest says changes it.
#[test]
fn the_pointer_is_dressed() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    let (x, y, ..) = shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    hands.point(x + 100, y + 100);
    let strange = || {
        let shot = sway.grim(&["-c"]);
        let around = (0..40 * 40_u32).map(|n| (x as u32 + 85 + n % 40, y as u32 + 85 + n / 40));
        around.filter(|(x, y)| shot.at(*x, *y) != GREEN).count()
    };
    wait_for("a pointer", || strange() > 20);
    guest.say(gui::Cursor {
        shape: Shape::Hidden,
    });
    wait_for("no pointer", || strange() == 0);
    guest.say(gui::Cursor {
        shape: Shape::Arrow,
    });
    wait_for("a pointer again", || strange() > 20);
}

#[test]
fn the_sandbox_is_on_while_the_guest_is_heard() {
    let (sway, _sockets, presenter, mut guest) = desk!(FLOATING, &[]);
    let ready = presenter
        .seen
        .iter()
        .find(|event| event["event"] == "ready");
    assert_eq!(ready.unwrap()["display"], "wayland");
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", presenter.process.0.id())).unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(
        (value("Seccomp:"), value("NoNewPrivs:"), value("Threads:")),
        ("2".into(), "1".into(), "1".into())
    );
    // Nothing is left behind by a hundred windows and sizes: neither files nor memory.
    let open = || {
        let folder = format!("/proc/{}/fd", presenter.process.0.id());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = open();
    for n in 0..50 {
        let at = rect(100, 100, 100 + n, 100);
        guest.window(2, "another", at);
        guest.fill(2, rect(0, 0, 100 + n, 100), GREEN);
        guest.destroy(2);
    }
    guest.fill(1, rect(0, 0, 300, 200), GREEN);
    wait_for("as few descriptors as before", || open() <= before + 2);
}

#[test]
fn a_guest_that_breaks_a_rule_loses_its_windows() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    guest.map(1, 0, Kind::PopupMenu, true);
    assert_eq!(presenter.event("violation")["code"], "mapped-twice");
    assert_eq!(presenter.ended(), 6);
    wait_for("an empty desktop", || sway.windows().is_empty());
}

#[test]
fn each_end_of_the_display_has_its_code() {
    let (mut sway, sockets, mut presenter, _guest) = desk!(FLOATING, &[]);
    sway.process.0.kill().unwrap();
    sway.process.0.wait().unwrap();
    assert_eq!(presenter.ended(), 3, "the display is gone");
    let mut presenter = sway.presenter(&sockets, &[]);
    assert_eq!(presenter.ended(), 3, "there is none");
    let mut presenter = sway.presenter(&sockets, &["--display-server", "x11"]);
    assert_eq!(presenter.ended(), 3, "nor one of the other kind");
}

/// Both window systems are there: X11 is taken, unless somebody says otherwise.
#[test]
fn x11_goes_first_where_both_are() {
    if !sway::is_installed() {
        return;
    }
    let (sway, desk) = (Sway::new(FLOATING), Desk::new(800, 600));
    let ready = |server: &[&str], display: &str| {
        let sockets = Sockets::new();
        let mut command = Presenter::command_line(&sockets, &["--workspace", "test"]);
        command
            .args(server)
            .env("DISPLAY", display)
            .env("WAYLAND_DISPLAY", &sway.socket);
        Presenter::run(command).event("ready")["display"].clone()
    };
    assert_eq!(ready(&[], &desk.name), "x11");
    assert_eq!(
        ready(&["--display-server", "wayland"], &desk.name),
        "wayland"
    );
    assert_eq!(
        ready(&[], ":4711"),
        "wayland",
        "the X display does not answer"
    );
}

/// A presenter with all three channels, and a window that has the keyboard.
struct All {
    sway: Sway,
    hands: Hands,
    _sockets: Sockets,
    presenter: Presenter,
    guest: Guest,
    control: Line<control::FromHost<'static>, control::FromGuest<'static>>,
    bulk: Line<bulk::FromHost<'static>, bulk::FromGuest<'static>>,
}

fn with_clipboard() -> Option<All> {
    if !sway::is_installed() {
        return None;
    }
    let (sway, sockets) = (Sway::new(FLOATING), Sockets::new());
    let hands = sway.hands();
    let (control, bulk) = (sockets.listen("control"), sockets.listen("bulk"));
    let path = |name: &str| sockets.dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("control"), path("bulk"));
    let mut presenter = sway.presenter(
        &sockets,
        &[
            "--control",
            &a,
            "--bulk",
            &b,
            "--clipboard-in",
            "chord",
            "--clipboard-out",
            "chord",
        ],
    );
    let mut guest = sockets.accept();
    let control = Line::accept(&control, Channel::Control);
    let bulk = Line::accept(&bulk, Channel::Bulk);
    guest.begin();
    presenter.event("whole");
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    Some(All {
        sway,
        hands,
        _sockets: sockets,
        presenter,
        guest,
        control,
        bulk,
    })
}

/// Super, Shift and a key.
fn chord(hands: &mut Hands, code: u32) {
    hands.modifiers(0x41, 0);
    hands.key(code);
    hands.modifiers(0, 0);
}

#[test]
fn a_copy_of_the_hosts_reaches_the_guest_by_chord() {
    let Some(mut all) = with_clipboard() else {
        return;
    };
    let mut copy = all.sway.command("wl-copy");
    let copied = copy
        .args(["--type", "text/plain", "from the hóst"])
        .status();
    assert!(copied.unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    chord(&mut all.hands, 47);
    let offer = |message: &control::FromHost<'_>| match message {
        control::FromHost::ClipboardOffer(offer) => Some(offer.sequence),
        _ => None,
    };
    let sequence = all.control.wait("an offer", offer);
    all.control.say(control::ClipboardRequest {
        transfer: 5,
        sequence,
        kind: ClipboardKind::Text,
    });
    let verdict = all.control.wait("an answer", |message| match message {
        control::FromHost::Answer(answer) if answer.transfer == 5 => Some(answer.verdict),
        _ => None,
    });
    assert_eq!(verdict, Verdict::Yes);
    let text = all.bulk.wait("the text", |message| match message {
        bulk::FromHost::Chunk(chunk) => Some(String::from_utf8(chunk.data.0.to_vec()).unwrap()),
        _ => None,
    });
    assert_eq!(text, "from the hóst");
    let _ = &all.guest;
}

#[test]
fn a_copy_of_the_guests_reaches_the_host_by_chord() {
    let Some(mut all) = with_clipboard() else {
        return;
    };
    let form = ClipboardForm {
        kind: ClipboardKind::Text,
        size: 0,
    };
    all.control.say(ClipboardOffer {
        sequence: 9,
        forms: List::new(vec![form]),
    });
    std::thread::sleep(Duration::from_millis(100));
    chord(&mut all.hands, 46);
    all.presenter.event("chord");
    // Much more than a pipe holds: whoever pastes takes its time.
    let text = "0123456789abcde\n".repeat(4000);
    let types = |sway: &Sway| {
        let out = sway
            .command("wl-paste")
            .arg("--list-types")
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    wait_for("an offer of text", || {
        types(&all.sway).contains("text/plain")
    });
    let mut paste = all.sway.command("wl-paste");
    let paste = paste
        .args(["--no-newline", "--type", "text/plain;charset=utf-8"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let transfer = all.control.wait("a request", |message| match message {
        control::FromHost::ClipboardRequest(r) if r.sequence == 9 => Some(r.transfer),
        _ => None,
    });
    all.control.say(control::Answer {
        transfer,
        verdict: Verdict::Yes,
    });
    let (stream, size) = (1, text.len() as u64);
    all.bulk.say(bulk::Open {
        stream,
        transfer,
        carries: bulk::Carries::Clipboard,
        size: Untrusted::claim(size),
    });
    let mut offset = 0;
    for bytes in text.as_bytes().chunks(32 << 10) {
        all.bulk.say(bulk::Chunk {
            stream,
            offset,
            data: medley_wire::Bytes(bytes),
        });
        offset += bytes.len() as u64;
    }
    all.bulk.say(bulk::End { stream, size });
    let pasted = paste.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(pasted.stdout).unwrap(), text);
    // A lock takes it back.
    all.presenter.command("lock");
    wait_for("an empty clipboard", || {
        !types(&all.sway).contains("text/plain")
    });
}

#[test]
fn apps_have_names_of_their_own() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    guest.title(1, "other");
    let title = sway.window("[test] other");
    assert_eq!(title["app_id"], format!("medley-test.{}", "01".repeat(16)));
    let app = AppId::new([0xab; 16]);
    guest.say(gui::Class {
        window: id(1),
        app,
        instance: Untrusted::claim(medley_wire::Text::cut("x")),
        class: Untrusted::claim(medley_wire::Text::cut("x")),
    });
    wait_for("another app", || {
        sway.window("[test] other")["app_id"] == format!("medley-test.{}", "ab".repeat(16))
    });
}

/// Somebody pressed a key, and another window comes of it: it has the keyboard. One that comes by itself has not.
#[test]
fn a_window_that_somebody_asked_for_gets_the_keyboard() {
    let config = "no_focus [app_id=\".*\"]\nfocus_on_window_activation focus\n";
    let (sway, _sockets, _presenter, mut guest) = desk!(&format!("{FLOATING}{config}"), &[]);
    let mut hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    std::thread::sleep(Duration::from_millis(2100));
    shown(&sway, &mut guest, 2, rect(100, 100, 200, 100));
    guest.settle();
    let focused = |m: &FromHost<'_>| matches!(m, FromHost::Focus(_) | FromHost::Leave(_));
    assert!(!guest.inbox.iter().any(focused), "{:?}", guest.inbox);
    hands.key(28);
    shown(&sway, &mut guest, 3, rect(100, 100, 250, 150));
    focus(&mut guest, 3);
}

/// A compositor that has no seat, and knows what sway does not.
#[test]
fn weston_takes_all_of_it() {
    if !weston::is_installed() {
        return;
    }
    let (weston, sockets) = (weston::Weston::new(), Sockets::new());
    let mut presenter = weston.presenter(&sockets, &["--fullscreen", "--caption"]);
    assert_eq!(presenter.event("ready")["display"], "wayland");
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    let at = rect(50, 60, 300, 200);
    guest.window(1, "main", at);
    // Each frame is acknowledged when the compositor wants the next one.
    for n in 0..5 {
        guest.fill(1, rect(0, 0, 300, 200), n);
    }
    guest.create(2, rect(60, 70, 200, 100));
    guest.map(2, 1, Kind::Dialog, false);
    guest.fill(2, rect(0, 0, 200, 100), GREEN);
    // Nobody has a keyboard here: only what says something by itself is shown.
    guest.create(3, rect(100, 100, 60, 40));
    guest.map(3, 1, Kind::Note, true);
    guest.fill(3, rect(0, 0, 60, 40), GREEN);
    guest.create(4, rect(160, 100, 60, 40));
    guest.map(4, 3, Kind::Note, true);
    guest.fill(4, rect(0, 0, 60, 40), GREEN);
    for (window, to) in [
        (3, rect(120, 90, 80, 50)),
        (4, rect(180, 120, 60, 40)),
        (1, rect(0, 0, 350, 250)),
    ] {
        guest.say(gui::Ask {
            window: id(window),
            rect: Untrusted::claim(to),
            answers: 0,
        });
        guest.placed(window, to);
        guest.fill(window, rect(0, 0, to.size().width(), to.size().height()), 7);
    }
    for states in [
        States::MAXIMISED_ACROSS.with(States::MAXIMISED_DOWN),
        States::FULLSCREEN,
    ] {
        guest.say(gui::State {
            window: id(1),
            change: Change::new(states, States::NONE).unwrap(),
        });
        guest.wait("a state", |message| match message {
            FromHost::State(state) if state.change.apply(States::NONE).has(states) => Some(()),
            _ => None,
        });
        let placed = guest.placed(1, at);
        guest.fill(
            1,
            rect(0, 0, placed.size().width(), placed.size().height()),
            9,
        );
        guest.say(gui::State {
            window: id(1),
            change: Change::new(States::NONE, states).unwrap(),
        });
        guest.wait("its end", |message| match message {
            FromHost::State(state) if !state.change.apply(states).has(states) => Some(()),
            _ => None,
        });
    }
    // What stands on something goes after it, whichever way a guest tidies up.
    guest.destroy(3);
    guest.destroy(1);
    guest.destroy(4);
    presenter.command("lock");
    presenter.event("locked");
    presenter.command("unlock");
    presenter.event("unlocked");
    guest.fill(2, rect(0, 0, 200, 100), GREEN);
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
}
