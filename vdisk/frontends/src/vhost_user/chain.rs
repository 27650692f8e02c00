//! A chain of descriptors becomes two lists: what the device may read, and what it may write.

use super::memory::Memory;
use super::ring::Layout;

/// Descriptors in an indirect table.
const MAX_INDIRECT: usize = 1026;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A run of bytes at a guest's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub guest: u64,
    /// Its length in bytes, never 0.
    pub len: u64,
}

/// Runs of bytes that belong together, consumed from both ends. Neighbours are merged.
#[derive(Debug, Default)]
pub struct Segments {
    list: Vec<Segment>,
    first: usize,
}

impl Segments {
    fn clear(&mut self) {
        self.list.clear();
        self.first = 0;
    }

    fn push(&mut self, guest: u64, len: u32) {
        let len = u64::from(len);
        match self.list.last_mut() {
            _ if len == 0 => {}
            Some(last) if last.guest.checked_add(last.len) == Some(guest) => last.len += len,
            _ => self.list.push(Segment { guest, len }),
        }
    }

    /// What is left, in order.
    pub fn all(&self) -> &[Segment] {
        &self.list[self.first.min(self.list.len())..]
    }

    /// Bytes that are left.
    pub fn len(&self) -> u64 {
        self.all().iter().map(|s| s.len).sum()
    }

    /// Takes at most `len` bytes, of one segment, from the front.
    pub fn take(&mut self, len: u64) -> Option<Segment> {
        let front = self.list.get_mut(self.first)?;
        let n = front.len.min(len);
        let taken = Segment {
            guest: front.guest,
            len: n,
        };
        front.guest = front.guest.wrapping_add(n);
        front.len -= n;
        if front.len == 0 {
            self.first += 1;
        }
        Some(taken)
    }

    /// Takes the last byte; its address.
    pub fn take_last_byte(&mut self) -> Option<u64> {
        if self.all().is_empty() {
            return None;
        }
        let last = self.list.last_mut()?;
        last.len -= 1;
        let guest = last.guest.wrapping_add(last.len);
        if last.len == 0 {
            self.list.pop();
        }
        Some(guest)
    }

    /// Takes exactly `buf.len()` bytes from the front and copies them.
    pub fn copy_out(&mut self, memory: &Memory, buf: &mut [u8]) -> Option<()> {
        let mut done = 0;
        while done < buf.len() {
            let part = self.take((buf.len() - done) as u64)?;
            let end = done + part.len as usize;
            memory.read(part.guest, &mut buf[done..end])?;
            done = end;
        }
        Some(())
    }

    /// Takes exactly `buf.len()` bytes from the front and fills them.
    pub fn copy_in(&mut self, memory: &Memory, buf: &[u8]) -> Option<()> {
        let mut done = 0;
        while done < buf.len() {
            let part = self.take((buf.len() - done) as u64)?;
            let end = done + part.len as usize;
            memory.write(part.guest, &buf[done..end])?;
            done = end;
        }
        Some(())
    }
}

/// A chain. Made once and filled again for each request, so that requests need no allocation.
#[derive(Debug, Default)]
pub struct Chain {
    /// What the driver says.
    pub readable: Segments,
    /// Where the device answers.
    pub writable: Segments,
}

impl Chain {
    /// Follows the chain that begins at `head`. On an error it holds what came before the error.
    ///
    /// Segments may point anywhere: whether there is memory is found out by whoever uses them.
    pub fn walk(
        &mut self,
        memory: &Memory,
        layout: &Layout,
        head: u16,
    ) -> Result<(), &'static str> {
        self.readable.clear();
        self.writable.clear();
        let (mut table, mut entries) = (layout.descriptors, layout.size);
        let (mut index, mut left, mut indirect) = (head, layout.size, false);
        loop {
            if index >= entries {
                return Err("a chain leads out of its table");
            }
            let mut raw = [0; 16];
            table
                .checked_add(u64::from(index) * 16)
                .and_then(|at| memory.read(at, &mut raw))
                .ok_or("a descriptor is not in memory")?;
            let [a, b, c, d, e, f, g, h, l0, l1, l2, l3, f0, f1, n0, n1] = raw;
            let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let len = u32::from_le_bytes([l0, l1, l2, l3]);
            let (flags, next) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([n0, n1]));
            if flags & INDIRECT != 0 {
                if indirect || flags & NEXT != 0 {
                    return Err("an indirect table is not the end of its chain");
                }
                if len % 16 != 0 || len as usize / 16 > MAX_INDIRECT || len == 0 {
                    return Err("an indirect table has an odd size");
                }
                (table, entries) = (address, (len / 16) as u16);
                (index, left, indirect) = (0, entries, true);
                continue;
            }
            // Whoever has seen more descriptors than there are runs in circles.
            left = left.checked_sub(1).ok_or("a chain has a loop")?;
            if flags & WRITE != 0 {
                self.writable.push(address, len);
            } else if self.writable.all().is_empty() {
                self.readable.push(address, len);
            } else {
                return Err("a chain goes on with bytes to read after bytes to write");
            }
            if flags & NEXT == 0 {
                return Ok(());
            }
            index = next;
        }
    }
}
