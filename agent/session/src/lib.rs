//! One session of a workspace: a disk that is never written, an overlay that is, and a machine above them.
//!
//! A [`Session`] begins in a [`Folder`] of its own, which remembers everything between two runs: what was
//! written (the overlay) and, of a session that sleeps, what was in memory (the saved state, sealed). It
//! goes on where it slept, or boots; what it did and why is told by [`Notice`]s with stable codes.
//!
//! The disk is served by a process of its own, which holds the key and is started again under the running
//! guest if it dies: flushed writes are on disk, requests that were not answered are asked again, and what
//! lies in between is told to the next server by the session, which was told before the guest.
//!
//! Memory and disk fall asleep together: first the sealed state gets its name, then one sector of the
//! overlay says which state it belongs to. Whatever is interrupted before that sector leaves an overlay
//! that goes on without the state; whatever comes after finds both. Awake again, the overlay says so
//! before its first write, and the state is out of date.
#![forbid(unsafe_code)]

mod balloon;
mod cable;
mod disk;
mod error;
mod folder;
mod keys;
mod notice;
pub mod server;
mod session;
mod sleep;
mod unflushed;
mod uplink;
mod watchdog;

pub use disk::{DiskServer, Program};
pub use error::{Error, ErrorKind, Result};
pub use folder::{Folder, Status};
pub use notice::{Code, Notice};
pub use server::{Frontend, Order};
pub use session::{Began, Session, Setup};
pub use sleep::Slept;
pub use uplink::{Programs, Uplink, UplinkReport};
pub use watchdog::{Budget, Heartbeat};
