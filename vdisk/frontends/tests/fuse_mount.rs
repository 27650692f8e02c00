//! Directories that are mounted, unmounted, busy, dead, or not fit for it.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "fuse")]

mod common;
mod mounted;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{Guard, output, peer, run};
use mounted::{SIZE, errno, footer, mount, mounted_at, open, text};
use nix::errno::Errno;
use vdisk::memory::MemoryDisk;
use vdisk::{BlockDevice, DeviceInfo, Disk, Extent};
use vdisk_frontends::Error;
use vdisk_frontends::fuse::{FuseMount, FuseOptions, Unmounted};

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
