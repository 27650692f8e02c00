//! The viewer between a real machine and a real window manager: what the one shows is seen on the other's screen,
//! what is typed there arrives.
#![allow(clippy::unwrap_used)]

mod support;

use medley_desktop::Desktop;
use medley_presenter::frame::{Colour, Frame, Look};
use medley_rfb::picture::{Area, Picture};
use medley_viewer::layout::Layout;
use medley_viewer::paint::Painter;
use support::{Machine, PATIENCE, SCREEN, Viewer, desktop, focus, wait_for};

const TITLE: &str = "[office] desktop";
const MENU: &str = "Press ESC for boot menu";
const ESCAPE: u8 = 1;
const F: u8 = 33;
const SHIFT: u8 = 42;
const SUPER: u8 = 125;

/// A window of this size that shows the picture, as it should be.
fn expected(picture: &Picture, size: (u16, u16), original: bool) -> Vec<u32> {
    let size = (u32::from(size.0), u32::from(size.1));
    let layout = Layout::new(size, Frame::new(3, 0), picture.size(), original);
    let mut pixels = vec![0; (size.0 * size.1) as usize];
    let mut painter = Painter {
        pixels: &mut pixels,
        layout: &layout,
    };
    painter.ring(Look::new(Colour(0xc0, 0x20, 0x40), "office"));
    painter.screen(picture, Area::of_size(size.0, size.1), None);
    pixels
}

/// Waits until a window shows exactly what the machine's screen does, ring included. Text cursors blink: the two
/// are not looked at in the same moment.
fn wait_until_shown(desk: &Desktop, machine: &mut Machine, original: bool) -> (u16, u16) {
    let window = desk.window(TITLE, PATIENCE).unwrap();
    let mut size = (0, 0);
    wait_for("the machine's pixels", || {
        let picture = machine.picture();
        let place = desk.place(window).unwrap();
        size = (place.2 as u16, place.3 as u16);
        let lit = picture.pixels().iter().filter(|pixel| **pixel != 0).count();
        lit > 100 && desk.shot_of(window).unwrap().pixels == expected(&picture, size, original)
    });
    size
}

#[test]
fn a_machines_screen_is_seen_and_typed_into() {
    let desk = desktop();
    let mut machine = Machine::start();
    machine.wait_for_words(MENU);
    let mut viewer = Viewer::start(&desk, &machine.screen(), "office", &[]);
    let shown = viewer.event("shown");
    assert_eq!(
        (&shown["width"], &shown["height"]),
        (&720.into(), &400.into())
    );
    let window = desk.window(TITLE, PATIENCE).unwrap();
    assert!(
        desk.text(window, "WM_CLASS")
            .unwrap()
            .contains("medley-office")
    );
    // Every pixel is one: text as sharp as the machine's.
    assert_eq!(wait_until_shown(&desk, &mut machine, false), (726, 406));

    // A key arrives, and its answer is seen.
    focus(&desk, window);
    assert!(!machine.words().contains("Select boot device"));
    desk.tap(ESCAPE).unwrap();
    machine.wait_for_words("Select boot device");
    wait_until_shown(&desk, &mut machine, false);

    // In a window of another size the screen fits, and the guest is asked for a better one.
    for size in [(906, 606), (400, 700)] {
        desk.resize(window, size.0.into(), size.1.into()).unwrap();
        let wished = viewer.event("wished");
        let inner = (size.0 - 6, size.1 - 6);
        assert_eq!(
            (&wished["width"], &wished["height"]),
            (&inner.0.into(), &inner.1.into())
        );
        assert_eq!(wait_until_shown(&desk, &mut machine, false), size);
    }

    // The host's chord covers the monitor, ring included; nothing of it is typed into the menu.
    let words = machine.words();
    for down in [true, false] {
        for key in [SUPER, SHIFT, F] {
            desk.key(key, down).unwrap();
        }
    }
    wait_for("the whole monitor", || {
        desk.place(window) == Some((0, 0, SCREEN.0.into(), SCREEN.1.into()))
    });
    wait_until_shown(&desk, &mut machine, false);
    assert_eq!(machine.words(), words);

    // The machine ends, and so does its window.
    machine.execute("quit", serde_json::json!({}));
    assert_eq!(viewer.event("ended")["cause"], "machine");
    assert_eq!(viewer.code(), 0);
}

#[test]
fn closing_a_window_ends_nothing_else() {
    let desk = desktop();
    let mut machine = Machine::start();
    machine.wait_for_words(MENU);
    let mut first = Viewer::start(&desk, &machine.screen(), "office", &["--original-size"]);
    let mut second = Viewer::start(&desk, &machine.screen(), "other", &["--plain"]);
    let window = desk.window(TITLE, PATIENCE).unwrap();
    desk.window("[other] desktop", PATIENCE).unwrap();
    desk.resize(window, 300, 200).unwrap();
    assert_eq!(first.event("wished")["width"], 320);
    wait_until_shown(&desk, &mut machine, true);
    desk.close(window).unwrap();
    assert_eq!(first.event("ended")["cause"], "window");
    assert_eq!(first.code(), 0);
    assert!(second.process.0.try_wait().unwrap().is_none());
    assert_eq!(
        machine.execute("query-status", serde_json::json!({}))["running"],
        true
    );
    machine.process.0.kill().unwrap();
    assert_eq!(second.event("ended")["cause"], "machine");
    assert_eq!(second.code(), 0);
    // Now there is nobody.
    let mut late = Viewer::start(&desk, &machine.screen(), "office", &[]);
    let ended = late.event("ended");
    assert!(
        ended["words"]
            .as_str()
            .unwrap()
            .contains("cannot be reached"),
        "{ended}"
    );
    assert_eq!(late.code(), 4);
}
