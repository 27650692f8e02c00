//! What a host has for its guests, as data: this one or an imagined one.

mod tree;

pub(crate) use tree::Tree;

use crate::Result;
use serde::Serialize;
use std::path::Path;

/// A host's memory and processors at one moment. Memory in MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The RAM the kernel has, which is less than what is installed.
    pub total_mib: u64,
    /// The RAM that is installed, where somebody knows; [`Host::read`] does not.
    pub installed_mib: Option<u64>,
    /// What could be taken now without swapping.
    pub available_mib: u64,
    /// All swap space.
    pub swap_mib: u64,
    /// The control groups this process is in that limit its memory, nearest first.
    pub groups: Vec<Group>,
    /// Processors that run.
    pub cpus: u32,
    /// Processors that this process may run on.
    pub cpus_allowed: u32,
    /// The control groups this process is in that limit its processor time, nearest first.
    pub quotas: Vec<Quota>,
    /// Whether the kernel tells how long programs wait for memory (PSI).
    pub pressure: bool,
}

/// A control group with a limit on memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its path, as `/proc/self/cgroup` writes it.
    pub path: String,
    /// The limit.
    pub limit_mib: u64,
    /// Which of its limits that is.
    pub limit: Limit,
    /// What counts against it and cannot simply be dropped: usage less inactive file cache.
    pub used_mib: u64,
}

/// The limits a group may have on its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Beyond it something in the group is killed: `memory.max`, `memory.limit_in_bytes`.
    Max,
    /// Beyond it everything in the group is slowed down: `memory.high`.
    High,
}

/// A control group with a limit on processor time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// Its path, as `/proc/self/cgroup` writes it.
    pub path: String,
    /// Thousandths of one processor.
    pub milli_cpus: u64,
}

impl Group {
    /// What may still be taken before the limit is reached.
    pub fn headroom_mib(&self) -> u64 {
        self.limit_mib.saturating_sub(self.used_mib)
    }
}

impl Host {
    /// Reads this host. Linux only; elsewhere it fails because there is no `/proc/meminfo`.
    pub fn read() -> Result<Host> {
        Tree::new("/").host()
    }

    /// Reads the files of `/proc` and `/sys` below another root: a host that is only imagined.
    pub fn read_below(root: &Path) -> Result<Host> {
        Tree::new(root).host()
    }

    /// An idle host with this much RAM installed and so many processors, in no control group.
    pub fn idle(installed_mib: u64, cpus: u32) -> Host {
        Host {
            total_mib: installed_mib,
            installed_mib: Some(installed_mib),
            available_mib: installed_mib,
            swap_mib: 0,
            groups: Vec::new(),
            cpus,
            cpus_allowed: cpus,
            quotas: Vec::new(),
            pressure: true,
        }
    }

    /// What this process could take now, in MiB: what is available, within every control group.
    pub fn spare_mib(&self) -> u64 {
        let groups = self.groups.iter().map(Group::headroom_mib);
        groups.fold(self.available_mib, u64::min)
    }
}
