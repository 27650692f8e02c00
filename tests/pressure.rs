//! A guest gives memory to a host that runs short, and has it again afterwards: a real guest, in a control
//! group of which another program takes most.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use medley_tests::{READY, Running, Workspace};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

const TINY: &str = "MEDLEY_GUEST_TINY";
const LIMIT: Duration = Duration::from_secs(300);
const MIB: u64 = 1 << 20;
/// What the whole group may use; the policy's reserve of it is 128 MiB.
const GROUP_MIB: u64 = 1024;
/// What the other program leaves: half the reserve.
const LEFT_MIB: u64 = 64;

/// A control group with a limit on memory; gone when dropped.
struct Group {
    folder: PathBuf,
    usage: &'static str,
    inactive: &'static str,
}

impl Group {
    fn new() -> Result<Self> {
        let name = format!("medley-test-{}", std::process::id());
        let one = Path::new("/sys/fs/cgroup/memory").join(&name);
        let two = Path::new("/sys/fs/cgroup").join(&name);
        let (folder, limit, usage, inactive) = if one.parent().is_some_and(Path::is_dir) {
            let usage = "memory.usage_in_bytes";
            (one, "memory.limit_in_bytes", usage, "total_inactive_file ")
        } else {
            (two, "memory.max", "memory.current", "inactive_file ")
        };
        fs::create_dir(&folder).with_context(|| {
            format!(
                "cannot make the control group {}: run this test as root",
                folder.display()
            )
        })?;
        let group = Self {
            folder,
            usage,
            inactive,
        };
        fs::write(group.folder.join(limit), (GROUP_MIB * MIB).to_string())
            .context("groups here cannot limit memory")?;
        Ok(group)
    }

    /// Lets a program begin inside.
    fn hold<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let procs = self.folder.join("cgroup.procs");
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut inside = Command::new("sh");
        inside
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(procs)
            .arg(program)
            .args(args);
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        *command = inside;
        command
    }

    /// MiB that programs inside could still take: what medley counts, by our own sum.
    fn left(&self) -> Result<u64> {
        let read = |name: &str| fs::read_to_string(self.folder.join(name));
        let used: u64 = read(self.usage)?.trim().parse()?;
        let stat = read("memory.stat")?;
        let cache: u64 = stat
            .lines()
            .find_map(|line| line.strip_prefix(self.inactive))
            .context("no such line")?
            .parse()?;
        Ok(GROUP_MIB.saturating_sub(used.saturating_sub(cache) / MIB))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that were ended leave a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("the control group {} stays", self.folder.display());
    }
}

/// A program that holds memory until it is dropped.
struct Hog(Child);

impl Hog {
    fn start(group: &Group, mib: u64) -> Result<Self> {
        let program = format!("b = b'x' * ({mib} << 20); print(len(b), flush=True); input()");
        let mut python = Command::new("python3");
        python.args(["-c", &program]);
        let mut child = group
            .hold(&mut python)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let hog = Self(child);
        ensure!(
            line.trim() == (mib * MIB).to_string(),
            "the hog said {line:?}"
        );
        Ok(hog)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// MiB of a process that are in the host's memory and no file's.
fn resident(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    let anon = kib("RssAnon:").context("no RssAnon")?;
    Ok((anon + kib("RssShmem:").unwrap_or(0)) >> 10)
}

fn within(limit: Duration, what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let begin = Instant::now();
    while !so()? {
        if begin.elapsed() > limit {
            bail!("not within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(begin.elapsed())
}

#[test]
fn guest_gives_memory_to_a_host_in_need_and_has_it_again() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let group = Group::new()?;
    let mut boot = workspace.on_disk(&["boot", "--memory", "320", "--ready-marker", READY]);
    boot.args(["--timeout", "420", "--session"])
        .arg(workspace.path("session"));
    group.hold(&mut boot);
    let mut guest = Running::start_with_input(boot)?;
    guest.wait_for(READY, LIMIT)?;
    // Memory that the guest has touched and can do without: the cache of its whole disk.
    guest.type_line("c1 cat /dev/vda >/dev/null; grep -E 'MemFree|Cached' /proc/meminfo")?;
    guest.wait_for("MEDLEY-END c1 0", LIMIT)?;
    let qemu = guest.qemu()?;
    let (full, left) = (resident(qemu)?, group.left()?);

    let hog = Hog::start(&group, left.saturating_sub(LEFT_MIB))?;
    let gave = within(
        Duration::from_secs(5),
        "the guest gives 64 MiB of what it has touched",
        || Ok(resident(qemu)? + 64 <= full),
    );
    let pressed = (resident(qemu)?, group.left()?);
    let gave = gave.with_context(|| format!("QEMU {full} -> {} MiB", pressed.0))?;
    // It lives on with less.
    guest.type_line("c2 sha256sum /bin/busybox && grep MemFree /proc/meminfo")?;
    guest.wait_for("MEDLEY-END c2 0", LIMIT)?;

    drop(hog);
    // More than the guest could have used while it was pressed.
    let fill = "dd if=/dev/zero of=/dev/shm/fill bs=1M count=160 2>&1";
    guest.type_line("c3 mkdir -p /dev/shm; mount -t tmpfs -o size=200m fill /dev/shm")?;
    guest.wait_for("MEDLEY-END c3 0", LIMIT)?;
    let mut tries = 0;
    let again = within(
        Duration::from_secs(60),
        "the guest has its memory again",
        || {
            tries += 1;
            guest.type_line(&format!(
                "f{tries} awk '/MemFree/ {{ print \"FREE\", int($2/1024) }}' /proc/meminfo"
            ))?;
            guest.wait_for(&format!("MEDLEY-END f{tries} 0"), LIMIT)?;
            let said = guest.said();
            let free = said
                .rsplit("FREE ")
                .next()
                .and_then(|rest| rest.split_whitespace().next());
            Ok(free
                .and_then(|mib| mib.parse::<u64>().ok())
                .is_some_and(|mib| mib >= 170))
        },
    )?;
    guest.type_line(&format!("c4 {fill} && echo FILLED"))?;
    guest.wait_for("FILLED", LIMIT)?;
    println!(
        "QEMU held {full} MiB; {} MiB after {gave:?} of pressure, with {} MiB left in its group; memory again after {again:?}",
        pressed.0, pressed.1
    );
    guest.signal(Signal::SIGTERM)?;
    guest.wait(LIMIT)?;
    workspace.assert_nothing_left()
}
