//! What a guest may not do, each with its own code. A violation ends the display connection: a guest that
//! breaks one rule is not believed in the next message.
use medley_wire::WindowId;
use std::fmt;

/// How a guest broke a rule that the wire cannot judge alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It spoke of a window that does not exist.
    Unknown(WindowId),
    /// It made a window whose number is taken.
    Taken(WindowId),
    /// It made more windows than it may.
    Windows(u16),
    /// A window that is shown was shown again, perhaps as something else.
    Mapped(WindowId),
    /// A window's parents form a circle.
    Circle(WindowId),
    /// Its windows have more pixels than it may have.
    Pixels(u64),
    /// It sent more frames than were acknowledged.
    Frames(WindowId),
    /// A frame began before another one was whole, or has the number of one that is on its way.
    Mixed(WindowId),
    /// A frame paints its window over and over.
    Painted(WindowId),
    /// Packed pixels are not what they say.
    Packed(WindowId),
    /// A buffer does not lie in the shared memory, or there is none.
    Pool(WindowId),
    /// It answered what nobody asked.
    Answer(WindowId),
    /// It began or ended a snapshot that nobody asked for.
    Snapshot(u32),
    /// It talks too much.
    Rate,
    /// A picture of a cursor, though the host said that it takes none.
    Cursor,
    /// The kind of packing was not agreed upon.
    Codec(WindowId),
}

impl Violation {
    /// A word for events and scripts. It never changes its meaning.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown-window",
            Self::Taken(_) => "window-taken",
            Self::Windows(_) => "too-many-windows",
            Self::Mapped(_) => "mapped-twice",
            Self::Circle(_) => "parent-circle",
            Self::Pixels(_) => "too-many-pixels",
            Self::Frames(_) => "too-many-frames",
            Self::Mixed(_) => "mixed-frames",
            Self::Painted(_) => "painted-too-often",
            Self::Packed(_) => "bad-pixels",
            Self::Pool(_) => "bad-buffer",
            Self::Answer(_) => "unasked-answer",
            Self::Snapshot(_) => "unasked-snapshot",
            Self::Rate => "too-many-messages",
            Self::Cursor => "cursor-picture",
            Self::Codec(_) => "codec-not-agreed",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(w) => write!(f, "window {} does not exist", w.get()),
            Self::Taken(w) => write!(f, "window {} exists already", w.get()),
            Self::Windows(most) => write!(f, "more than {most} windows"),
            Self::Mapped(w) => write!(f, "window {} is shown already", w.get()),
            Self::Circle(w) => write!(f, "window {} is its own parent's parent", w.get()),
            Self::Pixels(most) => write!(f, "windows have more than {most} bytes of pixels"),
            Self::Frames(w) => write!(f, "window {} has too many unanswered frames", w.get()),
            Self::Mixed(w) => write!(f, "frames of window {} are mixed", w.get()),
            Self::Painted(w) => write!(f, "a frame paints window {} too often", w.get()),
            Self::Packed(w) => write!(f, "pixels of window {} do not unpack", w.get()),
            Self::Pool(w) => write!(
                f,
                "the buffer of window {} is not in shared memory",
                w.get()
            ),
            Self::Answer(w) => write!(f, "window {} answers what was not asked", w.get()),
            Self::Snapshot(n) => write!(f, "snapshot {n} was not asked for"),
            Self::Rate => f.write_str("too many messages in a second"),
            Self::Cursor => f.write_str("a cursor's picture, which was not agreed upon"),
            Self::Codec(w) => write!(f, "pixels of window {} are packed as not agreed", w.get()),
        }?;
        f.write_str("; the guest's agent is broken or hostile: stop the workspace, and report it")
    }
}

impl std::error::Error for Violation {}
