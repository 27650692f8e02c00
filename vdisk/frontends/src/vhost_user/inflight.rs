//! Which requests are in flight, in memory that the client keeps: a server that is killed leaves there
//! what its successor has to do again. The layout is the vhost-user specification's, for split rings.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::compiler_fence;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::memory::Window;
use super::ring::{MAX_SIZE, Ring};

const VERSION: u16 = 1;
const HEADER: usize = 16;
const ENTRY: usize = 16;

/// Bytes that a queue takes, up to the next one's.
fn stride(size: u16) -> usize {
    (HEADER + ENTRY * usize::from(size)).next_multiple_of(64)
}

/// Makes the memory for `queues` queues of `size` entries.
pub fn create(queues: u16, size: u16) -> io::Result<(File, u64)> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"vhost-inflight", flags)?);
    let len = (stride(size) * usize::from(queues)) as u64;
    file.set_len(len)?;
    Ok((file, len))
}

/// The part of one queue.
#[derive(Debug)]
pub struct Inflight {
    shared: Window,
    size: u16,
    counter: u64,
}

// Byte offsets within the header and within an entry.
const H_VERSION: usize = 8;
const H_SIZE: usize = 10;
const H_LAST: usize = 12;
const H_USED: usize = 14;
const E_INFLIGHT: usize = 0;
const E_NEXT: usize = 6;
const E_COUNTER: usize = 8;

fn entry(head: u16) -> usize {
    HEADER + ENTRY * usize::from(head)
}

impl Inflight {
    /// The part of queue `index` in memory that was made for queues of `size` entries.
    pub fn of(shared: &Window, index: usize, size: u16) -> Option<Self> {
        if size == 0 || size > MAX_SIZE {
            return None;
        }
        let stride = stride(size);
        let shared = shared.part(index.checked_mul(stride)?, stride)?;
        shared.aligned(8).then_some(Self {
            shared,
            size,
            counter: 0,
        })
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le(self.shared.u16(at).load(Relaxed))
    }

    fn set_u16(&self, at: usize, value: u16) {
        self.shared.u16(at).store(value.to_le(), Relaxed);
    }

    /// Puts the ring where the last server left it; the heads it did not finish, oldest first.
    pub fn recover(&mut self, ring: &mut Ring) -> Vec<u16> {
        let size = self.size.min(ring.layout().size);
        let used = ring.next_used();
        if self.u16(H_VERSION) != VERSION {
            // New memory: nothing was in flight, and the ring is where the client says.
            self.set_u16(H_SIZE, self.size);
            self.set_u16(H_USED, used);
            self.set_u16(H_VERSION, VERSION);
            return Vec::new();
        }
        // The last chains were given back, but the server died before it could write that down here.
        let mut head = self.u16(H_LAST);
        for _ in 0..used.wrapping_sub(self.u16(H_USED)).min(size) {
            if head >= size {
                break;
            }
            self.shared.u8(entry(head) + E_INFLIGHT).store(0, Relaxed);
            head = self.u16(entry(head) + E_NEXT);
        }
        self.set_u16(H_USED, used);
        let counter =
            |head: u16| u64::from_le(self.shared.u64(entry(head) + E_COUNTER).load(Relaxed));
        let open = |head: &u16| self.shared.u8(entry(*head) + E_INFLIGHT).load(Relaxed) == 1;
        let mut heads: Vec<u16> = (0..size).filter(open).collect();
        heads.sort_by_key(|head| counter(*head));
        self.counter = heads
            .last()
            .map_or(0, |head| counter(*head).wrapping_add(1));
        ring.set_next_available(used.wrapping_add(heads.len() as u16));
        heads
    }

    /// Says that a chain was taken. What the processor stores in order is there in order when we are
    /// killed, so that only the compiler has to be told.
    pub fn begin(&mut self, head: u16) {
        if head >= self.size {
            return;
        }
        self.shared
            .u64(entry(head) + E_COUNTER)
            .store(self.counter.to_le(), Relaxed);
        self.counter = self.counter.wrapping_add(1);
        compiler_fence(SeqCst);
        self.shared.u8(entry(head) + E_INFLIGHT).store(1, Relaxed);
        compiler_fence(SeqCst);
    }

    /// Says that a chain was not taken after all.
    pub fn cancel(&self, head: u16) {
        if head < self.size {
            self.shared.u8(entry(head) + E_INFLIGHT).store(0, Relaxed);
        }
    }

    /// Gives a chain back, so that at no moment it is neither in flight nor used.
    pub fn end(&self, ring: &mut Ring, head: u16, written: u32) {
        if head >= self.size {
            return ring.push(head, written);
        }
        self.set_u16(entry(head) + E_NEXT, self.u16(H_LAST));
        compiler_fence(SeqCst);
        self.set_u16(H_LAST, head);
        compiler_fence(SeqCst);
        ring.push(head, written);
        compiler_fence(SeqCst);
        self.shared.u8(entry(head) + E_INFLIGHT).store(0, Relaxed);
        compiler_fence(SeqCst);
        self.set_u16(H_USED, ring.next_used());
    }
}
