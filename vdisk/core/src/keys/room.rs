//! How much memory this process can still get: what the system calls available, within what each control
//! group around us leaves.

use std::path::Path;

/// Bytes that can still be had; `None` where the system does not tell.
pub(super) fn available() -> Option<u64> {
    available_below(Path::new("/"))
}

fn available_below(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let left = groups.lines().filter_map(|line| left_in_group(root, line));
    left.min()
        .into_iter()
        .chain([kib.saturating_mul(1024)])
        .min()
}

/// What is left in the group of one line of `/proc/self/cgroup` and in all groups above it.
fn left_in_group(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, limit, usage, cache) = match number {
        "0" => ("", "memory.max", "memory.current", "inactive_file "),
        _ if controllers.split(',').any(|name| name == "memory") => (
            "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file ",
        ),
        _ => return None,
    };
    let mount = root.join("sys/fs/cgroup").join(mount);
    let groups = Path::new(path).ancestors().filter_map(|group| {
        // Seen from inside a namespace a path may climb out of what is mounted, or not be there.
        let group = mount.join(group.strip_prefix("/").ok()?);
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let stat = read("memory.stat").unwrap_or_default();
        let reclaimable = stat.lines().find_map(|line| line.strip_prefix(cache));
        let reclaimable = reclaimable.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        let used = number(usage)?.saturating_sub(reclaimable);
        Some(number(limit)?.saturating_sub(used))
    });
    groups.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> Option<u64> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        available_below(dir.path())
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       8000000 kB\nMemAvailable:    2000 kB\nBuffers: 1 kB\n",
    );

    #[test]
    fn the_tightest_of_all_bounds_counts() {
        assert_eq!(host(&[]), None);
        assert_eq!(host(&[MEMINFO]), Some(2000 << 10));
        let v2 = ("proc/self/cgroup", "0::/a/b\n");
        let unlimited = [
            MEMINFO,
            v2,
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "5000\n"),
        ];
        assert_eq!(host(&unlimited), Some(2000 << 10));
        let limited = [
            MEMINFO,
            v2,
            ("sys/fs/cgroup/a/memory.max", "900000\n"),
            ("sys/fs/cgroup/a/memory.current", "500000\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 1\ninactive_file 100000\n",
            ),
        ];
        assert_eq!(host(&limited), Some(500_000));
        let v1 = [
            MEMINFO,
            ("proc/self/cgroup", "3:cpu,memory:/x\n1:name=y:/x\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1000"),
            ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "4000"),
        ];
        assert_eq!(host(&v1), Some(0));
    }
}
