//! The presenter on a real Wayland compositor (sway, without a screen), and a guest that says what the test wants.
#![allow(clippy::unwrap_used)]
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/sway.rs"]
mod sway;
#[path = "../support/weston.rs"]
mod weston;

use medley_desktop::{Desktop, Shot};
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

// After the macro that they use.
mod clipboard;
mod desktop;
mod input;
mod menus;
mod windows;

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

/// The compositor shows what it was given a moment later.
fn assert_framed(sway: &Sway, place: (i32, i32, u32, u32), inner: &[u32]) {
    let place = (place.0, place.1, place.2 as i32, place.3 as i32);
    let began = Instant::now();
    while let Some(fault) = fault(&sway.shot(), place, Some(inner)) {
        assert!(began.elapsed() < PATIENCE, "{fault}");
        std::thread::sleep(Duration::from_millis(10));
    }
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
