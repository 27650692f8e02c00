//! Encrypted dynamic VHDs on this machine's own file system: growing, opening, reverting.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use medley_benches::rows::{Goal, Row};
use medley_benches::server::{find, run};
use vdisk::Disk;
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, OpenedImage, random_key};
use vdisk::overlay::{self, OverlayOptions};

const BLOCK: u64 = vdisk::vhd::BLOCK_SIZE as u64;
/// First touches between two flushes.
const TOUCHES: u64 = 256;
const ROUNDS: u64 = 4;

/// All figures about images.
pub fn rows() -> Result<Vec<Row>> {
    // Not in memory: what a sync costs is the point of half of these. Nor in a folder for temporary
    // files, which often is memory.
    let dir = tempfile::tempdir_in(".")?;
    let key = DiskKey {
        key: random_key()?,
        header: uuid::Uuid::new_v4(),
    };
    let mut rows = vec![
        first_touch(dir.path(), &key)?,
        open_large(dir.path(), &key)?,
        revert(dir.path(), &key, 256)?,
        revert(dir.path(), &key, 1024)?,
        revert_durable(dir.path(), &key)?,
    ];
    rows.append(&mut overlay_cost(dir.path(), &key)?);
    Ok(rows)
}

fn open(path: &Path, mode: Mode, key: &DiskKey) -> Result<OpenedImage> {
    Ok(OpenImage {
        path,
        format: None,
        mode,
        key: Some(key),
    }
    .open()?)
}

/// 4 KiB writes, each into a block that was never written, a flush after every 256.
fn first_touch(dir: &Path, key: &DiskKey) -> Result<Row> {
    let path = dir.join("touched.vhd");
    NewImage::create(
        &path,
        Format::VhdDynamic,
        TOUCHES * ROUNDS * BLOCK,
        Some(key),
    )?
    .finish()?;
    let disk = open(&path, Mode::Keep, key)?.disk;
    let mut best = Duration::MAX;
    for round in 0..ROUNDS {
        let start = Instant::now();
        for touch in 0..TOUCHES {
            disk.write_at((round * TOUCHES + touch) * BLOCK, &[0x5a; 4096])?;
        }
        disk.flush()?;
        best = best.min(start.elapsed());
    }
    drop(disk);
    std::fs::remove_file(&path)?;
    let name = "first-touch 4 KiB writes into a dynamic VHD, a flush every 256";
    let row =
        Row::new(name, TOUCHES as f64 / best.as_secs_f64(), "writes/s").goal(Goal::AtLeast(5000.0));
    Ok(match qemu_first_touch(dir)? {
        Some(rate) => row.against("QEMU vpc, not encrypted", rate),
        None => row,
    })
}

/// The same by QEMU, less what it takes to start.
fn qemu_first_touch(dir: &Path) -> Result<Option<f64>> {
    if find("qemu-io").is_none() || find("qemu-img").is_none() {
        return Ok(None);
    }
    let path = dir.join("qemu.vhd");
    let size = (TOUCHES * BLOCK).to_string();
    let create = ["create", "-q", "-f", "vpc", "-o", "force_size=on"];
    run(Command::new("qemu-img").args(create).arg(&path).arg(size))?;
    let timed = |commands: &[String]| -> Result<Duration> {
        let mut qemu = Command::new("qemu-io");
        qemu.args(["-f", "vpc", "-t", "writeback"]);
        for command in commands {
            qemu.args(["-c", command]);
        }
        let start = Instant::now();
        run(qemu.arg(&path))?;
        Ok(start.elapsed())
    };
    let start = timed(&["length".into()])?;
    let mut commands: Vec<String> = (0..TOUCHES)
        .map(|touch| format!("write -q -P 90 {} 4096", touch * BLOCK))
        .collect();
    commands.push("flush".into());
    let took = timed(&commands)?.saturating_sub(start);
    std::fs::remove_file(&path)?;
    Ok(Some(TOUCHES as f64 / took.as_secs_f64()))
}

/// From a path to a disk that can be read and written, without the key derivation.
fn open_large(dir: &Path, key: &DiskKey) -> Result<Row> {
    let path = dir.join("large.vhd");
    NewImage::create(&path, Format::VhdDynamic, 127 << 30, Some(key))?.finish()?;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let opened = open(
            &path,
            Mode::Revertible {
                dir: dir.to_owned(),
            },
            key,
        )?;
        opened.disk.read_at(100 << 30, &mut [0; 4096])?;
        best = best.min(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    let name = "open a dynamic VHD of 127 GiB with an overlay";
    Ok(Row::new(name, best.as_secs_f64() * 1e3, "ms").goal(Goal::AtMost(20.0)))
}

/// Forgetting a session that wrote `mib` MiB.
fn revert(dir: &Path, key: &DiskKey, mib: u64) -> Result<Row> {
    let path = dir.join("base.vhd");
    NewImage::create(&path, Format::VhdDynamic, 2 << 30, Some(key))?.finish()?;
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let mode = Mode::Revertible {
            dir: dir.to_owned(),
        };
        let disk = open(&path, mode, key)?.disk;
        fill(&disk, mib << 20)?;
        let start = Instant::now();
        drop(disk);
        best = best.min(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    let name = format!("revert a session that wrote {mib} MiB");
    Ok(Row::new(name, best.as_secs_f64() * 1e3, "ms").goal(Goal::AtMost(10.0)))
}

/// The same for a session that was kept in an overlay of its own.
fn revert_durable(dir: &Path, key: &DiskKey) -> Result<Row> {
    let (path, file) = (dir.join("base.vhd"), dir.join("session.overlay"));
    NewImage::create(&path, Format::VhdDynamic, 2 << 30, Some(key))?.finish()?;
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let mode = Mode::Durable {
            overlay: file.clone(),
            options: OverlayOptions::default(),
        };
        let disk = open(&path, mode, key)?.disk;
        fill(&disk, 256 << 20)?;
        drop(disk);
        let start = Instant::now();
        overlay::revert(&file)?;
        best = best.min(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    let name = "revert a durable overlay of 256 MiB, key destroyed on the medium";
    Ok(Row::new(name, best.as_secs_f64() * 1e3, "ms").goal(Goal::AtMost(10.0)))
}

fn fill(disk: &Disk, bytes: u64) -> Result<()> {
    let buf = vec![0xa5; 1 << 20];
    for at in (0..bytes).step_by(buf.len()) {
        disk.write_at(at, &buf)?;
    }
    Ok(())
}

/// What writing through an overlay costs over writing a raw disk, both encrypted alike and new.
fn overlay_cost(dir: &Path, key: &DiskKey) -> Result<Vec<Row>> {
    const SIZE: u64 = 1 << 30;
    /// Fits in the page cache of a small machine, and takes long enough to be told.
    const WRITTEN: u64 = 128 << 20;
    let path = dir.join("base.raw");
    std::fs::File::create_new(&path)?.set_len(SIZE)?;
    let write = |disk: &Disk, len: u64, random: bool| -> Result<Duration> {
        let buf = vec![0x3c; len as usize];
        let mut state = 1u64;
        let start = Instant::now();
        for n in 0..WRITTEN / len / if random { 4 } else { 1 } {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let at = if random {
                (state >> 20) % (SIZE / len)
            } else {
                n
            };
            disk.write_at(at * len, &buf)?;
        }
        Ok(start.elapsed())
    };
    let mut rows = Vec::new();
    for (name, len, random, most) in [
        ("1 MiB sequential", 1 << 20, false, 1.05),
        ("4 KiB random", 4096, true, 1.15),
    ] {
        let (mut raw, mut over) = (Duration::MAX, Duration::MAX);
        for round in 0..12 {
            // In turn, so that what else the machine does hits both.
            if round % 2 == 0 {
                let fresh = dir.join("fresh.raw");
                std::fs::File::create_new(&fresh)?.set_len(SIZE)?;
                let disk = open(&fresh, Mode::Keep, key)?.disk;
                raw = raw.min(write(&disk, len, random)?);
                std::fs::remove_file(&fresh)?;
            } else {
                let mode = Mode::Revertible {
                    dir: dir.to_owned(),
                };
                let disk = open(&path, mode, key)?.disk;
                over = over.min(write(&disk, len, random)?);
            }
        }
        let cost = over.as_secs_f64() / raw.as_secs_f64();
        let name = format!("{name} writes through an overlay: time over a raw disk's");
        rows.push(Row::new(name, cost, "x").goal(Goal::AtMost(most)));
    }
    std::fs::remove_file(&path)?;
    Ok(rows)
}
