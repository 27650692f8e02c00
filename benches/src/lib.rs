//! What the side-by-side runs share: rows with goals, clocks, and the peers' ciphers.
#![deny(unsafe_code)]

pub mod ciphers;
pub mod clock;
pub mod interrupt;
pub mod rows;
pub mod server;
