//! Which parts of the shared memory belong to which window. First fit, in pages: windows are few.

/// Bytes of a page: buffers begin at multiples of it.
const PAGE: usize = 4096;

/// Who holds what, by offset.
#[derive(Debug)]
pub struct Slots {
    size: usize,
    /// Offset and length of each part that is taken, by offset.
    taken: Vec<(usize, usize)>,
    /// Parts that nobody writes any more, and the count of frames before which the host may still read them.
    retired: Vec<(usize, u64)>,
}

impl Slots {
    /// All of a pool of `size` bytes is free.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self {
            size,
            taken: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Takes room for `bytes`; tells where.
    pub fn take(&mut self, bytes: usize) -> Option<usize> {
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        let mut start = 0;
        let mut at = self.taken.len();
        for (index, (offset, length)) in self.taken.iter().enumerate() {
            if offset - start >= bytes {
                at = index;
                break;
            }
            start = offset + length;
        }
        if at == self.taken.len() && self.size.checked_sub(start)? < bytes {
            return None;
        }
        self.taken.insert(at, (start, bytes));
        Some(start)
    }

    /// Nobody writes there any more. It is free once the host has dealt with every frame before number `sent`.
    pub fn retire(&mut self, offset: usize, sent: u64) {
        self.retired.push((offset, sent));
    }

    /// The host has dealt with all frames before number `done`.
    pub fn settle(&mut self, done: u64) {
        let taken = &mut self.taken;
        self.retired.retain(|(offset, sent)| {
            let free = *sent <= done;
            if free {
                taken.retain(|(start, _)| start != offset);
            }
            !free
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_overlap_and_are_used_again() {
        let mut slots = Slots::new(10 * PAGE);
        let a = slots.take(4 * PAGE).unwrap();
        let b = slots.take(3 * PAGE - 5).unwrap();
        let c = slots.take(3 * PAGE).unwrap();
        assert_eq!((a, b, c), (0, 4 * PAGE, 7 * PAGE));
        assert_eq!(slots.take(1), None);
        slots.retire(b, 7);
        assert_eq!(slots.take(1), None, "the host may still read it");
        slots.settle(6);
        assert_eq!(slots.take(1), None);
        slots.settle(7);
        assert_eq!(slots.take(2 * PAGE), Some(b));
        assert_eq!(slots.take(PAGE), Some(b + 2 * PAGE));
        assert_eq!(slots.take(usize::MAX), None);
    }
}
