//! Fuzz targets for the agents: functions that take any bytes and must return, whatever these are. They are in
//! the manner of `vdisk-fuzz`, which holds those of the disk.
//!
//! A target fails by panicking: because the code under test did, or because what it answered broke a promise
//! that the target checks. `cargo xtask fuzz` drives the targets by coverage; the tests of this crate replay the
//! corpora on every build, so an input that was once found never fails unnoticed again.
#![forbid(unsafe_code)]

mod targets;

pub use targets::replay::replay;
pub use targets::{TARGETS, Target, find};
