//! What tests of the presenter are made of: a desktop of its own for each, a guest that says what the test wants, and
//! the presenter between them.
#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]
mod guest;
mod look;
mod presenter;
mod sockets;
pub mod stack;

pub use guest::{Guest, id, raw, rect, rects};
pub use look::{BORDER, GREEN, as_pixels, fault, look, own_window, picture, ring_fault, windows};
pub use presenter::Presenter;
pub use sockets::{Line, Sockets};

use medley_desktop::{Desktop, Window};
use medley_wire::Rect;
use medley_wire::gui::FromHost;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A desk, a guest that has begun, and a presenter between them.
pub fn begun(more: &[&str]) -> (Desktop, Sockets, Presenter, Guest) {
    let (desk, sockets) = (Desktop::start(800, 600).unwrap(), Sockets::new());
    let mut presenter = Presenter::start(&desk, &sockets, more);
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    (desk, sockets, presenter, guest)
}

/// A window of one colour that has the keyboard: the host's window, and where the guest's pixels are.
pub fn focused(desk: &Desktop, guest: &mut Guest, window: u32, at: Rect) -> (Window, Rect) {
    let title = format!("window {window}");
    guest.window(window, &title, at);
    let host = desk.window(&format!("[test] {title}"), PATIENCE);
    let host = host.unwrap();
    let placed = guest.placed(window, at);
    let whole = rect(0, 0, at.size().width(), at.size().height());
    guest.fill(window, whole, GREEN);
    desk.activate(host).unwrap();
    guest.wait("the keyboard", |message| match message {
        FromHost::Focus(focus) if focus.window == id(window) => Some(()),
        _ => None,
    });
    (host, placed)
}
