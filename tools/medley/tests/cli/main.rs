//! The real program, run as people and programs run it.
#![allow(clippy::unwrap_used)] // Helpers of tests may fail as tests do.

mod chains;
mod common;
mod disks;
mod filters;
mod guests;
mod interrupts;
mod keys;
mod machines;
mod networks;
mod overlays;
mod services;
mod upkeep;
mod words;
