//! The NBD server against libnbd's and QEMU's clients.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "nbd")]

mod common;

use std::path::Path;

use common::{output, patchwork, peer, run};
use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::nbd::{NbdOptions, NbdServer};

const SIZE: usize = 24 << 20;

struct Served {
    server: NbdServer,
    disk: Disk,
    dir: tempfile::TempDir,
}

impl Served {
    fn new(bytes: Vec<u8>, options: NbdOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(MemoryDisk::with(bytes, false));
        // A path that has to be quoted in a URI (QEMU 10 does not even take a quoted percent sign).
        let path = dir.path().join("a disk.sock");
        let server = NbdServer::bind(path, disk.clone(), options).unwrap();
        Self { server, disk, dir }
    }

    fn uri(&self) -> String {
        self.server.uri()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.disk.size() as usize];
        self.disk.read_at(0, &mut bytes).unwrap();
        bytes
    }

    fn file(&self, name: &str) -> String {
        text(&self.dir.path().join(name))
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn named(name: &str) -> NbdOptions {
    NbdOptions {
        export_name: name.into(),
        ..NbdOptions::default()
    }
}

#[test]
fn nbdinfo_sees_the_export() {
    if !peer("nbdinfo") {
        return;
    }
    let served = Served::new(patchwork(SIZE, 1), named("office xp"));
    let uri = served.uri();
    assert_eq!(run("nbdinfo", &["--size", &uri]).trim(), SIZE.to_string());
    let info: serde_json::Value = serde_json::from_str(&run("nbdinfo", &["--json", &uri])).unwrap();
    assert_eq!(info["protocol"], "newstyle-fixed");
    assert_eq!(info["structured"], true);
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], SIZE);
    assert_eq!(export["block_size_minimum"], 1);
    assert_eq!(export["block_size_preferred"], 4096);
    assert_eq!(export["block_size_maximum"], 32 << 20);
    for can in [
        "can_df",
        "can_flush",
        "can_fua",
        "can_multi_conn",
        "can_trim",
        "can_zero",
    ] {
        assert_eq!(export[can], true, "{can}");
    }
    for cannot in [
        "is_read_only",
        "can_fast_zero",
        "can_cache",
        "is_rotational",
    ] {
        assert_eq!(export[cannot], false, "{cannot}");
    }
    assert_eq!(export["contexts"][0], "base:allocation");
    let list = run("nbdinfo", &["--list", "--json", &uri]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["exports"][0]["export-name"], "office xp");
    let other = uri.replace("office", "other");
    assert!(!output("nbdinfo", &[&other]).status.success());
}

#[test]
fn nbdinfo_maps_data_and_holes() {
    if !peer("nbdinfo") {
        return;
    }
    let mut bytes = vec![0; 1 << 20];
    bytes[65536..131072].fill(5);
    let served = Served::new(bytes, NbdOptions::default());
    let map = run("nbdinfo", &["--map", "--json", &served.uri()]);
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let runs = map.as_array().unwrap().iter();
    let runs: Vec<_> = runs
        .map(|e| {
            let field = |name: &str| e[name].as_u64().unwrap();
            (field("offset"), field("length"), field("type"))
        })
        .collect();
    assert_eq!(
        runs,
        [(0, 65536, 3), (65536, 65536, 0), (131072, 917504, 3)]
    );
}

#[test]
fn nbdcopy_both_ways() {
    if !peer("nbdcopy") {
        return;
    }
    let bytes = patchwork(SIZE, 2);
    let served = Served::new(bytes.clone(), NbdOptions::default());
    let out = served.file("out.raw");
    run("nbdcopy", &[&served.uri(), &out]);
    assert!(std::fs::read(&out).unwrap() == bytes);
    let target = Served::new(vec![0xaa; SIZE], NbdOptions::default());
    run("nbdcopy", &["--flush", &out, &target.uri()]);
    assert!(target.bytes() == bytes);
    assert!(target.server.stats().flush.requests >= 1);
    let third = Served::new(vec![0x55; SIZE], NbdOptions::default());
    run("nbdcopy", &[&target.uri(), &third.uri()]);
    assert!(third.bytes() == bytes);
}

#[test]
fn qemu_io_reads_writes_discards() {
    if !peer("qemu-io") {
        return;
    }
    let served = Served::new(vec![0; SIZE], NbdOptions::default());
    let commands = [
        "write -P 0x11 0 1M",
        "write -P 0x22 -f 777 4321",
        "read -P 0x22 777 4321",
        "read -P 0x11 0 777",
        "write -z 64k 64k",
        "write -z -u 192k 64k",
        "read -P 0 64k 64k",
        "read -P 0 192k 64k",
        "read -P 0x11 128k 64k",
        "discard 256k 128k",
        "read -P 0 256k 128k",
        "aio_write -P 0x33 2M 2M",
        "aio_write -P 0x44 4M 2M",
        "aio_write -P 0x55 6M 16M",
        "aio_flush",
        "read -P 0x33 2M 2M",
        "read -P 0x44 4M 2M",
        "read -P 0x55 6M 16M",
        "flush",
    ];
    let uri = served.uri();
    let mut args = vec!["-f", "raw"];
    for command in &commands {
        args.extend(["-c", command]);
    }
    args.push(&uri);
    let said = run("qemu-io", &args);
    assert!(!said.contains("failed"), "{said}");
    let bytes = served.bytes();
    assert!(bytes[777..777 + 4321].iter().all(|b| *b == 0x22));
    assert!(bytes[6 << 20..22 << 20].iter().all(|b| *b == 0x55));
}

#[test]
fn qemu_img_converts_and_compares() {
    if !peer("qemu-img") {
        return;
    }
    let bytes = patchwork(SIZE, 3);
    let source = Served::new(bytes.clone(), named("a"));
    let target = Served::new(vec![0xff; SIZE], named("b"));
    let qcow2 = source.file("copy.qcow2");
    let convert = |args: &[&str]| run("qemu-img", &[&["convert"], args].concat());
    convert(&["-f", "raw", "-O", "qcow2", &source.uri(), &qcow2]);
    convert(&["-n", "-f", "qcow2", "-O", "raw", &qcow2, &target.uri()]);
    assert!(target.bytes() == bytes);
    let compare = [
        "compare",
        "-f",
        "raw",
        "-F",
        "raw",
        &source.uri(),
        &target.uri(),
    ];
    assert!(run("qemu-img", &compare).contains("identical"));
}

#[test]
fn read_only_exports_refuse_writers() {
    if !peer("qemu-io") {
        return;
    }
    let options = NbdOptions {
        read_only: true,
        ..NbdOptions::default()
    };
    let served = Served::new(vec![1; 1 << 20], options);
    let uri = served.uri();
    let write = output("qemu-io", &["-f", "raw", "-c", "write 0 512", &uri]);
    assert!(!write.status.success());
    run(
        "qemu-io",
        &["-r", "-f", "raw", "-c", "read -P 1 0 512", &uri],
    );
}
