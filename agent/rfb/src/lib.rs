//! The remote framebuffer protocol, version 3.8, as far as a screen on a socket of the same host needs it:
//! pixels raw and copied, sizes both ways, cursors, keys by their codes. Pictures are not packed: they stay on
//! this host, and a decoder that is not there cannot be wrong.
//!
//! What comes may be steered by a guest: every length has a limit, and what breaks a rule ends the connection.
//! - [`greet`] begins, [`Decoder`] hears, [`Say`] speaks: on whatever can be read and written.
//! - [`picture`] is the screen as it was last said.
#![forbid(unsafe_code)]

mod decode;
mod greeting;
pub mod picture;
mod say;

pub use decode::{Decoder, Heard};
pub use greeting::greet;
pub use say::Say;

use std::io;

/// The longest side of a screen.
pub const SIDE_MOST: u16 = 8192;
/// Most pixels of a screen: 8K, 128 MiB.
pub const PIXELS_MOST: u32 = 1 << 25;
/// The longest side of a cursor. QEMU's cards know of 64 pixels.
pub const CURSOR_MOST: u16 = 256;
/// Most screens of one desktop; it has one.
pub const SCREENS_MOST: u8 = 16;
/// Most bytes of a text: a name, a reason.
pub const TEXT_MOST: u32 = 4096;
/// Most bytes of a clipboard. Nobody asked for it, and it is thrown away.
pub const CUT_MOST: u32 = 1 << 20;

/// Kinds of rectangles that are understood, by the protocol's numbers.
pub mod encoding {
    /// Pixels as they are.
    pub const RAW: i32 = 0;
    /// Pixels from elsewhere on the screen.
    pub const COPY: i32 = 1;
    /// Another size of the screen.
    pub const SIZE: i32 = -223;
    /// The cursor.
    pub const CURSOR: i32 = -239;
    /// Whether the pointer is at a place, or moves.
    pub const POINTER: i32 = -257;
    /// Keys may be told by their codes.
    pub const KEYS: i32 = -258;
    /// Another size, or what came of a wish for one.
    pub const SIZE_EXTENDED: i32 = -308;
}

/// The result of listening.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why nobody listens any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed, and not because the machine ended.
    #[error("{doing}: {source}")]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What came is not what a screen says.
    #[error("it broke a rule: {0}")]
    Fault(#[from] Fault),
}

/// What a screen must not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no screen, or another version.
    #[error("it greets with {0:?}, not with RFB 003.008")]
    Version(String),
    /// It wants a password.
    #[error("it wants a way to log in (of {0:?}), and we know none")]
    Security(Vec<u8>),
    /// It turned us away.
    #[error("it turned us away: {0}")]
    Refused(String),
    /// A length beyond its limit.
    #[error("{what} of {length} bytes; {most} are the most")]
    Long {
        /// Of what.
        what: &'static str,
        /// How long it would be.
        length: u32,
        /// How long it may be.
        most: u32,
    },
    /// A screen that is too large, or has no pixels.
    #[error(
        "a screen of {0}×{1} pixels; one to {SIDE_MOST} a side and {PIXELS_MOST} together are taken"
    )]
    Size(u16, u16),
    /// A cursor that is too large.
    #[error("a cursor of {0}×{1} pixels; {CURSOR_MOST} a side are the most")]
    Cursor(u16, u16),
    /// So many screens.
    #[error("a desktop of {0} screens; {SCREENS_MOST} are the most")]
    Screens(u8),
    /// Pixels beyond the screen.
    #[error("{what} {width}×{height} at {x},{y}, on a screen of {0}×{1}", screen.0, screen.1)]
    Outside {
        /// What it is.
        what: &'static str,
        /// Left edge.
        x: u16,
        /// Upper edge.
        y: u16,
        /// Its width.
        width: u16,
        /// Its height.
        height: u16,
        /// The screen's size.
        screen: (u16, u16),
    },
    /// A message that nobody asked for.
    #[error("a message of kind {0}, which we know nothing of")]
    Message(u8),
    /// A rectangle that nobody asked for.
    #[error("a rectangle of kind {0}, which we did not ask for")]
    Encoding(i32),
}

/// Refuses a size that no screen has.
pub(crate) fn check_size(width: u16, height: u16, pixels: u32) -> Result<(), Fault> {
    let sides = 1..=SIDE_MOST;
    let few = u32::from(width) * u32::from(height) <= pixels;
    match sides.contains(&width) && sides.contains(&height) && few {
        true => Ok(()),
        false => Err(Fault::Size(width, height)),
    }
}

/// Whether a connection failed because whoever showed the screen is gone.
pub(crate) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe
    )
}
