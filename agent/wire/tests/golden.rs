//! Bytes of every message, kept: `golden/v1.txt`. A line names a set and a message and gives its bytes, the
//! line below what they say. The lines of a set, one after the other, are a stream. Whoever has to change a
//! line changes the protocol, and with it `VERSION` and the file's name; old files stay.
#![allow(clippy::unwrap_used)]
use medley_wire::bulk::Owner;
use medley_wire::pixels::{Format, Patch, Payload, Picture};
use medley_wire::{
    AppId, Bytes, Decoder, Dice, Encoder, Hello, List, Rect, Set, Size, Text, Untrusted, WindowId,
    bulk, control, gui,
};
use std::fmt::Write as _;

const GOLDEN: &str = include_str!("golden/v1.txt");

fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0);
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn check<S: Set>(set: &str) {
    let lines: Vec<&str> = GOLDEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let vectors: Vec<_> = lines
        .chunks_exact(2)
        .filter_map(|pair| {
            Some((
                pair[0].strip_prefix(set)?.trim_start().split_once(' ')?,
                pair[1].trim(),
            ))
        })
        .collect();
    let names: Vec<_> = S::TABLE.iter().map(|entry| entry.name).collect();
    assert_eq!(
        vectors
            .iter()
            .map(|((name, _), _)| *name)
            .collect::<Vec<_>>(),
        names,
        "{set}"
    );

    let stream: Vec<u8> = vectors
        .iter()
        .flat_map(|((_, bytes), _)| unhex(bytes))
        .collect();
    let (mut decoder, mut encoder) = (Decoder::<S>::new(), Encoder::<S>::new());
    let mut rest = stream.as_slice();
    for ((name, bytes), text) in vectors {
        let message = decoder.push(&mut rest).unwrap().unwrap().message;
        assert_eq!(format!("{message:?}"), text, "{set} {name}");
        let mut room = vec![0; 4096];
        let length = encoder.encode(&message, &mut room).unwrap();
        assert_eq!(hex(&room[..length]), bytes, "{set} {name}");
    }
    assert!(rest.is_empty() && decoder.is_between());
}

#[test]
fn every_message_has_the_bytes_it_always_had() {
    assert_eq!(
        medley_wire::VERSION,
        1,
        "a new version has a file of its own"
    );
    check::<gui::FromGuest<'static>>("gui guest");
    check::<gui::FromHost<'static>>("gui host");
    check::<control::FromGuest<'static>>("control guest");
    check::<control::FromHost<'static>>("control host");
    check::<bulk::FromGuest<'static>>("bulk guest");
    check::<bulk::FromHost<'static>>("bulk host");
}

/// Worked out by hand from `docs/wire.md`, so that reader and writer cannot be wrong together.
#[test]
fn bytes_worked_out_by_hand() {
    let hello = "41000000 0100 0000 00000000 6d65646c65790077 00 0100 0100 8100000000000000";
    let hello = hello.replace(' ', "") + &"5a".repeat(32);
    let key = "16000000 4600 0000 01000000 07000000 1e00 01 00 05 02".replace(' ', "");
    let line = unhex(&(hello + &key));
    let mut rest = line.as_slice();
    let mut decoder = Decoder::<gui::FromHost<'static>>::new();
    let gui::FromHost::Hello(Hello {
        features,
        oldest,
        build,
        ..
    }) = decoder.push(&mut rest).unwrap().unwrap().message
    else {
        panic!("no hello")
    };
    assert_eq!((features, oldest, build), (0x81, 1, [0x5a; 32]));
    let received = decoder.push(&mut rest).unwrap().unwrap();
    let gui::FromHost::Key(key) = received.message else {
        panic!("no key")
    };
    assert_eq!(
        (received.serial, key.window.get(), key.code.0, key.down),
        (1, 7, 30, true)
    );
    assert_eq!((key.held.bits(), key.locked.bits(), key.group), (5, 2, 0));
    assert!(rest.is_empty());
}

/// A choice within a message has a line for one of its values only; these are the others.
#[test]
fn every_way_to_pack_and_every_owner() {
    let size = Size::new(2, 1).unwrap();
    let patch = |payload| {
        let rect = Rect::new(-1, 3, size).unwrap();
        let patch = Untrusted::claim(Patch {
            rect,
            format: Format::Argb,
            payload,
        });
        let window = WindowId::new(9).unwrap();
        gui::FromGuest::Pixels(gui::Pixels {
            window,
            frame: 5,
            took: [0; 2],
            last: true,
            patch,
        })
    };
    let place = "ffffffff 03000000 0200 0100 01";
    for (payload, bytes) in [
        (
            Payload::Raw(Bytes(b"12345678")),
            "00 08000000 3132333435363738",
        ),
        (Payload::Lz4(Bytes(b"12")), "01 02000000 3132"),
        (Payload::Zstd(Bytes(b"3")), "02 01000000 33"),
        (Payload::Solid(*b"bgra"), "03 62677261"),
        (Payload::Scroll { dx: 1, dy: -2 }, "04 01000000 feffffff"),
    ] {
        let mut room = [0; 99];
        let length = Encoder::<gui::FromGuest>::new()
            .encode(&patch(payload), &mut room)
            .unwrap();
        assert_eq!(
            hex(&room[29..length]),
            format!("{place}{bytes}").replace(' ', "")
        );
    }
    let none = "00000000 00000000 00000000";
    for (owner, bytes) in [
        (
            Owner::Window(WindowId::new(2).unwrap()),
            format!("00 02000000 {none}"),
        ),
        (
            Owner::App(AppId::new([0xab; 16])),
            format!("01 {}", "ab".repeat(16)),
        ),
        (Owner::Tray(3), format!("02 03000000 {none}")),
        (Owner::Note(4), format!("03 04000000 {none}")),
    ] {
        let icon = bulk::Icon {
            owner,
            picture: Picture::new(size, &[7; 8]).unwrap(),
        };
        let mut room = [0; 99];
        let length = Encoder::<bulk::FromGuest>::new()
            .encode(&icon.into(), &mut room)
            .unwrap();
        assert_eq!(
            hex(&room[12..length]),
            format!("{bytes}02000100{}", "07".repeat(8)).replace(' ', "")
        );
    }
}

/// The golden line of a ticket names no pages.
#[test]
fn a_ticket_with_pages() {
    let ticket = control::PrintTicket {
        transfer: 7,
        sides: control::Sides::ShortEdge,
        ink: control::Ink::Black,
        care: control::Care::High,
        paper: Untrusted::claim(Text::cut("a4")),
        ranges: List::new(vec![
            control::PageRange { first: 2, last: 3 },
            control::PageRange { first: 9, last: 9 },
        ]),
    };
    let mut room = [0; 99];
    let length = Encoder::<control::FromGuest>::new()
        .encode(&ticket.into(), &mut room)
        .unwrap();
    let bytes = "07000000 03 02 03 0200 6134 0200 02000000 03000000 09000000 09000000";
    assert_eq!(hex(&room[12..length]), bytes.replace(' ', ""));
}

/// Writes the first golden file of a new version; never over one that is there.
#[test]
#[ignore = "writes a file of the repository"]
fn write_a_new_version() {
    fn lines<S: Set>(set: &str, text: &mut String) {
        let pool: Vec<u8> = b"Medley shows windows of another system as your own. ".repeat(20);
        let mut encoder = Encoder::<S>::new();
        for (index, entry) in S::TABLE.iter().enumerate() {
            let message = S::invent(entry.number, &mut Dice::new(&pool[index * 7 % 52..])).unwrap();
            let mut room = vec![0; 4096];
            let length = encoder.encode(&message, &mut room).unwrap();
            writeln!(
                text,
                "{set} {} {}\n  {message:?}",
                entry.name,
                hex(&room[..length])
            )
            .unwrap();
        }
    }
    let mut text = String::from(
        "# See tests/golden.rs. Lines here never change: a new version has a new file.\n",
    );
    lines::<gui::FromGuest<'static>>("gui guest", &mut text);
    lines::<gui::FromHost<'static>>("gui host", &mut text);
    lines::<control::FromGuest<'static>>("control guest", &mut text);
    lines::<control::FromHost<'static>>("control host", &mut text);
    lines::<bulk::FromGuest<'static>>("bulk guest", &mut text);
    lines::<bulk::FromHost<'static>>("bulk host", &mut text);
    let path = format!(
        "{}/tests/golden/v{}.txt",
        env!("CARGO_MANIFEST_DIR"),
        medley_wire::VERSION
    );
    let mut file = std::fs::File::create_new(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}
