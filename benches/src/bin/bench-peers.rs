//! Ours beside others on the same work in one run: encrypted VHDs served over FUSE and NBD by us, and
//! LUKS in a VHD as well as an unencrypted raw file served by QEMU's storage daemon. All disks lie in
//! memory, so that the servers are measured and not a medium.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use medley_benches::rows::{Goal, Report, Row};
use medley_benches::server::{Server, find, run, text};

/// Measures ours beside peers.
#[derive(Parser)]
struct Args {
    /// Which part to measure.
    #[arg(long, value_enum, default_value = "disk")]
    only: Part,
    /// Also write the rows to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The `medley` to measure.
    #[arg(long, default_value = "target/release/medley")]
    medley: PathBuf,
    /// Size of each disk in MiB.
    #[arg(long, default_value_t = 512)]
    size: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds; the best of each counts, since the machine may be shared.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Disk,
}

const OURS: usize = 0;
const LUKS: usize = 1;
const RAW: usize = 2;
const NAMES: [&str; 3] = ["medley, encrypted", "QEMU, LUKS", "QEMU, raw"];

/// Three disks that hold the same, and how to serve them.
struct Bench<'a> {
    args: &'a Args,
    dir: PathBuf,
}

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn prepare(&self) -> Result<()> {
        let secret = self.path("secret");
        std::fs::write(&secret, "benchmark")?;
        let size = format!("{}M", self.args.size);
        run(Command::new(&self.args.medley)
            .args([
                "disk",
                "create",
                "--encrypt",
                "--kdf-memory",
                "64M",
                "--kdf-time",
                "4",
                "--size",
                &size,
            ])
            .arg("--new-passphrase-file")
            .arg(&secret)
            .arg(self.path("ours.vhd")))?;
        let object = format!("secret,id=s,file={}", text(&secret));
        run(Command::new("qemu-img")
            .args([
                "create",
                "-q",
                "--object",
                &object,
                "-f",
                "luks",
                "-o",
                "key-secret=s,iter-time=10",
            ])
            .arg(self.path("luks.raw"))
            .arg(&size))?;
        run(Command::new("qemu-img")
            .args([
                "convert",
                "-f",
                "raw",
                "-O",
                "vpc",
                "-o",
                "subformat=dynamic,force_size=on",
            ])
            .args([self.path("luks.raw"), self.path("luks.vhd")]))?;
        std::fs::remove_file(self.path("luks.raw"))?;
        std::fs::File::create(self.path("raw.img"))?.set_len(self.args.size << 20)?;
        Ok(())
    }

    /// QEMU's storage daemon on one of its disks; it takes its options in order.
    fn qemu(&self, disk: usize, before: &[&str], export: &str) -> Command {
        let mut command = Command::new("qemu-storage-daemon");
        let file = |name: &str| {
            format!(
                "driver=file,node-name=f,filename={}",
                text(&self.path(name))
            )
        };
        if disk == RAW {
            command.args(["--blockdev", &file("raw.img")]);
            command.args(["--blockdev", "driver=raw,node-name=n,file=f"]);
        } else {
            let secret = format!("secret,id=s,file={}", text(&self.path("secret")));
            command.args(["--object", &secret, "--blockdev", &file("luks.vhd")]);
            command.args(["--blockdev", "driver=vpc,node-name=v,file=f"]);
            command.args(["--blockdev", "driver=luks,node-name=n,file=v,key-secret=s"]);
        }
        command.args(before).args(["--export", export]);
        command
    }

    fn ours(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.args.medley);
        command
            .args(["disk", verb, "--keep", "--passphrase-file"])
            .arg(self.path("secret"));
        command.arg(self.path("ours.vhd"));
        command
    }

    /// All three over FUSE: the servers and the files they show.
    fn fuse(&self) -> Result<[(Server, PathBuf); 3]> {
        let size = self.args.size << 20;
        let shows = |file: PathBuf| move || std::fs::metadata(&file).is_ok_and(|m| m.len() == size);
        let mountpoint = self.path("mnt");
        std::fs::create_dir(&mountpoint)?;
        let file = mountpoint.join("disk.raw");
        let mut command = self.ours("mount");
        command.arg(&mountpoint).arg("--foreground");
        let ours = (
            Server::start(NAMES[OURS], command, shows(file.clone()))?,
            file,
        );
        let theirs = |disk: usize| -> Result<_> {
            let file = self.path(&format!("fuse{disk}"));
            std::fs::write(&file, "")?;
            let export = format!(
                "type=fuse,id=e,node-name=n,writable=on,mountpoint={}",
                text(&file)
            );
            Ok((
                Server::start(
                    NAMES[disk],
                    self.qemu(disk, &[], &export),
                    shows(file.clone()),
                )?,
                file,
            ))
        };
        Ok([ours, theirs(LUKS)?, theirs(RAW)?])
    }

    /// All three over NBD: the servers and their sockets.
    fn nbd(&self) -> Result<[(Server, PathBuf); 3]> {
        let listens =
            |socket: PathBuf| move || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        let socket = self.path("ours.sock");
        let mut command = self.ours("serve");
        command.arg("--nbd").arg(&socket);
        let ours = (
            Server::start(NAMES[OURS], command, listens(socket.clone()))?,
            socket,
        );
        let theirs = |disk: usize| -> Result<_> {
            let socket = self.path(&format!("{disk}.sock"));
            let export = "type=nbd,id=e,node-name=n,name=,writable=on";
            let listen = format!("addr.type=unix,addr.path={}", text(&socket));
            let command = self.qemu(disk, &["--nbd-server", &listen], export);
            Ok((
                Server::start(NAMES[disk], command, listens(socket.clone()))?,
                socket,
            ))
        };
        Ok([ours, theirs(LUKS)?, theirs(RAW)?])
    }

    /// One fio job; bytes and operations a second.
    fn fio(&self, file: &Path, pattern: &str, block: &str, whole: bool) -> Result<(f64, f64)> {
        let mut command = Command::new("fio");
        command.args([
            "--name=job",
            "--direct=1",
            "--ioengine=psync",
            "--thread",
            "--output-format=json",
        ]);
        command.arg(format!("--filename={}", text(file)));
        command.args([
            format!("--rw={pattern}"),
            format!("--bs={block}"),
            format!("--size={}M", self.args.size),
        ]);
        if !whole {
            command.args([
                "--time_based".into(),
                format!("--runtime={}", self.args.seconds),
            ]);
        }
        let report = run(&mut command)?;
        let report: serde_json::Value =
            serde_json::from_str(&report[report.find('{').unwrap_or(0)..])?;
        let kind = if pattern.ends_with("read") {
            "read"
        } else {
            "write"
        };
        let job = &report["jobs"][0][kind];
        match (job["bw_bytes"].as_f64(), job["iops"].as_f64()) {
            (Some(bytes), Some(ops)) if ops > 0.0 => Ok((bytes, ops)),
            _ => bail!("fio reported no figure for {pattern} {block}"),
        }
    }

    fn fuse_rows(&self) -> Result<Vec<Row>> {
        let served = self.fuse()?;
        for (_, file) in &served {
            self.fio(file, "write", "1M", true)
                .context("filling the disks")?;
        }
        let work = [
            ("read", "1M", "sequential reads, 1 MiB", 4.0),
            ("write", "1M", "sequential writes, 1 MiB", 4.0),
            ("randread", "4k", "random reads, 4 KiB", 1.6),
            ("randwrite", "4k", "random writes, 4 KiB", 1.6),
        ];
        let mut rows = Vec::new();
        for (pattern, block, what, times) in work {
            let mut best = [0.0f64; 3];
            for _ in 0..self.args.rounds {
                for (i, (_, file)) in served.iter().enumerate() {
                    let (bytes, ops) = self.fio(file, pattern, block, false)?;
                    best[i] = best[i].max(if block == "1M" { bytes / 1e6 } else { ops });
                }
            }
            let unit = if block == "1M" { "MB/s" } else { "ops/s" };
            let row = |peer: usize| {
                Row::new(format!("FUSE {what}"), best[OURS], unit).against(NAMES[peer], best[peer])
            };
            rows.push(row(LUKS).goal(Goal::RatioAtLeast(times)));
            rows.push(row(RAW));
        }
        Ok(rows)
    }

    fn nbd_rows(&self) -> Result<Vec<Row>> {
        let served = self.nbd()?;
        let (mut rate, mut cpu) = ([0.0f64; 3], [f64::MAX; 3]);
        for _ in 0..self.args.rounds {
            for (i, (server, socket)) in served.iter().enumerate() {
                let (start, before) = (Instant::now(), server.cpu()?);
                let uri = format!("nbd+unix:///?socket={}", text(socket));
                run(Command::new("nbdcopy").args([&uri, "null:"]))?;
                let took = start.elapsed().max(Duration::from_millis(1));
                rate[i] = rate[i].max((self.args.size << 20) as f64 / took.as_secs_f64() / 1e6);
                cpu[i] = cpu[i].min((server.cpu()? - before).as_secs_f64() * 1e3);
            }
        }
        let row = |peer: usize| {
            Row::new("NBD copy out", rate[OURS], "MB/s").against(NAMES[peer], rate[peer])
        };
        let work = |peer: usize| {
            Row::new("NBD copy out, server CPU", cpu[OURS], "ms").against(NAMES[peer], cpu[peer])
        };
        Ok(vec![
            row(LUKS).goal(Goal::RatioAtLeast(3.0)),
            row(RAW),
            work(LUKS),
            work(RAW),
        ])
    }
}

fn disk_rows(args: &Args) -> Result<Vec<Row>> {
    let tools = [
        "qemu-storage-daemon",
        "qemu-img",
        "fio",
        "nbdcopy",
        "fusermount3",
    ];
    let missing: Vec<_> = tools
        .into_iter()
        .filter(|tool| find(tool).is_none())
        .collect();
    if !missing.is_empty() {
        return Ok(vec![Row::skipped(
            "FUSE and NBD",
            "MB/s",
            format!("not installed: {}", missing.join(", ")),
        )]);
    }
    let dir = folder(args.size)?;
    let bench = Bench {
        args,
        dir: dir.path().to_owned(),
    };
    bench.prepare()?;
    let mut rows = bench.fuse_rows()?;
    rows.extend(bench.nbd_rows()?);
    Ok(rows)
}

/// A folder with room for three disks of `size` MiB: in memory where there is enough of it.
fn folder(size: u64) -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    // Their metadata, sockets and logs are far below a tenth.
    let needed = size * 3 + size / 4;
    let free = |dir: &Path| {
        nix::sys::statvfs::statvfs(dir).map(|fs| (fs.blocks_available() * fs.fragment_size()) >> 20)
    };
    if free(memory).is_ok_and(|free| free >= needed) {
        return Ok(tempfile::tempdir_in(memory)?);
    }
    let other = std::env::temp_dir();
    eprintln!(
        "{} has no {needed} MiB free: the disks go to {}, whose medium will be measured as well",
        memory.display(),
        other.display()
    );
    let free = free(&other).with_context(|| format!("cannot look at {}", other.display()))?;
    if free < needed {
        bail!(
            "{} has {free} MiB free, and {needed} are needed; make --size smaller",
            other.display()
        );
    }
    Ok(tempfile::tempdir_in(other)?)
}

fn main() -> Result<()> {
    let args = Args::parse();
    medley_benches::interrupt::catch()?;
    let rows = match args.only {
        Part::Disk => disk_rows(&args)?,
    };
    Report::new(rows).finish(args.json.as_deref())
}
