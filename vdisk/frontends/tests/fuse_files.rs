//! The files of a mounted directory, used by plain system calls and by other people's programs.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "fuse")]

mod common;
mod mounted;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{Random, patchwork, peer, run};
use mounted::{SIZE, errno, footer, mount, open, text};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use nix::unistd::{Whence, lseek};
use vdisk::memory::MemoryDisk;
use vdisk::{BlockDevice, DeviceInfo, Disk, Extent};
use vdisk_frontends::fuse::{FuseMount, FuseOptions};

/// Opened so that the program itself asks for direct I/O.
fn open_direct(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(path)
        .unwrap()
}

#[test]
fn odd_ranges_match_a_model() {
    let mut model = patchwork(SIZE, 1);
    let Some(mounted) = mount(model.clone(), |_| ()) else {
        return;
    };
    let (raw, vhd) = (mounted.mount.raw(), mounted.mount.vhd());
    let files = [open(&raw), open(&vhd), open_direct(&raw), open_direct(&vhd)];
    let mut random = Random(9);
    for round in 0..600 {
        let file = &files[random.below(4) as usize];
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
    files[0].sync_all().unwrap();
    assert!(fs::read(raw).unwrap() == model);
    model.extend(footer(SIZE as u64));
    assert!(fs::read(vhd).unwrap() == model);
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
fn direct_writes_past_the_end_find_no_room() {
    let Some(mounted) = mount(vec![1; SIZE], |_| ()) else {
        return;
    };
    let raw = open_direct(&mounted.mount.raw());
    let end = SIZE as u64;
    // One request, one with pieces that have no room at all, one that has none from its start.
    for (len, at) in [(8192, end - 4096), (1 << 20, end - 4096), (512, end)] {
        let full = raw.write_at(&vec![4; len], at).unwrap_err();
        assert_eq!(errno(full), Errno::ENOSPC, "{len} bytes at {at}");
    }
    let mut tail = [0; 8192];
    assert_eq!(raw.read_at(&mut tail, end - 4097).unwrap(), 4097);
    assert_eq!(tail[0], 1, "nothing before the range changes");
    assert!(tail[1..4097].iter().all(|b| *b == 4), "what fits is there");
    assert_eq!(raw.metadata().unwrap().len(), end);
}

/// Where each write waits for another one to be there at the same time.
struct Meeting {
    inner: MemoryDisk,
    here: Mutex<u32>,
    met: Condvar,
}

impl BlockDevice for Meeting {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> vdisk::Result<()> {
        self.inner.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> vdisk::Result<()> {
        let mut here = self.here.lock().unwrap();
        *here += 1;
        self.met.notify_all();
        let alone = |here: &mut u32| *here < 2;
        let limit = Duration::from_secs(10);
        drop(self.met.wait_timeout_while(here, limit, alone).unwrap());
        self.inner.write_at(offset, buf)
    }
    fn write_zeroes(&self, offset: u64, len: u64) -> vdisk::Result<()> {
        self.inner.write_zeroes(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) -> vdisk::Result<()> {
        self.inner.discard(offset, len)
    }
    fn flush(&self) -> vdisk::Result<()> {
        self.inner.flush()
    }
    fn extents(&self, offset: u64, len: u64, sink: &mut dyn FnMut(Extent)) -> vdisk::Result<()> {
        self.inner.extents(offset, len, sink)
    }
}

#[test]
fn pieces_of_a_large_direct_write_are_served_together() {
    if !peer("fusermount3") {
        return;
    }
    let disk = Disk::new(Meeting {
        inner: MemoryDisk::with(vec![0; SIZE], false),
        here: Mutex::new(0),
        met: Condvar::new(),
    });
    let dir = tempfile::tempdir().unwrap();
    let options = FuseOptions::new(footer(SIZE as u64));
    let mount = FuseMount::mount(dir.path(), disk, options).unwrap();
    // As such programs have it: pieces end where pages of memory do.
    let memory = patchwork((1 << 20) + 4096, 3);
    let bytes = &memory[memory.as_ptr().align_offset(4096)..][..1 << 20];
    let begin = Instant::now();
    open_direct(&mount.raw()).write_all_at(bytes, 4096).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(9), "one by one");
    assert!(mount.stats().write.requests > 1);
    let mut read = vec![0; 1 << 20];
    open(&mount.raw()).read_exact_at(&mut read, 4096).unwrap();
    assert!(read == bytes);
}

#[test]
fn nothing_is_cached_where_direct_io_is_taken_back() {
    let Some(mounted) = mount(vec![1; SIZE], |_| ()) else {
        return;
    };
    let raw = open_direct(&mounted.mount.raw());
    let set = |flags| fcntl(&raw, FcntlArg::F_SETFL(flags)).unwrap();
    let mut bytes = [0; 4096];
    raw.read_exact_at(&mut bytes, 0).unwrap();
    set(OFlag::empty());
    assert!(raw.read_at(&mut bytes, 0).is_err());
    raw.write_all_at(&[3; 100], 0).unwrap();
    set(OFlag::O_DIRECT);
    raw.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes[99], bytes[100]), (3, 1));
    // The other way round there is nothing to refuse.
    let raw = open(&mounted.mount.raw());
    fcntl(&raw, FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
    raw.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes[99], bytes[100]), (3, 1));
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

/// One file sees what is written to it in either way at once; under its other name, once it is written
/// back, or opened anew.
#[test]
fn mapped_pages_agree_with_reads_and_writes() {
    let Some(mounted) = mount(patchwork(SIZE, 6), |_| ()) else {
        return;
    };
    if !peer("python3") {
        return;
    }
    let script = r"
import mmap, os, sys
def both(a, b, flags):
    f = os.open(a, os.O_RDWR | flags)
    m = mmap.mmap(f, 1 << 20)
    g = os.open(b, os.O_RDWR | flags)
    m[5000:5005] = b'hello'
    assert os.pread(f, 5, 5000) == b'hello', 'a read after a store'
    assert os.pread(g, 5, 5000) == b'hello', 'a read by the other name'
    os.pwrite(f, b'world', 5000)
    assert m[5000:5005] == b'world', 'a load after a write'
    os.pwrite(g, b'other', 5000)
    assert os.pread(f, 5, 5000) == b'other', 'a read after a write by the other name'
    assert m[5000:5005] == b'world', 'a load sees that only after opening anew'
    m.close()
    h = os.open(a, os.O_RDWR | flags)
    m = mmap.mmap(h, 1 << 20)
    assert m[5000:5005] == b'other', 'a load after opening anew'
    m.close()
    for file in f, g, h:
        os.close(file)
for flags in 0, os.O_DIRECT:
    both(sys.argv[1], sys.argv[2], flags)
    both(sys.argv[2], sys.argv[1], flags)
";
    let (raw, vhd) = (mounted.mount.raw(), mounted.mount.vhd());
    run("python3", &["-c", script, text(&raw), text(&vhd)]);
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

/// `dd` takes its `O_DIRECT` back for a last piece that is shorter than the others.
#[test]
fn dd_writes_odd_lengths_with_direct_io() {
    let Some(mounted) = mount(vec![1; SIZE], |_| ()) else {
        return;
    };
    let odd = patchwork((3 << 20) + 12345, 8);
    let whole = [patchwork(SIZE, 9), footer(SIZE as u64).to_vec()].concat();
    let from = mounted.dir.path().join("from");
    for (file, bytes) in [(mounted.mount.raw(), odd), (mounted.mount.vhd(), whole)] {
        fs::write(&from, &bytes).unwrap();
        let (input, output) = (format!("if={}", text(&from)), format!("of={}", text(&file)));
        run(
            "dd",
            &[
                &input,
                &output,
                "bs=1M",
                "oflag=direct",
                "conv=notrunc",
                "status=none",
            ],
        );
        let on_disk = bytes.len().min(SIZE);
        let mut found = vec![0; on_disk];
        mounted.disk.read_at(0, &mut found).unwrap();
        assert!(found == bytes[..on_disk]);
    }
}
