//! The guest's agent on Linux. It is the window manager and compositor of the guest's X display, whose screen
//! is the host's desktop: it tells the host of every window and its pixels, and does what the host says.
//!
//! One thread, which sleeps unless somebody speaks: `agent` is its loop. `screen` holds the windows, `keyboard`
//! and `pointer` press and move, `control` serves apps, monitors and health, `channel` is the way to the host.
#![forbid(unsafe_code)]

mod agent;
pub mod apps;
mod channel;
mod clipboard;
mod control;
mod cursor;
mod display;
mod health;
pub mod install;
mod keyboard;
mod keymap;
mod monitors;
mod pointer;
mod screen;
mod settings;
mod traits;
mod transfers;

pub use agent::{Options, run};
