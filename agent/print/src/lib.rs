//! Printing from a guest to the host's printers, without a driver in the guest.
//!
//! [`server`] is the guest's half: an IPP Everywhere printer on loopback, which every desktop system knows how to
//! print to. Whoever owns it gets each job as a file and says what became of it. [`client`] is the host's half:
//! it finds the host's printers through CUPS, says what they can do, and hands a file to one of them.
//!
//! IPP's attributes are coded by the `ipp` crate (MIT or Apache, kept up, no runtime when its clients are off),
//! behind a check of our own (`message`). HTTP is `httparse` (the parser that hyper uses) and a loop: of
//! the small servers `tiny_http` has had no change since 2023 and no time-outs, and hyper brings a runtime.
#![forbid(unsafe_code)]
mod capabilities;
pub mod client;
mod error;
mod fuzz;
mod http;
mod media;
mod message;
pub mod server;
mod ticket;
mod values;

pub use capabilities::Capabilities;
pub use error::{Error, Result};
pub use fuzz::fuzz_request;
pub use media::{Medium, NAME as MEDIUM_NAME};
pub use ticket::{Format, JobId, Quality, RANGES, Sides, Ticket};
