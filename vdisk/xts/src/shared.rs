//! Bytes that somebody else may change while they are read: what a file's mapping is made of.

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

/// Readable bytes without the promise that they stay the same, which a `&[u8]` would be.
///
/// Ciphers read each byte once and decide nothing by it, so bytes that change meanwhile garble
/// the units they lie in and do nothing else.
#[derive(Clone, Copy)]
pub struct SharedBytes<'a> {
    at: *const u8,
    len: usize,
    lent: PhantomData<&'a [u8]>,
}

impl<'a> SharedBytes<'a> {
    /// The `len` bytes at `at`.
    ///
    /// # Safety
    /// For all of `'a`, they are mapped and readable (a fault must be mended by whoever answers
    /// for the mapping), and whoever changes them meanwhile is the kernel or another process:
    /// never this program through a reference.
    pub unsafe fn new(at: *const u8, len: usize) -> Self {
        Self {
            at,
            len,
            lent: PhantomData,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Those of a range.
    ///
    /// # Panics
    /// If the range is not within them.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {} bytes",
            self.len
        );
        Self {
            // SAFETY: the start is within the bytes or just behind them.
            at: unsafe { self.at.add(range.start) },
            len: range.len(),
            lent: PhantomData,
        }
    }

    /// Copies them as they are now.
    ///
    /// # Panics
    /// If `to` is not as long.
    pub fn copy_to(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "a copy is as long as what is copied");
        // SAFETY: the bytes are readable; an exclusive slice never overlaps what others may see.
        unsafe { ptr::copy_nonoverlapping(self.at, to.as_mut_ptr(), self.len) }
    }

    /// Where they begin.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.at
    }
}

/// A slice keeps a stronger promise.
impl<'a> From<&'a [u8]> for SharedBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self {
            at: bytes.as_ptr(),
            len: bytes.len(),
            lent: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_copied_exactly() {
        let bytes: Vec<u8> = (0..100).collect();
        let shared = SharedBytes::from(&bytes[..]);
        assert_eq!((shared.len(), shared.is_empty()), (100, false));
        let mut to = [0; 7];
        shared.part(90..97).copy_to(&mut to);
        assert_eq!(to, bytes[90..97]);
        shared.part(100..100).copy_to(&mut []);
    }

    #[test]
    #[should_panic(expected = "5..101 of 100 bytes")]
    fn what_is_not_there_is_no_part() {
        SharedBytes::from(&[0; 100][..]).part(5..101);
    }

    #[test]
    #[should_panic(expected = "as long as what is copied")]
    fn a_copy_of_another_length_panics() {
        SharedBytes::from(&[0; 100][..]).copy_to(&mut [0; 99]);
    }
}
