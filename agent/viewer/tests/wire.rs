//! What a window's events become on the wire: the test is the screen, and hears every message. Here are those that
//! a machine without an operating system has no use for.
#![allow(clippy::unwrap_used)]

mod support;

use medley_desktop::Desktop;
use medley_rfb::{Say, encoding};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use support::{PATIENCE, Viewer, desktop, focus, wait_for};
use tempfile::TempDir;

const TITLE: &str = "[office] desktop";
const SIZE: (u16, u16) = (320, 240);
const ORANGE: u32 = 0x00ff_8000;

/// A screen.
struct Screen {
    stream: UnixStream,
    heard: Receiver<Vec<u8>>,
    _dir: TempDir,
}

impl Screen {
    /// A screen of one colour, in a window that has the keyboard.
    fn start(desk: &Desktop) -> (Self, Viewer) {
        Self::named(desk, "office")
    }

    fn named(desk: &Desktop, workspace: &str) -> (Self, Viewer) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("screen");
        let listener = UnixListener::bind(&socket).unwrap();
        let viewer = Viewer::start(desk, &socket, workspace, &[]);
        let (mut stream, _) = listener.accept().unwrap();
        let size = [SIZE.0.to_be_bytes(), SIZE.1.to_be_bytes()].concat();
        for (say, answer) in [
            (&b"RFB 003.008\n"[..], 12),
            (&[1, 1], 1),
            (&[0; 4], 1),
            (&[&size[..], &[0; 20]].concat(), 20 + 32),
        ] {
            stream.write_all(say).unwrap();
            stream.read_exact(&mut vec![0; answer]).unwrap();
        }
        let heard = listen(stream.try_clone().unwrap());
        let mut screen = Self {
            stream,
            heard,
            _dir: dir,
        };
        // The pointer may lie where the window comes, and is told as well.
        let mut first = screen.next();
        while first[0] == 5 {
            first = screen.next();
        }
        let ask = Say::Ask {
            changes: false,
            size: SIZE,
        };
        assert_eq!(first, ask.bytes());
        screen.rectangle([0, 0, SIZE.0, SIZE.1], encoding::KEYS, &[]);
        let pixels = usize::from(SIZE.0) * usize::from(SIZE.1);
        let pixels = ORANGE.to_le_bytes().repeat(pixels);
        screen.rectangle([0, 0, SIZE.0, SIZE.1], encoding::RAW, &pixels);
        let title = format!("[{workspace}] desktop");
        let window = desk.window(&title, PATIENCE).unwrap();
        focus(desk, window);
        wait_for("the picture", || {
            let shot = desk.shot_of(window).unwrap();
            shot.pixels.get(shot.width * 100 + 100) == Some(&ORANGE)
        });
        (screen, viewer)
    }

    fn rectangle(&mut self, place: [u16; 4], kind: i32, rest: &[u8]) {
        let mut bytes = vec![0, 0, 0, 1];
        place.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(rest);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message but those that ask for changes.
    fn next(&mut self) -> Vec<u8> {
        loop {
            let message = self.heard.recv_timeout(PATIENCE).expect("a message");
            if message[..2] != [3, 1] {
                return message;
            }
        }
    }

    /// These keys and no others come next, whatever the pointer does meanwhile.
    fn expect_keys(&mut self, keys: &[(u8, bool)]) {
        for (code, down) in keys.iter().copied() {
            let mut message = self.next();
            while message[0] == 5 {
                message = self.next();
            }
            assert_eq!(message, Say::Key { down, code }.bytes(), "{code:x} {down}");
        }
    }

    /// Skips messages until this one.
    fn until(&mut self, say: Say) {
        while self.next() != say.bytes() {}
    }
}

/// Messages, as they come.
fn listen(mut stream: UnixStream) -> Receiver<Vec<u8>> {
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        let mut kind = [0];
        while stream.read_exact(&mut kind).is_ok() {
            let rest = match kind[0] {
                3 => 9,
                5 => 5,
                251 => 23,
                255 => 11,
                other => panic!("a message of kind {other}"),
            };
            let mut message = vec![0; rest];
            stream.read_exact(&mut message).unwrap();
            message.insert(0, kind[0]);
            let _ = sender.send(message);
        }
    });
    heard
}

fn placed(buttons: u8, x: u16, y: u16) -> Say {
    Say::Pointer { buttons, x, y }
}

#[test]
fn keys_are_told_by_their_place_and_none_stays_held() {
    let desk = desktop();
    let (mut screen, _viewer) = Screen::start(&desk);
    // The key right of Tab, whatever is printed on it; the keypad's Enter has a code of two bytes.
    desk.tap(16).unwrap();
    screen.expect_keys(&[(16, true), (16, false)]);
    desk.tap(96).unwrap();
    screen.expect_keys(&[(0x9c, true), (0x9c, false)]);
    // Attention: what was held is let go first.
    desk.key(125, true).unwrap();
    desk.key(42, true).unwrap();
    desk.tap(32).unwrap();
    screen.expect_keys(&[(0xdb, true), (0x2a, true), (0x2a, false), (0xdb, false)]);
    let three = [0x1d, 0x38, 0xd3];
    screen.expect_keys(&three.map(|code| (code, true)));
    screen.expect_keys(&[(0xd3, false), (0x38, false), (0x1d, false)]);
    desk.key(42, false).unwrap();
    desk.key(125, false).unwrap();
    // The keyboard goes elsewhere while a key is down.
    desk.key(30, true).unwrap();
    screen.expect_keys(&[(30, true)]);
    let (mut other, _other) = Screen::named(&desk, "beside");
    screen.expect_keys(&[(30, false)]);
    desk.key(30, false).unwrap();
    desk.tap(44).unwrap();
    other.until(Say::Key {
        down: true,
        code: 44,
    });
}

#[test]
fn the_pointer_is_told_where_it_is_or_how_far_it_moved() {
    let desk = desktop();
    let (mut screen, _viewer) = Screen::start(&desk);
    let window = desk.window(TITLE, PATIENCE).unwrap();
    let (left, top, ..) = desk.place(window).unwrap();
    desk.point(left + 3 + 100, top + 3 + 50).unwrap();
    screen.until(placed(0, 100, 50));
    desk.button(1, true).unwrap();
    screen.until(placed(1, 100, 50));
    desk.button(1, false).unwrap();
    screen.until(placed(0, 100, 50));
    desk.button(4, true).unwrap();
    desk.button(4, false).unwrap();
    screen.until(placed(8, 100, 50));
    screen.until(placed(0, 100, 50));

    // A cursor of the guest's is drawn where the pointer is, and goes with it; nothing of it covers the ring.
    let cursor = [[0xff, 0, 0, 0].repeat(64), vec![0xff; 8]].concat();
    screen.rectangle([0, 0, 8, 8], encoding::CURSOR, &cursor);
    let blue = || {
        let shot = desk.shot_of(window).unwrap();
        shot.pixels.iter().filter(|it| **it == 0xff).count()
    };
    wait_for("the cursor", || blue() == 64);
    desk.point(left + 3 + 316, top + 3 + 236).unwrap();
    wait_for("the cursor in the corner", || blue() == 16);

    // A guest that knows no places: a click catches the pointer, and is not told.
    screen.until(placed(0, 316, 236));
    screen.rectangle([0, 0, 1, 1], encoding::POINTER, &[]);
    wait_for("no cursor", || blue() == 0);
    desk.point(left + 3 + 160, top + 3 + 120).unwrap();
    desk.button(1, true).unwrap();
    desk.button(1, false).unwrap();
    let caught = "[office] desktop (Super+Shift+G gives the pointer back)";
    wait_for("the pointer to be caught", || {
        desk.text(window, "_NET_WM_NAME").unwrap() == caught
    });
    // It is put back into the middle now and then, and can be moved further than the window is wide.
    for _ in 0..40 {
        desk.nudge(-17, 5).unwrap();
        screen.until(placed(0, 0x7fff - 17, 0x7fff + 5));
    }
    desk.button(3, true).unwrap();
    screen.until(placed(4, 0x7fff, 0x7fff));
    desk.button(3, false).unwrap();
    for down in [true, false] {
        for key in [125, 42, 34] {
            desk.key(key, down).unwrap();
        }
    }
    wait_for("the pointer", || {
        desk.text(window, "_NET_WM_NAME").unwrap() == TITLE
    });
}

#[test]
fn a_window_that_is_resized_asks_for_a_screen_of_its_size() {
    let desk = desktop();
    let (mut screen, viewer) = Screen::start(&desk);
    let window = desk.window(TITLE, PATIENCE).unwrap();
    desk.resize(window, 646, 486).unwrap();
    screen.until(Say::Size(640, 480));
    // The guest has one, and tells why: a viewer asked.
    let layout = [
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[2, 128, 1, 224],
        &[0; 4],
    ]
    .concat();
    screen.rectangle([1, 0, 640, 480], encoding::SIZE_EXTENDED, &layout);
    screen.until(Say::Ask {
        changes: false,
        size: (640, 480),
    });
    assert_eq!(viewer.event("sized")["width"], 640);
    assert_eq!(desk.place(window).unwrap().2, 646);
}

#[test]
fn a_screen_that_breaks_a_rule_is_left() {
    let desk = desktop();
    let (mut screen, mut viewer) = Screen::start(&desk);
    screen.rectangle([319, 0, 2, 1], encoding::RAW, &[0; 8]);
    let ended = viewer.event("ended");
    let words = ended["words"].as_str().unwrap();
    assert!(
        words.contains("2×1 at 319,0, on a screen of 320×240"),
        "{words}"
    );
    assert_eq!(viewer.code(), 6);
}
