//! A session's windows and services on the host: one presenter is started and started again when it dies, the
//! guest's apps are known by their ids, launched for whoever asks over a socket, and published in the desktop's
//! menu; what the guest hands over besides windows is taken as a policy says.
//!
//! Nothing here reads a guest's bytes. That is the presenter's work, a sandboxed process of its own; what it
//! tells, line by line, has been judged. Texts of the guest are shown to people and never executed: an app is
//! launched by its id, a file goes into an inbox, an address to the browser.
#![deny(unsafe_code)]

mod api;
mod app;
mod clean;
mod desk;
mod error;
mod event;
mod lifeline;
mod line;
pub mod menu;
mod mime;
mod notice;
pub mod policy;
mod presenter;
mod services;

pub use api::{Answer, Ask, ask};
pub use app::{Action, App};
pub use desk::Desk;
pub use error::{Error, Result};
pub use notice::Notice;
pub use policy::ServicesPolicy;
pub use presenter::Command;
