//! What host and guest say to each other: bytes in, values out, no I/O.
//!
//! Three channels, each a stream of its own: [`gui`] (windows, pixels, input), [`control`] (what is seldom and
//! small) and [`bulk`] (the bytes of clipboards, files, print jobs and icons). On each, a [`Decoder`] makes
//! messages of whatever bytes come, and an [`Encoder`] writes them into a buffer. Both begin with a [`Hello`].
//!
//! **A guest is not trusted.** What is wrong by itself (lengths, counts, unknown values) is a [`Fault`] and ends
//! the connection. What depends on something the decoder cannot know, or is meant for a person, is
//! [`Untrusted`] and can be had only through a checker: [`GuestRect`] by clipping, [`DisplayText`] and
//! [`FileName`] by cleaning and judging, [`PoolBuffer`] by measuring. Guest texts never become paths or commands:
//! apps are launched by [`AppId`].
//!
//! Every limit stands in [`limits`]; `docs/wire.md` is the page for whoever writes another side.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[macro_use]
mod macros;

pub mod bulk;
mod codec;
pub mod control;
mod fault;
mod fuzz;
mod geometry;
pub mod gui;
mod hello;
mod ids;
pub mod limits;
mod names;
pub mod pixels;
pub mod record;
mod stream;
mod text;
mod untrusted;
pub mod window;

pub use codec::{List, Reader, Wire, Writer};
pub use fault::{Fault, FaultKind};
pub use fuzz::Dice;
#[doc(hidden)]
pub use fuzz::{fuzz_bulk, fuzz_control, fuzz_gui, fuzz_host, fuzz_recording};
pub use geometry::{GuestRect, Rect, Size};
pub use hello::{
    Agreed, Bye, Channel, Disagreement, Features, Hello, MAGIC, Magic, OLDEST, Reason, VERSION,
};
pub use ids::{AppId, WindowId};
pub use names::{FileName, MimeType, Scheme, WebUrl};
pub use pixels::PoolBuffer;
pub use stream::{Decoder, Encoder, Entry, HEADER, Received, Refused, SKIPPABLE, Set};
pub use text::{Bytes, DisplayText, Text};
pub use untrusted::Untrusted;
