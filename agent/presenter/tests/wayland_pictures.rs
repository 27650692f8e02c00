//! Pictures that are copied on a Wayland desktop, and that are pasted there: sway, wl-clipboard, and a guest that is a
//! script.
#![allow(clippy::unwrap_used)]
mod support;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/sway.rs"]
mod sway;

use medley_wire::control::{ClipboardForm, ClipboardKind, ClipboardOffer, Verdict};
use medley_wire::gui::FromHost;
use medley_wire::{Channel, List, Untrusted, bulk, control};
use std::io::{Cursor, Write};
use std::process::Stdio;
use std::time::Duration;
use support::*;
use sway::{FLOATING, Hands, Sway};

/// Super, Shift and a key.
fn chord(hands: &mut Hands, code: u32) {
    hands.modifiers(0x41, 0);
    hands.key(code);
    hands.modifiers(0, 0);
}

/// A picture with words of its maker's, and its pixels.
fn picture() -> (Vec<u8>, Vec<u8>) {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 60, 50);
    encoder.set_color(png::ColorType::Rgb);
    let words = "Made by a guest";
    encoder
        .add_text_chunk("Comment".into(), words.into())
        .unwrap();
    let pixels: Vec<u8> = (0..60 * 50 * 3_u32).map(|n| (n * 7 / 3) as u8).collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    (out, pixels)
}

#[test]
fn pictures_cross_both_ways() {
    if !sway::is_installed() {
        return;
    }
    let (sway, sockets) = (Sway::new(FLOATING), Sockets::new());
    let mut hands = sway.hands();
    let (control, bulk) = (sockets.listen("control"), sockets.listen("bulk"));
    let path = |name: &str| sockets.dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("control"), path("bulk"));
    let mut more = vec!["--control", &a, "--bulk", &b];
    more.extend(["--clipboard-in", "chord", "--clipboard-out", "chord"]);
    more.extend(["--clipboard-pictures", "100000"]);
    let mut presenter = sway.presenter(&sockets, &more);
    let mut guest = sockets.accept();
    let mut control: Line<control::FromHost<'static>, control::FromGuest<'static>> =
        Line::accept(&control, Channel::Control);
    let mut bulk: Line<bulk::FromHost<'static>, bulk::FromGuest<'static>> =
        Line::accept(&bulk, Channel::Bulk);
    guest.begin();
    presenter.event("whole");
    guest.window(1, "a", rect(100, 100, 300, 200));
    guest.fill(1, rect(0, 0, 300, 200), GREEN);
    guest.wait("the keyboard", |message| {
        matches!(message, FromHost::Focus(_)).then_some(())
    });
    let (png, pixels) = picture();

    // The host's.
    let mut copy = sway
        .command("wl-copy")
        .args(["--type", "image/png"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    copy.stdin.take().unwrap().write_all(&png).unwrap();
    assert!(copy.wait().unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    chord(&mut hands, 47);
    let (sequence, kinds) = control.wait("an offer", |message| match message {
        control::FromHost::ClipboardOffer(offer) => {
            let kinds: Vec<_> = offer.forms.iter().map(|form| form.kind).collect();
            Some((offer.sequence, kinds))
        }
        _ => None,
    });
    assert_eq!(kinds, [ClipboardKind::Picture]);
    control.say(control::ClipboardRequest {
        transfer: 5,
        sequence,
        kind: ClipboardKind::Picture,
    });
    let verdict = control.wait("an answer", |message| match message {
        control::FromHost::Answer(answer) if answer.transfer == 5 => Some(answer.verdict),
        _ => None,
    });
    assert_eq!(verdict, Verdict::Yes);
    let got = bulk.wait("the picture", |message| match message {
        bulk::FromHost::Chunk(chunk) => Some(chunk.data.0.to_vec()),
        _ => None,
    });
    assert!(got == png, "as it is");

    // The guest's.
    let form = ClipboardForm {
        kind: ClipboardKind::Picture,
        size: 0,
    };
    control.say(ClipboardOffer {
        sequence: 9,
        forms: List::new(vec![form]),
    });
    std::thread::sleep(Duration::from_millis(100));
    chord(&mut hands, 46);
    presenter.event("chord");
    // What was there before was a picture, too: the answer tells whose it is.
    let paste = sway
        .command("wl-paste")
        .args(["--type", "image/png"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let transfer = control.wait("a request", |message| match message {
        control::FromHost::ClipboardRequest(r) if r.sequence == 9 => Some(r.transfer),
        _ => None,
    });
    control.say(control::Answer {
        transfer,
        verdict: Verdict::Yes,
    });
    let (stream, size) = (1, png.len() as u64);
    bulk.say(bulk::Open {
        stream,
        transfer,
        carries: bulk::Carries::Clipboard,
        size: Untrusted::claim(size),
    });
    bulk.say(bulk::Chunk {
        stream,
        offset: 0,
        data: medley_wire::Bytes(&png),
    });
    bulk.say(bulk::End { stream, size });
    let pasted = paste.wait_with_output().unwrap().stdout;
    let mut reader = png::Decoder::new(Cursor::new(&pasted)).read_info().unwrap();
    let mut shown = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut shown).unwrap();
    assert!(shown == pixels, "every pixel");
    let has = |words: &[u8]| pasted.windows(words.len()).any(|part| part == words);
    assert!(!has(b"Made by"), "nothing but pixels");
}
