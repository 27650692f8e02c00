//! One top-level window, as the agent knows it, and the numbers by which the host knows it.
use crate::traits::Traits;
use medley_wire::limits::{POSITION, SIDE};
use medley_wire::pixels::Format;
use medley_wire::window::{Kind, Seen, States};
use medley_wire::{AppId, Rect, Size, Untrusted, WindowId};
use std::time::Instant;
use x11rb::protocol::xproto::{Rectangle, Window};

/// Where a window is on the guest's screen, its own border included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: i32,
    /// Upper edge.
    pub y: i32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl Area {
    /// The area as the wire can say it: what lies beyond its bounds is moved to them.
    #[must_use]
    pub fn claim(self) -> Untrusted<Rect> {
        let size = self.size();
        let near = |at: i32| at.clamp(-POSITION, POSITION);
        let rect = Rect::new(near(self.x), near(self.y), size);
        Untrusted::claim(rect.unwrap_or(Rect::whole(size)))
    }

    /// The size as the wire can say it.
    #[must_use]
    pub fn size(self) -> Size {
        let side = |length: u32| length.clamp(1, SIDE);
        Size::new(side(self.width), side(self.height)).unwrap_or_else(dot)
    }
}

impl From<Rect> for Area {
    fn from(rect: Rect) -> Self {
        Self {
            x: rect.x(),
            y: rect.y(),
            width: rect.size().width(),
            height: rect.size().height(),
        }
    }
}

/// One pixel: a size that always is one.
fn dot() -> Size {
    Size::new(1, 1).unwrap_or_else(|| unreachable!("one pixel is a size"))
}

/// What of a window is to be sent, and how fast.
#[derive(Clone, Debug)]
pub struct Frames {
    /// The next frame's number.
    pub next: u32,
    /// Since when something has changed that was not sent.
    pub changed: Option<Instant>,
    /// The box around what has changed, as far as the server has reported it.
    pub near: Option<Rectangle>,
    /// Everything must be sent, whatever changed.
    pub whole: bool,
    /// Not before this moment.
    pub not_before: Option<Instant>,
    /// When the next frame would be due if none were ahead of the rate.
    pub schedule: Option<Instant>,
    /// How often the server would not give the pixels, one time after the other.
    pub refused: u32,
    /// How much of the window somebody can see.
    pub seen: Seen,
    /// Frames in a second that are worth sending, as the host says.
    pub rate: u16,
}

/// A top-level window.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number on the guest's display.
    pub xid: Window,
    /// Its number on the wire.
    pub id: WindowId,
    /// Where it is.
    pub area: Area,
    /// Pixels of its own border, on each side.
    pub border: u32,
    /// How its pixels lie; nothing if they cannot be sent.
    pub format: Option<Format>,
    /// The agent is its window manager: it did not override that.
    pub managed: bool,
    /// It is shown on the guest's display.
    pub mapped: bool,
    /// The host knows it.
    pub told: bool,
    /// What its app says about it.
    pub traits: Traits,
    /// What it is for.
    pub kind: Kind,
    /// The window that it stands before.
    pub parent: Option<WindowId>,
    /// States that hold.
    pub states: States,
    /// The app that it belongs to.
    pub app: AppId,
    /// The launch that led to it.
    pub launch: u32,
    /// What the server reports of its changes, while it is mapped.
    pub damage: Option<u32>,
    /// The server's name for its pixels, for its present size.
    pub pixmap: Option<u32>,
    /// What is to be sent.
    pub frames: Frames,
    /// It is not a rectangle: outline, input.
    pub shaped: [bool; 2],
    /// When it was asked whether it is alive, and did not answer yet.
    pub asked: Option<Instant>,
}

impl Client {
    /// The window has another size, and soon other pixels.
    pub fn resized(&mut self, paints: Instant) {
        self.frames.whole = true;
        self.frames.refused = 0;
        self.frames.changed.get_or_insert_with(Instant::now);
        self.frames.not_before = Some(paints);
    }

    /// The whole window, from its own corner.
    #[must_use]
    pub fn whole(&self) -> Rect {
        Rect::whole(self.area.size())
    }
}

/// What a window is for, if its app does not say.
#[must_use]
pub const fn guess_kind(traits: &Traits, managed: bool) -> Kind {
    match (traits.kind, managed) {
        (Some(kind), _) => kind,
        (None, true) if traits.transient_for.is_some() => Kind::Dialog,
        (None, true) => Kind::Normal,
        (None, false) => Kind::PopupMenu,
    }
}
