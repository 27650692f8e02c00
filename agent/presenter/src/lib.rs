//! Guest windows on the host's screen. A guest says over the wire which windows it has and what they show;
//! this crate decides what becomes of that on the desktop, and draws a frame that no guest can reach.
//!
//! - [`model`] decides: a state machine without I/O that judges what the guest says, follows the host's
//!   window manager, and answers with [`Action`](model::Action)s for a back end and messages for the guest.
//! - [`frame`] and [`canvas`] are what is drawn: the ring that is the host's, the pixels that are the guest's.
//! - [`screen`] is the host's display: [`x11`] or [`wayland`]. Another desktop needs another back end and
//!   nothing else.
//! - [`sandbox`] takes away whatever the process does not need, before it reads the guest's first byte.
//! - [`run`] joins them; the program `medley-presenter` is a command line around it.
#![forbid(unsafe_code)]

pub mod canvas;
mod commands;
pub mod emblem;
pub mod error;
pub mod frame;
pub mod model;
pub mod record;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod screen;
pub mod services;
pub mod unpack;
pub mod watermark;
pub mod wayland;
pub mod x11;
