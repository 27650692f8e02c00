//! What the host has: `/proc/meminfo` and the memory controllers of our control group.

use crate::{Error, ErrorKind, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The host's memory at one moment, in MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostMemory {
    /// All RAM the kernel has.
    pub total_mib: u64,
    /// What could be taken now without swapping.
    pub available_mib: u64,
    /// The tightest control group this process is in, if any limits it.
    pub cgroup: Option<CgroupMemory>,
}

/// A control group with a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CgroupMemory {
    /// Its path, as `/proc/self/cgroup` writes it.
    pub path: String,
    /// The limit.
    pub limit_mib: u64,
    /// What counts against it and cannot simply be dropped: usage less inactive file cache.
    pub used_mib: u64,
}

/// The files of the two generations of memory controllers.
struct Controller {
    mount: &'static str,
    limit: &'static str,
    usage: &'static str,
    inactive_file: &'static str,
}

const V2: Controller = Controller {
    mount: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    inactive_file: "inactive_file",
};

const V1: Controller = Controller {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file",
};

impl HostMemory {
    /// Reads this host. Linux only; elsewhere it fails because there is no `/proc/meminfo`.
    pub fn read() -> Result<HostMemory> {
        HostMemory::read_below(Path::new("/"))
    }

    /// Reads the same files below another root.
    pub(crate) fn read_below(root: &Path) -> Result<HostMemory> {
        let path = root.join("proc/meminfo");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
        let (total_mib, available_mib) = parse_meminfo(&text)?;
        // A kernel without control groups, or a process in none that can be seen, has no limit.
        let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let cgroup = parse_cgroup_paths(&groups)
            .into_iter()
            .flat_map(|(controller, path)| limits_of(root, controller, &path).collect::<Vec<_>>())
            .filter(|group| group.limit_mib < total_mib)
            .min_by_key(|group| group.limit_mib.saturating_sub(group.used_mib));
        Ok(HostMemory {
            total_mib,
            available_mib,
            cgroup,
        })
    }
}

/// `MemTotal` and `MemAvailable` in MiB.
fn parse_meminfo(text: &str) -> Result<(u64, u64)> {
    let field = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = value.and_then(|value| value.trim().strip_suffix("kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok())
            .map(|kib| kib / 1024)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    "read /proc/meminfo",
                    format!("no figure in kB for {name}"),
                )
            })
    };
    Ok((field("MemTotal")?, field("MemAvailable")?))
}

/// The groups whose memory controller may hold us, from the text of `/proc/self/cgroup`: lines of
/// `hierarchy:controllers:path`, where hierarchy 0 is version 2.
fn parse_cgroup_paths(text: &str) -> Vec<(&'static Controller, PathBuf)> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if hierarchy == "0" && controllers.is_empty() {
            Some((&V2, PathBuf::from(path)))
        } else if controllers.split(',').any(|name| name == "memory") {
            Some((&V1, PathBuf::from(path)))
        } else {
            None
        }
    };
    text.lines().filter_map(line).collect()
}

/// The limits of a group and of all groups above it: each binds. A container often sees only part
/// of the path it is told, so directories that are not there are passed over.
fn limits_of<'a>(
    root: &'a Path,
    controller: &'static Controller,
    path: &Path,
) -> impl Iterator<Item = CgroupMemory> + 'a {
    let groups: Vec<PathBuf> = path.ancestors().map(Path::to_path_buf).collect();
    groups.into_iter().filter_map(move |group| {
        // A path that climbs (`/../..`, seen from inside a namespace) names nothing of ours.
        let below = group.strip_prefix("/").ok()?;
        if below
            .components()
            .any(|part| part == std::path::Component::ParentDir)
        {
            return None;
        }
        let directory = root.join(controller.mount).join(below);
        let file = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
        let limit = parse_bytes(&file(controller.limit)?)?;
        let usage = parse_bytes(&file(controller.usage)?)?;
        let stat = file("memory.stat").unwrap_or_default();
        let cache = parse_stat(&stat, controller.inactive_file).unwrap_or(0);
        Some(CgroupMemory {
            path: group.display().to_string(),
            limit_mib: limit >> 20,
            used_mib: usage.saturating_sub(cache) >> 20,
        })
    })
}

/// A figure in bytes; `max` and nonsense are no figure.
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

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        8052188 kB\nMemFree:          201404 kB\n\
                           MemAvailable:    4194304 kB\nBuffers:          100000 kB\n";

    fn host(files: &[(&str, &str)]) -> HostMemory {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/meminfo", MEMINFO)].iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        HostMemory::read_below(root.path()).unwrap()
    }

    #[test]
    fn meminfo_is_read() {
        assert_eq!(parse_meminfo(MEMINFO).unwrap(), (7863, 4096));
    }

    #[test]
    fn a_strange_meminfo_is_an_error() {
        for text in [
            "",
            "MemTotal: 12 kB",
            "MemTotal: x kB\nMemAvailable: 1 kB",
            "MemTotal:\n",
        ] {
            assert_eq!(
                parse_meminfo(text).unwrap_err().kind(),
                ErrorKind::Unsupported,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_host_without_groups_has_no_limit() {
        assert_eq!(host(&[]).cgroup, None);
        assert_eq!(
            host(&[("proc/self/cgroup", "garbage\n::\n9:name=systemd:/\n")]).cgroup,
            None
        );
    }

    #[test]
    fn version_2_takes_the_tightest_ancestor() {
        let found = host(&[
            ("proc/self/cgroup", "0::/user.slice/app\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "1073741824\n"),
            (
                "sys/fs/cgroup/user.slice/memory.stat",
                "anon 5\ninactive_file 536870912\n",
            ),
            ("sys/fs/cgroup/user.slice/app/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/app/memory.current", "4096\n"),
        ]);
        let group = found.cgroup.unwrap();
        assert_eq!((group.limit_mib, group.used_mib), (2048, 512));
        assert_eq!(group.path, "/user.slice");
    }

    #[test]
    fn version_1_is_read_and_its_unlimited_is_no_limit() {
        let limited = |limit| {
            host(&[
                ("proc/self/cgroup", "4:cpu,memory:/box\n0::/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600"),
                (
                    "sys/fs/cgroup/memory/memory.stat",
                    "total_inactive_file 52428800\n",
                ),
            ])
        };
        let group = limited("1073741824").cgroup.unwrap();
        assert_eq!(
            (group.limit_mib, group.used_mib, group.path.as_str()),
            (1024, 50, "/")
        );
        assert_eq!(limited("9223372036854771712").cgroup, None);
    }

    #[test]
    fn a_path_that_climbs_is_not_followed() {
        let found = host(&[
            ("proc/self/cgroup", "0::/../../secret\n"),
            ("sys/fs/cgroup/memory.max", "1073741824"),
            ("sys/fs/cgroup/memory.current", "0"),
        ]);
        assert_eq!(found.cgroup.unwrap().path, "/");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_host_is_read() {
        let host = HostMemory::read().unwrap();
        assert!(host.total_mib > 0 && host.available_mib <= host.total_mib);
    }
}
