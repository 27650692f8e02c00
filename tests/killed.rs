//! The real frontends, killed under load: `medley disk serve` and `medley disk mount` die by SIGKILL at
//! moments that nobody chose, start again on the same disk, and nothing that a client was told is
//! flushed may be lost, nor anything show up where it was not written.
//!
//! Rounds go on for `MEDLEY_SOAK_SECONDS` (3 where it is not set) for each frontend.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_tests::{Running, run};
use nbd_client::Client;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use vdisk_proving::{Allowed, Random, stamp, version};

#[path = "../vdisk/frontends/tests/nbd_client/mod.rs"]
mod nbd_client;

const SECTOR: u64 = 512;
/// Each client writes a region of its own, which alone decides what its sectors may hold.
const CLIENTS: u64 = 3;
/// Who reads what a kill left; it has no region.
const JUDGE: u64 = CLIENTS;
const REGION: u64 = 4096;
/// Distance of the regions: odd, so that two of them share a block of the VHD.
const STRIDE: u64 = 7001;
const DISK: &str = "32M";
const LIMIT: Duration = Duration::from_secs(60);

/// How a client reaches the disk.
enum Door {
    Nbd(Client),
    Fuse(File),
}

impl Door {
    fn nbd(
        client: &mut Client,
        command: u16,
        offset: u64,
        len: u32,
        data: &[u8],
    ) -> io::Result<Vec<u8>> {
        client.send(command, 0, offset, len, data)?;
        let read = (command == nbd_client::READ).then_some((offset, len));
        let (_, reply) = client.receive(read)?;
        reply.map_err(|error| io::Error::from_raw_os_error(error as i32))
    }

    fn read(&mut self, sectors: Range<u64>) -> io::Result<Vec<u8>> {
        let (at, len) = (
            sectors.start * SECTOR,
            (sectors.end - sectors.start) * SECTOR,
        );
        match self {
            Self::Nbd(client) => Self::nbd(client, nbd_client::READ, at, len as u32, &[]),
            Self::Fuse(file) => {
                let mut bytes = vec![0; len as usize];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            }
        }
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let at = first * SECTOR;
        match self {
            Self::Nbd(client) => {
                Self::nbd(client, nbd_client::WRITE, at, bytes.len() as u32, bytes).map(drop)
            }
            Self::Fuse(file) => file.write_all_at(bytes, at),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Nbd(client) => Self::nbd(client, nbd_client::FLUSH, 0, 0, &[]).map(drop),
            Self::Fuse(file) => file.sync_data(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Frontend {
    Nbd,
    Fuse,
}

/// A folder with an encrypted disk, and the frontend it is shown by.
struct Bench {
    dir: tempfile::TempDir,
    medley: PathBuf,
    frontend: Frontend,
    mode: &'static str,
}

impl Bench {
    fn new(frontend: Frontend, mode: &'static str) -> Result<Self> {
        let medley = std::env::var_os("MEDLEY_BIN").context(
            "MEDLEY_BIN is not set: run these tests with `cargo xtask test --only quick`",
        )?;
        let bench = Self {
            dir: tempfile::tempdir()?,
            medley: medley.into(),
            frontend,
            mode,
        };
        std::fs::write(bench.dir.path().join("pw"), "secret")?;
        std::fs::create_dir(bench.dir.path().join("m"))?;
        let create = "disk create a.vhd --encrypt --new-passphrase-file pw --kdf-memory 64K --kdf-time 1 --size";
        run(bench.medley(create).arg(DISK))?;
        Ok(bench)
    }

    fn medley(&self, args: &str) -> Command {
        let mut command = Command::new(&self.medley);
        command
            .args(args.split(' '))
            .current_dir(self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    fn spawn(&self) -> Result<Running> {
        let (mode, password) = (self.mode, "--passphrase-file pw");
        Running::start(match self.frontend {
            Frontend::Nbd => self.medley(&format!("disk serve a.vhd --nbd sock {mode} {password}")),
            Frontend::Fuse => self.medley(&format!(
                "disk mount a.vhd m --foreground {mode} {password}"
            )),
        })
    }

    fn start(&self) -> Result<Running> {
        let mut service = self.spawn()?;
        service.wait_for("a.vhd", LIMIT)?;
        Ok(service)
    }

    /// A client's way in to the disk that is being served. The kernel and the mount know two kinds of open
    /// file: the first client's is of the one, with `O_DIRECT`, and those of all others of the other.
    fn door(&self, client: u64) -> Result<Door> {
        Ok(match self.frontend {
            Frontend::Nbd => Door::Nbd(Client::connect(&self.dir.path().join("sock"), true)?),
            Frontend::Fuse => {
                let raw = self.dir.path().join("m/disk.raw");
                let mut options = File::options();
                if client == 0 {
                    options.custom_flags(OFlag::O_DIRECT.bits());
                }
                Door::Fuse(options.read(true).write(true).open(raw)?)
            }
        })
    }

    /// Kills a service and waits until its mount, if it had one, is out of the way of the next.
    fn kill(&self, mut service: Running) -> Result<()> {
        service.signal(Signal::SIGKILL)?;
        service.wait(LIMIT)?;
        self.unmount()
    }

    /// Whoever guards a mount takes it away when its server dies; one killed before it had a guard
    /// leaves it to us.
    fn unmount(&self) -> Result<()> {
        let guarded = Instant::now() + Duration::from_secs(3);
        while self.is_mounted()? {
            if Instant::now() > guarded {
                run(&mut self.medley("disk unmount m --force"))?;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn is_mounted(&self) -> Result<bool> {
        let dir = self.dir.path().join("m").display().to_string();
        Ok(std::fs::read_to_string("/proc/mounts")?.contains(&dir))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

/// One client's books on its region.
struct Book {
    first: u64,
    sectors: Vec<Allowed>,
    latest: Vec<u64>,
    version: u64,
    random: Random,
    flushes: u64,
}

impl Book {
    fn new(client: u64) -> Self {
        Self {
            first: client * STRIDE,
            sectors: vec![Allowed::default(); REGION as usize],
            latest: vec![0; REGION as usize],
            version: 0,
            random: Random::new(client),
            flushes: 0,
        }
    }

    /// Writes and flushes until the disk goes away.
    fn load(&mut self, door: &mut Door) {
        while self.step(door).is_ok() {}
    }

    fn step(&mut self, door: &mut Door) -> io::Result<()> {
        if self.random.once_in(12) {
            door.flush()?;
            // Nobody else writes here: what was acknowledged to us before the flush is certain.
            for (allowed, latest) in self.sectors.iter_mut().zip(&self.latest) {
                allowed.flushed = *latest;
                allowed.since.clear();
            }
            self.flushes += 1;
            return Ok(());
        }
        let start = self.random.below(REGION);
        let end = (start + 1 + self.random.below(64)).min(REGION);
        self.version += 1;
        let range = start as usize..end as usize;
        for allowed in &mut self.sectors[range.clone()] {
            allowed.since.push(self.version);
        }
        let bytes: Vec<u8> = (start..end)
            .flat_map(|sector| stamp(self.first + sector, self.version))
            .collect();
        door.write(self.first + start, &bytes)?;
        self.latest[range].fill(self.version);
        Ok(())
    }

    /// Judges what a kill left. What is read after it stays: it was read from the file.
    fn judge(&mut self, disk: &mut Door) -> Result<()> {
        let bytes = disk.read(self.first..self.first + REGION)?;
        for (i, found) in bytes.chunks_exact(SECTOR as usize).enumerate() {
            let (sector, allowed) = (self.first + i as u64, &mut self.sectors[i]);
            let found = version(sector, found).filter(|found| allowed.permits(*found));
            let found = found.with_context(|| {
                format!("sector {sector} holds neither what was flushed nor later: {allowed:?}")
            })?;
            (allowed.flushed, self.latest[i]) = (found, found);
            allowed.since.clear();
        }
        Ok(())
    }
}

/// Kills and judges until the time is up; answers how often, and the clients' books.
fn soak(bench: &Bench, time: Duration) -> Result<(u32, Vec<Book>)> {
    let mut books: Vec<_> = (0..CLIENTS).map(Book::new).collect();
    let mut random = Random::new(bench.frontend as u64);
    let begun = Instant::now();
    let mut kills = 0;
    while begun.elapsed() < time || kills == 0 {
        let service = bench.start()?;
        let mut doors = (0..CLIENTS)
            .map(|client| bench.door(client))
            .collect::<Result<Vec<_>>>()?;
        let life = Duration::from_millis(20 + random.below(300));
        thread::scope(|scope| {
            for (book, door) in books.iter_mut().zip(&mut doors) {
                scope.spawn(|| book.load(door));
            }
            thread::sleep(life);
            bench.kill(service)
        })?;
        drop(doors);
        kills += 1;
        if random.once_in(3) {
            // Once more, while it opens what the first kill left.
            let service = bench.spawn()?;
            thread::sleep(Duration::from_millis(random.below(120)));
            bench.kill(service)?;
            kills += 1;
        }
        judge(bench, &mut books)?;
        kills += 1;
    }
    Ok((kills, books))
}

/// Judges the disk as it is, and kills its server once more.
fn judge(bench: &Bench, books: &mut [Book]) -> Result<()> {
    let service = bench.start()?;
    let mut door = bench.door(JUDGE)?;
    books
        .iter_mut()
        .try_for_each(|book| book.judge(&mut door))?;
    drop(door);
    bench.kill(service)
}

fn time() -> Duration {
    let seconds = std::env::var("MEDLEY_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.map_or(3, |text| {
        text.parse().expect("MEDLEY_SOAK_SECONDS is a number")
    }))
}

fn survives(frontend: Frontend, mode: &'static str) -> Result<(Bench, Vec<Book>)> {
    let bench = Bench::new(frontend, mode)?;
    let (kills, books) = soak(&bench, time())?;
    let flushes: u64 = books.iter().map(|book| book.flushes).sum();
    println!("{frontend:?} {mode}: {kills} kills, {flushes} flushes, nothing lost");
    ensure!(flushes > 0, "nothing was ever flushed: nothing was tested");
    run(&mut bench.medley("disk check a.vhd"))?;
    Ok((bench, books))
}

/// A durable overlay, killed with its server: the disk below stays as it was, and at last takes over
/// exactly what the overlay showed.
fn overlay_survives(frontend: Frontend) -> Result<()> {
    let (mut bench, mut books) = survives(frontend, "--overlay a.overlay")?;
    run(&mut bench.medley("disk overlay check a.overlay"))?;
    bench.mode = "--revertible";
    let mut untouched: Vec<_> = (0..CLIENTS).map(Book::new).collect();
    judge(&bench, &mut untouched).context("the disk under the overlay was written to")?;
    run(&mut bench.medley("disk overlay commit a.vhd a.overlay --passphrase-file pw"))?;
    judge(&bench, &mut books).context("after the commit")?;
    run(&mut bench.medley("disk check a.vhd"))?;
    Ok(())
}

#[test]
fn nothing_flushed_over_nbd_is_lost_by_a_kill() -> Result<()> {
    survives(Frontend::Nbd, "--keep").map(drop)
}

#[test]
fn nothing_flushed_over_fuse_is_lost_by_a_kill() -> Result<()> {
    survives(Frontend::Fuse, "--keep").map(drop)
}

#[test]
fn nothing_flushed_into_an_overlay_over_nbd_is_lost_by_a_kill() -> Result<()> {
    overlay_survives(Frontend::Nbd)
}

#[test]
fn nothing_flushed_into_an_overlay_over_fuse_is_lost_by_a_kill() -> Result<()> {
    overlay_survives(Frontend::Fuse)
}

/// The test must be able to fail: a disk that a kill reverts loses what was flushed, and that is seen.
#[test]
fn a_disk_that_forgets_is_caught() -> Result<()> {
    let bench = Bench::new(Frontend::Nbd, "--revertible")?;
    let error = soak(&bench, LIMIT).err().context("nothing was lost")?;
    ensure!(
        format!("{error:#}").contains("neither what was flushed"),
        "{error:#}"
    );
    Ok(())
}
