//! The host's own words in the host's own font: on captions, on the lock card, as a watermark. A font of the X
//! server's is used, so that no file of fonts is ever parsed here. Latin letters only; others become `?`.
use crate::error::Result;
use medley_x11::Conn;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    self, ConnectionExt, CreateGCAux, Drawable, Font, Gcontext, ImageFormat,
};

/// Letters of one piece of text, at most.
const LETTERS: usize = 200;

/// A font and a context to write with it.
pub(super) struct Writer {
    font: Font,
    gc: Option<Gcontext>,
    pub ascent: u16,
    pub height: u16,
    width: u16,
}

/// Text as the server's 8-bit fonts have it.
fn latin(text: &str) -> Vec<u8> {
    text.chars()
        .take(LETTERS)
        .map(|letter| {
            let byte = u8::try_from(letter).unwrap_or(b'?');
            let printable = matches!(byte, 0x20..=0x7e | 0xa0..);
            if printable { byte } else { b'?' }
        })
        .collect()
}

impl Writer {
    /// The server's fixed font, if it has one.
    pub fn open(conn: &Conn) -> Result<Option<Self>> {
        let font = conn.generate_id()?;
        for name in ["9x15bold", "fixed"] {
            if conn.open_font(font, name.as_bytes())?.check().is_ok() {
                let info = conn.query_font(font)?.reply()?;
                let side = |n: i16| u16::try_from(n).unwrap_or(0);
                return Ok(Some(Self {
                    font,
                    gc: None,
                    ascent: side(info.font_ascent),
                    height: side(info.font_ascent) + side(info.font_descent),
                    width: side(info.max_bounds.character_width).max(1),
                }));
            }
        }
        tracing::warn!("the display has no fixed font: captions and watermarks have no words");
        Ok(None)
    }

    /// Pixels that a text is wide.
    pub fn width(&self, text: &str) -> u16 {
        u16::try_from(latin(text).len()).unwrap_or(0) * self.width
    }

    /// Writes on a drawable, in colours as pixels.
    pub fn write(
        &self,
        conn: &Conn,
        on: Drawable,
        (x, baseline): (i16, i16),
        (ink, paper): (u32, u32),
        text: &str,
    ) -> Result<()> {
        let gc = match self.gc {
            Some(gc) => gc,
            None => conn.generate_id()?,
        };
        let aux = CreateGCAux::new()
            .font(self.font)
            .foreground(ink)
            .background(paper)
            .graphics_exposures(0);
        conn.create_gc(gc, on, &aux)?;
        conn.image_text8(on, gc, x, baseline, &latin(text))?;
        conn.free_gc(gc)?;
        Ok(())
    }

    /// Which pixels a text covers: width, height, and a truth for each pixel.
    pub fn mask(
        &self,
        conn: &Conn,
        root: xproto::Window,
        depth: u8,
        text: &str,
    ) -> Result<(usize, usize, Vec<bool>)> {
        let (width, height) = (self.width(text).max(1), self.height.max(1));
        let pixmap = conn.generate_id()?;
        conn.create_pixmap(depth, pixmap, root, width, height)?;
        let baseline = i16::try_from(self.ascent).unwrap_or(0);
        self.write(conn, pixmap, (0, baseline), (0x00ff_ffff, 0), text)?;
        let image = conn
            .get_image(ImageFormat::Z_PIXMAP, pixmap, 0, 0, width, height, !0)?
            .reply()?;
        conn.free_pixmap(pixmap)?;
        let bits = image.data.as_chunks::<4>().0.iter().map(|p| p[0] != 0);
        Ok((width.into(), height.into(), bits.collect()))
    }
}
