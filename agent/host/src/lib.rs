//! A session's windows, as the host keeps them: a presenter is started and started again when it dies, the
//! guest's apps are known by their ids, launched for whoever asks over a socket, and published in the
//! desktop's menu.
//!
//! Nothing here reads a guest's bytes. That is the presenter's work, a sandboxed process of its own; what it
//! tells, line by line, has been judged. Texts of the guest are shown to people and never executed: an app is
//! launched by its id.
#![forbid(unsafe_code)]

mod api;
mod app;
mod desk;
mod error;
mod event;
pub mod menu;
mod presenter;

pub use api::{Answer, Ask, ask};
pub use app::App;
pub use desk::{Desk, Notice};
pub use error::{Error, Result};
pub use presenter::Command;
