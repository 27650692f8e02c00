//! What a guest may hand to its host, and the host to it, besides windows: files, print jobs, addresses,
//! notifications, tray items.
//!
//! The presenter reads what a guest says of them and judges it with this crate; it can open nothing, so it tells
//! its supervisor an [`Event`] and is told an [`Order`], with the file's descriptor where one is needed. [`Gate`]
//! stands between the two: it knows no socket and no clock, and touches no file but those that it was given.
//! [`Streams`] moves bytes over the bulk channel, the clipboard's too.
#![forbid(unsafe_code)]
pub mod event;
mod fuzz;
mod gate;
mod icon;
pub mod order;
mod policy;
mod rate;
mod streams;
mod violation;
mod word;

pub use event::Event;
#[doc(hidden)]
pub use fuzz::fuzz_gate;
pub use gate::{Gate, Ordered, Outbox, Pasted};
pub use order::Order;
pub use policy::{Policy, Service, Unknown};
pub use rate::Rate;
pub use streams::{Ended, Line, Sink, Source, Streams};
pub use violation::Violation;
pub use word::{Launch, Word};
