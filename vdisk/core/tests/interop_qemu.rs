//! The same disks through QEMU and through us, both ways.
#![allow(clippy::unwrap_used)]

mod peers;

use std::path::Path;

use peers::{arg, have, run};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, probe};
use vdisk::keys::KeyFile;
use vdisk::luks::{Kdf, Luks1};
use vdisk::{Disk, SECTOR};

const SIZE: u64 = 9 << 20;
const KDF: Kdf = Kdf::Argon2id {
    time: 1,
    memory_kib: 64,
    lanes: 1,
};

fn open(path: &Path, mode: Mode, key: Option<&DiskKey>) -> Disk {
    let opened = OpenImage {
        path,
        format: None,
        mode,
        key,
    }
    .open()
    .unwrap();
    assert!(opened.troubles.is_empty(), "{:?}", opened.troubles);
    opened.disk
}

fn contents(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.size() as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

fn by_qemu(path: &Path, format: &str, dir: &Path) -> Vec<u8> {
    let raw = dir.join("by-qemu.raw");
    run(
        "qemu-img",
        &["convert", "-f", format, "-O", "raw", arg(path), arg(&raw)],
    );
    let bytes = std::fs::read(&raw).unwrap();
    std::fs::remove_file(&raw).unwrap();
    bytes
}

fn equal(ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len());
    let differs = ours.iter().zip(theirs).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first differing byte");
}

/// Writes as `(offset, length, byte)` in whole sectors.
fn writes() -> impl Strategy<Value = Vec<(u64, u64, u8)>> {
    prop::collection::vec(
        (0..SIZE / SECTOR, 1..600u64, 1u8..).prop_map(|(first, count, byte)| {
            (
                first * SECTOR,
                count.min(SIZE / SECTOR - first) * SECTOR,
                byte,
            )
        }),
        1..12,
    )
}

#[test]
fn we_read_what_qemu_writes() {
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let mut runner = TestRunner::new(Config::with_cases(12));
    runner
        .run(
            &(writes(), any::<bool>(), any::<bool>()),
            |(writes, fixed, exact)| {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("theirs.vhd");
                let subformat = if fixed { "fixed" } else { "dynamic" };
                let options = format!(
                    "subformat={subformat},force_size={}",
                    if exact { "on" } else { "off" }
                );
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
                        &SIZE.to_string(),
                    ],
                );
                let commands: Vec<String> = writes
                    .iter()
                    .map(|(at, len, byte)| format!("write -P {byte} {at} {len}"))
                    .collect();
                let mut args = vec!["-f", "vpc"];
                for command in &commands {
                    args.extend(["-c", command]);
                }
                args.push(arg(&path));
                run("qemu-io", &args);

                let disk = open(&path, Mode::ReadOnly, None);
                if exact {
                    prop_assert_eq!(disk.size(), SIZE);
                }
                equal(&contents(&disk), &by_qemu(&path, "vpc", dir.path()));
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn qemu_reads_what_we_write() {
    if !have(&["qemu-img"]) {
        return;
    }
    let mut runner = TestRunner::new(Config::with_cases(12));
    runner
        .run(&(writes(), any::<bool>()), |(writes, fixed)| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ours.vhd");
            let format = if fixed {
                Format::VhdFixed
            } else {
                Format::VhdDynamic
            };
            NewImage::create(&path, format, SIZE, None)
                .unwrap()
                .finish()
                .unwrap();
            let disk = open(&path, Mode::Keep, None);
            for (at, len, byte) in writes {
                disk.write_at(at, &vec![byte; len as usize]).unwrap();
                disk.write_zeroes(at, len / 2).unwrap();
            }
            disk.flush().unwrap();
            equal(&contents(&disk), &by_qemu(&path, "vpc", dir.path()));
            Ok(())
        })
        .unwrap();
}

#[test]
fn we_go_on_where_qemu_stopped_and_the_other_way_round() {
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.vhd");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "vpc",
            "-o",
            "force_size=on",
            arg(&path),
            &SIZE.to_string(),
        ],
    );
    let mut model = vec![0u8; SIZE as usize];
    for turn in 0..6u64 {
        let (at, len, byte) = (
            turn * (SIZE / 6) / SECTOR * SECTOR,
            300 * SECTOR,
            turn as u8 + 1,
        );
        if turn % 2 == 0 {
            open(&path, Mode::Keep, None)
                .write_at(at, &vec![byte; len as usize])
                .unwrap();
        } else {
            run(
                "qemu-io",
                &[
                    "-f",
                    "vpc",
                    "-c",
                    &format!("write -P {byte} {at} {len}"),
                    arg(&path),
                ],
            );
        }
        model[at as usize..][..len as usize].fill(byte);
        equal(&model, &by_qemu(&path, "vpc", dir.path()));
        equal(&model, &contents(&open(&path, Mode::ReadOnly, None)));
    }
}

#[test]
fn what_we_find_out_is_what_qemu_says() {
    if !have(&["qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (format, name) in [
        (Format::VhdDynamic, "dynamic.vhd"),
        (Format::VhdFixed, "fixed.vhd"),
    ] {
        let path = dir.path().join(name);
        NewImage::create(&path, format, SIZE, None)
            .unwrap()
            .finish()
            .unwrap();
        let info = run("qemu-img", &["info", "-f", "vpc", arg(&path)]);
        assert!(info.contains(&format!("({SIZE} bytes)")), "{info}");
        let found = probe(&path).unwrap();
        assert_eq!((found.format, found.size), (format, SIZE));
    }
}

#[test]
fn qemu_reads_and_writes_our_ciphertext_through_the_luks1_twin() {
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let (disk_path, header, twin, secret) = (
        file("disk.vhd"),
        file("disk.vhd.luks"),
        file("twin.luks1"),
        file("secret"),
    );
    let (key_file, key) = KeyFile::create(&header, "test", b"secret", KDF).unwrap();
    let image = NewImage::create(&disk_path, Format::VhdDynamic, SIZE, Some(&key))
        .unwrap()
        .dense();
    let mut plain = vec![0u8; SIZE as usize];
    for (i, byte) in plain[..5 << 20].iter_mut().enumerate() {
        *byte = (i / 512) as u8 ^ (i % 509) as u8;
    }
    image
        .fill_from(
            &Disk::new(vdisk::memory::MemoryDisk::with(plain.clone(), true)),
            &|_| std::ops::ControlFlow::Continue(()),
        )
        .unwrap();
    image.finish().unwrap();
    let volume_key = key_file.volume_key(b"secret").unwrap();
    std::fs::write(&twin, Luks1::export(&volume_key, b"secret", 1000).unwrap()).unwrap();
    std::fs::write(&secret, b"secret").unwrap();

    let object = format!("secret,id=s,file={}", arg(&secret));
    let options = format!(
        "driver=luks,key-secret=s,header.driver=file,header.filename={},file.driver=vpc,file.file.driver=file,file.file.filename={}",
        arg(&twin),
        arg(&disk_path)
    );
    let io = |command: &str| {
        run(
            "qemu-io",
            &["--object", &object, "--image-opts", "-c", command, &options],
        );
    };
    let raw = file("theirs.raw");
    let read_by_qemu = || {
        run(
            "qemu-img",
            &[
                "convert",
                "--object",
                &object,
                "--image-opts",
                "-O",
                "raw",
                &options,
                arg(&raw),
            ],
        );
        std::fs::read(&raw).unwrap()
    };
    equal(&plain, &read_by_qemu());

    io("write -P 0xa5 1M 64k");
    io("write -P 0x5a 8M 4k");
    plain[1 << 20..][..64 << 10].fill(0xa5);
    plain[8 << 20..][..4 << 10].fill(0x5a);
    equal(
        &plain,
        &contents(&open(&disk_path, Mode::ReadOnly, Some(&key))),
    );

    // Part of a block zeroed by us stays zero for both, whoever writes beside it.
    open(&disk_path, Mode::Keep, Some(&key))
        .write_zeroes(4 << 20, 64 << 10)
        .unwrap();
    plain[4 << 20..][..64 << 10].fill(0);
    io("write -P 0x33 5M 4k");
    plain[5 << 20..][..4 << 10].fill(0x33);
    equal(&plain, &read_by_qemu());
    equal(
        &plain,
        &contents(&open(&disk_path, Mode::ReadOnly, Some(&key))),
    );

    let disk = open(&disk_path, Mode::Keep, Some(&key));
    disk.write_at(3 << 20, &[0x77; 8192]).unwrap();
    drop(disk);
    io("read -P 0x77 3M 8k");
}

#[test]
fn refused_keys_and_missing_keys_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.vhd");
    let (_, key) = KeyFile::create(&dir.path().join("a.luks"), "a", b"x", KDF).unwrap();
    let (_, other) = KeyFile::create(&dir.path().join("b.luks"), "b", b"x", KDF).unwrap();
    NewImage::create(&path, Format::VhdDynamic, SIZE, Some(&key))
        .unwrap()
        .finish()
        .unwrap();
    let error = |key: Option<&DiskKey>| {
        let opened = OpenImage {
            path: &path,
            format: None,
            mode: Mode::ReadOnly,
            key,
        }
        .open();
        opened.err().unwrap().to_string()
    };
    assert!(error(None).contains("encrypted"), "{}", error(None));
    let plain = dir.path().join("plain.vhd");
    NewImage::create(&plain, Format::VhdDynamic, SIZE, None)
        .unwrap()
        .finish()
        .unwrap();
    let opened = OpenImage {
        path: &plain,
        format: None,
        mode: Mode::Keep,
        key: Some(&key),
    }
    .open();
    assert_eq!(
        opened.err().map(|e| e.kind()),
        Some(vdisk::ErrorKind::Key),
        "a plain disk took a key"
    );
    assert!(
        error(Some(&other)).contains("not"),
        "{}",
        error(Some(&other))
    );
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.vhd");
    NewImage::create(&path, Format::VhdDynamic, SIZE, None)
        .unwrap()
        .finish()
        .unwrap();
    let open = |mode| {
        OpenImage {
            path: &path,
            format: None,
            mode,
            key: None,
        }
        .open()
    };
    let busy = |mode| open(mode).err().map(|e| e.kind()) == Some(vdisk::ErrorKind::Busy);
    let session = Mode::Revertible {
        dir: dir.path().to_owned(),
    };
    let reader = open(Mode::ReadOnly).unwrap();
    assert!(open(session.clone()).is_ok(), "sessions share a base");
    assert!(busy(Mode::Keep));
    drop(reader);
    let writer = open(Mode::Keep).unwrap();
    assert!(busy(Mode::Keep) && busy(Mode::ReadOnly) && busy(session));
    drop(writer);
}
