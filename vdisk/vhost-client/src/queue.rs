//! One virtqueue, as the driver sees it. Its entries are dealt out to slots, each with room for one
//! request: header, data, status.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::Memory;

/// Descriptor flags.
pub mod flag {
    /// Another descriptor follows.
    pub const NEXT: u16 = 1;
    /// The device writes.
    pub const WRITE: u16 = 2;
    /// A table of descriptors.
    pub const INDIRECT: u16 = 4;
}

/// What a device says of a request.
pub mod status {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed.
    pub const IOERR: u8 = 1;
    /// Unknown.
    pub const UNSUPP: u8 = 2;
    /// Nothing yet: the client's own mark.
    pub const NONE: u8 = 0xaa;
}

/// Bytes of a slot before its data: header, status, and a range of a discard.
const SLOT_HEAD: usize = 64;
const STATUS: usize = 16;
const RANGE: usize = 32;

/// A run of bytes for a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Guest address.
    pub guest: u64,
    /// Length in bytes.
    pub len: u32,
    /// Whether the device writes it.
    pub write: bool,
}

/// A request that the device gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The head descriptor of its chain.
    pub head: u16,
    /// The slot that the head belongs to.
    pub slot: u16,
    /// Bytes that the device says it wrote.
    pub written: u32,
    /// The slot's status byte.
    pub status: u8,
}

/// A queue. Offsets are those of the shared memory.
#[derive(Debug)]
pub struct Queue {
    memory: Memory,
    size: u16,
    depth: u16,
    slot_bytes: usize,
    pub(crate) descriptors: usize,
    pub(crate) available: usize,
    pub(crate) used: usize,
    slots: usize,
    next_available: u16,
    kicked: u16,
    next_used: u16,
    pub(crate) event_idx: bool,
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
    called: Epoll,
}

impl Queue {
    /// Bytes that a queue needs.
    pub(crate) fn footprint(size: u16, depth: u16, slot_bytes: usize) -> usize {
        let rings = usize::from(size) * (16 + 2 + 8) + 4096;
        rings.next_multiple_of(4096)
            + usize::from(depth) * (SLOT_HEAD + slot_bytes.next_multiple_of(4096))
            + 2 * 4096
    }

    pub(crate) fn new(
        memory: Memory,
        start: usize,
        size: u16,
        depth: u16,
        slot_bytes: usize,
    ) -> io::Result<Self> {
        let entries = usize::from(size);
        let available = start + entries * 16;
        let used = (available + 6 + 2 * entries).next_multiple_of(64);
        let (call, called) = (EventFd::new(EFD_NONBLOCK)?, Epoll::new()?);
        let heard = EpollEvent::new(EventSet::IN, 0);
        called.ctl(ControlOperation::Add, call.as_raw_fd(), heard)?;
        let heads = (used + 6 + 8 * entries).next_multiple_of(64);
        Ok(Self {
            memory,
            size,
            depth,
            slot_bytes: slot_bytes.next_multiple_of(4096),
            descriptors: start,
            available,
            used,
            slots: heads,
            next_available: 0,
            kicked: 0,
            next_used: 0,
            event_idx: false,
            kick: EventFd::new(EFD_NONBLOCK)?,
            call,
            called,
        })
    }

    /// Slots, each for one request at a time.
    pub fn depth(&self) -> u16 {
        self.depth
    }

    /// Entries of the ring.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Offset of a slot's data.
    pub fn data(&self, slot: u16) -> usize {
        let data = self.slots + usize::from(self.depth) * SLOT_HEAD;
        data.next_multiple_of(4096) + usize::from(slot) * self.slot_bytes
    }

    fn head(&self, slot: u16) -> usize {
        self.slots + usize::from(slot) * SLOT_HEAD
    }

    /// The memory that it lies in.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Number of the used entry that the server comes to next.
    pub(crate) fn used_index(&self) -> u16 {
        self.memory.load_u16(self.used + 2)
    }

    /// Requests that were offered and did not come back.
    pub fn in_flight(&self) -> u16 {
        self.next_available.wrapping_sub(self.next_used)
    }

    /// Writes a descriptor, whatever it says.
    pub fn descriptor(&self, index: u16, guest: u64, len: u32, flags: u16, next: u16) {
        self.table_entry(self.descriptors, index, guest, len, flags, next);
    }

    /// Writes a descriptor into a table at offset `table`.
    pub fn table_entry(
        &self,
        table: usize,
        index: u16,
        guest: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&guest.to_le_bytes());
        raw[8..12].copy_from_slice(&len.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        self.memory.write(table + usize::from(index) * 16, &raw);
    }

    /// Makes the chain that begins at `head` available, whatever it is. Kicks are apart.
    pub fn offer(&mut self, head: u16) {
        let place = self.available + 4 + 2 * usize::from(self.next_available % self.size);
        self.memory.store_u16(place, head);
        self.next_available = self.next_available.wrapping_add(1);
        self.memory
            .store_u16(self.available + 2, self.next_available);
    }

    /// Sets the index of the available ring to anything.
    pub fn set_available_index(&self, index: u16) {
        self.memory.store_u16(self.available + 2, index);
    }

    /// Kicks the server if it wants that for what was offered.
    pub fn kick(&mut self) -> io::Result<()> {
        fence(SeqCst);
        let (old, new) = (self.kicked, self.next_available);
        self.kicked = new;
        let wanted = if self.event_idx {
            let event = self
                .memory
                .load_u16(self.used + 4 + 8 * usize::from(self.size));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.memory.load_u16(self.used) & 1 == 0
        };
        if wanted { self.kick.write(1) } else { Ok(()) }
    }

    /// Kicks, wanted or not.
    pub fn kick_anyway(&self) -> io::Result<()> {
        self.kick.write(1)
    }

    /// Offers a request of type `kind`: header, `data`, status, one descriptor each. The slot's share of
    /// the descriptor table has to be large enough.
    pub fn submit(&mut self, slot: u16, kind: u32, sector: u64, data: &[Segment]) {
        let share = self.size / self.depth;
        assert!(data.len() + 2 <= usize::from(share), "too many segments");
        let first = slot * share;
        let at = self.head(slot);
        let guest = |at: usize| Memory::GUEST + at as u64;
        let mut header = [0; 17];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..16].copy_from_slice(&sector.to_le_bytes());
        header[STATUS] = status::NONE;
        self.memory.write(at, &header);
        let mut index = first;
        self.descriptor(index, guest(at), 16, flag::NEXT, index + 1);
        for segment in data {
            index += 1;
            let write = if segment.write { flag::WRITE } else { 0 };
            self.descriptor(
                index,
                segment.guest,
                segment.len,
                flag::NEXT | write,
                index + 1,
            );
        }
        self.descriptor(index + 1, guest(at + STATUS), 1, flag::WRITE, 0);
        self.offer(first);
    }

    /// The first `len` bytes of a slot's data, for the device to write or read.
    pub fn whole(&self, slot: u16, len: u32, write: bool) -> Segment {
        Segment {
            guest: Memory::GUEST + self.data(slot) as u64,
            len,
            write,
        }
    }

    /// Offers a read into the slot's data.
    pub fn read(&mut self, slot: u16, sector: u64, len: u32) {
        let data = [self.whole(slot, len, true)];
        self.submit(slot, 0, sector, &data);
    }

    /// Offers a write of the slot's data.
    pub fn write(&mut self, slot: u16, sector: u64, len: u32) {
        let data = [self.whole(slot, len, false)];
        self.submit(slot, 1, sector, &data);
    }

    /// Offers a flush.
    pub fn flush(&mut self, slot: u16) {
        self.submit(slot, 4, 0, &[]);
    }

    /// Offers a discard (type 11) or a write of zeros (13) of one range.
    pub fn range(&mut self, slot: u16, kind: u32, sector: u64, sectors: u32, flags: u32) {
        let at = self.head(slot) + RANGE;
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&sector.to_le_bytes());
        raw[8..12].copy_from_slice(&sectors.to_le_bytes());
        raw[12..].copy_from_slice(&flags.to_le_bytes());
        self.memory.write(at, &raw);
        let data = [Segment {
            guest: Memory::GUEST + at as u64,
            len: 16,
            write: false,
        }];
        self.submit(slot, kind, 0, &data);
    }

    /// Takes a request that came back, if there is one.
    pub fn poll(&mut self) -> Option<Done> {
        if self.used_index() == self.next_used {
            return None;
        }
        let mut raw = [0; 8];
        let entry = self.used + 4 + 8 * usize::from(self.next_used % self.size);
        self.memory.read(entry, &mut raw);
        self.next_used = self.next_used.wrapping_add(1);
        let [h0, h1, _, _, written @ ..] = raw;
        let head = u16::from_le_bytes([h0, h1]);
        let slot = head / (self.size / self.depth);
        let mut said = [0];
        if slot < self.depth {
            self.memory.read(self.head(slot) + STATUS, &mut said);
        }
        Some(Done {
            head,
            slot,
            written: u32::from_le_bytes(written),
            status: said[0],
        })
    }

    /// Sleeps until the server calls, without a look at the used ring; whether it did. Forgets the call.
    pub fn called(&self, limit: Duration) -> io::Result<bool> {
        let millis = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        self.called.wait(millis, &mut [EpollEvent::default()])?;
        Ok(self.call.read().is_ok())
    }

    /// Waits for a request to come back.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Done> {
        let end = Instant::now() + limit;
        loop {
            if let Some(done) = self.poll() {
                return Ok(done);
            }
            if self.event_idx {
                let place = self.available + 4 + 2 * usize::from(self.size);
                self.memory.store_u16(place, self.next_used);
                fence(SeqCst);
                if let Some(done) = self.poll() {
                    return Ok(done);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            self.called.wait(millis, &mut [EpollEvent::default()])?;
            let _ = self.call.read();
        }
    }
}
