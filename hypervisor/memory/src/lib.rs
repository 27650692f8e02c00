//! How much RAM a guest gets: a step table over the host's RAM, bounded by what is free now.
//!
//! [`MemoryPolicy::plan`] is a pure function of a policy and a [`HostMemory`]; its answer explains
//! itself.

mod error;
mod host;

pub use error::{Error, ErrorKind, Result};
pub use host::{CgroupMemory, HostMemory};

use serde::Serialize;

/// Firmware and kernel keep some of the installed RAM to themselves: a host that lacks less than one
/// part in this many of a table entry still counts as that entry.
const KEPT_BY_FIRMWARE: u64 = 16;

/// Guest RAM is a multiple of this, so that large pages back all of it.
const STEP_MIB: u64 = 2;

/// How to size a guest. All figures in MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// Host RAM and the guest RAM that goes with it, both ascending. A host between two entries
    /// counts as the lower one.
    pub table: Vec<(u64, u64)>,
    /// Less than this is not worth starting.
    pub minimum_mib: u64,
    /// What stays free for the host when the guest uses all of its RAM.
    pub reserve_mib: u64,
    /// What the hypervisor's process takes beside the guest's RAM.
    pub overhead_mib: u64,
}

impl Default for MemoryPolicy {
    /// MED-V's table, a minimum of 128 MiB, a reserve of 512 MiB for the host, and 128 MiB for the
    /// hypervisor.
    fn default() -> MemoryPolicy {
        MemoryPolicy {
            table: vec![
                (1024, 378),
                (2048, 512),
                (4096, 1024),
                (8192, 1536),
                (16384, 2048),
            ],
            minimum_mib: 128,
            reserve_mib: 512,
            overhead_mib: 128,
        }
    }
}

/// A guest's RAM and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The guest's RAM in MiB.
    pub guest_mib: u32,
    /// One sentence for each step of the decision, in order.
    pub reasons: Vec<String>,
}

impl MemoryPolicy {
    /// Sizes a guest for this host.
    ///
    /// Fails with [`ErrorKind::TooLittle`] when less than the minimum would be left for the guest, and
    /// with [`ErrorKind::BadPolicy`] when the table is empty or not ascending.
    pub fn plan(&self, host: &HostMemory) -> Result<MemoryPlan> {
        let mut reasons = Vec::new();
        let mut guest = self.step(host.total_mib, &mut reasons)?;

        let beside = self.reserve_mib.saturating_add(self.overhead_mib);
        let free = host.available_mib.saturating_sub(beside);
        if free < guest {
            reasons.push(format!(
                "{} MiB are available now; less {} for the host and {} for the hypervisor, {free} \
                 MiB remain",
                host.available_mib, self.reserve_mib, self.overhead_mib
            ));
            guest = free;
        }
        if let Some(group) = &host.cgroup {
            let headroom = group
                .limit_mib
                .saturating_sub(group.used_mib)
                .saturating_sub(self.overhead_mib);
            if headroom < guest {
                reasons.push(format!(
                    "control group {} is limited to {} MiB and uses {}; less {} for the \
                     hypervisor, {headroom} MiB remain",
                    group.path, group.limit_mib, group.used_mib, self.overhead_mib
                ));
                guest = headroom;
            }
        }
        guest -= guest % STEP_MIB;
        if guest < self.minimum_mib {
            let why = format!(
                "{guest} MiB are left for the guest, at least {} are needed: {}",
                self.minimum_mib,
                reasons.join("; ")
            );
            return Err(
                Error::new(ErrorKind::TooLittle, "size the guest's memory", why)
                    .remedy("close programs, or raise the control group's limit"),
            );
        }
        let guest_mib = u32::try_from(guest).unwrap_or(u32::MAX - u32::MAX % 2);
        reasons.push(format!("the guest gets {guest_mib} MiB"));
        Ok(MemoryPlan { guest_mib, reasons })
    }

    fn step(&self, total: u64, reasons: &mut Vec<String>) -> Result<u64> {
        let ascending = self
            .table
            .windows(2)
            .all(|rows| rows[0].0 < rows[1].0 && rows[0].1 <= rows[1].1);
        let (Some(lowest), true) = (self.table.first(), ascending) else {
            return Err(Error::new(
                ErrorKind::BadPolicy,
                "memory policy, table",
                "it is empty or not in ascending order",
            ));
        };
        let counts = |entry: u64| total > entry - entry.div_ceil(KEPT_BY_FIRMWARE);
        match self.table.iter().rfind(|(entry, _)| counts(*entry)) {
            Some((entry, guest)) => {
                reasons.push(format!(
                    "a host with {total} MiB counts as {entry} MiB, which means {guest} for the \
                     guest"
                ));
                Ok(*guest)
            }
            None => {
                reasons.push(format!(
                    "a host with {total} MiB is below the table's lowest entry, {} MiB, whose {} \
                     MiB are the most the guest may get",
                    lowest.0, lowest.1
                ));
                Ok(lowest.1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn idle(total_mib: u64) -> HostMemory {
        HostMemory {
            total_mib,
            available_mib: total_mib - total_mib / 8,
            cgroup: None,
        }
    }

    fn guest(host: &HostMemory) -> u32 {
        MemoryPolicy::default().plan(host).unwrap().guest_mib
    }

    #[test]
    fn the_default_table_on_hosts_of_1_to_64_gib() {
        for gib in 1..=64 {
            let expected = match gib {
                1 => 256, // the table says 378, but a host of 1 GiB has not that much to spare
                2..=3 => 512,
                4..=7 => 1024,
                8..=15 => 1536,
                _ => 2048,
            };
            assert_eq!(guest(&idle(gib * 1024)), expected, "{gib} GiB");
        }
        let roomy = HostMemory {
            total_mib: 1024,
            available_mib: 1024,
            cgroup: None,
        };
        assert_eq!(guest(&roomy), 378);
    }

    #[test]
    fn a_table_entry_is_reached_and_kept() {
        for (total, expected) in [
            (3840, 512),
            (3841, 1024),
            (4096, 1024),
            (7680, 1024),
            (7681, 1536),
            (15361, 2048),
        ] {
            assert_eq!(guest(&idle(total)), expected, "{total} MiB");
        }
    }

    #[test]
    fn free_memory_bounds_the_guest() {
        let host = HostMemory {
            total_mib: 16384,
            available_mib: 1640,
            cgroup: None,
        };
        let plan = MemoryPolicy::default().plan(&host).unwrap();
        assert_eq!(plan.guest_mib, 1000);
        assert!(
            plan.reasons[1].contains("1640 MiB are available"),
            "{:?}",
            plan.reasons
        );
    }

    #[test]
    fn the_control_group_bounds_the_guest() {
        let cgroup = CgroupMemory {
            path: "/session".into(),
            limit_mib: 1024,
            used_mib: 96,
        };
        let host = HostMemory {
            total_mib: 65536,
            available_mib: 60000,
            cgroup: Some(cgroup.clone()),
        };
        let plan = MemoryPolicy::default().plan(&host).unwrap();
        assert_eq!(plan.guest_mib, 800);
        assert!(plan.reasons[1].contains("/session"), "{:?}", plan.reasons);

        let full = HostMemory {
            cgroup: Some(CgroupMemory {
                used_mib: 2000,
                ..cgroup
            }),
            ..host
        };
        let error = MemoryPolicy::default().plan(&full).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLittle);
    }

    #[test]
    fn too_little_is_an_error_with_figures() {
        let host = HostMemory {
            total_mib: 8192,
            available_mib: 700,
            cgroup: None,
        };
        let error = MemoryPolicy::default().plan(&host).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLittle);
        let text = error.to_string();
        assert!(
            text.contains("60 MiB are left") && text.contains("700"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_table_is_refused() {
        for table in [
            vec![],
            vec![(2048, 512), (1024, 378)],
            vec![(1024, 512), (2048, 378)],
        ] {
            let policy = MemoryPolicy {
                table,
                ..MemoryPolicy::default()
            };
            assert_eq!(
                policy.plan(&idle(8192)).unwrap_err().kind(),
                ErrorKind::BadPolicy
            );
        }
    }

    proptest! {
        #[test]
        fn a_plan_never_promises_what_is_not_there(
            total: u64, available: u64, limit: u64, used: u64,
        ) {
            let cgroup = CgroupMemory { path: "/".into(), limit_mib: limit, used_mib: used };
            let host = HostMemory { total_mib: total, available_mib: available, cgroup: Some(cgroup) };
            if let Ok(plan) = MemoryPolicy::default().plan(&host) {
                let guest = u64::from(plan.guest_mib);
                prop_assert!((128..=2048).contains(&guest) && guest % STEP_MIB == 0);
                prop_assert!(guest + 640 <= available);
                prop_assert!(guest + 128 <= limit - used);
            }
        }
    }
}
