//! How hard the host is pressed for memory: what is free, and how long programs wait for it (PSI).
//!
//! Where the kernel permits, it raises an alarm at the first stall; since Linux 6.5 it permits that to
//! everyone who asks for windows of whole two seconds. A reserve that is touched stalls nobody yet:
//! that is seen by looking.

use crate::host::Tree;
use crate::{MemoryPolicy, Reading, Result, Room};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Wakes us when programs waited for 0.1 s within 2 s.
const ALARM: &[u8] = b"some 100000 2000000\0";

/// Where readings come from.
pub trait Source: Send + 'static {
    /// Reads the host.
    fn read(&mut self) -> Result<Reading>;

    /// Waits for an alarm, for `stop` to become readable or to hang up, or until the time is over.
    fn wait(&mut self, stop: BorrowedFd<'_>, at_most: Duration) {
        let mut fds = [PollFd::new(stop, PollFlags::POLLIN)];
        wait_for(&mut fds, at_most);
    }
}

/// This host, or the tree of an imagined one.
#[derive(Debug)]
pub struct HostSource {
    tree: Tree,
    policy: MemoryPolicy,
    files: Vec<PathBuf>,
    /// When the stalls were last read, and their totals in microseconds.
    before: Option<(Instant, Vec<u64>)>,
    alarms: Vec<File>,
}

impl HostSource {
    /// This host, with alarms where the kernel permits them.
    pub fn new(policy: &MemoryPolicy) -> HostSource {
        let mut source = HostSource::below(Path::new("/"), policy);
        source.alarms = source.files.iter().filter_map(|path| arm(path)).collect();
        tracing::debug!(
            files = ?source.files,
            alarms = source.alarms.len(),
            "the host's memory pressure is followed"
        );
        source
    }

    /// The files of `/proc` and `/sys` below another root, which raise no alarms.
    pub fn below(root: &Path, policy: &MemoryPolicy) -> HostSource {
        let tree = Tree::new(root);
        HostSource {
            files: tree.pressure_files(),
            tree,
            policy: policy.clone(),
            before: None,
            alarms: Vec::new(),
        }
    }

    /// How many files raise alarms: none where the kernel has no PSI or does not permit it.
    pub fn alarms(&self) -> usize {
        self.alarms.len()
    }

    fn stalled(&mut self) -> Option<u32> {
        let now = Instant::now();
        let totals: Vec<u64> = self
            .files
            .iter()
            .map(|path| self.tree.read(path).and_then(|text| parse_stalls(&text)))
            .collect::<Option<_>>()?;
        let before = self.before.replace((now, totals.clone()));
        let (then, before) = before?;
        let time = now.duration_since(then).as_micros().max(1);
        let most = totals
            .iter()
            .zip(&before)
            .map(|(now, then)| now.saturating_sub(*then));
        let permille = u128::from(most.max()?) * 1000 / time;
        Some(u32::try_from(permille.min(1000)).unwrap_or(1000))
    }
}

impl Source for HostSource {
    fn read(&mut self) -> Result<Reading> {
        let memory = self.tree.meminfo()?;
        let rooms = Room::all(
            &self.policy,
            memory.total_mib,
            memory.available_mib,
            &self.tree.groups(),
        );
        Ok(Reading {
            rooms,
            stalled_permille: self.stalled(),
        })
    }

    fn wait(&mut self, stop: BorrowedFd<'_>, at_most: Duration) {
        let mut fds = vec![PollFd::new(stop, PollFlags::POLLIN)];
        let alarms = self.alarms.iter();
        fds.extend(alarms.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)));
        wait_for(&mut fds, at_most);
        // A group that was removed reports an error for ever; looking remains.
        let broken = |fd: &PollFd<'_>| {
            let errors = PollFlags::POLLERR | PollFlags::POLLNVAL | PollFlags::POLLHUP;
            fd.revents().is_some_and(|events| events.intersects(errors))
        };
        let mut sound = fds[1..]
            .iter()
            .map(|fd| !broken(fd))
            .collect::<Vec<_>>()
            .into_iter();
        self.alarms.retain(|_| sound.next().unwrap_or(false));
    }
}

/// An interrupted wait is over, as one whose time is.
fn wait_for(fds: &mut [PollFd<'_>], at_most: Duration) {
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    if let Err(error) = poll(fds, timeout)
        && error != nix::errno::Errno::EINTR
    {
        // Nothing that can be waited for: never run in circles.
        tracing::warn!(%error, "cannot wait for the host's memory pressure");
        std::thread::sleep(at_most);
    }
}

fn arm(path: &Path) -> Option<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path);
    let armed = file.and_then(|mut file| file.write_all(ALARM).map(|()| file));
    match armed {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "no alarm: it is only looked at");
            None
        }
    }
}

/// Microseconds in which some program waited, since the host's start: the `total` of the line `some`.
fn parse_stalls(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = line.split(' ').find_map(|word| word.strip_prefix("total="));
    total?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn psi(total: u64) -> String {
        format!(
            "some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n\
             full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        )
    }

    #[test]
    fn stalls_are_parsed() {
        assert_eq!(parse_stalls(&psi(14_781_835)), Some(14_781_835));
        for text in [
            "",
            "some",
            "full total=3",
            "some avg10=0.00",
            "some total=x",
        ] {
            assert_eq!(parse_stalls(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_imagined_host_is_read() {
        let root = tempfile::tempdir().unwrap();
        let meminfo = "MemTotal: 8388608 kB\nMemAvailable: 1048576 kB\n";
        write(root.path(), "proc/meminfo", meminfo);
        write(root.path(), "proc/self/cgroup", "0::/app\n");
        write(root.path(), "proc/pressure/memory", &psi(0));
        write(root.path(), "sys/fs/cgroup/cgroup.controllers", "memory\n");
        write(root.path(), "sys/fs/cgroup/app/memory.pressure", &psi(0));
        write(root.path(), "sys/fs/cgroup/app/memory.max", "2147483648");
        write(
            root.path(),
            "sys/fs/cgroup/app/memory.current",
            "1073741824",
        );
        let mut source = HostSource::below(root.path(), &MemoryPolicy::default());
        let first = source.read().unwrap();
        let room = |name: &str, total_mib, available_mib, reserve_mib| Room {
            name: name.into(),
            total_mib,
            available_mib,
            reserve_mib,
        };
        assert_eq!(
            first.rooms,
            [
                room("the host", 8192, 1024, 512),
                room("control group /app", 2048, 1024, 204)
            ]
        );
        assert_eq!(first.stalled_permille, None);
        // More than all the time that has passed: the group alone is pressed.
        write(
            root.path(),
            "sys/fs/cgroup/app/memory.pressure",
            &psi(1 << 40),
        );
        assert_eq!(source.read().unwrap().stalled_permille, Some(1000));
        assert_eq!(source.read().unwrap().stalled_permille, Some(0));
        // Counters that go back are no stall; files that are gone tell nothing.
        write(root.path(), "sys/fs/cgroup/app/memory.pressure", &psi(5));
        assert_eq!(source.read().unwrap().stalled_permille, Some(0));
        std::fs::remove_file(root.path().join("proc/pressure/memory")).unwrap();
        assert_eq!(source.read().unwrap().stalled_permille, None);
    }

    #[test]
    fn this_host_is_read_and_waited_for() {
        let mut source = HostSource::new(&MemoryPolicy::default());
        let reading = source.read().unwrap();
        assert!(reading.rooms[0].available_mib > 0);
        let (stop, writer) = std::io::pipe().unwrap();
        let begin = Instant::now();
        source.wait(stop.as_fd(), Duration::from_millis(20));
        assert!(begin.elapsed() >= Duration::from_millis(15) || source.alarms() > 0);
        drop(writer);
        source.wait(stop.as_fd(), Duration::from_secs(60));
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_broken_alarm_is_dropped() {
        let mut source = HostSource::below(Path::new("/"), &MemoryPolicy::default());
        // The writing end of a pipe without a reader is in error.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        source
            .alarms
            .push(File::from(std::os::fd::OwnedFd::from(writer)));
        let (stop, _writer) = std::io::pipe().unwrap();
        source.wait(stop.as_fd(), Duration::from_secs(60));
        assert_eq!(source.alarms(), 0);
    }
}
