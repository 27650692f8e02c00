//! A tray icon of the old kind, from its app to the host's panel and back: its menu is a framed window of the host's,
//! though no window of the guest has the keyboard.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::Process;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use support::stack::{Stack, inside};
use support::*;

/// The app that the agent is tested with, too.
const APP: &str = include_str!("../../guest/tests/support/icon.py");

#[test]
fn an_icons_own_menu_is_shown_when_it_is_chosen_and_closed_when_nobody_points_at_it() {
    let mut stack = Stack::start(&[], &["--allow", "tray"]);
    let mut app = stack.program("/usr/bin/python3");
    let app = app.args(["-c", APP]);
    let mut app = app
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 with GTK (Debian: python3-gi, gir1.2-gtk-3.0)");
    let mut said = BufReader::new(app.stdout.take().unwrap()).lines();
    let _app = Process(app);
    // Somebody works in a window of the host's own.
    let own = own_window(&stack.host, "editor");
    stack.host.activate(own).unwrap();
    let item = stack.presenter.event("tray")["item"].clone();
    let menu = stack.presenter.event("tray-menu");
    let entry = menu["entries"][0]["id"].clone();
    // Its picture comes over another channel, before the menu or behind it.
    let of_item =
        |event: &serde_json::Value| event["event"] == "tray-icon" && event["item"] == item;
    if !stack.presenter.seen.iter().any(of_item) {
        assert_eq!(stack.presenter.event("tray-icon")["item"], item);
    }
    assert!(stack.popups().is_empty());

    let choice = json!({ "order": "tray-choice", "item": item, "entry": entry }).to_string();
    stack.presenter.command(&choice);
    let menu = stack.popup();
    stack.same(menu);
    wait_for("its ring", || ring_fault(&stack.host, menu.0).is_none());
    let (x, y, width, height) = inside(&stack.host, menu.0);
    assert!(x > 1000 && y > 700, "in the corner where trays are");
    stack.host.click(1, x + width / 2, y + height / 2).unwrap();
    while said.next().unwrap().unwrap() != "chosen" {}
    wait_for("the menu to go", || stack.popups().is_empty());

    // Once more, and somebody thinks better of it: it goes on both sides.
    stack.host.point(50, 50).unwrap();
    stack.presenter.command(&choice);
    let menu = stack.popup();
    let began = std::time::Instant::now();
    while stack.host.is_viewable(menu.0) {
        assert!(began.elapsed().as_secs() < 15, "it stays on the host");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(began.elapsed().as_secs() > 3, "not before its time");
    wait_for("the menu to go in the guest", || {
        stack.guests(false).iter().all(|window| *window != menu.1)
    });
    stack.lives();
}
