//! Who limits memory, and what each has left: the host, and each control group with a limit.

use crate::{Group, MemoryPolicy};

/// A limit on memory, what is left below it, and what shall always be left. In MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// `the host` or `control group /path`.
    pub name: String,
    /// All there is.
    pub total_mib: u64,
    /// What could be taken now.
    pub available_mib: u64,
    /// What the policy wants to stay free.
    pub reserve_mib: u64,
}

/// The host at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The host and every control group that limits this process.
    pub rooms: Vec<Room>,
    /// Thousandths of the time since the last reading in which some program of the host or of our
    /// control group waited for memory, whichever is more. `None` at first, and where the kernel
    /// does not tell.
    pub stalled_permille: Option<u32>,
}

impl Room {
    /// A host with so much RAM, of which so much is available, and its groups. A group whose limit
    /// is above the host's RAM limits nothing.
    pub(crate) fn all(
        policy: &MemoryPolicy,
        ram_mib: u64,
        available_mib: u64,
        groups: &[Group],
    ) -> Vec<Room> {
        let room = |name, total_mib, available_mib| Room {
            name,
            total_mib,
            available_mib,
            reserve_mib: policy.reserve.apply(total_mib, 0).value,
        };
        let groups = groups.iter().filter(|group| group.limit_mib < ram_mib);
        let groups = groups.map(|group| {
            let name = format!("control group {}", group.path);
            room(name, group.limit_mib, group.headroom_mib())
        });
        std::iter::once(room("the host".into(), ram_mib, available_mib))
            .chain(groups)
            .collect()
    }
}
