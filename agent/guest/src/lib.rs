//! The guest's agent on Linux. It is the window manager and compositor of the guest's X display, whose screen
//! is the host's desktop: it tells the host of every window and its pixels, and does what the host says.
//!
//! One thread, which sleeps unless somebody speaks: `agent` is its loop. `screen` holds the windows, `keyboard`
//! and `pointer` press and move, `control` serves apps, monitors and health, `handover` is what goes from one to
//! the other besides (files, print jobs, addresses, notifications, tray items), `bus` the guest's session bus,
//! `docks` tray icons of the old kind, `channel` the way to the host.
#![forbid(unsafe_code)]

mod agent;
pub mod apps;
mod bus;
mod channel;
mod clipboard;
mod control;
mod cursor;
mod display;
mod docks;
pub mod handover;
mod health;
pub mod install;
mod keyboard;
mod keymap;
pub mod log;
mod monitors;
mod options;
mod pointer;
mod screen;
mod settings;
mod stuck;
mod traits;
mod transfers;
mod waker;

pub use agent::run;
pub use options::Options;
