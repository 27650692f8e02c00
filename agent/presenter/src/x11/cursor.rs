//! Pointers: the host's own for every name that the guest may say, loaded before the guest is heard, and
//! pictures if the policy takes them. A picture gets an outline in the workspace's colour: a guest cannot
//! make the pointer look like the host's, or vanish where it should be seen.
use crate::error::Result;
use crate::frame::Colour;
use medley_wire::Size;
use medley_wire::window::Shape;
use x11rb::connection::Connection;
use x11rb::protocol::render::{ConnectionExt as _, PictType};
use x11rb::protocol::xproto::{ConnectionExt, CreateGCAux, Cursor, ImageFormat};
use x11rb::rust_connection::RustConnection;

/// The themes' names of each cursor; older themes have only the second.
const NAMES: [(Shape, &[&str]); 24] = [
    (Shape::Arrow, &["default", "left_ptr"]),
    (Shape::Text, &["text", "xterm"]),
    (Shape::Hand, &["pointer", "hand2"]),
    (Shape::Wait, &["wait", "watch"]),
    (Shape::Progress, &["progress", "left_ptr_watch", "watch"]),
    (Shape::Cross, &["crosshair", "cross"]),
    (Shape::Help, &["help", "question_arrow"]),
    (Shape::Move, &["move", "fleur"]),
    (
        Shape::Forbidden,
        &["not-allowed", "crossed_circle", "X_cursor"],
    ),
    (Shape::Grab, &["grab", "openhand", "hand1"]),
    (Shape::Grabbing, &["grabbing", "closedhand", "fleur"]),
    (Shape::Horizontal, &["ew-resize", "sb_h_double_arrow"]),
    (Shape::Vertical, &["ns-resize", "sb_v_double_arrow"]),
    (Shape::Falling, &["nwse-resize", "bottom_right_corner"]),
    (Shape::Rising, &["nesw-resize", "bottom_left_corner"]),
    (Shape::Column, &["col-resize", "sb_h_double_arrow"]),
    (Shape::Row, &["row-resize", "sb_v_double_arrow"]),
    (Shape::Copy, &["copy", "dnd-copy", "plus"]),
    (Shape::Alias, &["alias", "dnd-link", "hand1"]),
    (Shape::ZoomIn, &["zoom-in", "plus"]),
    (Shape::ZoomOut, &["zoom-out", "plus"]),
    (Shape::VerticalText, &["vertical-text", "xterm"]),
    (Shape::Cell, &["cell", "plus"]),
    (Shape::Menu, &["context-menu", "left_ptr"]),
];

/// All pointers.
pub(super) struct Cursors {
    named: Vec<(Shape, Cursor)>,
    current: Cursor,
    picture: Option<Cursor>,
    outline: Colour,
}

impl Cursors {
    pub fn load(conn: &RustConnection, screen: usize, outline: Colour) -> Result<Self> {
        let database = x11rb::resource_manager::new_from_default(conn)?;
        let handle = x11rb::cursor::Handle::new(conn, screen, &database)?.reply()?;
        let mut named = Vec::with_capacity(NAMES.len() + 1);
        for (shape, names) in NAMES {
            let mut found = x11rb::NONE;
            for name in names {
                found = handle.load_cursor(conn, name)?;
                if found != x11rb::NONE {
                    break;
                }
            }
            named.push((shape, found));
        }
        let hidden = empty(conn, conn.setup().roots[screen].root)?;
        named.push((Shape::Hidden, hidden));
        Ok(Self {
            current: named[0].1,
            named,
            picture: None,
            outline,
        })
    }

    /// The pointer as it is now; zero is the desktop's.
    pub const fn current(&self) -> Cursor {
        self.current
    }

    pub fn name(&mut self, shape: Shape) {
        let found = self.named.iter().find(|(name, _)| *name == shape);
        self.current = found.map_or(x11rb::NONE, |(_, cursor)| *cursor);
    }

    pub fn picture(
        &mut self,
        conn: &RustConnection,
        size: Size,
        (x, y): (u32, u32),
        pixels: &[u8],
    ) -> Result<()> {
        let (width, height, bytes) = outlined(size, pixels, self.outline);
        let formats = conn.render_query_pict_formats()?.reply()?;
        let format = formats.formats.iter().find(|format| {
            let direct = format.direct;
            let shifts = (
                direct.alpha_shift,
                direct.red_shift,
                direct.green_shift,
                direct.blue_shift,
            );
            format.type_ == PictType::DIRECT
                && format.depth == 32
                && shifts == (24, 16, 8, 0)
                && direct.alpha_mask == 0xff
        });
        let Some(format) = format else {
            return Ok(());
        };
        let root = conn.setup().roots[0].root;
        let (pixmap, gc) = (conn.generate_id()?, conn.generate_id()?);
        let (picture, cursor) = (conn.generate_id()?, conn.generate_id()?);
        conn.create_pixmap(32, pixmap, root, width, height)?;
        conn.create_gc(gc, pixmap, &CreateGCAux::new())?;
        conn.put_image(
            ImageFormat::Z_PIXMAP,
            pixmap,
            gc,
            width,
            height,
            0,
            0,
            0,
            32,
            &bytes,
        )?;
        conn.render_create_picture(picture, pixmap, format.id, &Default::default())?;
        let at = |n: u32| u16::try_from(n + 1).unwrap_or(1);
        conn.render_create_cursor(cursor, picture, at(x), at(y))?;
        conn.render_free_picture(picture)?;
        conn.free_gc(gc)?;
        conn.free_pixmap(pixmap)?;
        if let Some(old) = self.picture.replace(cursor) {
            conn.free_cursor(old)?;
        }
        self.current = cursor;
        Ok(())
    }
}

/// A pointer of which nothing is seen.
fn empty(conn: &RustConnection, root: u32) -> Result<Cursor> {
    let (pixmap, gc, cursor) = (
        conn.generate_id()?,
        conn.generate_id()?,
        conn.generate_id()?,
    );
    conn.create_pixmap(1, pixmap, root, 1, 1)?;
    conn.create_gc(gc, pixmap, &CreateGCAux::new().foreground(0))?;
    conn.poly_fill_rectangle(
        pixmap,
        gc,
        &[x11rb::protocol::xproto::Rectangle {
            x: 0,
            y: 0,
            width: 1,
            height: 1,
        }],
    )?;
    conn.create_cursor(cursor, pixmap, pixmap, 0, 0, 0, 0, 0, 0, 0, 0)?;
    conn.free_gc(gc)?;
    conn.free_pixmap(pixmap)?;
    Ok(cursor)
}

/// A picture one pixel larger on each side, with every clear pixel beside one that is not in the colour. A
/// picture in which nothing is seen becomes a dot.
fn outlined(size: Size, pixels: &[u8], colour: Colour) -> (u16, u16, Vec<u8>) {
    let (width, height) = (size.width() as usize, size.height() as usize);
    let (wide, high) = (width + 2, height + 2);
    let ink = (colour.pixel() | 0xff00_0000).to_le_bytes();
    let source = pixels.as_chunks::<4>().0;
    let seen = |x: usize, y: usize| {
        let inside = (1..=width).contains(&x) && (1..=height).contains(&y);
        inside
            .then(|| source[(y - 1) * width + x - 1])
            .filter(|p| p[3] >= 0x40)
    };
    let mut out = Vec::with_capacity(wide * high * 4);
    for y in 0..high {
        for x in 0..wide {
            let near = || {
                let around = [(-1, 0), (1, 0), (0, -1_isize), (0, 1)];
                around.iter().any(|(dx, dy)| {
                    let at = x.checked_add_signed(*dx).zip(y.checked_add_signed(*dy));
                    at.is_some_and(|(x, y)| seen(x, y).is_some())
                })
            };
            out.extend_from_slice(&match seen(x, y) {
                // Colours are not brighter than their opacity, or the server would draw something else.
                Some([b, g, r, a]) => [b.min(a), g.min(a), r.min(a), a],
                None if near() => ink,
                None => [0; 4],
            });
        }
    }
    if out.iter().all(|byte| *byte == 0) {
        out[..4].copy_from_slice(&ink);
    }
    let side = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    (side(wide), side(high), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_a_pointer_has_the_workspaces_outline() {
        let red = Colour(255, 0, 0);
        let dot = Size::new(1, 1).unwrap();
        let (width, height, bytes) = outlined(dot, &[9, 9, 9, 255], red);
        assert_eq!((width, height), (3, 3));
        let pixels = bytes.as_chunks::<4>().0;
        let ink = [0, 0, 255, 255];
        assert_eq!(pixels[4], [9, 9, 9, 255]);
        assert!([1, 3, 5, 7].iter().all(|n| pixels[*n] == ink));
        assert!([0, 2, 6, 8].iter().all(|n| pixels[*n] == [0; 4]));
        let (_, _, nothing) = outlined(dot, &[0; 4], red);
        assert_eq!(nothing[..4], ink, "a pointer cannot vanish");
    }
}
