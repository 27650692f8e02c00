//! What a screen says, one message after the other, straight onto a picture. The picture is held only while
//! pixels are put on it, never while the next ones are awaited.
use crate::picture::{Area, Cursor, Picture, hold};
use crate::{
    CURSOR_MOST, CUT_MOST, Error, Fault, PIXELS_MOST, Result, SCREENS_MOST, check_size, encoding,
    is_end,
};
use std::io::{self, Read};
use std::sync::Mutex;

/// Bytes of pixels that are read before they are put on the picture.
const CHUNK: usize = 64 << 10;

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An update; the picture has another size.
    Resized,
    /// An update.
    Updated,
    /// Something that changes nothing.
    Nothing,
    /// The end: there will be no more.
    End,
}

/// Reads messages.
#[derive(Debug)]
pub struct Decoder<R> {
    input: R,
    pixels_most: u32,
    chunk: Vec<u8>,
}

/// A rectangle, as it was said.
#[derive(Clone, Copy, Debug)]
struct Said {
    x: u16,
    y: u16,
    width: u16,
    height: u16,
}

impl<R: Read> Decoder<R> {
    /// Of what comes after the greeting.
    pub const fn new(input: R) -> Self {
        Self {
            input,
            pixels_most: PIXELS_MOST,
            chunk: Vec::new(),
        }
    }

    /// Takes no screen of more pixels than these, which are at most [`PIXELS_MOST`].
    #[must_use]
    pub fn with_pixels_most(mut self, pixels: u32) -> Self {
        self.pixels_most = pixels.min(PIXELS_MOST);
        self
    }

    /// Reads one message.
    ///
    /// # Errors
    /// The message breaks a rule, or the connection failed otherwise than by its end.
    pub fn hear(&mut self, picture: &Mutex<Picture>) -> Result<Heard> {
        match self.message(picture) {
            Err(Error::Lost { source, .. }) if is_end(&source) => Ok(Heard::End),
            heard => heard,
        }
    }

    fn message(&mut self, picture: &Mutex<Picture>) -> Result<Heard> {
        match self.u8()? {
            0 => self.update(picture),
            // A bell.
            2 => Ok(Heard::Nothing),
            3 => self.cut_text(),
            kind => Err(Fault::Message(kind).into()),
        }
    }

    fn update(&mut self, picture: &Mutex<Picture>) -> Result<Heard> {
        self.skip(1)?;
        let count = self.u16()?;
        let mut heard = Heard::Updated;
        for _ in 0..count {
            let said = Said {
                x: self.u16()?,
                y: self.u16()?,
                width: self.u16()?,
                height: self.u16()?,
            };
            let kind = i32::from_be_bytes(self.bytes()?);
            if self.rectangle(said, kind, picture)? == Heard::Resized {
                heard = Heard::Resized;
            }
        }
        Ok(heard)
    }

    fn rectangle(&mut self, said: Said, kind: i32, picture: &Mutex<Picture>) -> Result<Heard> {
        match kind {
            encoding::RAW => self.raw(said, picture)?,
            encoding::COPY => {
                let (x, y) = (self.u16()?, self.u16()?);
                let mut picture = hold(picture);
                let from = within("a copy of", Said { x, y, ..said }, &picture)?;
                let to = within("a copy to", said, &picture)?;
                picture.copy(from, to);
            }
            encoding::SIZE => return self.resize(said, picture),
            encoding::SIZE_EXTENDED => {
                let count = self.u8()?;
                if count > SCREENS_MOST {
                    return Err(Fault::Screens(count).into());
                }
                self.skip(3 + 16 * usize::from(count))?;
                return self.resize(said, picture);
            }
            encoding::CURSOR => self.cursor(said, picture)?,
            encoding::KEYS => hold(picture).takes_keys(),
            encoding::POINTER => hold(picture).place_pointer(said.x != 0),
            other => return Err(Fault::Encoding(other).into()),
        }
        Ok(Heard::Updated)
    }

    fn raw(&mut self, said: Said, picture: &Mutex<Picture>) -> Result<()> {
        let area = within("pixels of", said, &hold(picture))?;
        let row = 4 * usize::from(said.width);
        if row == 0 {
            return Ok(());
        }
        let together = (CHUNK / row).max(1);
        let mut done = 0;
        while done < usize::from(said.height) {
            let rows = together.min(usize::from(said.height) - done);
            self.fill(rows * row)?;
            let part = Area {
                y: area.y + done as u32,
                height: rows as u32,
                ..area
            };
            // Nobody else changes its size: what was within still is.
            hold(picture).put(part, &self.chunk);
            done += rows;
        }
        Ok(())
    }

    fn cursor(&mut self, said: Said, picture: &Mutex<Picture>) -> Result<()> {
        let Said {
            x,
            y,
            width,
            height,
        } = said;
        if width > CURSOR_MOST || height > CURSOR_MOST {
            return Err(Fault::Cursor(width, height).into());
        }
        let pixels = usize::from(width) * usize::from(height);
        self.fill(4 * pixels)?;
        let colours = self.chunk.as_chunks::<4>().0.iter();
        let colours: Vec<u32> = colours.map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let line = usize::from(width).div_ceil(8);
        self.fill(line * usize::from(height))?;
        let is_set = |at: usize| {
            let (row, column) = (at / usize::from(width), at % usize::from(width));
            self.chunk[row * line + column / 8] & (0x80 >> (column % 8)) != 0
        };
        let pixels = colours.iter().enumerate();
        let pixels = pixels.map(|(at, colour)| is_set(at).then_some(colour & 0x00ff_ffff));
        let cursor = Cursor {
            hot: (x.min(width), y.min(height)),
            width,
            height,
            pixels: pixels.collect(),
        };
        hold(picture).show_cursor((pixels_of(&cursor) > 0).then_some(cursor));
        Ok(())
    }

    fn resize(&self, said: Said, picture: &Mutex<Picture>) -> Result<Heard> {
        check_size(said.width, said.height, self.pixels_most)?;
        let resized = hold(picture).resize(said.width, said.height);
        Ok(match resized {
            true => Heard::Resized,
            false => Heard::Updated,
        })
    }

    fn cut_text(&mut self) -> Result<Heard> {
        self.skip(3)?;
        let length = u32::from_be_bytes(self.bytes()?);
        if length > CUT_MOST {
            let (what, most) = ("a clipboard", CUT_MOST);
            return Err(Fault::Long { what, length, most }.into());
        }
        let mut left = length as usize;
        while left > 0 {
            let part = left.min(CHUNK);
            self.skip(part)?;
            left -= part;
        }
        Ok(Heard::Nothing)
    }

    /// Reads so many bytes into the chunk; at most [`CHUNK`], a row of pixels, or a cursor.
    fn fill(&mut self, length: usize) -> Result<()> {
        self.chunk.resize(length, 0);
        self.input.read_exact(&mut self.chunk).map_err(lost)
    }

    fn skip(&mut self, length: usize) -> Result<()> {
        self.fill(length)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(lost)?;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16> {
        self.bytes().map(u16::from_be_bytes)
    }
}

fn pixels_of(cursor: &Cursor) -> usize {
    cursor.pixels.iter().flatten().count()
}

/// A rectangle, if it lies on the screen.
fn within(what: &'static str, said: Said, picture: &Picture) -> Result<Area, Fault> {
    let screen = picture.size();
    let ends = |at: u16, length: u16| u32::from(at) + u32::from(length);
    let inside = ends(said.x, said.width) <= u32::from(screen.0)
        && ends(said.y, said.height) <= u32::from(screen.1);
    let Said {
        x,
        y,
        width,
        height,
    } = said;
    match inside {
        true => Ok(Area {
            x: x.into(),
            y: y.into(),
            width: width.into(),
            height: height.into(),
        }),
        false => Err(Fault::Outside {
            what,
            x,
            y,
            width,
            height,
            screen,
        }),
    }
}

fn lost(source: io::Error) -> Error {
    Error::Lost {
        doing: "looking at it",
        source,
    }
}
