//! Serving reads and writes allocates nothing, however many there are.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(all(feature = "fuse", feature = "nbd", feature = "vhost-user"))]

mod common;
mod nbd_client;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::peer;
use nbd_client::Client;
use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::fuse::{FuseMount, FuseOptions};
use vdisk_frontends::nbd::{NbdOptions, NbdServer};
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise is the one wanted.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one wanted.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of the whole process while `work` runs often enough to warm up and then often again.
fn allocations(mut work: impl FnMut()) -> u64 {
    for _ in 0..200 {
        work();
    }
    let before = ALLOCATIONS.load(SeqCst);
    for _ in 0..1000 {
        work();
    }
    ALLOCATIONS.load(SeqCst) - before
}

/// One test, since the count is the process's.
#[test]
fn requests_do_not_allocate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nbd.sock");
    let disk = Disk::new(MemoryDisk::new(16 << 11));
    let server = NbdServer::bind(&path, disk.clone(), NbdOptions::default()).unwrap();
    let mut socket = Client::connect(&path, true).unwrap().socket;
    let mut request = [0; 28 + 4096];
    request[..4].copy_from_slice(&0x2560_9513u32.to_be_bytes());
    request[24..28].copy_from_slice(&4096u32.to_be_bytes());
    let mut reply = [0; 28 + 4096];
    let nbd = allocations(|| {
        request[7] = 1;
        socket.write_all(&request).unwrap();
        socket.read_exact(&mut reply[..16]).unwrap();
        request[7] = 0;
        socket.write_all(&request[..28]).unwrap();
        socket.read_exact(&mut reply).unwrap();
    });
    server.shutdown().unwrap();
    // A thread more may start when the disk seems slow for a moment.
    assert!(nbd < 100, "NBD: {nbd} allocations for 2000 requests");

    let path = dir.path().join("vhost.sock");
    let server = VhostUserServer::bind(&path, disk.clone(), VhostUserOptions::default()).unwrap();
    let mut client = vdisk_vhost_client::Client::connect(&path, Default::default()).unwrap();
    let queue = &mut client.queues[0];
    let vhost = allocations(|| {
        queue.write(0, 8, 4096);
        queue.read(1, 16, 4096);
        // In short pieces, which go through a buffer.
        let pieces = [queue.whole(2, 512, true), queue.whole(3, 1024, true)];
        queue.submit(2, 0, 24, &pieces);
        queue.flush(4);
        queue.kick().unwrap();
        for _ in 0..4 {
            assert_eq!(queue.wait(Duration::from_secs(20)).unwrap().status, 0);
        }
    });
    server.shutdown().unwrap();
    assert_eq!(vhost, 0, "vhost-user: allocations for 4000 requests");

    if !peer("fusermount3") {
        return;
    }
    let point = dir.path().join("m");
    std::fs::create_dir(&point).unwrap();
    let mount = FuseMount::mount(&point, disk, FuseOptions::new([0; 512])).unwrap();
    let raw = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.raw())
        .unwrap();
    let mut buffer = [7; 4096];
    let fuse = allocations(|| {
        raw.write_all_at(&buffer, 4096).unwrap();
        raw.read_exact_at(&mut buffer, 8192).unwrap();
    });
    assert!(fuse < 100, "FUSE: {fuse} allocations for 2000 requests");
}
