//! How much RAM and how many processors a guest gets on this host, and how a running guest follows
//! its host's pressure. Knows no hypervisor.
//!
//! Before a guest starts, [`Policy::plan`] turns a [`Host`] into a [`Plan`]: a pure function whose
//! answer explains itself. While it runs, [`Follow`] reads the host's pressure and moves the guest's
//! balloon as a [`Controller`] decides, which is a pure state machine.
//!
//! ```no_run
//! use medley_memory::{Host, Policy};
//!
//! # fn main() -> medley_memory::Result<()> {
//! let plan = Policy::default().plan(&Host::read()?)?;
//! println!("{} MiB, {} processors", plan.guest_mib, plan.cpus);
//! for sentence in &plan.why.memory {
//!     println!("  {sentence}");
//! }
//! # Ok(())
//! # }
//! ```

mod controller;
mod error;
#[cfg(target_os = "linux")]
mod follow;
mod host;
mod plan;
mod policy;
#[cfg(target_os = "linux")]
mod pressure;
mod room;
mod rule;

pub use controller::{Controller, GuestRam, Observation, Reason, Target};
pub use error::{Error, ErrorKind, Result};
#[cfg(target_os = "linux")]
pub use follow::{Balloon, BalloonError, Follow};
pub use host::{Group, Host, Limit, Quota};
pub use plan::{Plan, Why};
pub use policy::{CpuPolicy, MemoryPolicy, Policy};
#[cfg(target_os = "linux")]
pub use pressure::{HostSource, Source};
pub use room::{Reading, Room};
pub use rule::Rule;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    /// Waits until something is so.
    #[track_caller]
    pub fn until(mut so: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !so() {
            assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
