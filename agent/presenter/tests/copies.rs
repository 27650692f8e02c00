//! Pictures that are copied on one side and pasted on the other: xclip on both, the real agent and the real presenter
//! between them.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Process};
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};
use support::stack::Stack;
use support::*;

/// evdev's codes of the chords' last keys.
const C: u8 = 46;
const V: u8 = 47;

/// A picture that does not pack, with words of its maker's in it.
fn picture(side: u32) -> (Vec<u8>, Vec<u8>) {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, side, side);
    encoder.set_color(png::ColorType::Rgba);
    let words = "Made by a guest";
    encoder
        .add_text_chunk("Comment".into(), words.into())
        .unwrap();
    let pixels: Vec<u8> = noise(side * side * 4);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    (out, pixels)
}

fn noise(count: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn pixels(bytes: &[u8]) -> Option<Vec<u8>> {
    let decoder = png::Decoder::new(Cursor::new(bytes));
    let mut reader = decoder.read_info().ok()?;
    let mut pixels = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut pixels).ok()?;
    pixels.truncate(frame.buffer_size());
    Some(pixels)
}

/// xclip copies a file on a display, and is its owner until it ends.
fn copy(display: &str, form: &str, file: &Path) -> Process {
    let mut xclip = Command::new("xclip");
    xclip
        .args(["-quiet", "-selection", "clipboard", "-t", form, "-i"])
        .arg(file)
        .env("DISPLAY", display)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::start(&mut xclip).unwrap()
}

/// xclip pastes on a display; nothing comes where nothing is to be had.
fn paste(display: &str, form: &str) -> Vec<u8> {
    let output = Command::new("timeout")
        .args(["20", "xclip", "-selection", "clipboard", "-t", form, "-o"])
        .env("DISPLAY", display)
        .output()
        .expect("xclip is installed");
    output.stdout
}

fn owner(desk: &Desktop) -> u32 {
    use x11rb::protocol::xproto::ConnectionExt;
    let clipboard = desk.atom("CLIPBOARD").unwrap();
    let reply = desk.conn.get_selection_owner(clipboard).unwrap().reply();
    reply.unwrap().owner
}

/// Presses the host's chord: Super, Shift and a key.
fn chord(stack: &mut Stack, code: u8) {
    stack.host.press(&[125, 42, code]).unwrap();
    stack.presenter.event("chord");
}

#[test]
fn pictures_cross_both_ways() {
    let more = [
        "--clipboard-in",
        "chord",
        "--clipboard-out",
        "chord",
        "--clipboard-pictures",
        "4000000",
    ];
    let mut stack = Stack::start(&[("Logo", "xlogo")], &more);
    stack.launch("Logo");
    let (window, _) = stack.pair("xlogo");
    stack.host.activate(window).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    // Large enough for xclip to send it in pieces.
    let (guests, colours) = picture(700);
    assert!(guests.len() > 1_900_000);
    let path = file("guests.png", &guests);
    let (host, guest) = (stack.host.name.clone(), stack.guest.name.clone());

    let _guests = copy(&guest, "image/png", &path);
    wait_for("the guest's copy", || owner(&stack.guest) != 0);
    assert!(paste(&host, "image/png").is_empty(), "not before the chord");
    // The guest's forms come a moment after its owner.
    wait_for("the host's clipboard", || {
        chord(&mut stack, C);
        std::thread::sleep(std::time::Duration::from_millis(50));
        owner(&stack.host) != 0
    });
    let targets = String::from_utf8(paste(&host, "TARGETS")).unwrap();
    assert!(targets.contains("image/png"), "{targets}");
    assert!(!targets.contains("UTF8_STRING"), "{targets}");
    let pasted = paste(&host, "image/png");
    assert!(pixels(&pasted) == Some(colours), "every pixel");
    let has = |words: &[u8]| pasted.windows(words.len()).any(|part| part == words);
    assert!(!has(b"Made by"), "nothing but pixels");
    assert_eq!(stack.presenter.event("clipboard-out")["form"], "picture");

    // What is no picture stays in the guest.
    let broken = file("broken.png", &guests[..guests.len() / 2]);
    let _broken = copy(&guest, "image/png", &broken);
    wait_for("the new copy", || {
        chord(&mut stack, C);
        paste(&host, "image/png").is_empty()
    });

    // The host's goes as it is.
    let (hosts, _) = picture(720);
    let path = file("hosts.png", &hosts);
    let _hosts = copy(&host, "image/png", &path);
    wait_for("the host's copy in the guest", || {
        chord(&mut stack, V);
        paste(&guest, "image/png") == hosts
    });
    assert_eq!(stack.presenter.event("clipboard-in")["form"], "picture");

    // Too large for this policy.
    let (large, _) = picture(1100);
    assert!(large.len() > 4_000_000);
    let path = file("large.png", &large);
    let _large = copy(&host, "image/png", &path);
    wait_for("the new copy", || {
        chord(&mut stack, V);
        paste(&guest, "image/png").is_empty()
    });
    // Text still goes.
    let text = file("text", "grüße".as_bytes());
    let _text = copy(&host, "UTF8_STRING", &text);
    wait_for("the text", || {
        chord(&mut stack, V);
        paste(&guest, "UTF8_STRING") == "grüße".as_bytes()
    });
    stack.lives();
}
