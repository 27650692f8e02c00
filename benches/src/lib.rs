//! What the side-by-side runs share: rows with goals, clocks, the peers' ciphers and machines, disks
//! and displays to measure.
#![deny(unsafe_code)]

pub mod ciphers;
pub mod clock;
pub mod console;
pub mod guest_memory;
pub mod interrupt;
pub mod plain;
pub mod process;
pub mod rows;
pub mod screen;
pub mod server;
pub mod spread;
pub mod stacks;
