//! Streams as they come: whole, cut anywhere, damaged, or made of nothing.
#![allow(clippy::unwrap_used)]
use medley_wire::{
    Decoder, Dice, Encoder, Entry, Fault, FaultKind, HEADER, Refused, Set, Text, Untrusted, bulk,
    control, gui,
};
use proptest::collection::vec;
use proptest::prelude::*;

type Guest = gui::FromGuest<'static>;

/// A hello and some messages of the set, as bytes, with where each ends.
fn stream<S: Set>(pool: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends, mut encoder) = (Vec::new(), Vec::new(), Encoder::<S>::new());
    let mut dice = Dice::new(pool);
    let mut say = |message: S::Message<'_>| {
        let Err(Refused::Room(need)) = encoder.encode(&message, &mut []) else {
            panic!("no room asked")
        };
        let start = bytes.len();
        bytes.resize(start + need, 0xaa);
        assert_eq!(encoder.encode(&message, &mut bytes[start..]), Ok(need));
        ends.push(bytes.len());
    };
    say(S::invent(1, &mut dice).unwrap());
    while !dice.is_empty() {
        let message = dice.message::<S>().unwrap();
        if S::number(&message) != 1 {
            say(message);
        }
    }
    (bytes, ends)
}

/// All messages, each written again, and how it ended.
fn read<S: Set>(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Fault>, Decoder<S>) {
    let (mut decoder, mut encoder, mut out) =
        (Decoder::<S>::new(), Encoder::<S>::new(), Vec::new());
    for mut piece in pieces.iter().copied() {
        loop {
            match decoder.push(&mut piece) {
                Ok(Some(received)) => {
                    let mut room = vec![0; HEADER + S::len(&received.message)];
                    encoder.encode(&received.message, &mut room).unwrap();
                    out.push(room);
                }
                Ok(None) => break,
                Err(fault) => return (out, Some(fault), Decoder::new()),
            }
        }
        assert!(piece.is_empty());
    }
    (out, None, decoder)
}

fn cut<'b>(bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

fn round<S: Set>(pool: &[u8], cuts: &[usize]) {
    let (bytes, ends) = stream::<S>(pool);
    let (messages, fault, decoder) = read::<S>(&cut(&bytes, cuts));
    assert_eq!(fault, None);
    assert_eq!(messages.len(), ends.len());
    assert_eq!(messages.concat(), bytes);
    assert!(decoder.is_between());
    // The same, byte by byte.
    let (single, fault, _) = read::<S>(&bytes.chunks(1).collect::<Vec<_>>());
    assert_eq!((single, fault), (messages, None));
}

fn damaged<S: Set>(pool: &[u8], changes: &[(usize, u8)], cuts: &[usize]) {
    let (mut bytes, _) = stream::<S>(pool);
    for (at, value) in changes {
        let at = at % bytes.len();
        bytes[at] = *value;
    }
    let whole = read::<S>(&[&bytes]);
    let pieces = read::<S>(&cut(&bytes, cuts));
    medley_wire::fuzz_gui(&bytes);
    medley_wire::fuzz_control(&bytes);
    medley_wire::fuzz_bulk(&bytes);
    assert_eq!(
        (whole.0, whole.1),
        (pieces.0, pieces.1),
        "the same, wherever the stream is cut"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn messages_survive_any_cut(pool in vec(any::<u8>(), 0..600), cuts in vec(any::<usize>(), 0..12)) {
        round::<gui::FromGuest<'static>>(&pool, &cuts);
        round::<gui::FromHost<'static>>(&pool, &cuts);
        round::<control::FromGuest<'static>>(&pool, &cuts);
        round::<control::FromHost<'static>>(&pool, &cuts);
        round::<bulk::FromGuest<'static>>(&pool, &cuts);
        round::<bulk::FromHost<'static>>(&pool, &cuts);
    }

    #[test]
    fn damage_is_judged_the_same_wherever_it_is_cut(
        pool in vec(any::<u8>(), 0..600),
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        damaged::<gui::FromGuest<'static>>(&pool, &changes, &cuts);
        damaged::<control::FromGuest<'static>>(&pool, &changes, &cuts);
        damaged::<bulk::FromGuest<'static>>(&pool, &changes, &cuts);
    }

    #[test]
    fn anything_is_survived(bytes in vec(any::<u8>(), 0..800)) {
        medley_wire::fuzz_gui(&bytes);
        medley_wire::fuzz_control(&bytes);
        medley_wire::fuzz_bulk(&bytes);
        medley_wire::fuzz_host(&bytes);
        medley_wire::fuzz_recording(&bytes);
    }

    #[test]
    fn a_recording_of_anything_is_survived(bytes in vec(any::<u8>(), 0..400), pool in vec(any::<u8>(), 0..400)) {
        let mut file = Vec::new();
        let mut recorder = medley_wire::record::Recorder::new();
        let (said, _) = stream::<Guest>(&pool);
        for bytes in [&said, &bytes] {
            let record = medley_wire::record::Record {
                at: 5, channel: medley_wire::Channel::Gui, from_guest: true, bytes,
            };
            recorder.record(record, &mut file);
        }
        medley_wire::fuzz_recording(&file);
    }
}

fn entry(name: &str) -> &'static Entry {
    Guest::TABLE
        .iter()
        .find(|entry| entry.name == name)
        .unwrap()
}

/// A header and nothing behind it.
fn header(length: u32, number: u16, flags: u16, serial: u32) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(number.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(serial.to_le_bytes());
    bytes
}

#[test]
fn strangers_are_noticed_at_once() {
    let (mut hello, _) = stream::<Guest>(&[]);
    hello[HEADER] ^= 1;
    assert!(matches!(
        fault(&mut Decoder::new(), &hello),
        FaultKind::Value(_)
    ));
    assert!(matches!(
        fault(&mut Decoder::new(), b"GET / HTTP/1.1\r\n"),
        FaultKind::Flags(_)
    ));
}

/// A hello, and a decoder that has heard it.
fn greeted() -> Decoder<Guest> {
    let (bytes, ends) = stream::<Guest>(&[]);
    let mut decoder = Decoder::new();
    assert!(decoder.push(&mut &bytes[..ends[0]]).unwrap().is_some());
    decoder
}

fn fault(decoder: &mut Decoder<Guest>, bytes: &[u8]) -> FaultKind {
    let fault = decoder.push(&mut &bytes[..]).unwrap_err();
    assert_eq!(
        decoder.push(&mut &[0; 99][..]).unwrap_err(),
        fault,
        "it stays so"
    );
    assert!(!decoder.is_between());
    fault.kind
}

#[test]
fn lengths_are_judged_before_a_body_comes() {
    for entry in Guest::TABLE.iter().filter(|entry| entry.number > 2) {
        for length in [
            0,
            HEADER as u32 - 1,
            entry.min as u32 - 1,
            entry.max as u32 + 1,
            u32::MAX,
        ] {
            let kind = fault(&mut greeted(), &header(length, entry.number, 0, 1));
            assert!(
                matches!(kind, FaultKind::Length { .. }),
                "{} {length} {kind:?}",
                entry.name
            );
        }
    }
}

#[test]
fn what_comes_first_is_a_hello() {
    for entry in Guest::TABLE.iter().filter(|entry| entry.number > 2) {
        let kind = fault(
            &mut Decoder::new(),
            &header(entry.max as u32, entry.number, 0, 0),
        );
        assert_eq!(kind, FaultKind::NotGreeted);
    }
    let (hello, _) = stream::<Guest>(&[]);
    let again = [&header(hello.len() as u32, 1, 0, 1), &hello[HEADER..]].concat();
    assert_eq!(fault(&mut greeted(), &again), FaultKind::GreetedTwice);
}

#[test]
fn headers_that_make_no_sense() {
    let bell = entry("Bell");
    let length = bell.min as u32;
    for (bytes, kind) in [
        (
            header(length, bell.number, 0, 2),
            FaultKind::Serial {
                expected: 1,
                got: 2,
            },
        ),
        (
            header(length, bell.number, 0, 0),
            FaultKind::Serial {
                expected: 1,
                got: 0,
            },
        ),
        (header(length, bell.number, 1, 1), FaultKind::Flags(1)),
        (
            header(length, bell.number, 0x8000, 1),
            FaultKind::Flags(0x8000),
        ),
        (header(length, 9999, 0, 1), FaultKind::Unknown(9999)),
        (header(length, 9999, 3, 1), FaultKind::Flags(3)),
        // A host's message in a guest's mouth.
        (header(length, 70, 0, 1), FaultKind::Unknown(70)),
    ] {
        assert_eq!(fault(&mut greeted(), &bytes), kind);
    }
}

#[test]
fn what_may_be_skipped_is_skipped_and_not_kept() {
    let mut line = header(60_000, 9999, 1, 1);
    line.resize(60_000, 0xee);
    line.extend(header(16, entry("Bell").number, 0, 2));
    line.extend([7, 0, 0, 0]);
    for size in [1, 13, 500, line.len()] {
        let (mut decoder, mut heard) = (greeted(), 0);
        for mut piece in line.chunks(size) {
            while let Some(received) = decoder.push(&mut piece).unwrap() {
                assert_eq!(received.serial, 2);
                heard += 1;
            }
            assert!(decoder.held() <= 256);
        }
        assert_eq!(heard, 1);
        assert!(decoder.is_between());
    }
    let long = header(65_537, 9999, 1, 1);
    assert!(matches!(
        fault(&mut greeted(), &long),
        FaultKind::Length { .. }
    ));
}

#[test]
fn a_promise_of_much_costs_little() {
    let pixels = entry("Pixels");
    let mut decoder = greeted();
    let mut line = header(pixels.max as u32, pixels.number, 0, 1);
    line.resize(1000, 1);
    assert!(decoder.push(&mut line.as_slice()).unwrap().is_none());
    assert!(decoder.held() <= 1000, "{}", decoder.held());
    assert!(!decoder.is_between());
}

#[test]
fn the_room_of_a_large_message_is_given_back() {
    let size = medley_wire::Size::new(1024, 1024).unwrap();
    let pixels = vec![9; size.bytes()];
    let rect = medley_wire::Rect::whole(size);
    let patch = medley_wire::pixels::Patch {
        rect,
        format: medley_wire::pixels::Format::Xrgb,
        payload: medley_wire::pixels::Payload::Raw(medley_wire::Bytes(&pixels)),
    };
    let window = medley_wire::WindowId::new(4).unwrap();
    let message = gui::Pixels {
        window,
        frame: 1,
        took: [0; 2],
        last: true,
        patch: Untrusted::claim(patch),
    };
    let (hello, _) = stream::<Guest>(&[]);
    let mut encoder = Encoder::<Guest>::new();
    encoder
        .encode(
            &Guest::invent(1, &mut Dice::new(&[])).unwrap(),
            &mut vec![0; hello.len()],
        )
        .unwrap();
    let mut line = vec![0; pixels.len() + 100];
    let length = encoder.encode(&message.into(), &mut line).unwrap();
    let mut decoder = greeted();
    let mut heard = 0;
    for mut piece in line[..length].chunks(100_000) {
        heard += usize::from(decoder.push(&mut piece).unwrap().is_some());
        assert!(piece.is_empty() && decoder.held() <= length);
    }
    assert_eq!(heard, 1);
    assert_eq!(decoder.held(), length);
    assert!(decoder.push(&mut &[][..]).unwrap().is_none());
    assert_eq!(decoder.held(), 0);
}

#[test]
fn bodies_that_are_too_short_or_too_long() {
    let title = entry("Title");
    let body = |text: u16, bytes: usize| {
        let mut line = header((18 + bytes) as u32, title.number, 0, 1);
        line.extend([1, 0, 0, 0]);
        line.extend(text.to_le_bytes());
        line.resize(18 + bytes, b'x');
        fault(&mut greeted(), &line)
    };
    assert_eq!(body(5, 4), FaultKind::Short);
    assert_eq!(body(4, 5), FaultKind::Trailing(1));
    assert_eq!(body(257, 100), FaultKind::TooMany { got: 257, max: 256 });
}

#[test]
fn a_side_does_not_say_what_the_other_would_refuse() {
    let window = medley_wire::WindowId::new(4).unwrap();
    let rect = medley_wire::Rect::whole(medley_wire::Size::new(1, 1).unwrap());
    let rects = medley_wire::List::new(vec![Untrusted::claim(rect); 65]);
    let damage = gui::Damage {
        window,
        frame: 1,
        took: [0; 2],
        rects,
    };
    let mut room = [0; 2000];
    let mut encoder = Encoder::<Guest>::new();
    let Err(Refused::Fault(fault)) = encoder.encode(&damage.into(), &mut room) else {
        panic!("taken")
    };
    assert_eq!(
        fault.kind,
        FaultKind::Length {
            got: 810,
            min: 30,
            max: 798
        }
    );
    let words = Untrusted::claim(Text::cut("gone"));
    let bye = medley_wire::Bye {
        reason: medley_wire::Reason::Done,
        words,
    };
    let length = encoder.encode(&bye.into(), &mut room).unwrap();
    assert_eq!(room[8..12], [0; 4], "what was refused was not counted");
    assert!(length < medley_wire::limits::GREETING_BYTES);
}

#[test]
fn faults_say_where() {
    let create = entry("Create");
    let mut line = header(create.min as u32, create.number, 0, 1);
    line.resize(create.min, 0);
    let fault = greeted().push(&mut line.as_slice()).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "Create.window: cannot be 0x0; the connection must be closed and begun anew"
    );
}

#[test]
fn limits_agree_with_each_other() {
    use medley_wire::limits::{CONTROL_BYTES, GREETING_BYTES, PIXEL_BYTES};
    let most = |table: &[Entry]| table.iter().map(|entry| entry.max).max().unwrap();
    for table in [
        Guest::TABLE,
        gui::FromHost::TABLE,
        control::FromGuest::TABLE,
        control::FromHost::TABLE,
    ] {
        assert!(
            table
                .iter()
                .filter(|e| e.number <= 2)
                .all(|e| e.max <= GREETING_BYTES)
        );
        let numbers: Vec<_> = table.iter().map(|entry| entry.number).collect();
        assert!(
            numbers
                .iter()
                .enumerate()
                .all(|(at, number)| !numbers[..at].contains(number))
        );
    }
    assert!(most(Guest::TABLE) <= PIXEL_BYTES + 256);
    assert!(most(control::FromGuest::TABLE).max(most(control::FromHost::TABLE)) <= CONTROL_BYTES);
    assert!(most(bulk::FromGuest::TABLE) <= medley_wire::limits::CHUNK_BYTES + 64);
}

/// The page and the code say the same.
#[test]
fn the_page_lists_every_message() {
    let page = include_str!("../../../docs/wire.md");
    let mut missing = String::new();
    let mut look = |table: &[Entry]| {
        for entry in table {
            let bytes = if entry.min == entry.max {
                entry.min.to_string()
            } else {
                format!("{} to {}", entry.min, entry.max)
            };
            let row = format!("| {} | `{}` | {bytes} |", entry.number, entry.name);
            if !page.contains(&row) {
                missing += &format!("{row}\n");
            }
        }
    };
    look(Guest::TABLE);
    look(gui::FromHost::TABLE);
    look(control::FromGuest::TABLE);
    look(control::FromHost::TABLE);
    look(bulk::FromGuest::TABLE);
    look(bulk::FromHost::TABLE);
    assert!(missing.is_empty(), "docs/wire.md lacks\n{missing}");
}
