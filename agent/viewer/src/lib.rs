//! A machine's whole screen in one window of the host's desktop: what its firmware, boot loader and kernel
//! show, an installer, a guest without an agent. The hypervisor shows the screen on a socket (RFB 3.8, as QEMU
//! speaks it); what it says there may be steered by the guest, and is judged before it is used.
//!
//! - [`link`] is the connection: two threads, and the picture that they keep as it is with [`medley_rfb`].
//! - [`layout`] and [`paint`] put it into a window, inside of a ring that no pixel of the guest's can reach.
//! - [`keys`] are the guest's keys by their place on the keyboard, and the host's own chords.
//! - [`window`] joins them; the program `medley-viewer` is a command line around it.
#![forbid(unsafe_code)]

pub mod error;
pub mod keys;
pub mod layout;
pub mod link;
pub mod paint;
pub mod pointer;
pub mod sandbox;
pub mod shown;
pub mod sizes;
pub mod window;
