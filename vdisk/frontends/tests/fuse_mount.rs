//! The mounted directory, used by plain system calls and by other people's programs.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "fuse")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{Guard, Random, output, patchwork, peer, run};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use vdisk::memory::MemoryDisk;
use vdisk::{BlockDevice, DeviceInfo, Disk, Extent};
use vdisk_frontends::Error;
use vdisk_frontends::fuse::{FuseMount, FuseOptions, Unmounted};

const SIZE: usize = 16 << 20;

/// A fixed VHD's footer for `size` bytes, made here from the format's description.
fn footer(size: u64) -> [u8; 512] {
    let mut footer = [0; 512];
    footer[..8].copy_from_slice(b"conectix");
    footer[8..12].copy_from_slice(&2u32.to_be_bytes());
    footer[12..16].copy_from_slice(&0x0001_0000u32.to_be_bytes());
    footer[16..24].copy_from_slice(&u64::MAX.to_be_bytes());
    footer[28..32].copy_from_slice(b"vdsk");
    footer[32..36].copy_from_slice(&0x0001_0000u32.to_be_bytes());
    footer[36..40].copy_from_slice(b"Wi2k");
    footer[40..48].copy_from_slice(&size.to_be_bytes());
    footer[48..56].copy_from_slice(&size.to_be_bytes());
    let cylinders = (size / 512 / (4 * 17)) as u16;
    footer[56..58].copy_from_slice(&cylinders.to_be_bytes());
    footer[58] = 4;
    footer[59] = 17;
    footer[60..64].copy_from_slice(&2u32.to_be_bytes());
    footer[68..84].copy_from_slice(&[7; 16]);
    let sum: u32 = footer.iter().map(|b| u32::from(*b)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

struct Mounted {
    mount: FuseMount,
    disk: Disk,
    dir: tempfile::TempDir,
}

/// `None` where FUSE itself is missing and peers may be skipped.
fn mount(bytes: Vec<u8>, change: impl FnOnce(&mut FuseOptions)) -> Option<Mounted> {
    if !peer("fusermount3") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let point = dir.path().join("mount point");
    fs::create_dir(&point).unwrap();
    let mut options = FuseOptions::new(footer(bytes.len() as u64));
    change(&mut options);
    let disk = Disk::new(MemoryDisk::with(bytes, false));
    let mount = FuseMount::mount(&point, disk.clone(), options).unwrap();
    Some(Mounted { mount, disk, dir })
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap())
}

fn mounted_at(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(&path.to_str().unwrap().replace(' ', "\\040"))
}

#[test]
fn odd_ranges_match_a_model() {
    let mut model = patchwork(SIZE, 1);
    let Some(mounted) = mount(model.clone(), |_| ()) else {
        return;
    };
    let (raw, vhd) = (open(&mounted.mount.raw()), open(&mounted.mount.vhd()));
    let mut random = Random(9);
    for round in 0..600 {
        let file = if random.below(2) == 0 { &raw } else { &vhd };
        let biggest = [700, 9000, 3 << 20][random.below(3) as usize];
        let offset = random.below(SIZE as u64);
        let len = random.below(biggest).min(SIZE as u64 - offset) as usize;
        let range = offset as usize..offset as usize + len;
        match random.below(4) {
            0 => {
                let data = random.bytes(len);
                file.write_all_at(&data, offset).unwrap();
                model[range].copy_from_slice(&data);
            }
            1 if len > 0 => {
                let mode = if round % 2 == 0 {
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE
                } else {
                    FallocateFlags::FALLOC_FL_ZERO_RANGE
                };
                fallocate(file, mode, offset as i64, len as i64).unwrap();
                model[range].fill(0);
            }
            _ => {
                let mut read = vec![1; len];
                file.read_exact_at(&mut read, offset).unwrap();
                assert!(read == model[range], "at {offset}, {len} bytes");
            }
        }
    }
    raw.sync_all().unwrap();
    assert!(fs::read(mounted.mount.raw()).unwrap() == model);
    model.extend(footer(SIZE as u64));
    assert!(fs::read(mounted.mount.vhd()).unwrap() == model);
    assert!(mounted.mount.stats().flush.requests >= 1);
}

#[test]
fn the_files_say_what_they_are() {
    let Some(mounted) = mount(vec![1; SIZE], |_| ()) else {
        return;
    };
    let names = fs::read_dir(mounted.mount.path()).unwrap();
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["disk.raw", "disk.vhd", "status.json"]);
    let raw = fs::metadata(mounted.mount.raw()).unwrap();
    assert_eq!(
        (raw.len(), raw.permissions().mode()),
        (SIZE as u64, 0o100_600)
    );
    assert_eq!(raw.blocks(), SIZE as u64 / 512);
    let vhd = fs::metadata(mounted.mount.vhd()).unwrap();
    assert_eq!(vhd.len(), SIZE as u64 + 512);
    let status = mounted.mount.path().join("status.json");
    let read =
        || -> serde_json::Value { serde_json::from_slice(&fs::read(&status).unwrap()).unwrap() };
    let before = read();
    assert_eq!(before["name"], "memory");
    assert_eq!(before["size"], SIZE);
    assert_eq!(before["read_only"], false);
    fs::read(mounted.mount.raw()).unwrap();
    let after = read();
    assert!(after["requests"]["read"]["bytes"].as_u64().unwrap() >= SIZE as u64);
    assert!(after["requests"]["read"]["p99_us"].as_f64().unwrap() > 0.0);
    let stat = nix::sys::statvfs::statvfs(mounted.mount.path()).unwrap();
    assert_eq!(stat.blocks() * stat.fragment_size(), SIZE as u64);
    fs::metadata(mounted.mount.path().join("nothing")).unwrap_err();
}

#[test]
fn what_a_disk_cannot_do_is_refused() {
    let Some(mounted) = mount(vec![1; SIZE], |_| ()) else {
        return;
    };
    let (raw, vhd) = (open(&mounted.mount.raw()), open(&mounted.mount.vhd()));
    raw.set_len(SIZE as u64).unwrap();
    assert_eq!(errno(raw.set_len(0).unwrap_err()), Errno::EPERM);
    assert_eq!(
        errno(raw.set_len(SIZE as u64 + 1).unwrap_err()),
        Errno::EPERM
    );
    assert_eq!(
        errno(raw.write_all_at(&[1; 2], SIZE as u64 - 1).unwrap_err()),
        Errno::ENOSPC
    );
    assert_eq!(
        errno(raw.write_at(&[1; 2], SIZE as u64 + 1).unwrap_err()),
        Errno::ENOSPC
    );
    assert_eq!(raw.read_at(&mut [0; 10], SIZE as u64).unwrap(), 0);
    assert_eq!(raw.read_at(&mut [0; 10], SIZE as u64 - 4).unwrap(), 4);
    // The footer may be written as it is, but not changed.
    vhd.write_all_at(&footer(SIZE as u64), SIZE as u64).unwrap();
    assert_eq!(
        errno(vhd.write_all_at(&[1; 8], SIZE as u64).unwrap_err()),
        Errno::EPERM
    );
    let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE;
    assert_eq!(fallocate(&vhd, zero, SIZE as i64, 512), Err(Errno::EPERM));
    assert_eq!(fallocate(&raw, zero, SIZE as i64, 512), Err(Errno::EFBIG));
    assert_eq!(
        fallocate(&raw, FallocateFlags::empty(), 0, 512),
        Err(Errno::EOPNOTSUPP)
    );
    // Root hears that it cannot be; others that they may not.
    let refused = [Errno::EPERM, Errno::EACCES];
    let path = mounted.mount.path().join("x");
    assert!(refused.contains(&errno(fs::remove_file(mounted.mount.raw()).unwrap_err())));
    assert!(refused.contains(&errno(File::create(path).unwrap_err())));
    assert!(
        OpenOptions::new()
            .write(true)
            .open(mounted.mount.path().join("status.json"))
            .is_err()
    );
    let mut all = vec![0; SIZE];
    mounted.disk.read_at(0, &mut all).unwrap();
    assert!(all.iter().all(|b| *b == 1), "nothing changed");
}

#[test]
fn ranges_that_straddle_the_end_are_cut() {
    let Some(mounted) = mount(vec![1; SIZE], |_| ()) else {
        return;
    };
    let raw = open(&mounted.mount.raw());
    let end = SIZE as u64;
    assert_eq!(raw.write_at(&[2; 3000], end - 1000).unwrap(), 1000);
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for mode in [punch, zero] {
        for past in [0, 512, 1 << 30] {
            assert_eq!(fallocate(&raw, mode, (end + past) as i64, 4096), Ok(()));
        }
    }
    assert_eq!(fallocate(&raw, punch, end as i64 - 10, 4096), Ok(()));
    let mut tail = [0; 1001];
    mounted.disk.read_at(end - 1001, &mut tail).unwrap();
    assert_eq!(tail[0], 1);
    assert!(tail[1..991].iter().all(|b| *b == 2));
    assert_eq!(tail[991..], [0; 10]);
    // The part that fits may be the footer's, which does not change.
    let vhd = open(&mounted.mount.vhd());
    let longer = [&footer(end)[..], &[9; 100]].concat();
    assert_eq!(vhd.write_at(&longer, end).unwrap(), 512);
    assert_eq!(fallocate(&vhd, punch, end as i64 + 512, 4096), Ok(()));
    assert_eq!(
        fallocate(&vhd, punch, end as i64 - 512, 4096),
        Err(Errno::EPERM)
    );
}

#[test]
fn read_only_mounts_refuse_writers() {
    let Some(mounted) = mount(vec![1; SIZE], |options| options.read_only = true) else {
        return;
    };
    let open = OpenOptions::new().write(true).open(mounted.mount.raw());
    assert_eq!(errno(open.unwrap_err()), Errno::EROFS);
    assert_eq!(fs::read(mounted.mount.raw()).unwrap(), vec![1; SIZE]);
}

#[test]
fn holes_are_found_and_kept() {
    let mut bytes = vec![0; SIZE];
    bytes[1 << 20..2 << 20].fill(3);
    bytes[9 << 20..(9 << 20) + 4096].fill(4);
    let Some(mounted) = mount(bytes.clone(), |_| ()) else {
        return;
    };
    let seek = |file: &File, at: i64, whence| lseek(file.as_fd(), at, whence);
    let raw = open(&mounted.mount.raw());
    assert_eq!(seek(&raw, 0, Whence::SeekData), Ok(1 << 20));
    assert_eq!(seek(&raw, 0, Whence::SeekHole), Ok(0));
    assert_eq!(seek(&raw, (1 << 20) + 5, Whence::SeekHole), Ok(2 << 20));
    assert_eq!(seek(&raw, 2 << 20, Whence::SeekData), Ok(9 << 20));
    assert_eq!(seek(&raw, 10 << 20, Whence::SeekData), Err(Errno::ENXIO));
    assert_eq!(seek(&raw, SIZE as i64, Whence::SeekHole), Err(Errno::ENXIO));
    let vhd = open(&mounted.mount.vhd());
    assert_eq!(seek(&vhd, 10 << 20, Whence::SeekData), Ok(SIZE as i64));
    assert_eq!(
        seek(&vhd, SIZE as i64, Whence::SeekHole),
        Ok(SIZE as i64 + 512)
    );
    let meta = raw.metadata().unwrap();
    assert_eq!(meta.blocks(), ((1 << 20) + 4096) / 512);
    let copy = mounted.dir.path().join("copy");
    run(
        "cp",
        &["--sparse=auto", text(&mounted.mount.raw()), text(&copy)],
    );
    assert!(fs::read(&copy).unwrap() == bytes);
    assert!(fs::metadata(&copy).unwrap().blocks() < (4 << 20) / 512);
}

#[test]
fn files_can_be_mapped_into_memory() {
    let Some(mounted) = mount(patchwork(SIZE, 5), |_| ()) else {
        return;
    };
    if !peer("python3") {
        return;
    }
    let script = "import mmap,sys\n\
        f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0)\n\
        m[12345:12350]=b'hello'; m.flush(); m.close()";
    run("python3", &["-c", script, text(&mounted.mount.raw())]);
    let mut hello = [0; 5];
    mounted.disk.read_at(12345, &mut hello).unwrap();
    assert_eq!(&hello, b"hello");
}

#[test]
fn qemu_knows_the_vhd() {
    let Some(mounted) = mount(patchwork(SIZE, 6), |_| ()) else {
        return;
    };
    if !peer("qemu-img") {
        return;
    }
    // QEMU guesses "vpc" only from a header, which fixed disks do not have.
    let vhd = mounted.mount.vhd();
    let info = run(
        "qemu-img",
        &["info", "-f", "vpc", "--output=json", text(&vhd)],
    );
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (&info["format"], &info["virtual-size"]),
        (&"vpc".into(), &SIZE.into())
    );
    let raw = mounted.mount.raw();
    let compare = ["compare", "-f", "raw", "-F", "vpc", text(&raw), text(&vhd)];
    assert!(run("qemu-img", &compare).contains("identical"));
    let commands = [
        "-c",
        "write -P 7 1234k 100k",
        "-c",
        "discard 2M 1M",
        "-c",
        "flush",
    ];
    run(
        "qemu-io",
        &[&["-f", "vpc"], &commands[..], &[text(&vhd)]].concat(),
    );
    run(
        "qemu-io",
        &["-f", "raw", "-c", "read -P 7 1234k 100k", text(&raw)],
    );
}

#[test]
fn fio_verifies() {
    let Some(mounted) = mount(vec![0; SIZE], |_| ()) else {
        return;
    };
    if !peer("fio") {
        return;
    }
    for engine in [
        ["--ioengine=psync", "--direct=1"],
        ["--ioengine=libaio", "--iodepth=16"],
    ] {
        let file = format!("--filename={}", text(&mounted.mount.raw()));
        let common = [
            "--name=verify",
            &file,
            "--rw=randwrite",
            "--bsrange=512-128k",
        ];
        let more = [
            "--verify=crc32c",
            "--do_verify=1",
            "--verify_state_save=0",
            "--size=16m",
            "--blockalign=512",
        ];
        run("fio", &[&common[..], &more[..], &engine[..]].concat());
    }
}

#[test]
fn dd_copies_odd_blocks() {
    let bytes = patchwork(SIZE, 7);
    let Some(mounted) = mount(bytes.clone(), |_| ()) else {
        return;
    };
    let out = mounted.dir.path().join("out");
    let (from, to) = (
        format!("if={}", text(&mounted.mount.raw())),
        format!("of={}", text(&out)),
    );
    run("dd", &[&from, &to, "bs=12345", "status=none"]);
    assert!(fs::read(&out).unwrap() == bytes);
}

#[test]
fn two_mounts_of_one_disk_agree() {
    let Some(first) = mount(vec![0; SIZE], |_| ()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let options = FuseOptions::new(footer(SIZE as u64));
    let second = FuseMount::mount(dir.path(), first.disk.clone(), options).unwrap();
    open(&first.mount.raw()).write_all_at(b"seen", 100).unwrap();
    let mut seen = [0; 4];
    open(&second.raw()).read_exact_at(&mut seen, 100).unwrap();
    assert_eq!(&seen, b"seen");
    assert_eq!(second.unmount().unwrap(), Unmounted::Clean);
    assert!(first.mount.is_mounted());
    assert!(!mounted_at(dir.path()));
}

#[test]
fn bad_mountpoints_are_named() {
    let Some(mounted) = mount(vec![0; 512], |_| ()) else {
        return;
    };
    let try_at = |path: &Path| {
        let disk = Disk::new(MemoryDisk::new(1));
        FuseMount::mount(path, disk, FuseOptions::new([0; 512])).unwrap_err()
    };
    let again = try_at(mounted.mount.path());
    assert!(
        matches!(&again, Error::AlreadyMounted { fs, .. } if fs == "fuse.vdisk"),
        "{again}"
    );
    let full = try_at(mounted.dir.path());
    assert!(matches!(full, Error::Mountpoint { .. }) && full.to_string().contains("not empty"));
    let missing = try_at(&mounted.dir.path().join("missing"));
    assert!(
        missing
            .to_string()
            .ends_with("missing: no such directory; create it first"),
        "{missing}"
    );
    let file = mounted.dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(try_at(&file).to_string().contains("not a directory"));
}

#[test]
fn somebody_else_may_unmount() {
    let Some(mounted) = mount(vec![0; 512], |_| ()) else {
        return;
    };
    run("fusermount3", &["-u", text(mounted.mount.path())]);
    assert!(mounted.mount.wait_for(Duration::from_secs(5)));
    mounted.mount.wait().unwrap();
    // What is mounted there afterwards is not ours.
    let disk = Disk::new(MemoryDisk::new(1));
    let path = mounted.mount.path().to_owned();
    let next = FuseMount::mount(&path, disk, FuseOptions::new([0; 512])).unwrap();
    assert_eq!(mounted.mount.unmount().unwrap(), Unmounted::Clean);
    drop(mounted.mount);
    std::thread::sleep(Duration::from_millis(200));
    assert!(next.is_mounted() && mounted_at(&path));
    drop(next);
    assert!(!mounted_at(&path));
}

#[test]
fn busy_mounts_come_down_and_say_so() {
    let Some(mounted) = mount(vec![1; SIZE], |_| ()) else {
        return;
    };
    let raw = open(&mounted.mount.raw());
    let begin = Instant::now();
    let unmounted = mounted.mount.unmount().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(!mounted_at(mounted.mount.path()));
    // Others than root need the control file system to cut anybody off.
    let control = fs::read_dir("/sys/fs/fuse/connections");
    if nix::unistd::geteuid().is_root() || control.is_ok_and(|mut dir| dir.next().is_some()) {
        assert_eq!(unmounted, Unmounted::CutOff);
        assert!(!mounted.mount.is_mounted());
        assert!(raw.read_at(&mut [0; 10], 0).is_err());
    } else {
        assert_eq!(unmounted, Unmounted::Lingering);
        assert_eq!(raw.read_at(&mut [0; 10], 0).unwrap(), 10);
        drop(raw);
        assert!(mounted.mount.wait_for(Duration::from_secs(5)));
    }
}

/// A disk whose reads wait until they are let go, and whose flushes fail until then.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<bool>, Condvar)>);

struct StuckDisk(DeviceInfo, Stuck);

impl BlockDevice for StuckDisk {
    fn info(&self) -> &DeviceInfo {
        &self.0
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> vdisk::Result<()> {
        let (free, bell) = &*self.1.0;
        drop(bell.wait_while(free.lock().unwrap(), |free| !*free));
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8]) -> vdisk::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _: u64, _: u64) -> vdisk::Result<()> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> vdisk::Result<()> {
        Ok(())
    }
    fn flush(&self) -> vdisk::Result<()> {
        if *self.1.0.0.lock().unwrap() {
            return Ok(());
        }
        Err(vdisk::Error::new(vdisk::ErrorKind::NoSpace, "full"))
    }
    fn extents(&self, _: u64, _: u64, _: &mut dyn FnMut(Extent)) -> vdisk::Result<()> {
        Ok(())
    }
}

#[test]
fn mounts_that_linger_are_flushed() {
    if !peer("fusermount3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let info = DeviceInfo {
        size: 1 << 20,
        read_only: false,
        preferred_io: 512,
        name: "stuck".into(),
    };
    let stuck = Stuck::default();
    let disk = Disk::new(StuckDisk(info, stuck.clone()));
    let mount = FuseMount::mount(dir.path(), disk, FuseOptions::new([0; 512])).unwrap();
    let raw = open(&mount.raw());
    std::thread::scope(|scope| {
        // Cut off or not, the disk does not return, so the service cannot end.
        let reader = scope.spawn(move || raw.read_at(&mut [0; 512], 0));
        std::thread::sleep(Duration::from_millis(200));
        let error = mount.unmount().unwrap_err();
        assert!(matches!(error, Error::Disk(_)), "{error}");
        assert!(mount.is_mounted() && !mounted_at(dir.path()));
        *stuck.0.0.lock().unwrap() = true;
        stuck.0.1.notify_all();
        let _ = reader.join().unwrap();
    });
    assert!(mount.wait_for(Duration::from_secs(5)));
    mount.wait().unwrap();
}

/// Not a test of its own: the process of `sessions_that_fail_are_removed_and_reported`, which may open
/// fewer files than its threads need.
#[test]
#[ignore = "started by another test"]
fn child_short_of_descriptors() {
    let Some(path) = std::env::var_os("VDISK_TEST_MOUNTPOINT").map(PathBuf::from) else {
        return;
    };
    let mut options = FuseOptions::new([0; 512]);
    options.threads = 100;
    let mount = FuseMount::mount(&path, Disk::new(MemoryDisk::new(8)), options).unwrap();
    assert!(mount.wait_for(Duration::from_secs(20)));
    assert!(!mounted_at(&path), "a dead mount stays behind");
    let error = mount.unmount().unwrap_err().to_string();
    assert!(error.contains("FUSE session ended badly"), "{error}");
    mount.wait().unwrap();
}

#[test]
fn sessions_that_fail_are_removed_and_reported() {
    if !peer("fusermount3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _unmount = Unmount(dir.path().into());
    let script = "ulimit -n 40; VDISK_TEST_MOUNTPOINT=$1 exec \"$0\" --exact \
        child_short_of_descriptors --ignored";
    let exe = std::env::current_exe().unwrap();
    let said = run("sh", &["-c", script, text(&exe), text(dir.path())]);
    assert!(said.contains("1 passed"), "{said}");
    assert!(!mounted_at(dir.path()));
}

/// Not a test of its own: the process that `killed_mounters_leave_nothing_behind` kills.
#[test]
#[ignore = "started by another test"]
fn child_that_mounts() {
    let Some(path) = std::env::var_os("VDISK_TEST_MOUNTPOINT") else {
        return;
    };
    let disk = Disk::new(MemoryDisk::new(2048));
    let mount = FuseMount::mount(PathBuf::from(path), disk, FuseOptions::new([0; 512])).unwrap();
    println!("mounted");
    std::io::stdout().flush().unwrap();
    // Not forever, should nobody kill us.
    mount.wait_for(Duration::from_secs(60));
}

/// Unmounts when a test fails half-way.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        if mounted_at(&self.0) {
            output("fusermount3", &["-uz", text(&self.0)]);
        }
    }
}

fn child_at(path: &Path) -> Guard {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_mounts", "--ignored", "--nocapture"])
        .env("VDISK_TEST_MOUNTPOINT", path)
        .stdout(Stdio::piped())
        .spawn()
        .map(Guard)
        .unwrap();
    let mut heard = Vec::new();
    let mut stdout = child.0.stdout.take().unwrap();
    while !heard.ends_with(b"mounted\n") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "child ended early");
        heard.push(byte[0]);
    }
    child
}

#[test]
fn killed_mounters_leave_nothing_behind() {
    if !peer("fusermount3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    fs::create_dir(&path).unwrap();
    let _unmount = Unmount(path.clone());
    let child = child_at(&path);
    assert_eq!(fs::metadata(path.join("disk.raw")).unwrap().len(), 1 << 20);
    drop(child);
    let begin = Instant::now();
    while mounted_at(&path) {
        assert!(begin.elapsed() < Duration::from_secs(10), "still mounted");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn dead_mounts_are_replaced() {
    if !peer("fusermount3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    fs::create_dir(&path).unwrap();
    let _unmount = Unmount(path.clone());
    let mut child = child_at(&path);
    // The watcher, the child's only child, dies first: nobody is left to unmount.
    let pid = child.0.id();
    let mut killed = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        for watcher in children.split_whitespace() {
            run("kill", &["-9", watcher]);
            killed += 1;
        }
    }
    assert_eq!(killed, 1);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert_eq!(errno(fs::metadata(&path).unwrap_err()), Errno::ENOTCONN);
    let disk = Disk::new(MemoryDisk::new(4096));
    let mount = FuseMount::mount(&path, disk, FuseOptions::new([0; 512])).unwrap();
    assert_eq!(fs::metadata(mount.raw()).unwrap().len(), 2 << 20);
    assert_eq!(mount.unmount().unwrap(), Unmounted::Clean);
    assert!(!mounted_at(&path));
}
