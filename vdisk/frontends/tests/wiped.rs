//! Buffers that held plaintext are wiped before their memory is given back.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(all(feature = "fuse", feature = "nbd"))]

mod common;
mod nbd_client;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use common::peer;
use nbd_client::{Client, READ, WRITE};
use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::fuse::{FuseMount, FuseOptions};
use vdisk_frontends::nbd::{NbdOptions, NbdServer};

/// The plaintext, all of it: rare in memory otherwise.
const SECRET: u8 = 0xa7;

static LOOKING: AtomicBool = AtomicBool::new(false);
static FREED: AtomicU64 = AtomicU64::new(0);
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Looks at everything that is as large as a buffer when it is freed.
struct Looking;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that `dealloc` may read all of it.
        // SAFETY: the caller's promise is the one wanted.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if layout.size() >= 16 << 10 && LOOKING.load(SeqCst) {
            // SAFETY: the block is the caller's until we free it, and was initialised by `alloc`.
            let bytes = unsafe { std::slice::from_raw_parts(ptr, layout.size()) };
            FREED.fetch_add(1, SeqCst);
            if bytes.windows(64).any(|run| run == [SECRET; 64]) {
                LEAKED.fetch_add(1, SeqCst);
            }
        }
        // SAFETY: the caller's promise is the one wanted.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// Large blocks that were freed by `end`, and how many of them held plaintext.
fn freed(end: impl FnOnce()) -> (u64, u64) {
    FREED.store(0, SeqCst);
    LEAKED.store(0, SeqCst);
    LOOKING.store(true, SeqCst);
    end();
    LOOKING.store(false, SeqCst);
    (FREED.load(SeqCst), LEAKED.load(SeqCst))
}

/// One test, since the allocator is the process's.
#[test]
fn buffers_are_wiped() {
    let (freed_one, leaked) = freed(|| drop(vec![SECRET; 16 << 10]));
    assert_eq!((freed_one, leaked), (1, 1), "the test sees a leak");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nbd.sock");
    let disk = Disk::new(MemoryDisk::with(vec![SECRET; 4 << 20], false));
    let server = NbdServer::bind(&path, disk.clone(), NbdOptions::default()).unwrap();
    let mut client = Client::connect(&path, true).unwrap();
    client.call(READ, 0, 0, 1 << 20, &[]).unwrap();
    client.call(WRITE, 0, 0, 8192, &[SECRET; 8192]).unwrap();
    let (buffers, leaked) = freed(|| server.shutdown().unwrap());
    assert!(buffers >= 2, "an inbox and a buffer, not {buffers}");
    assert_eq!(leaked, 0, "of {buffers} buffers of NBD");
    drop(client);

    if !peer("fusermount3") {
        return;
    }
    let point = dir.path().join("m");
    std::fs::create_dir(&point).unwrap();
    let mut options = FuseOptions::new([0; 512]);
    // One thread, whose buffer grows.
    options.threads = 1;
    let mount = FuseMount::mount(&point, disk.clone(), options).unwrap();
    let raw = File::open(mount.raw()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let (buffers, leaked) = freed(|| {
        // Growing gives buffers back too.
        for len in [4096, 100_000, 1 << 20] {
            raw.read_exact_at(&mut buffer[..len], 0).unwrap();
        }
        drop(raw);
        mount.unmount().unwrap();
        drop(mount);
    });
    assert_eq!(buffer[..64], [SECRET; 64]);
    assert!(buffers >= 1);
    assert_eq!(leaked, 0, "of {buffers} buffers of FUSE");
}
