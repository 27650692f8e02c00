//! An NBD server for one disk, on a Unix socket.
//!
//! `proto` knows the bytes, `negotiate` the talk before the first request, `connection` serves
//! requests, `server` owns the socket and the connections.

mod connection;
mod negotiate;
#[allow(missing_docs)] // The names are the protocol's own.
mod proto;
mod server;

pub use negotiate::{Export, Session, negotiate};
pub use proto::{GoRequest, MetaRequest, OptionHeader, Request};
pub use server::{NbdOptions, NbdServer};
