//! The files of `/proc` and `/sys` that tell what a host has, below any root.
//!
//! A group is limited by itself and by every group above it. A container often sees only part of the
//! path it is told, so directories that are not there are passed over.

use super::{Group, Host, Limit, Quota};
use crate::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};

/// Larger files than these are none of the kernel's.
const MOST: u64 = 1 << 20;

/// Where the version 2 hierarchy is mounted: alone, or beside version 1.
const V2_MOUNTS: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];

/// A root with `proc` and `sys` below it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

/// A group as a directory of one hierarchy.
struct Directory {
    version: Version,
    /// As `/proc/self/cgroup` writes it.
    path: String,
    directory: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Tree {
    pub fn new(root: impl Into<PathBuf>) -> Tree {
        let root = root.into();
        // Paths below it are joined to it again and again.
        let root = std::path::absolute(&root).unwrap_or(root);
        Tree { root }
    }

    pub fn host(&self) -> Result<Host> {
        let memory = self.meminfo()?;
        let groups = self.groups();
        let (cpus, cpus_allowed) = self.cpus();
        Ok(Host {
            total_mib: memory.total_mib,
            installed_mib: None,
            available_mib: memory.available_mib,
            swap_mib: memory.swap_mib,
            // A version 1 group without a limit is told by one that nothing reaches.
            groups: groups
                .into_iter()
                .filter(|group| group.limit_mib < memory.total_mib)
                .collect(),
            cpus,
            cpus_allowed,
            quotas: self.quotas(),
            pressure: self.read("proc/pressure/memory").is_some(),
        })
    }

    /// The whole of a small file; `None` where it is not there or may not be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        use std::io::Read;
        let file = std::fs::File::open(self.root.join(path)).ok()?;
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text).ok()?;
        Some(text)
    }

    pub fn meminfo(&self) -> Result<Meminfo> {
        let path = self.root.join("proc/meminfo");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
        parse_meminfo(&text)
    }

    /// The groups that limit our memory, nearest first, whether or not the limit is above the host's
    /// RAM.
    pub fn groups(&self) -> Vec<Group> {
        self.directories("memory")
            .iter()
            .filter_map(|group| self.group(group))
            .collect()
    }

    /// Where stalls are told: for the whole host, and for our own group where version 2 is mounted.
    /// Neither where the kernel has no PSI, or has it turned off.
    #[cfg(target_os = "linux")]
    pub fn pressure_files(&self) -> Vec<PathBuf> {
        let own = self
            .directories("")
            .into_iter()
            .find(|group| group.version == Version::Two && group.path != "/")
            .map(|group| group.directory.join("memory.pressure"));
        let host = self.root.join("proc/pressure/memory");
        let files = [Some(host), own].into_iter().flatten();
        files.filter(|path| self.read(path).is_some()).collect()
    }

    fn group(&self, group: &Directory) -> Option<Group> {
        let bytes = |name: &str| parse_bytes(&self.read(group.directory.join(name))?);
        let (limit, kind, usage, inactive) = match group.version {
            Version::One => (
                bytes("memory.limit_in_bytes")?,
                Limit::Max,
                bytes("memory.usage_in_bytes")?,
                "total_inactive_file",
            ),
            Version::Two => {
                let max = bytes("memory.max").map(|max| (max, Limit::Max));
                let high = bytes("memory.high").map(|high| (high, Limit::High));
                let (limit, kind) = max.into_iter().chain(high).min_by_key(|limit| limit.0)?;
                (limit, kind, bytes("memory.current")?, "inactive_file")
            }
        };
        let stat = self
            .read(group.directory.join("memory.stat"))
            .unwrap_or_default();
        let cache = parse_stat(&stat, inactive).unwrap_or(0);
        Some(Group {
            path: group.path.clone(),
            limit_mib: limit >> 20,
            limit: kind,
            used_mib: usage.saturating_sub(cache) >> 20,
        })
    }

    fn quotas(&self) -> Vec<Quota> {
        let quota = |group: &Directory| {
            let (quota, period) = match group.version {
                Version::One => {
                    let number = |name: &str| parse_bytes(&self.read(group.directory.join(name))?);
                    (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
                }
                Version::Two => {
                    let text = self.read(group.directory.join("cpu.max"))?;
                    let (quota, period) = text.trim().split_once(' ')?;
                    (quota.parse().ok()?, period.parse().ok()?)
                }
            };
            let milli = u128::from(quota) * 1000;
            Some(Quota {
                path: group.path.clone(),
                milli_cpus: u64::try_from(milli.checked_div(period.into())?).ok()?,
            })
        };
        self.directories("cpu").iter().filter_map(quota).collect()
    }

    /// Processors that run, and those of them that we may run on.
    fn cpus(&self) -> (u32, u32) {
        let online = self.read("sys/devices/system/cpu/online");
        let online = online.and_then(|text| parse_cpus(&text));
        let status = self.read("proc/self/status").unwrap_or_default();
        let allowed = status
            .lines()
            .find_map(|line| parse_cpus(line.strip_prefix("Cpus_allowed_list:")?));
        let count = |cpus: &[(u32, u32)]| {
            let each = cpus.iter().map(|(first, last)| last - first + 1);
            each.fold(0, u32::saturating_add)
        };
        match (online, allowed) {
            // The mask may name processors that do not run.
            (Some(online), Some(allowed)) => (count(&online), count(&common(&online, &allowed))),
            (Some(known), None) | (None, Some(known)) => (count(&known), count(&known)),
            (None, None) => (1, 1),
        }
    }

    /// The directories of our group and of those above it, nearest first, in the hierarchies that
    /// may hold `controller`: version 2, and version 1's own.
    fn directories(&self, controller: &str) -> Vec<Directory> {
        // A kernel without control groups, or a process in none that can be seen, has none.
        let text = self.read("proc/self/cgroup").unwrap_or_default();
        let mut directories = Vec::new();
        for (version, path) in parse_group_paths(&text, controller) {
            let mounts: Vec<PathBuf> = match version {
                Version::Two => V2_MOUNTS.iter().map(PathBuf::from).collect(),
                // Some mount the two that belong together under both names.
                Version::One => [controller, "cpu,cpuacct"]
                    .iter()
                    .filter(|name| name.split(',').any(|name| name == controller))
                    .map(|name| Path::new("sys/fs/cgroup").join(name))
                    .collect(),
            };
            // Every version 2 group but the root has this file; other hierarchies have none.
            let is_mounted = |mount: &&PathBuf| match version {
                Version::One => self.root.join(mount).is_dir(),
                Version::Two => self.root.join(mount).join("cgroup.controllers").is_file(),
            };
            let Some(mount) = mounts.iter().find(is_mounted) else {
                continue;
            };
            for group in path.ancestors() {
                // A path that climbs (`/../..`, seen from inside a namespace) names nothing of ours.
                let Ok(below) = group.strip_prefix("/") else {
                    continue;
                };
                if below.components().all(|part| part != Component::ParentDir) {
                    directories.push(Directory {
                        version,
                        path: group.display().to_string(),
                        directory: self.root.join(mount).join(below),
                    });
                }
            }
        }
        directories
    }
}

/// The part of `/proc/meminfo` that counts here, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meminfo {
    pub total_mib: u64,
    pub available_mib: u64,
    pub swap_mib: u64,
}

fn parse_meminfo(text: &str) -> Result<Meminfo> {
    let field = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1024)
    };
    let needed = |name: &str| {
        field(name).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "read /proc/meminfo",
                format!("no figure in kB for {name}"),
            )
        })
    };
    Ok(Meminfo {
        total_mib: needed("MemTotal")?,
        available_mib: needed("MemAvailable")?,
        swap_mib: field("SwapTotal").unwrap_or(0),
    })
}

/// The groups that may hold `controller`, from the text of `/proc/self/cgroup`: lines of
/// `hierarchy:controllers:path`, where hierarchy 0 is version 2.
fn parse_group_paths(text: &str, controller: &str) -> Vec<(Version, PathBuf)> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if hierarchy == "0" && controllers.is_empty() {
            Some((Version::Two, PathBuf::from(path)))
        } else if !controller.is_empty() && controllers.split(',').any(|name| name == controller) {
            Some((Version::One, PathBuf::from(path)))
        } else {
            None
        }
    };
    text.lines().filter_map(line).collect()
}

/// A figure; `max`, a negative one and nonsense are none.
fn parse_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn parse_stat(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// `0-3,8,10-11`: first and last of each run.
fn parse_cpus(text: &str) -> Option<Vec<(u32, u32)>> {
    let run = |run: &str| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        // The kernel numbers far fewer.
        (first <= last && last < 1 << 20).then_some((first, last))
    };
    text.trim().split(',').map(run).collect()
}

/// The runs that two lists of processors have in common.
fn common(some: &[(u32, u32)], others: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let pairs = some
        .iter()
        .flat_map(|a| others.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
    pairs.filter(|(first, last)| first <= last).collect()
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
