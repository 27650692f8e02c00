//! What the tests of the virtual disk prove with; no part of any product.
//!
//! **Power cuts.** A [`Recorder`] is a store that notes every write and every sync; [`Cuts`] makes of its
//! log every medium that a power cut may leave; a [`Ledger`] knows what each sector may hold then.
//!
//! **Many threads.** A [`verify::Verifier`] lets writers, flushers and discarders loose on a disk whose
//! every sector says whose it is, and finds the one that is wrong.
//!
//! All of it is exact about what it found: a test built on it fails with the sector, what it holds, and
//! what it might have held.
#![forbid(unsafe_code)]

mod cuts;
mod eras;
mod ledger;
mod medium;
mod random;
mod recorder;
pub mod verify;

pub use cuts::{Cut, Cuts};
pub use eras::Eras;
pub use ledger::{Allowed, Ledger, stamp, version};
pub use medium::Medium;
pub use random::Random;
pub use recorder::{Event, Lie, Recorder};
