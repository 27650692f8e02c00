use super::*;

const MEMINFO: &str = "MemTotal:        8052188 kB\nMemFree:          201404 kB\n\
                       MemAvailable:    4194304 kB\nBuffers:          100000 kB\n\
                       SwapTotal:       2097148 kB\nSwapFree:        2097148 kB\n";

fn host(files: &[(&str, &str)]) -> Host {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [("proc/meminfo", MEMINFO)].iter().chain(files) {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Host::read_below(root.path()).unwrap()
}

/// A host with version 2 groups alone.
fn host_v2(path: &str, files: &[(&str, &str)]) -> Host {
    let path = format!("0::{path}\n");
    let mut all = vec![
        ("proc/self/cgroup", path.as_str()),
        ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
    ];
    all.extend_from_slice(files);
    host(&all)
}

#[test]
fn meminfo_is_read() {
    let host = host(&[("proc/pressure/memory", "some avg10=0.00")]);
    assert_eq!(
        (host.total_mib, host.available_mib, host.swap_mib),
        (7863, 4096, 2047)
    );
    assert_eq!((host.installed_mib, host.pressure), (None, true));
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
    let bare = host(&[]);
    assert!(bare.groups.is_empty() && bare.quotas.is_empty() && !bare.pressure);
    let garbage = host(&[("proc/self/cgroup", "garbage\n::\n9:name=systemd:/\n")]);
    assert!(garbage.groups.is_empty());
}

#[test]
fn version_2_tells_every_group_that_limits() {
    let found = host_v2(
        "/user.slice/app",
        &[
            ("sys/fs/cgroup/user.slice/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/user.slice/memory.high", "max\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "1073741824\n"),
            (
                "sys/fs/cgroup/user.slice/memory.stat",
                "anon 5\ninactive_file 536870912\n",
            ),
            ("sys/fs/cgroup/user.slice/app/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/user.slice/app/memory.high", "3221225472\n"),
            ("sys/fs/cgroup/user.slice/app/memory.current", "4096\n"),
        ],
    );
    let group = |path: &str, limit_mib, limit, used_mib| Group {
        path: path.into(),
        limit_mib,
        limit,
        used_mib,
    };
    assert_eq!(
        found.groups,
        [
            group("/user.slice/app", 3072, Limit::High, 0),
            group("/user.slice", 2048, Limit::Max, 512),
        ]
    );
    assert_eq!(found.spare_mib(), 1536);
}

#[test]
fn version_2_beside_version_1_is_found() {
    let found = host(&[
        ("proc/self/cgroup", "4:cpu,cpuacct:/box\n0::/box\n"),
        ("sys/fs/cgroup/unified/cgroup.controllers", "memory\n"),
        ("sys/fs/cgroup/unified/box/memory.max", "1073741824"),
        ("sys/fs/cgroup/unified/box/memory.current", "0"),
        ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "150000"),
        ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"),
    ]);
    assert_eq!(found.groups[0].limit_mib, 1024);
    let quotas: Vec<_> = found.quotas.iter().map(|quota| quota.milli_cpus).collect();
    assert_eq!(quotas, [1500]);
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
    let groups = limited("1073741824").groups;
    assert_eq!(
        (
            groups[0].limit_mib,
            groups[0].used_mib,
            groups[0].path.as_str()
        ),
        (1024, 50, "/")
    );
    assert!(limited("9223372036854771712").groups.is_empty());
}

#[test]
fn a_path_that_climbs_is_not_followed() {
    let found = host_v2(
        "/../../secret",
        &[
            ("sys/fs/cgroup/memory.max", "1073741824"),
            ("sys/fs/cgroup/memory.current", "0"),
        ],
    );
    assert_eq!(found.groups.len(), 1);
    assert_eq!(found.groups[0].path, "/");
}

#[test]
fn processors_are_those_that_run_and_are_allowed() {
    let found = host_v2(
        "/app",
        &[
            ("sys/devices/system/cpu/online", "0-3,8-11\n"),
            (
                "proc/self/status",
                "Name:\tx\nCpus_allowed_list:\t2-9,200\n",
            ),
            ("sys/fs/cgroup/app/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/cpu.max", "250000 100000\n"),
        ],
    );
    assert_eq!((found.cpus, found.cpus_allowed), (8, 4));
    assert_eq!(
        found.quotas,
        [Quota {
            path: "/".into(),
            milli_cpus: 2500
        }]
    );
}

#[test]
fn nonsense_about_processors_is_passed_over() {
    for text in ["", "3-1", "x", "0-4294967295", "1,,2", "-"] {
        assert_eq!(parse_cpus(text), None, "{text:?}");
    }
    let found = host(&[("sys/devices/system/cpu/online", "what?")]);
    assert_eq!((found.cpus, found.cpus_allowed), (1, 1));
    let found = host_v2("/", &[("sys/fs/cgroup/cpu.max", "100000 0\n")]);
    assert!(found.quotas.is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn this_host_is_read() {
    let host = Host::read().unwrap();
    assert!(host.total_mib > 0 && host.available_mib <= host.total_mib);
    let usable = std::thread::available_parallelism().unwrap().get();
    assert!(host.cpus >= 1 && usable <= host.cpus_allowed as usize);
}
