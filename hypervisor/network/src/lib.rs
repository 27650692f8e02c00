//! A guest's way to the world. Knows no hypervisor: a machine is given a socket's path.
//!
//! [`NetworkPolicy`] is the administrator's word, [`GuestDns`] what it makes of the host's names,
//! and [`Nat`] carries it out: passt speaks to the world in the guest's place, without root, and
//! every frame on the way to it passes a filter that drops what is not allowed. [`bridge::join`]
//! is the other way, to an address of the guest's own.

#[cfg(target_os = "linux")]
pub mod bridge;
#[cfg(target_os = "linux")]
mod changes;
mod dns;
mod error;
mod filter;
mod frame;
#[cfg(target_os = "linux")]
mod gate;
#[cfg(target_os = "linux")]
mod lifeline;
#[cfg(target_os = "linux")]
mod nat;
mod policy;
mod question;
mod rule;
#[cfg(target_os = "linux")]
mod way_out;

#[cfg(target_os = "linux")]
pub use changes::{Change, Changes};
pub use dns::{FORWARDER, GuestDns, HostDns};
pub use error::{Error, ErrorKind, Result};
pub use filter::{Filter, Refusal, Verdict};
#[cfg(target_os = "linux")]
pub use nat::{Nat, NatOptions, Way};
pub use policy::{DnsMode, DnsPolicy, Mode, NetworkPolicy, SearchPolicy};
pub use rule::{Protocol, Rule, Target};
#[cfg(target_os = "linux")]
pub use way_out::WayOut;
