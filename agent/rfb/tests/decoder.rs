//! What a screen says, byte by byte: as it should be, cut off anywhere, and by somebody who means harm.
#![allow(clippy::unwrap_used)]

use medley_rfb::picture::{Area, Picture, hold};
use medley_rfb::{CUT_MOST, Decoder, Error, Fault, Heard, PIXELS_MOST, encoding};
use proptest::prelude::*;
use std::io::Read;
use std::sync::Mutex;

/// A rectangle's head.
fn head(place: [u16; 4], kind: i32) -> Vec<u8> {
    let numbers = place.iter().flat_map(|n| n.to_be_bytes());
    numbers.chain(kind.to_be_bytes()).collect()
}

fn update(rectangles: &[&[u8]]) -> Vec<u8> {
    let count = u16::try_from(rectangles.len()).unwrap();
    [&[0, 0][..], &count.to_be_bytes(), &rectangles.concat()].concat()
}

/// Pixels as they come, counted up from a colour.
fn pixels(from: u32, count: u32) -> Vec<u8> {
    (from..from + count)
        .flat_map(|n| (n | 0xff00_0000).to_le_bytes())
        .collect()
}

fn heard(bytes: &[u8], picture: &Mutex<Picture>) -> Result<Vec<Heard>, Error> {
    let mut decoder = Decoder::new(bytes);
    let mut all = Vec::new();
    while all.last() != Some(&Heard::End) {
        all.push(decoder.hear(picture)?);
    }
    Ok(all)
}

fn fault(bytes: &[u8]) -> Fault {
    let picture = Mutex::new(Picture::new(16, 8));
    match heard(bytes, &picture) {
        Err(Error::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// One message of every kind, on a screen of 16×8.
fn golden() -> Vec<u8> {
    let raw = [head([2, 1, 3, 2], encoding::RAW), pixels(1, 6)].concat();
    let copy = [head([10, 5, 3, 2], encoding::COPY), vec![0, 2, 0, 1]].concat();
    // A cross of 9×2: the first pixel and the last column.
    let mask = [0x80, 0x80, 0x00, 0x80];
    let cursor = [
        head([4, 1, 9, 2], encoding::CURSOR),
        pixels(0x40, 18),
        mask.to_vec(),
    ]
    .concat();
    let screen = [[0; 8].as_slice(), &[0, 20, 0, 10], &[0; 4]].concat();
    let size = [
        head([1, 4, 20, 10], encoding::SIZE_EXTENDED),
        vec![1, 0, 0, 0],
        screen,
    ]
    .concat();
    [
        update(&[&head([0, 0, 16, 8], encoding::KEYS)]),
        update(&[&raw, &copy]),
        vec![2],
        [&[3, 0, 0, 0, 0, 0, 0, 3][..], b"cut"].concat(),
        update(&[&cursor, &head([0, 0, 16, 8], encoding::POINTER)]),
        update(&[&size]),
        update(&[&head([0, 0, 20, 10], encoding::SIZE)]),
        update(&[&head([0, 0, 4, 4], encoding::SIZE)]),
    ]
    .concat()
}

#[test]
fn every_kind_of_message_is_understood() {
    let picture = Mutex::new(Picture::new(16, 8));
    let bytes = golden();
    let mut decoder = Decoder::new(bytes.as_slice());
    let mut next = || decoder.hear(&picture).unwrap();
    assert!(!hold(&picture).has_keys() && hold(&picture).is_placed());
    assert_eq!(next(), Heard::Updated);
    assert!(hold(&picture).has_keys());
    hold(&picture).take_damage();

    assert_eq!(next(), Heard::Updated);
    {
        let mut picture = hold(&picture);
        let at = |x: usize, y: usize| picture.pixels()[y * 16 + x];
        assert_eq!([at(2, 1), at(4, 1), at(2, 2), at(4, 2)], [1, 3, 4, 6]);
        assert_eq!([at(10, 5), at(12, 6), at(1, 1), at(5, 1)], [1, 6, 0, 0]);
        let changed = Area {
            x: 2,
            y: 1,
            width: 11,
            height: 6,
        };
        assert_eq!(picture.take_damage(), changed);
        assert_eq!(picture.take_damage(), Area::default());
    }
    assert_eq!([next(), next()], [Heard::Nothing; 2]);

    assert_eq!(next(), Heard::Updated);
    {
        let picture = hold(&picture);
        let cursor = picture.cursor().unwrap();
        assert_eq!((cursor.hot, cursor.width, cursor.height), ((4, 1), 9, 2));
        let seen: Vec<_> = cursor.pixels.iter().flatten().copied().collect();
        assert_eq!(seen, [0x40, 0x48, 0x51]);
        assert!(!picture.is_placed());
    }
    assert_eq!(next(), Heard::Resized);
    assert_eq!(hold(&picture).size(), (20, 10));
    assert!(hold(&picture).pixels().iter().all(|pixel| *pixel == 0));
    // The same size once more is none.
    assert_eq!(
        [next(), next(), next()],
        [Heard::Updated, Heard::Resized, Heard::End]
    );
    assert_eq!(hold(&picture).size(), (4, 4));
}

#[test]
fn a_screen_that_falls_silent_anywhere_has_ended() {
    let bytes = golden();
    for end in 0..bytes.len() {
        let picture = Mutex::new(Picture::new(16, 8));
        assert_eq!(
            heard(&bytes[..end], &picture).unwrap().last(),
            Some(&Heard::End),
            "{end}"
        );
    }
}

#[test]
fn what_breaks_a_rule_is_named() {
    let outside = |bytes: &[u8]| match fault(bytes) {
        Fault::Outside { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(
        outside(&update(&[&head([15, 0, 2, 1], encoding::RAW)])),
        "pixels of"
    );
    assert_eq!(
        outside(&update(&[&head([65535, 7, 65535, 1], encoding::RAW)])),
        "pixels of"
    );
    let copy = |to, from: [u8; 4]| update(&[&[head(to, encoding::COPY), from.to_vec()].concat()]);
    assert_eq!(outside(&copy([0, 0, 8, 8], [0, 9, 0, 0])), "a copy of");
    assert_eq!(outside(&copy([9, 0, 8, 8], [0, 0, 0, 0])), "a copy to");

    let size = |width, height| update(&[&head([0, 0, width, height], encoding::SIZE)]);
    for (width, height) in [(0, 8), (8, 0), (8193, 1), (8192, 8192), (65535, 65535)] {
        assert_eq!(fault(&size(width, height)), Fault::Size(width, height));
    }
    let cursor = update(&[&head([0, 0, 257, 1], encoding::CURSOR)]);
    assert_eq!(fault(&cursor), Fault::Cursor(257, 1));
    let screens = [
        update(&[&head([0, 0, 8, 8], encoding::SIZE_EXTENDED)]),
        vec![17],
    ]
    .concat();
    assert_eq!(fault(&screens), Fault::Screens(17));
    assert_eq!(
        fault(&update(&[&head([0, 0, 1, 1], 5)])),
        Fault::Encoding(5)
    );
    assert_eq!(fault(&[1]), Fault::Message(1));
    assert_eq!(fault(&[255, 1]), Fault::Message(255));
    let cut = [&[3, 0, 0, 0][..], &(CUT_MOST + 1).to_be_bytes()].concat();
    assert!(matches!(fault(&cut), Fault::Long { length, .. } if length == CUT_MOST + 1));
}

#[test]
fn a_connection_that_fails_is_no_end() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("a broken wire"))
        }
    }
    let picture = Mutex::new(Picture::new(1, 1));
    let error = Decoder::new(Broken).hear(&picture).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

/// Messages that look like messages, with numbers of any kind in them.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [
        encoding::RAW,
        encoding::COPY,
        encoding::SIZE,
        encoding::CURSOR,
        encoding::POINTER,
        encoding::KEYS,
        encoding::SIZE_EXTENDED,
        0x10,
    ];
    let number = prop_oneof![4 => 0..20_u16, 1 => any::<u16>()];
    let rectangle = (prop::array::uniform4(number), 0..kinds.len());
    let rectangle = rectangle.prop_map(move |(place, kind)| head(place, kinds[kind]));
    let rest = prop::collection::vec(any::<u8>(), 0..900);
    let rectangles = prop::collection::vec((rectangle, rest), 0..6);
    rectangles.prop_map(|all| {
        let all: Vec<Vec<u8>> = all
            .into_iter()
            .map(|(head, rest)| [head, rest].concat())
            .collect();
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        update(&all)
    })
}

proptest! {
    /// Whatever comes, it ends, as an end or as a fault, and the picture keeps within its limits.
    #[test]
    fn garbage_ends_and_takes_no_memory(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..2000), likely()],
    ) {
        let picture = Mutex::new(Picture::new(16, 8));
        match heard(&bytes, &picture) {
            Ok(all) => prop_assert!(all.len() <= bytes.len() + 1),
            Err(Error::Fault(_)) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
        let picture = hold(&picture);
        let (width, height) = picture.size();
        let pixels = usize::from(width) * usize::from(height);
        prop_assert_eq!(picture.pixels().len(), pixels);
        prop_assert!(pixels <= PIXELS_MOST as usize);
        prop_assert!(picture.cursor().is_none_or(|cursor| cursor.pixels.len() <= 256 * 256));
    }
}
