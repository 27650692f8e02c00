//! One trait for machines; QEMU behind it.
//!
//! A [`Hypervisor`] makes a [`Machine`] from a [`MachineSpec`]: first the machine is created (its
//! process, devices and sockets exist, its processor stands still), then it is started. A machine
//! never outlives the value that stands for it, nor, where the back end can see to that
//! ([`Capabilities::dies_with_maker`]), the process that made it.
//!
//! Back ends in crates of their own find what they need in [`backend`], and those whose machines
//! are QEMUs, in [`qemu::hold`].
//!
//! ```no_run
//! use medley_hypervisor::{DiskEndpoint, Hypervisor, MachineSpec, qemu::Qemu};
//! use std::time::Duration;
//!
//! # fn main() -> medley_hypervisor::Result<()> {
//! let qemu = Qemu::find()?;
//! let disk = DiskEndpoint::nbd_unix("/run/medley/disk.sock", "");
//! let machine = qemu.create(&MachineSpec::new("office", disk, "/run/medley/office"))?;
//! machine.start()?;
//! machine.powerdown()?;
//! let exit = machine.stop(Duration::from_secs(30))?;
//! println!("{exit}");
//! # Ok(())
//! # }
//! ```

pub mod backend;
mod error;
mod events;
mod machine;
#[cfg(target_os = "linux")]
pub mod qemu;
mod spec;
mod sync;

pub use error::{Error, ErrorKind, Result};
pub use events::{Event, Events};
pub use machine::{Capabilities, Exit, GuestMemory, Hypervisor, Machine, State, StopReason};
#[cfg(unix)]
pub use spec::TapDevice;
pub use spec::{
    Acceleration, Accelerator, AcceleratorChoice, Boot, Channel, DiskEndpoint, MachineSpec,
    Network, OnReset, Screen, Serial, SharedFolder, SharedMemory,
};
