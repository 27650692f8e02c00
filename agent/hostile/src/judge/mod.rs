//! The host's side of an attack: a desktop that is looked at while the guest does what it does.

mod clipboard;
mod court;
mod desktop;
mod look;

pub use clipboard::{Copied, Paste};
pub use court::{Court, Stage, Told};
pub use desktop::{Desktop, SCREEN};
pub use look::{BORDER, Shown, ring_of};
