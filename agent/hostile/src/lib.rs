//! A guest that means harm, and the judge of what it got.
//!
//! - [`guest`] stands in for the guest's agent: it speaks over the same three channels, greets like it, and then
//!   does what [`scenarios`] say. It is a program, `medley-hostile`, and does one thing at a time, when it is told.
//! - [`judge`] is a host's desktop that can be looked at: an X server, a window manager, what lies where on the
//!   screen and which of it is the guest's, and who was given what was typed and copied.
//! - [`scenarios`] are both sides of each attack: what the guest does, and what a host must look like then. Most
//!   are bulletins of the Qubes project about its windows, or what MED-V documented as not working.
//!
//! Only tests use this crate: against a presenter alone, and with a real guest between.
#![forbid(unsafe_code)]

pub mod guest;
pub mod judge;
pub mod scenarios;

/// The colour of every pixel that the hostile guest paints: no frame and no window of the host has it.
pub const MARK: u32 = 0x00fe_01fd;
