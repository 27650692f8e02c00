//! A machine's three processes, each killed under a guest that writes and flushes: nothing flushed is
//! lost, nobody is left behind, and the guest does not notice that its disk's server died.
//!
//! The guest is only a writer: a number that counts up, each time into the next sector of a ring, each
//! flushed before it is said on the console; and noise beside it. It begins where the disk says it was.
//! Each is killed `MEDLEY_KILLS` times (5 where it is not set).
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use medley_session::{Folder, Status};
use medley_tests::{Running, Workspace, ends, initrd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vdisk::ErrorKind;
use vdisk::image::{Mode, OpenImage};
use vdisk_proving::Random;

const LIMIT: Duration = Duration::from_secs(90);
/// How long what a dead supervisor left may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How the disk's server is called in a command line.
const SERVER: &str = "session-disk";
const SECTOR: usize = 512;
/// Sectors of the ring.
const RING: u64 = 8192;

const WRITER: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs devtmpfs /dev
while read -r module; do $b insmod "/modules/$module"; done </modules/usual
until [ -b /dev/vda ]; do $b usleep 10000; done
n=$($b dd if=/dev/vda bs=64k count=64 2>/dev/null | $b tr -d '\000' | $b sort -n | $b tail -n 1)
n=${n:-0}
echo "found $n"
while :; do
    $b dd if=/dev/urandom of=/dev/vda bs=64k count=8 seek=512 conv=notrunc,fsync || echo "FAILED noise" >&3
done 3>&1 >/dev/null 2>&1 &
while :; do
    n=$((n + 1))
    echo "$n" | $b dd of=/dev/vda bs=512 seek=$((n % 8192)) conv=sync,notrunc,fsync 2>/dev/null || break
    echo "flushed $n"
done
echo "FAILED $n"
$b sleep 100000
"#;

/// How often each process is killed.
fn kills() -> u32 {
    let text = std::env::var("MEDLEY_KILLS").ok();
    text.map_or(5, |text| text.parse().expect("MEDLEY_KILLS is a number"))
}

/// A disk, a session on it, and what its guest was told is flushed.
struct Bench {
    workspace: Workspace,
    over: &'static str,
    random: Random,
    /// The last number that is certain.
    flushed: u64,
    killed: u32,
}

impl Bench {
    fn new(over: &'static str, seed: u64) -> Result<Self> {
        let workspace = Workspace::empty("64M")?;
        workspace.extract_kernel()?;
        let mut archive = std::fs::read(workspace.path("initrd"))?;
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(initrd::archive("init", WRITER.as_bytes()));
        std::fs::write(workspace.path("initrd"), archive)?;
        Ok(Self {
            workspace,
            over,
            random: Random::new(seed),
            flushed: 0,
            killed: 0,
        })
    }

    /// Starts the session; its guest is still booting.
    fn spawn(&self) -> Result<Running> {
        let mut boot = self.workspace.on_disk(&["boot", "--memory", "96"]);
        boot.args(["--cpus", "1", "--grace", "0.2"])
            .args([
                "--append",
                "console=ttyS0 quiet nokaslr mitigations=off no_timer_check",
            ])
            .args(["--disk-over", self.over, "--session"])
            .arg(self.workspace.path("session"))
            .arg("--kernel")
            .arg(self.workspace.path("vmlinuz"))
            .arg("--initrd")
            .arg(self.workspace.path("initrd"));
        Running::start(boot)
    }

    fn start(&mut self) -> Result<Running> {
        let mut session = self.spawn()?;
        self.found(&mut session)?;
        Ok(session)
    }

    /// Takes a line of the guest's; the number it found, if it says one.
    fn hear(&mut self, line: &str) -> Result<Option<u64>> {
        ensure!(
            !line.contains("FAILED") && !line.contains("I/O error"),
            "after {} kills the guest has an I/O error: {line}",
            self.killed
        );
        // A line that a kill cut short has no end.
        let number = |word: &str| -> Option<u64> {
            let rest = line.strip_suffix("\n")?.trim().strip_prefix(word)?;
            rest.trim().parse().ok()
        };
        if let Some(flushed) = number("flushed ") {
            self.flushed = self.flushed.max(flushed);
        }
        Ok(number("found "))
    }

    /// Waits until the guest begins anew: it finds at least what was flushed.
    fn found(&mut self, session: &mut Running) -> Result<()> {
        loop {
            let line = session.line(LIMIT)?.context("medley ended")?;
            if let Some(found) = self.hear(&line)? {
                ensure!(
                    found >= self.flushed,
                    "{} was flushed, {found} is there",
                    self.flushed
                );
                return Ok(());
            }
        }
    }

    /// Lets the guest write for some time.
    fn listen(&mut self, session: &mut Running, most_ms: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_millis(self.random.below(most_ms));
        while Instant::now() < end {
            match session.line(end.saturating_duration_since(Instant::now())) {
                Ok(Some(line)) => drop(self.hear(&line)?),
                Ok(None) => bail!("medley ended: {}", session.said()),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Waits until the guest has written some more.
    fn goes_on(&mut self, session: &mut Running) -> Result<()> {
        let wanted = self.flushed + 3;
        while self.flushed < wanted {
            let line = session.line(LIMIT)?.context("medley ended")?;
            self.hear(&line)?;
        }
        Ok(())
    }

    fn kill(&mut self, pid: Pid) -> Result<()> {
        self.killed += 1;
        kill(pid, Signal::SIGKILL).context("cannot kill it")
    }

    /// Ends a session in good order.
    fn stop(&mut self, mut session: Running) -> Result<()> {
        session.signal(Signal::SIGTERM)?;
        while let Some(line) = session.line(LIMIT)? {
            self.hear(&line)?;
        }
        session.wait(LIMIT).map(drop)
    }

    /// Reads the ring as the session's overlay shows it: every number that it should hold, up to one that
    /// is not less than what was flushed.
    fn judge(&self) -> Result<()> {
        let key = self.workspace.key()?;
        let end = Instant::now() + GONE_WITHIN;
        let opened = loop {
            let opened = OpenImage {
                path: &self.workspace.disk(),
                format: None,
                mode: Mode::Durable {
                    overlay: self.workspace.path("session/overlay"),
                    options: Default::default(),
                },
                key: Some(&key),
            }
            .open();
            match opened {
                Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => break other?,
            }
        };
        let mut ring = vec![0; RING as usize * SECTOR];
        opened.disk.read_at(0, &mut ring)?;
        let numbers: Vec<u64> = ring
            .chunks_exact(SECTOR)
            .map(|sector| {
                let text = std::str::from_utf8(sector)?.trim_matches(['\0', '\n']);
                Ok(if text.is_empty() { 0 } else { text.parse()? })
            })
            .collect::<Result<_>>()?;
        let last = numbers.iter().copied().max().unwrap_or(0);
        ensure!(
            last >= self.flushed,
            "{} was flushed, {last} is there",
            self.flushed
        );
        for number in (last + 1).saturating_sub(RING).max(1)..=last {
            let found = numbers[(number % RING) as usize];
            ensure!(
                found == number,
                "{number} was flushed before {last}, {found} is there"
            );
        }
        Ok(())
    }

    /// Processes that belong to this test, told by their command line or environment.
    fn processes(&self) -> Result<Vec<String>> {
        let ours = self.workspace.path("").display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let read = |name: &str| {
                let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let number = entry.file_name().to_string_lossy().parse::<u32>();
            let zombie = read("stat")
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z'));
            if number.is_ok() && !zombie && (read("cmdline") + &read("environ")).contains(&ours) {
                found.push(format!("{:?}: {}", entry.file_name(), read("cmdline")));
            }
        }
        Ok(found)
    }

    /// Nobody lives, nobody listens, nobody holds the lock.
    fn assert_nobody_left(&self) -> Result<()> {
        let end = Instant::now() + GONE_WITHIN;
        loop {
            // One that is about to end has no command line any more, but its sockets still.
            let living = self.processes()?;
            let listens = listens_nobody(&self.workspace.path("tmp")).err();
            if living.is_empty() && listens.is_none() {
                break;
            }
            ensure!(Instant::now() < end, "orphans: {living:?}, {listens:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = Folder::status(&self.workspace.path("session"))?;
        ensure!(
            !matches!(status, Status::Running { .. }),
            "the lock is held: {status:?}"
        );
        Ok(())
    }

    fn report(&self, what: &str, began: Instant) -> Result<()> {
        ensure!(
            self.flushed > 0,
            "nothing was ever flushed: nothing was tested"
        );
        println!(
            "{what} over {}: {} kills in {:.0} s, {} flushed writes, 0 lost, 0 orphans, 0 I/O errors",
            self.over,
            self.killed,
            began.elapsed().as_secs_f64(),
            self.flushed
        );
        Ok(())
    }
}

/// Fails if a socket below this folder has somebody behind it.
fn listens_nobody(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            listens_nobody(&path)?;
        }
        ensure!(
            !kind.is_socket() || UnixStream::connect(&path).is_err(),
            "somebody listens at {}",
            path.display()
        );
    }
    Ok(())
}

#[test]
fn guest_loses_nothing_flushed_when_qemu_is_killed() -> Result<()> {
    let began = Instant::now();
    let mut bench = Bench::new("nbd", 1)?;
    while bench.killed < kills() {
        let mut session = bench.start()?;
        // A session starts its machine again, only not too often.
        for _ in 0..3 {
            bench.listen(&mut session, 2000)?;
            let qemu = session.qemu()?;
            bench.kill(qemu)?;
            bench.found(&mut session)?;
        }
        let said = session.said().to_owned();
        for code in ["[machine-died]", "[machine-restarted]"] {
            let times = said.matches(code).count();
            ensure!(times == 3, "{code} {times} times:\n{said}");
        }
        bench.stop(session)?;
        bench.workspace.assert_nothing_left()?;
        bench.assert_nobody_left()?;
        bench.judge()?;
    }
    bench.report("QEMU", began)
}

/// Kills the disk's server under the running guest.
fn survives_its_disk_server(over: &'static str) -> Result<()> {
    let began = Instant::now();
    let mut bench = Bench::new(over, 2)?;
    while bench.killed < kills() {
        let mut session = bench.start()?;
        // The pause before a new server doubles with each that died lately.
        for _ in 0..4 {
            bench.listen(&mut session, 1000)?;
            let server = session.child_with(SERVER)?;
            bench.kill(server)?;
            let end = Instant::now() + LIMIT;
            while session.child_with(SERVER).map_or(true, |new| new == server) {
                ensure!(Instant::now() < end, "no new server: {}", session.said());
                std::thread::sleep(Duration::from_millis(10));
            }
            if bench.random.once_in(3) {
                // Once more, as soon as it is there.
                let server = session.child_with(SERVER)?;
                bench.kill(server)?;
            }
            bench.listen(&mut session, 100)?;
            bench.goes_on(&mut session)?;
        }
        bench.stop(session)?;
        bench.workspace.assert_nothing_left()?;
        bench.assert_nobody_left()?;
        bench.judge()?;
    }
    bench.report("the disk's server", began)
}

#[test]
fn guest_does_not_notice_that_its_disk_server_is_killed_over_nbd() -> Result<()> {
    survives_its_disk_server("nbd")
}

#[test]
fn guest_does_not_notice_that_its_disk_server_is_killed_over_vhost_user() -> Result<()> {
    survives_its_disk_server("vhost-user")
}

#[test]
fn guest_loses_nothing_flushed_when_the_supervisor_is_killed() -> Result<()> {
    let began = Instant::now();
    let mut bench = Bench::new("nbd", 3)?;
    let mut session = bench.start()?;
    for round in 0..kills() {
        bench.listen(&mut session, 1500)?;
        let parts = [session.qemu()?, session.child_with(SERVER)?];
        let supervisor = session.pid();
        bench.kill(supervisor)?;
        while let Some(line) = session.line(LIMIT)? {
            bench.hear(&line)?;
        }
        session.wait(LIMIT)?;
        if round % 2 == 0 {
            bench.assert_nobody_left()?;
            bench.judge()?;
        }
        // In the other rounds at once, while the dead one's parts are still about to end.
        session = bench.start()?;
        for part in parts {
            ensure!(ends(part, Duration::ZERO), "{part} outlived its supervisor");
        }
    }
    bench.stop(session)?;
    bench.judge()?;
    bench.report("the supervisor", began)
}
