//! Pointers: the host's own for every name that the guest may say. The compositor is asked for them by name where it
//! takes names; else they are loaded from the theme before the guest is heard. Pictures, if the policy takes them,
//! get an outline in the workspace's colour.
use super::State;
use super::buffer::Buffer;
use super::globals::Globals;
use crate::emblem::outlined;
use crate::frame::Colour;
use medley_wire::Size;
use medley_wire::window::Shape;
use std::env;
use wayland_client::QueueHandle;
use wayland_client::protocol::wl_pointer::WlPointer;
use wayland_client::protocol::wl_shm::Format;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_device_v1::{
    Shape as Named, WpCursorShapeDeviceV1,
};
use xcursor::CursorTheme;
use xcursor::parser::{Image, parse_xcursor};

/// The compositor's names of each cursor, and the themes': older themes have only the second.
const NAMES: [(Shape, Named, &[&str]); 24] = [
    (Shape::Arrow, Named::Default, &["default", "left_ptr"]),
    (Shape::Text, Named::Text, &["text", "xterm"]),
    (Shape::Hand, Named::Pointer, &["pointer", "hand2"]),
    (Shape::Wait, Named::Wait, &["wait", "watch"]),
    (
        Shape::Progress,
        Named::Progress,
        &["progress", "left_ptr_watch", "watch"],
    ),
    (Shape::Cross, Named::Crosshair, &["crosshair", "cross"]),
    (Shape::Help, Named::Help, &["help", "question_arrow"]),
    (Shape::Move, Named::Move, &["move", "fleur"]),
    (
        Shape::Forbidden,
        Named::NotAllowed,
        &["not-allowed", "crossed_circle", "X_cursor"],
    ),
    (Shape::Grab, Named::Grab, &["grab", "openhand", "hand1"]),
    (
        Shape::Grabbing,
        Named::Grabbing,
        &["grabbing", "closedhand", "fleur"],
    ),
    (
        Shape::Horizontal,
        Named::EwResize,
        &["ew-resize", "sb_h_double_arrow"],
    ),
    (
        Shape::Vertical,
        Named::NsResize,
        &["ns-resize", "sb_v_double_arrow"],
    ),
    (
        Shape::Falling,
        Named::NwseResize,
        &["nwse-resize", "bottom_right_corner"],
    ),
    (
        Shape::Rising,
        Named::NeswResize,
        &["nesw-resize", "bottom_left_corner"],
    ),
    (
        Shape::Column,
        Named::ColResize,
        &["col-resize", "sb_h_double_arrow"],
    ),
    (
        Shape::Row,
        Named::RowResize,
        &["row-resize", "sb_v_double_arrow"],
    ),
    (Shape::Copy, Named::Copy, &["copy", "dnd-copy", "plus"]),
    (Shape::Alias, Named::Alias, &["alias", "dnd-link", "hand1"]),
    (Shape::ZoomIn, Named::ZoomIn, &["zoom-in", "plus"]),
    (Shape::ZoomOut, Named::ZoomOut, &["zoom-out", "plus"]),
    (
        Shape::VerticalText,
        Named::VerticalText,
        &["vertical-text", "xterm"],
    ),
    (Shape::Cell, Named::Cell, &["cell", "plus"]),
    (
        Shape::Menu,
        Named::ContextMenu,
        &["context-menu", "left_ptr"],
    ),
];

/// The arrow of a desktop without a theme: `#` is black, `.` white.
const ARROW: [&str; 16] = [
    "#          ",
    "##         ",
    "#.#        ",
    "#..#       ",
    "#...#      ",
    "#....#     ",
    "#.....#    ",
    "#......#   ",
    "#.......#  ",
    "#........# ",
    "#.....#####",
    "#..#..#    ",
    "#.# #..#   ",
    "##  #..#   ",
    "#    #..#  ",
    "     ####  ",
];

/// A picture of a pointer.
struct Picture {
    buffer: Buffer,
    hotspot: (i32, i32),
}

/// What the pointer looks like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    Shape(Shape),
    Picture,
}

/// All pointers.
pub(super) struct Cursors {
    /// Of the theme, for compositors that take no names. The arrow is the first.
    themed: Vec<(Shape, Picture)>,
    picture: Option<Picture>,
    current: Current,
    outline: Colour,
    surface: WlSurface,
    device: Option<WpCursorShapeDeviceV1>,
}

/// The image of a theme's file that is nearest to the size that is wanted, for a file of many.
fn nearest_image(images: Vec<Image>, wanted: u32) -> Option<Image> {
    let usable = |image: &Image| image.width <= 512 && image.height <= 512;
    let images = images.into_iter().filter(usable);
    images.min_by_key(|image| image.size.abs_diff(wanted))
}

fn arrow() -> Image {
    let pixels = ARROW
        .iter()
        .flat_map(|row| row.bytes())
        .flat_map(|c| match c {
            b'#' => [0, 0, 0, 0xff],
            b'.' => [0xff; 4],
            _ => [0; 4],
        });
    Image {
        size: 16,
        width: 11,
        height: 16,
        xhot: 0,
        yhot: 0,
        delay: 0,
        pixels_rgba: pixels.collect(),
        pixels_argb: Vec::new(),
    }
}

impl Picture {
    fn of(globals: &Globals, qh: &QueueHandle<State>, image: &Image) -> Option<Self> {
        let side = |n: u32| u16::try_from(n).ok();
        let size = (side(image.width)?, side(image.height)?);
        let at = |n: u32| i32::try_from(n).unwrap_or(0);
        // The crate's «rgba» are the file's own bytes: blue first.
        let pixels = &image.pixels_rgba;
        let buffer = Buffer::filled(globals, qh, size, Format::Argb8888, pixels).ok()?;
        Some(Self {
            buffer,
            hotspot: (at(image.xhot), at(image.yhot)),
        })
    }
}

impl Cursors {
    pub fn load(globals: &Globals, qh: &QueueHandle<State>, outline: Colour) -> Self {
        let mut themed = Vec::new();
        if globals.shapes.is_none() {
            let name = env::var("XCURSOR_THEME").unwrap_or_else(|_| "default".to_owned());
            let size = env::var("XCURSOR_SIZE")
                .ok()
                .and_then(|size| size.parse().ok());
            let theme = CursorTheme::load(&name);
            for (shape, _, names) in NAMES {
                let files = names.iter().filter_map(|name| theme.load_icon(name));
                let mut images = files
                    .filter_map(|path| parse_xcursor(&std::fs::read(path).ok()?))
                    .filter_map(|images| nearest_image(images, size.unwrap_or(24)));
                let image = match images.next() {
                    None if shape == Shape::Arrow => Some(arrow()),
                    image => image,
                };
                let picture = image.and_then(|image| Picture::of(globals, qh, &image));
                themed.extend(picture.map(|picture| (shape, picture)));
            }
        }
        Self {
            themed,
            picture: None,
            current: Current::Shape(Shape::Arrow),
            outline,
            surface: globals.compositor.create_surface(qh, ()),
            device: None,
        }
    }

    /// The seat has a pointer.
    pub fn dress(&mut self, globals: &Globals, pointer: &WlPointer, qh: &QueueHandle<State>) {
        let shapes = globals.shapes.as_ref();
        self.device = shapes.map(|shapes| shapes.get_pointer(pointer, qh, ()));
    }

    /// It has none any more.
    pub fn undress(&mut self) {
        if let Some(device) = self.device.take() {
            device.destroy();
        }
    }

    pub const fn name(&mut self, shape: Shape) {
        self.current = Current::Shape(shape);
    }

    pub fn picture(
        &mut self,
        globals: &Globals,
        qh: &QueueHandle<State>,
        size: Size,
        (x, y): (u32, u32),
        pixels: &[u8],
    ) {
        let (width, height, bytes) = outlined(size, pixels, self.outline);
        let at = |n: u32| i32::try_from(n + 1).unwrap_or(1);
        let format = Format::Argb8888;
        if let Ok(buffer) = Buffer::filled(globals, qh, (width, height), format, &bytes) {
            let hotspot = (at(x), at(y));
            self.picture = Some(Picture { buffer, hotspot });
            self.current = Current::Picture;
        }
    }

    /// Shows the pointer as it is now.
    fn show(&self, pointer: &WlPointer, serial: u32) {
        let picture = match (self.current, &self.device) {
            (Current::Shape(Shape::Hidden), _) => None,
            (Current::Shape(shape), Some(device)) => {
                let known = NAMES.iter().find(|(name, ..)| *name == shape);
                let named = known.map_or(Named::Default, |(_, named, _)| *named);
                return device.set_shape(serial, named);
            }
            (Current::Shape(shape), None) => {
                let known = self.themed.iter().find(|(name, _)| *name == shape);
                let known = known.or_else(|| self.themed.first());
                known.map(|(_, picture)| picture)
            }
            (Current::Picture, _) => self.picture.as_ref(),
        };
        let Some(picture) = picture else {
            return pointer.set_cursor(serial, None, 0, 0);
        };
        picture.buffer.attach(&self.surface);
        self.surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        self.surface.commit();
        let (x, y) = picture.hotspot;
        pointer.set_cursor(serial, Some(&self.surface), x, y);
    }
}

impl State {
    /// The pointer looks otherwise, or came into a surface, where it has to be said anew.
    pub(super) fn dress_pointer(&self) {
        if let Some(pointer) = self.pointer.get().filter(|_| self.pointer.is_inside()) {
            self.cursors.show(pointer, self.pointer.entered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desktop_without_a_theme_has_an_arrow() {
        let arrow = arrow();
        assert_eq!(arrow.pixels_rgba.len(), 11 * 16 * 4);
        assert_eq!(arrow.pixels_rgba[..8], [0, 0, 0, 255, 0, 0, 0, 0]);
    }

    #[test]
    fn the_nearest_size_of_a_theme_is_taken() {
        let of = |size, width| Image {
            size,
            width,
            ..arrow()
        };
        let images = vec![of(16, 16), of(32, 32), of(24, 5000)];
        assert_eq!(nearest_image(images, 24).unwrap().size, 16);
    }
}
