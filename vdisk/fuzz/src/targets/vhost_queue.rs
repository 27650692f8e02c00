//! The memory of a guest, as far as a queue of its virtual disk goes: rings, descriptors, requests.

use vdisk::memory::MemoryDisk;
use vdisk::{Disk, SECTOR};
use vdisk_frontends::vhost_user::{Layout, process};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "vhost_queue",
    about: "a guest's memory, with a queue in it: served or called broken, and the disk keeps its size",
    max_len: 1536,
    run,
};

/// Bytes of the guest's memory: the fuzzer's, where requests begin, and room for data.
const MEMORY: usize = 16 << 10;
const SECTORS: u64 = 16;
/// Requests that are served at most.
const LIMIT: u64 = 64;

/// Bits of the first byte.
const EVENT_IDX: u8 = 1;
const FREE_LAYOUT: u8 = 2;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let layout = match flags & FREE_LAYOUT {
        // Descriptors first, then the rings: where a small driver would have them.
        0 => Layout {
            size: 16,
            descriptors: 0,
            available: 256,
            used: 320,
        },
        _ => Layout {
            size: input.u16(),
            descriptors: input.u64(),
            available: input.u64(),
            used: input.u64(),
        },
    };
    let mut memory = vec![0; MEMORY];
    let rest = input.rest();
    memory[..rest.len()].copy_from_slice(rest);
    let disk = Disk::new(MemoryDisk::new(SECTORS));
    if let Ok(done) = process(&disk, &mut memory, layout, flags & EVENT_IDX != 0, LIMIT) {
        assert!(done <= u64::from(u16::MAX));
    }
    let mut all = vec![0; (SECTORS * SECTOR) as usize];
    disk.read_at(0, &mut all).expect("memory does not fail");
}
