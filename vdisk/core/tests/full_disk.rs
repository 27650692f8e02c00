//! A host without space left: the write that does not fit is refused as such, and nothing else is lost.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vdisk::convert::NewImage;
use vdisk::image::{Format, Mode, OpenImage};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Store};
use vdisk::vhd::{self, Kind};
use vdisk::{Disk, Error, ErrorKind, Result};

/// A store that holds no more than its limit.
struct Limited {
    inner: MemoryStore,
    limit: AtomicU64,
}

impl Store for Limited {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        if offset + buf.len() as u64 > self.limit.load(Ordering::Relaxed) {
            return Err(Error::io(
                "cannot write",
                std::io::ErrorKind::StorageFull.into(),
            ));
        }
        self.inner.write_at(offset, buf)
    }
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.punch(offset, len)
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_host_refuses_new_blocks_and_goes_on_when_there_is_room() {
    let store = Arc::new(Limited {
        inner: MemoryStore::default(),
        limit: AtomicU64::new(u64::MAX),
    });
    vhd::create(&*store, Kind::Dynamic, 64 << 20, None).unwrap();
    let layer = vhd::open(store.clone(), false).unwrap().into_layer();
    let disk = Disk::new(Stack::new(vec![StackedLayer::new(layer, None)], false, "full").unwrap());
    disk.write_at(0, &[1; 4096]).unwrap();
    disk.flush().unwrap();

    store.limit.store(store.len().unwrap(), Ordering::Relaxed);
    let error = disk.write_at(10 << 20, &[2; 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("free some space"), "{error}");
    let mut buf = [9; 4096];
    disk.read_at(10 << 20, &mut buf).unwrap();
    assert_eq!(buf, [0; 4096], "a refused write left something");
    disk.write_at(0, &[3; 4096]).unwrap();
    disk.flush().unwrap();

    store.limit.store(u64::MAX, Ordering::Relaxed);
    disk.write_at(10 << 20, &[2; 4096]).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let layer = vhd::open(store, true).unwrap().into_layer();
    let disk = Disk::new(Stack::new(vec![StackedLayer::new(layer, None)], true, "again").unwrap());
    disk.read_at(0, &mut buf).unwrap();
    assert_eq!(buf, [3; 4096]);
    disk.read_at(10 << 20, &mut buf).unwrap();
    assert_eq!(buf, [2; 4096]);
}

/// A host that is full, or gives no space back, just when a flush wants to write.
#[test]
fn a_flush_that_finds_no_room_is_tried_again() {
    let store = Arc::new(Limited {
        inner: MemoryStore::default(),
        limit: AtomicU64::new(u64::MAX),
    });
    vhd::create(&*store, Kind::Dynamic, 64 << 20, None).unwrap();
    let layer = vhd::open(store.clone(), false).unwrap().into_layer();
    let disk = Disk::new(Stack::new(vec![StackedLayer::new(layer, None)], false, "full").unwrap());
    disk.write_at(0, &[1; 4096]).unwrap();
    store.limit.store(0, Ordering::Relaxed);
    assert_eq!(disk.flush().unwrap_err().kind(), ErrorKind::NoSpace);
    store.limit.store(u64::MAX, Ordering::Relaxed);
    disk.flush().unwrap();
    // What reached the medium without a clean close is what the second flush promised.
    let copy = Arc::new(MemoryStore::new(store.inner.contents()));
    let layer = vhd::open(copy, true).unwrap().into_layer();
    let after = Disk::new(Stack::new(vec![StackedLayer::new(layer, None)], true, "after").unwrap());
    let mut buf = [0; 4096];
    after.read_at(0, &mut buf).unwrap();
    assert_eq!(buf, [1; 4096]);
}

/// A file system of a few MiB, in a mount namespace's worth of privilege; undone when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}M");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "small"])
            .arg(dir.path())
            .status();
        assert!(
            mounted.unwrap().success(),
            "cannot mount a small file system"
        );
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_is_told_and_survived() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root may mount a small file system");
        return;
    }
    let small = Small::new(8);
    let path = small.path().join("disk.vhd");
    NewImage::create(&path, Format::VhdDynamic, 64 << 20, None)
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
        .unwrap()
        .disk
    };
    let disk = open(Mode::Keep);
    let block = vec![7; 2 << 20];
    let mut written = 0;
    let error = loop {
        match disk.write_at(written, &block).and_then(|()| disk.flush()) {
            Ok(()) => written += block.len() as u64,
            Err(e) => break e,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(written >= 4 << 20, "{written}");
    drop(disk);
    let disk = open(Mode::ReadOnly);
    let mut buf = vec![0; written as usize];
    disk.read_at(0, &mut buf).unwrap();
    assert!(buf.iter().all(|b| *b == 7), "flushed bytes are gone");

    // A new image that does not fit leaves nothing behind.
    let source = Disk::new(vdisk::memory::MemoryDisk::with(vec![5; 32 << 20], true));
    let other = small.path().join("other.vhd");
    let copied = NewImage::create(&other, Format::VhdDynamic, 32 << 20, None).and_then(|image| {
        image.fill_from(&source, &|_| std::ops::ControlFlow::Continue(()))?;
        image.finish()
    });
    let error = copied.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("other.vhd"), "{error}");
    assert_eq!(
        std::fs::read_dir(small.path()).unwrap().count(),
        1,
        "something was left behind"
    );
}
