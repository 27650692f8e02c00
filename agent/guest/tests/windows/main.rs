//! The agent against a real X server with real apps, and a host that is a script.
#![allow(clippy::unwrap_used)]
mod frames;
mod input;
mod lives;
mod looks;
mod manager;
mod own;
#[path = "../support/mod.rs"]
mod support;

use medley_desktop::{Desktop, Process, key_of};
use medley_link::Pool;
use medley_wire::pixels::Format;
use medley_wire::window::{Change, Kind, Modifiers, Seen, States};
use medley_wire::{Bytes, Features, Rect, Size, WindowId, gui};
use own::Own;
use std::time::{Duration, Instant};
use support::display;
use support::{Doors, Host, PATIENCE, agent, app};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::ConnectionExt;
fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
    Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
}

fn start(more: &[&str]) -> (Desktop, Doors, Process, Host) {
    let server = display::virtual_one();
    let doors = Doors::new();
    let agent = agent(&server, &doors, more);
    let host = Host::accept(&doors, Features::ALL, None);
    (server, doors, agent, host)
}

/// Compares what the host has with what the server has. The unused byte of a pixel is not looked at.
fn same_pixels(server: &Desktop, host: &Host, class: &str, border: usize) {
    let window = display::find(server, class).unwrap();
    let (_, _, width, height) = server.place(window).unwrap();
    let real = server.image(window, (0, 0, width, height)).unwrap().pixels;
    let ours = host.model.find(class).unwrap().inner(border);
    let ours = ours.as_chunks::<4>().0.iter();
    let ours: Vec<u32> = ours
        .map(|pixel| u32::from_le_bytes(*pixel) & 0x00ff_ffff)
        .collect();
    assert_eq!(ours.len(), real.len());
    let differ = ours.iter().zip(&real).filter(|(a, b)| a != b).count();
    assert_eq!(
        differ,
        0,
        "pixels of {class} that differ, of {}",
        ours.len()
    );
    let first = real[0];
    assert!(
        real.iter().any(|pixel| *pixel != first),
        "{class} shows nothing"
    );
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn press(host: &mut Host, window: WindowId, code: u16, down: bool, held: Modifiers) {
    host.say(gui::Key {
        window,
        code: medley_wire::window::KeyCode(code),
        down,
        group: 0,
        held,
        locked: Modifiers::NONE,
    });
}

fn type_text(host: &mut Host, window: WindowId, text: &str) {
    for letter in text.chars() {
        let (code, shift) = key_of(letter).unwrap();
        let held = if shift {
            Modifiers::SHIFT
        } else {
            Modifiers::NONE
        };
        press(host, window, code.into(), true, held);
        press(host, window, code.into(), false, held);
    }
}

fn focus(host: &mut Host, window: WindowId) {
    host.say(gui::Focus {
        window,
        held: Modifiers::NONE,
        locked: Modifiers::NONE,
    });
}
