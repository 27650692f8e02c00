//! Two hundred random images a run, between us and QEMU and libvhdi, both ways: what one wrote the other
//! reads, byte for byte, also after we compacted or resized it, and after both wrote in turns.
#![allow(clippy::unwrap_used)]

mod chain_support;
mod peers;

use std::ops::ControlFlow;
use std::path::Path;

use chain_support::{contents, first_difference, open};
use peers::{Mounted, arg, have, run};
use vdisk::chain::NewChild;
use vdisk::convert::NewImage;
use vdisk::image::{Format, Mode};
use vdisk::upkeep::{Compact, Resize};
use vdisk::vhd::check::check;
use vdisk::{Disk, SECTOR};
use vdisk_proving::Random;

const THEIRS: u64 = 84;
const OURS: u64 = 84;
const TURNS: u64 = 16;
const MOUNTED: u64 = 20;
const _: () = assert!(THEIRS + OURS + TURNS + MOUNTED >= 200);

/// A folder in memory where there is one: QEMU syncs four times per block.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn format(random: &mut Random) -> Format {
    match random.below(4) {
        0 => Format::VhdFixed,
        _ => Format::VhdDynamic,
    }
}

/// Sectors of a disk of up to 6 MiB, rarely a whole number of blocks.
fn size(random: &mut Random) -> u64 {
    (1 + random.below(12_000)) * SECTOR
}

/// Random ranges in units of so many sectors, and what to fill them with.
fn writes(random: &mut Random, size: u64, unit: u64) -> Vec<(u64, u64, u8)> {
    let units = (size / SECTOR).div_ceil(unit);
    (0..1 + random.below(6))
        .map(|_| {
            let first = random.below(units) * unit;
            let count = (1 + random.below(600 / unit)) * unit;
            let len = count.min(size / SECTOR - first) * SECTOR;
            (first * SECTOR, len, 1 + random.below(255) as u8)
        })
        .collect()
}

fn into(model: &mut [u8], (at, len, byte): (u64, u64, u8)) {
    model[at as usize..][..len as usize].fill(byte);
}

fn write_ours(disk: &Disk, model: &mut [u8], random: &mut Random, unit: u64) {
    for (at, len, byte) in writes(random, model.len() as u64, unit) {
        match random.below(4) {
            0 => {
                disk.write_zeroes(at, len).unwrap();
                into(model, (at, len, 0));
            }
            _ => {
                disk.write_at(at, &vec![byte; len as usize]).unwrap();
                into(model, (at, len, byte));
            }
        }
    }
    disk.flush().unwrap();
}

fn write_theirs(path: &Path, model: &mut [u8], random: &mut Random) {
    let writes = writes(random, model.len() as u64, 1);
    let commands: Vec<String> = writes
        .iter()
        .map(|(at, len, byte)| format!("write -q -P {byte} {at} {len}"))
        .collect();
    let mut args = vec!["-f", "vpc"];
    commands
        .iter()
        .for_each(|command| args.extend(["-c", command]));
    args.push(arg(path));
    run("qemu-io", &args);
    writes.into_iter().for_each(|write| into(model, write));
}

fn ours(path: &Path, format: Format, size: u64) {
    NewImage::create(path, format, size, None)
        .unwrap()
        .finish()
        .unwrap();
}

fn we_read(path: &Path, model: &[u8], context: &str) {
    let now = contents(&open(path, Mode::ReadOnly, &[]));
    assert_eq!(first_difference(&now, model), None, "{context}");
}

fn qemu_reads(path: &Path, model: &[u8]) {
    let raw = path.with_extension("raw");
    std::fs::write(&raw, model).unwrap();
    run(
        "qemu-img",
        &[
            "compare",
            "-q",
            "-f",
            "vpc",
            "-F",
            "raw",
            arg(path),
            arg(&raw),
        ],
    );
    std::fs::remove_file(&raw).unwrap();
}

#[test]
fn we_read_what_qemu_wrote() {
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let dir = folder();
    for n in 0..THEIRS {
        let mut random = Random::new(n);
        let path = dir.path().join(format!("{n}.vhd"));
        let (format, size) = (format(&mut random), size(&mut random));
        let subformat = if format == Format::VhdFixed {
            "fixed"
        } else {
            "dynamic"
        };
        let exact = if random.below(2) == 0 { "on" } else { "off" };
        let options = format!("subformat={subformat},force_size={exact}");
        let size = size.to_string();
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "vpc",
                "-o",
                &options,
                arg(&path),
                &size,
            ],
        );
        let mut model = vec![0; open(&path, Mode::ReadOnly, &[]).size() as usize];
        write_theirs(&path, &mut model, &mut random);
        we_read(&path, &model, &format!("image {n}, {options}"));
        let report = check(&path).unwrap();
        assert!(
            report.is_sound(),
            "image {n}, {options}: {:?}",
            report.findings
        );
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn qemu_reads_what_we_wrote_compacted_or_resized() {
    if !have(&["qemu-img"]) {
        return;
    }
    let dir = folder();
    let on: vdisk::progress::Progress<'_> = &|_| ControlFlow::Continue(());
    for n in 0..OURS {
        let mut random = Random::new(1000 + n);
        let path = dir.path().join(format!("{n}.vhd"));
        let (format, size) = (format(&mut random), size(&mut random));
        ours(&path, format, size);
        let mut model = vec![0; size as usize];
        let live = |model: &mut Vec<u8>, random: &mut Random| {
            write_ours(&open(&path, Mode::Keep, &[]), model, random, 1);
        };
        live(&mut model, &mut random);
        if random.below(2) == 0 {
            let size = self::size(&mut random);
            let resize = Resize {
                path: &path,
                size,
                key: None,
                force: true,
            };
            resize.run(on).unwrap();
            model.resize(size as usize, 0);
            live(&mut model, &mut random);
        }
        if format == Format::VhdDynamic && random.below(2) == 0 {
            Compact {
                path: &path,
                key: None,
            }
            .run(on)
            .unwrap();
        }
        qemu_reads(&path, &model);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn qemu_and_we_write_in_turns() {
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let dir = folder();
    for n in 0..TURNS {
        let mut random = Random::new(2000 + n);
        let path = dir.path().join(format!("{n}.vhd"));
        let (format, size) = (format(&mut random), size(&mut random));
        ours(&path, format, size);
        let mut model = vec![0; size as usize];
        for turn in 0..3 {
            write_ours(&open(&path, Mode::Keep, &[]), &mut model, &mut random, 1);
            write_theirs(&path, &mut model, &mut random);
            we_read(&path, &model, &format!("image {n}, turn {turn}"));
        }
        qemu_reads(&path, &model);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn libvhdi_reads_what_we_wrote_chains_too() {
    if !have(&["vhdimount"]) {
        return;
    }
    let dir = folder();
    for n in 0..MOUNTED {
        let mut random = Random::new(3000 + n);
        let name = |depth: u64| dir.path().join(format!("{n}-{depth}.vhd"));
        // libvhdi takes all sectors of a bitmap's byte after its first set bit for set, so each write is of
        // whole bytes of the bitmap.
        let size = (1 + random.below(3)) << 21;
        let depth = random.below(4);
        ours(&name(0), format(&mut random), size);
        let mut model = vec![0; size as usize];
        write_ours(&open(&name(0), Mode::Keep, &[]), &mut model, &mut random, 8);
        for depth in 1..=depth {
            let child = NewChild {
                path: &name(depth),
                parent: &name(depth - 1),
                key: None,
            };
            child.create().unwrap();
            write_ours(
                &open(&name(depth), Mode::Keep, &[]),
                &mut model,
                &mut random,
                8,
            );
        }
        let mountpoint = dir.path().join(format!("mnt{n}"));
        std::fs::create_dir(&mountpoint).unwrap();
        run("vhdimount", &[arg(&name(depth)), arg(&mountpoint)]);
        let mounted = Mounted(&mountpoint);
        let theirs = std::fs::read(mountpoint.join(format!("vhdi{}", depth + 1))).unwrap();
        drop(mounted);
        assert_eq!(
            first_difference(&theirs, &model),
            None,
            "image {n}, depth {depth}"
        );
    }
}
