//! The real program, run as people and programs run it.

mod common;
mod disks;
mod guests;
mod interrupts;
mod keys;
mod services;
mod words;
