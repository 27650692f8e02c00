//! Pointers: the host's own for every name that the guest may say, loaded before the guest is heard, and
//! pictures if the policy takes them. A picture gets an outline in the workspace's colour: a guest cannot
//! make the pointer look like the host's, or vanish where it should be seen.
use crate::emblem::outlined;
use crate::error::Result;
use crate::frame::Colour;
use medley_wire::Size;
use medley_wire::window::Shape;
use medley_x11::Conn;
use x11rb::connection::Connection;
use x11rb::protocol::render::{ConnectionExt as _, PictType};
use x11rb::protocol::xproto::{ConnectionExt, CreateGCAux, Cursor, ImageFormat};

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
    pub fn load(conn: &Conn, screen: usize, outline: Colour) -> Result<Self> {
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
        conn: &Conn,
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
fn empty(conn: &Conn, root: u32) -> Result<Cursor> {
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
