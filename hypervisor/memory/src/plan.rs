//! What a guest gets, and why: a pure function of a policy and a host.

use crate::rule::Said;
use crate::{Error, ErrorKind, Group, Host, Limit, MemoryPolicy, Policy, Result, Room, Rule};
use serde::Serialize;

/// Firmware, graphics and the kernel keep some of the installed RAM to themselves, so that the
/// kernel reports 926 MiB of 1 GiB, 3.7 GiB of 4, 7.3 GiB of 8: a host whose RAM is known only as
/// reported, and that lacks less than one part in this many of a table's row, has reached the row.
/// No common size of RAM lies so near below another.
const KEPT_BY_FIRMWARE: u64 = 8;

/// Guest RAM that free memory bounds is a multiple of this, so that large pages back all of it.
const STEP_MIB: u64 = 2;

/// More than this no back end takes: 1 TiB.
const MOST_MIB: u64 = 1 << 20;

/// A guest's size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The RAM it starts with, in MiB; the balloon takes from this and gives back up to this.
    pub guest_mib: u32,
    /// What the balloon never takes, in MiB.
    pub floor_mib: u32,
    /// The most its RAM may grow to where memory can be plugged in, in MiB; at least `guest_mib`.
    pub ceiling_mib: u32,
    /// Its processors.
    pub cpus: u8,
    /// How it came about.
    pub why: Why,
}

/// One sentence for each step of a decision, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Why {
    /// For the RAM.
    pub memory: Vec<String>,
    /// For the floor of the balloon and the ceiling of growth.
    pub bounds: Vec<String>,
    /// For the processors.
    pub cpus: Vec<String>,
    /// How the guest will know of the host's pressure.
    pub pressure: Vec<String>,
}

impl Policy {
    /// Sizes a guest for this host.
    ///
    /// Fails with [`ErrorKind::TooLittle`] when less than the minimum would be left for the guest,
    /// and with [`ErrorKind::BadPolicy`] when a rule cannot be followed.
    pub fn plan(&self, host: &Host) -> Result<Plan> {
        self.check()?;
        let mut why = Why::default();
        let rooms = Room::all(
            &self.memory,
            host.installed_mib.unwrap_or(host.total_mib),
            host.available_mib,
            &host.groups,
        );
        let guest = self.memory.guest(host, &rooms, &mut why.memory)?;
        let (floor, ceiling) = self.memory.bounds(guest, &rooms, &mut why.bounds);
        Ok(Plan {
            guest_mib: mib(guest),
            floor_mib: mib(floor),
            ceiling_mib: mib(ceiling),
            cpus: cpus(&self.cpus.guest, host, &mut why.cpus),
            why: Why {
                pressure: vec![pressure(host)],
                ..why
            },
        })
    }
}

impl MemoryPolicy {
    /// The RAM a guest starts with.
    fn guest(&self, host: &Host, rooms: &[Room], why: &mut Vec<String>) -> Result<u64> {
        let mut guest = self.by_rule(host, why).min(MOST_MIB);
        for room in rooms {
            let free = room
                .available_mib
                .saturating_sub(room.reserve_mib)
                .saturating_sub(self.overhead);
            if free < guest {
                why.push(format!(
                    "{} can give {} MiB now; less a reserve of {} and {} for the hypervisor, {free} \
                     MiB remain",
                    room.name, room.available_mib, room.reserve_mib, self.overhead
                ));
                guest = free - free % STEP_MIB;
            }
        }
        if host.swap_mib > 0 {
            why.push(format!(
                "{} MiB of swap do not count: a guest whose RAM is swapped out stands still",
                host.swap_mib
            ));
        }
        if guest < self.minimum {
            let detail = format!(
                "{guest} MiB are left for the guest, at least {} are needed: {}",
                self.minimum,
                why.join("; ")
            );
            return Err(
                Error::new(ErrorKind::TooLittle, "size the guest's memory", detail)
                    .remedy("close programs, or raise the control group's limit"),
            );
        }
        why.push(format!("the guest gets {guest} MiB"));
        Ok(guest)
    }

    /// What the rule says for the host's RAM, or for that of the tightest group: a group of 4 GiB is
    /// to those in it a host of 4 GiB.
    fn by_rule(&self, host: &Host, why: &mut Vec<String>) -> u64 {
        let (ram, kept, of) = match host.installed_mib {
            Some(installed) => (installed, 0, "installed"),
            None => (host.total_mib, KEPT_BY_FIRMWARE, "reported by the kernel"),
        };
        let tightest = host.groups.iter().min_by_key(|group| group.limit_mib);
        let (figure, kept, subject) = match tightest.filter(|group| group.limit_mib < ram) {
            Some(group) => (group.limit_mib, 0, limited(group)),
            None => (ram, kept, format!("the host has {ram} MiB of RAM, {of},")),
        };
        let said = self.guest.apply(figure, kept);
        why.push(match (&self.guest, said) {
            (Rule::Fixed(value), _) => {
                format!("the policy gives {value} MiB, whatever the host has")
            }
            (rule @ Rule::Share { .. }, Said { value, .. }) => {
                format!("{subject} of which the policy gives {rule}: {value} MiB")
            }
            (Rule::Table { .. }, Said { value, row: Some(row) }) => match row == figure {
                true => format!("{subject} for which the table gives {value}"),
                false => format!("{subject} and counts as {row}, for which the table gives {value}"),
            },
            (Rule::Table { table }, Said { value, row: None }) => {
                let lowest = table.first().map_or(0, |row| row.0);
                format!(
                    "{subject} less than the table's first row, {lowest}, whose {value} MiB are the \
                     most the guest may get"
                )
            }
        });
        said.value
    }

    /// The floor of the balloon and the ceiling of growth, for a guest that starts with so much.
    fn bounds(&self, guest: u64, rooms: &[Room], why: &mut Vec<String>) -> (u64, u64) {
        let floor = self.floor.apply(guest, 0).value.min(guest);
        why.push(format!(
            "under pressure the balloon takes all but {floor} MiB, and never what the guest needs"
        ));
        let beside = |room: &Room| room.reserve_mib.saturating_add(self.overhead);
        let most = |room: &Room| room.total_mib.saturating_sub(beside(room));
        let (most, of) = match rooms.iter().min_by_key(|room| most(room)) {
            Some(room) => (most(room) - most(room) % STEP_MIB, room.name.as_str()),
            None => (guest, "the host"),
        };
        let ruled = match &self.ceiling {
            Some(rule) => {
                let least = rooms.iter().map(|room| room.total_mib).min().unwrap_or(0);
                rule.apply(least, 0).value
            }
            None => u64::MAX,
        };
        let ceiling = most.min(ruled).min(MOST_MIB).max(guest);
        why.push(if ceiling == guest {
            "its RAM does not grow beyond that".into()
        } else if ruled < most {
            format!("its RAM may grow to {ceiling} MiB, says the policy")
        } else {
            format!("its RAM may grow to {ceiling} MiB: all of {of} but the reserve")
        });
        (floor, ceiling)
    }
}

/// The guest's processors: as the rule says of those that this process may use, and never more.
fn cpus(rule: &Rule, host: &Host, why: &mut Vec<String>) -> u8 {
    let mut usable = host.cpus.max(1);
    why.push(match usable {
        1 => "one processor runs".into(),
        n => format!("{n} processors run"),
    });
    if host.cpus_allowed < usable {
        usable = host.cpus_allowed.max(1);
        why.push(format!("this process may run on {usable} of them"));
    }
    if let Some(quota) = host.quotas.iter().min_by_key(|quota| quota.milli_cpus) {
        let whole = u32::try_from(quota.milli_cpus / 1000).unwrap_or(u32::MAX);
        if whole < usable {
            usable = whole.max(1);
            why.push(format!(
                "control group {} has the time of {}.{:02}, which counts as {usable}",
                quota.path,
                quota.milli_cpus / 1000,
                quota.milli_cpus % 1000 / 10
            ));
        }
    }
    let said = rule.apply(usable.into(), 0);
    let cpus = said.value.clamp(1, usable.into());
    let rule = match rule {
        Rule::Table { .. } => format!("the table says {}", said.value),
        rule => format!("the policy says {rule}"),
    };
    let cpus = u8::try_from(cpus).unwrap_or(u8::MAX);
    why.push(format!("{rule}: the guest gets {cpus}"));
    cpus
}

/// How a running guest will know that the host is short of memory.
fn pressure(host: &Host) -> String {
    match host.pressure {
        true => {
            "the host tells how long programs wait for memory (PSI): with free memory, that is \
                 what the balloon follows"
                .into()
        }
        false => {
            "the host does not tell how long programs wait for memory (its kernel has no PSI, or \
                  has it turned off): the balloon follows free memory alone"
                .into()
        }
    }
}

fn limited(group: &Group) -> String {
    let how = match group.limit {
        Limit::Max => "is limited to",
        Limit::High => "is slowed down beyond",
    };
    format!(
        "control group {} {how} {} MiB,",
        group.path, group.limit_mib
    )
}

fn mib(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
