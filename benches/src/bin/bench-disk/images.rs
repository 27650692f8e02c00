//! Encrypted dynamic VHDs on this machine's own file system: growing, opening, reverting.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use medley_benches::rows::{Goal, Row};
use medley_benches::server::{find, run};
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, OpenedImage, random_key};

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
    Ok(vec![
        first_touch(dir.path(), &key)?,
        open_large(dir.path(), &key)?,
        revert(dir.path(), &key)?,
    ])
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

/// Forgetting a session that wrote 256 MiB.
fn revert(dir: &Path, key: &DiskKey) -> Result<Row> {
    const WRITTEN: u64 = 256 << 20;
    let path = dir.join("base.vhd");
    NewImage::create(&path, Format::VhdDynamic, 1 << 30, Some(key))?.finish()?;
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let disk = open(
            &path,
            Mode::Revertible {
                dir: dir.to_owned(),
            },
            key,
        )?
        .disk;
        let buf = vec![0xa5; 1 << 20];
        for at in (0..WRITTEN).step_by(buf.len()) {
            disk.write_at(at, &buf)?;
        }
        let start = Instant::now();
        drop(disk);
        best = best.min(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    let name = "revert a session that wrote 256 MiB";
    Ok(Row::new(name, best.as_secs_f64() * 1e3, "ms").goal(Goal::AtMost(10.0)))
}
