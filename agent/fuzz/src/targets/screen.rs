//! A machine's screen, heard whole and heard in pieces: both make the same picture, and every picture is whole.

use std::io::{self, Read, Write};
use std::sync::Mutex;

use medley_rfb::picture::{Area, Cursor, Picture, hold};
use medley_rfb::{Decoder, Error, Fault, Heard, greet};

use super::Target;

pub const TARGET: Target = Target {
    name: "rfb_screen",
    about: "what a machine's screen says: a greeting or none, updates, sizes, cursors",
    max_len: 8192,
    run,
};

/// Larger screens take longer to clear than all else here.
const PIXELS: u32 = 1 << 14;

fn run(bytes: &[u8]) {
    let [how, says @ ..] = bytes else { return };
    let (greets, piece) = (how & 1 != 0, usize::from(how >> 1) + 1);
    let hears = |piece| -> Result<Seen, Option<Fault>> {
        let mut screen = Screen { says, piece };
        let size = match greets {
            true => greet(&mut screen),
            false => Ok((16, 8)),
        };
        let size = size.map_err(|error| reason(&error))?;
        if u32::from(size.0) * u32::from(size.1) > PIXELS {
            return Err(None);
        }
        Ok(hear(screen, Picture::new(size.0, size.1)))
    };
    assert_eq!(hears(usize::MAX), hears(piece));
}

/// What was heard, how it ended, and what is seen at the end.
#[derive(Debug, PartialEq)]
struct Seen {
    heard: Vec<Heard>,
    fault: Option<Fault>,
    size: (u16, u16),
    pixels: Vec<u32>,
    cursor: Option<Cursor>,
    ways: (bool, bool),
}

fn hear(screen: Screen<'_>, picture: Picture) -> Seen {
    let mut decoder = Decoder::new(screen).with_pixels_most(PIXELS);
    let picture = Mutex::new(picture);
    let mut heard = Vec::new();
    let fault = loop {
        let next = decoder.hear(&picture);
        check(&mut hold(&picture), next.as_ref().ok());
        match next {
            Ok(Heard::End) => break None,
            Ok(what) => heard.push(what),
            Err(error) => break reason(&error),
        }
    };
    let picture = hold(&picture);
    Seen {
        heard,
        fault,
        size: picture.size(),
        pixels: picture.pixels().to_vec(),
        cursor: picture.cursor().cloned(),
        ways: (picture.has_keys(), picture.is_placed()),
    }
}

/// A picture has the pixels of its size, what changed lies within, and so does what points.
fn check(picture: &mut Picture, heard: Option<&Heard>) {
    let whole = picture.whole();
    assert_eq!(picture.pixels().len(), pixels(whole));
    // Of a message that changes nothing there is nothing to look for.
    if heard != Some(&Heard::Nothing) {
        assert!(picture.pixels().iter().all(|pixel| pixel >> 24 == 0));
    }
    let damage = picture.take_damage();
    assert!(damage.is_empty() || damage.cut(whole) == damage);
    if let Some(cursor) = picture.cursor() {
        let (width, height) = (cursor.width, cursor.height);
        assert_eq!(
            cursor.pixels.len(),
            usize::from(width) * usize::from(height)
        );
        assert!(cursor.hot.0 <= width && cursor.hot.1 <= height);
        assert!(cursor.pixels.iter().any(Option::is_some));
    }
}

const fn pixels(area: Area) -> usize {
    area.width as usize * area.height as usize
}

/// The rule that was broken; none, if there was nothing more to read.
fn reason(error: &Error) -> Option<Fault> {
    match error {
        Error::Fault(fault) => Some(fault.clone()),
        Error::Lost { source, .. } => {
            assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
            None
        }
    }
}

/// Says what is prepared, in pieces, whatever it is told.
struct Screen<'a> {
    says: &'a [u8],
    piece: usize,
}

impl Read for Screen<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(self.piece);
        self.says.read(&mut into[..most])
    }
}

impl Write for Screen<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
