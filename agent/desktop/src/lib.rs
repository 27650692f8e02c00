//! A host's desktop without a screen, for tests and benches: an X server of their own with a window manager, and
//! somebody who types, points and looks. All of it ends with its owner.
//!
//! Needs `Xvfb` and `openbox`. What tests want to know about a window that may be gone is an `Option`, or empty; an
//! error means that the display itself is gone, unless a function says more.

mod desktop;
mod hands;
mod manager;
mod own;
mod process;
mod shot;
mod windows;

pub use desktop::{Desktop, Options};
pub use hands::key_of;
pub use own::{Edge, OWN};
pub use process::Process;
pub use shot::Shot;
pub use x11rb::protocol::xproto::Window;

/// A rectangle of the screen: x, y, width, height.
pub type Area = (i32, i32, i32, i32);
