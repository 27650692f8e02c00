//! What the side-by-side runs share: rows with goals, clocks, the peers' ciphers, and disks to measure.
#![deny(unsafe_code)]

pub mod ciphers;
pub mod clock;
pub mod guest_memory;
pub mod interrupt;
pub mod rows;
pub mod server;
pub mod stacks;
