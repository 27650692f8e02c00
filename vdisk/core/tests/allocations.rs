//! The hot path allocates nothing: reads and writes through an encrypted overlay above an encrypted
//! dynamic VHD, on real files, counted by the allocator itself.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use uuid::Uuid;
use vdisk::Disk;
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, random_key};
use vdisk::overlay::OverlayOptions;

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

const SIZE: u64 = 64 << 20;

fn open(path: &Path, mode: Mode, key: &DiskKey) -> Disk {
    OpenImage {
        path,
        format: None,
        mode,
        key: Some(key),
    }
    .open()
    .unwrap()
    .disk
}

/// Small and large reads and writes all over the disk, odd ranges among them.
fn requests(disk: &Disk, buf: &mut [u8]) {
    let mut state = 1u64;
    for round in 0..2000 {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let len = [512, 4096, 65536, 1 << 20, 777][round % 5];
        let at = (state >> 20) % (SIZE - len as u64);
        let at = if len == 777 { at } else { at / 512 * 512 };
        match round % 3 {
            0 => disk.write_at(at, &buf[..len]).unwrap(),
            _ => disk.read_at(at, &mut buf[..len]).unwrap(),
        }
    }
}

/// One test, since the count is the process's.
#[test]
fn requests_through_a_whole_stack_do_not_allocate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.vhd");
    let key = DiskKey {
        key: random_key().unwrap(),
        header: Uuid::new_v4(),
    };
    NewImage::create(&path, Format::VhdDynamic, SIZE, Some(&key))
        .unwrap()
        .finish()
        .unwrap();
    let modes = [
        Mode::Keep,
        Mode::Revertible {
            dir: dir.path().to_owned(),
        },
        Mode::Durable {
            overlay: dir.path().join("session.overlay"),
            options: OverlayOptions::default(),
        },
    ];
    let mut buf = vec![7; 1 << 20];
    for mode in modes {
        let disk = open(&path, mode.clone(), &key);
        // The first touch of a block or of 64 MiB of an overlay makes room for its metadata, once.
        for at in (0..SIZE).step_by(buf.len()) {
            disk.write_at(at, &buf).unwrap();
        }
        disk.flush().unwrap();
        requests(&disk, &mut buf);
        let before = ALLOCATIONS.load(SeqCst);
        requests(&disk, &mut buf);
        let allocations = ALLOCATIONS.load(SeqCst) - before;
        assert_eq!(allocations, 0, "in 2000 requests, {mode:?}");
    }
}
