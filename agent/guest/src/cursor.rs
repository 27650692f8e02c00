//! How the pointer looks: by name where it has one that every desktop knows, else as a small picture.
use crate::display::{Display, gone};
use crate::screen::Gui;
use anyhow::Result;
use medley_wire::limits::CURSOR_SIDE;
use medley_wire::pixels::Picture;
use medley_wire::window::Shape;
use medley_wire::{Features, Size, gui};
use x11rb::NONE;
use x11rb::protocol::xfixes;

/// The cursor that was last told.
#[derive(Debug, Default)]
pub struct Cursor {
    told: Option<u32>,
}

impl Cursor {
    /// The server shows another cursor.
    ///
    /// # Errors
    /// The display is gone.
    pub fn changed(
        &mut self,
        display: &Display,
        event: &xfixes::CursorNotifyEvent,
        live: bool,
        say: &mut Gui<'_>,
    ) -> Result<()> {
        if live && self.told != Some(event.cursor_serial) {
            self.tell(display, say)?;
        }
        Ok(())
    }

    /// Tells how the pointer looks now.
    ///
    /// # Errors
    /// The display is gone.
    pub fn tell(&mut self, display: &Display, say: &mut Gui<'_>) -> Result<()> {
        let reply = gone(xfixes::get_cursor_image_and_name(&display.x)?.reply())?;
        let Some(image) = reply else {
            return Ok(());
        };
        self.told = Some(image.cursor_serial);
        let name = (image.cursor_atom != NONE).then(|| String::from_utf8_lossy(&image.name));
        if let Some(shape) = name.and_then(|name| shape_of(&name)) {
            say.say(gui::Cursor { shape });
            return Ok(());
        }
        let bytes: Vec<u8> = image
            .cursor_image
            .iter()
            .flat_map(|pixel| pixel.to_le_bytes())
            .collect();
        let visible = bytes.chunks_exact(4).any(|pixel| pixel[3] != 0);
        let picture = Size::new(image.width.into(), image.height.into())
            .and_then(|size| Picture::<{ CURSOR_SIDE as usize }>::new(size, &bytes));
        match picture {
            _ if !visible => say.say(gui::Cursor {
                shape: Shape::Hidden,
            }),
            Some(picture) if say.have(Features::CURSOR_PICTURES) => say.say(gui::CursorPicture {
                x: image.xhot,
                y: image.yhot,
                picture,
            }),
            _ => say.say(gui::Cursor {
                shape: Shape::Arrow,
            }),
        }
        Ok(())
    }
}

/// A cursor by the names that CSS, X11's cursor font and themes give it.
fn shape_of(name: &str) -> Option<Shape> {
    Some(match name {
        "none" => Shape::Hidden,
        "default" | "left_ptr" | "arrow" | "top_left_arrow" => Shape::Arrow,
        "text" | "xterm" | "ibeam" => Shape::Text,
        "pointer" | "hand" | "hand1" | "hand2" | "pointing_hand" => Shape::Hand,
        "wait" | "watch" => Shape::Wait,
        "progress" | "left_ptr_watch" | "half-busy" => Shape::Progress,
        "crosshair" | "cross" | "tcross" | "cross_reverse" => Shape::Cross,
        "help" | "question_arrow" | "whats_this" | "left_ptr_help" => Shape::Help,
        "move" | "fleur" | "all-scroll" | "size_all" => Shape::Move,
        "not-allowed" | "no-drop" | "forbidden" | "crossed_circle" | "circle" => Shape::Forbidden,
        "grab" | "openhand" => Shape::Grab,
        "grabbing" | "closedhand" | "dnd-move" => Shape::Grabbing,
        "ew-resize" | "e-resize" | "w-resize" | "left_side" | "right_side"
        | "sb_h_double_arrow" | "size_hor" | "h_double_arrow" => Shape::Horizontal,
        "ns-resize" | "n-resize" | "s-resize" | "top_side" | "bottom_side"
        | "sb_v_double_arrow" | "size_ver" | "v_double_arrow" => Shape::Vertical,
        "nwse-resize"
        | "nw-resize"
        | "se-resize"
        | "top_left_corner"
        | "bottom_right_corner"
        | "size_fdiag" => Shape::Falling,
        "nesw-resize" | "ne-resize" | "sw-resize" | "top_right_corner" | "bottom_left_corner"
        | "size_bdiag" => Shape::Rising,
        "col-resize" | "split_h" => Shape::Column,
        "row-resize" | "split_v" => Shape::Row,
        "copy" | "dnd-copy" => Shape::Copy,
        "alias" | "dnd-link" => Shape::Alias,
        "zoom-in" => Shape::ZoomIn,
        "zoom-out" => Shape::ZoomOut,
        "vertical-text" => Shape::VerticalText,
        "cell" | "plus" => Shape::Cell,
        "context-menu" => Shape::Menu,
        _ => return None,
    })
}
