//! The split virtqueue, as the device sees it: heads of descriptor chains come out of one ring and go
//! back through another, both in guest memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::memory::{Memory, Window};

/// Entries that a queue may have.
pub const MAX_SIZE: u16 = 1024;

const NO_NOTIFY: u16 = 1;
const NO_INTERRUPT: u16 = 1;

/// Size of a queue, and the guest addresses of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries: a power of two, at most 1024.
    pub size: u16,
    /// The table of descriptors, 16 bytes each.
    pub descriptors: u64,
    /// The ring in which the driver offers chains.
    pub available: u64,
    /// The ring in which the device gives them back.
    pub used: u64,
}

impl Layout {
    fn available_len(&self) -> usize {
        6 + 2 * usize::from(self.size)
    }

    /// Bytes of the used ring.
    pub fn used_len(&self) -> usize {
        6 + 8 * usize::from(self.size)
    }
}

/// What is wrong with a queue that cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// A virtqueue.
#[derive(Debug)]
pub struct Ring {
    layout: Layout,
    available: Window,
    used: Window,
    event_idx: bool,
    next_available: u16,
    next_used: u16,
    /// `next_used` when it was last decided whether to interrupt the driver.
    judged: u16,
}

impl Ring {
    /// A queue that goes on with the available entry number `next_available`, and where the used ring
    /// says that it is.
    pub fn new(
        memory: &Arc<Memory>,
        layout: Layout,
        event_idx: bool,
        next_available: u16,
    ) -> Result<Self, Broken> {
        if !layout.size.is_power_of_two() || layout.size > MAX_SIZE {
            return Err(Broken("the size of a queue is no power of two up to 1024"));
        }
        let table = u64::from(layout.size) * 16;
        let window = |at, len| {
            memory
                .window(at, len)
                .ok_or(Broken("a ring is not in memory"))
        };
        let available = window(layout.available, layout.available_len())?;
        let used = window(layout.used, layout.used_len())?;
        if !memory.holds(layout.descriptors, table) {
            return Err(Broken("a descriptor table is not in memory"));
        }
        if !available.aligned(2) || !used.aligned(4) {
            return Err(Broken("a ring is not aligned"));
        }
        let next_used = u16::from_le(used.u16(2).load(Relaxed));
        Ok(Self {
            layout,
            available,
            used,
            event_idx,
            next_available,
            next_used,
            judged: next_used,
        })
    }

    /// Where its parts lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of the available entry that comes next.
    pub fn next_available(&self) -> u16 {
        self.next_available
    }

    /// Goes on from another available entry.
    pub fn set_next_available(&mut self, next: u16) {
        self.next_available = next;
    }

    /// Number of the used entry that comes next.
    pub fn next_used(&self) -> u16 {
        self.next_used
    }

    fn pending(&self) -> u16 {
        let index = u16::from_le(self.available.u16(2).load(Acquire));
        index.wrapping_sub(self.next_available)
    }

    /// Takes the head of the next chain.
    pub fn pop(&mut self) -> Result<Option<u16>, Broken> {
        match self.pending() {
            0 => return Ok(None),
            n if n > self.layout.size => {
                return Err(Broken("more is available than the queue can hold"));
            }
            _ => {}
        }
        let slot = usize::from(self.next_available % self.layout.size);
        let head = u16::from_le(self.available.u16(4 + 2 * slot).load(Relaxed));
        if head >= self.layout.size {
            return Err(Broken("a chain begins outside the descriptor table"));
        }
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(head))
    }

    /// Leaves the chain that was taken last to be taken again.
    pub fn unpop(&mut self) {
        self.next_available = self.next_available.wrapping_sub(1);
    }

    /// Gives a chain back, `written` bytes of which the device wrote.
    pub fn push(&mut self, head: u16, written: u32) {
        let entry = 4 + 8 * usize::from(self.next_used % self.layout.size);
        self.used.u32(entry).store(u32::from(head).to_le(), Relaxed);
        self.used.u32(entry + 4).store(written.to_le(), Relaxed);
        self.next_used = self.next_used.wrapping_add(1);
        self.used.u16(2).store(self.next_used.to_le(), Release);
    }

    /// Asks the driver not to kick: we look by ourselves.
    pub fn be_busy(&self) {
        // With event indices the driver kicks once and then waits to be asked again.
        if !self.event_idx {
            self.used.u16(0).store(NO_NOTIFY.to_le(), Relaxed);
        }
    }

    /// Asks the driver to kick. Returns whether there is something to do already, which no kick may tell.
    pub fn be_idle(&self) -> bool {
        if self.event_idx {
            let place = 4 + 8 * usize::from(self.layout.size);
            self.used
                .u16(place)
                .store(self.next_available.to_le(), Relaxed);
        } else {
            self.used.u16(0).store(0, Relaxed);
        }
        // The driver writes its index and then reads our wish; we the other way round.
        fence(SeqCst);
        self.pending() != 0
    }

    /// Whether the driver wants to be interrupted for what was given back since this was last asked.
    pub fn interrupt_wanted(&mut self) -> bool {
        let (old, new) = (self.judged, self.next_used);
        self.judged = new;
        if old == new {
            return false;
        }
        fence(SeqCst);
        if self.event_idx {
            let place = 4 + 2 * usize::from(self.layout.size);
            let event = u16::from_le(self.available.u16(place).load(Relaxed));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            u16::from_le(self.available.u16(0).load(Relaxed)) & NO_INTERRUPT == 0
        }
    }
}
