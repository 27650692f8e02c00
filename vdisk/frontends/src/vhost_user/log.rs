//! The log of pages that we wrote to, which lets a machine be migrated or suspended while it runs: one
//! bit for each 4 KiB of the guest's physical memory.

use std::sync::atomic::Ordering::Release;

use super::memory::Window;

const PAGE: u64 = 4096;

/// A log that the client reads and clears.
#[derive(Debug, Clone)]
pub struct DirtyLog(pub Window);

impl DirtyLog {
    /// Says that these bytes were written. Pages beyond the log are the client's mistake and left out.
    pub fn mark(&self, guest: u64, len: u64) {
        if len == 0 {
            return;
        }
        let last = guest.saturating_add(len - 1) / PAGE;
        for page in guest / PAGE..=last {
            let Some(byte) = usize::try_from(page / 8).ok().filter(|b| *b < self.0.len()) else {
                return;
            };
            // Whoever sees the bit sees what was written before it.
            self.0.u8(byte).fetch_or(1 << (page % 8), Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn every_page_that_is_touched_and_no_other() {
        let log = DirtyLog(Window::private(2).unwrap());
        let bits = || [0, 1].map(|at| log.0.u8(at).swap(0, Relaxed));
        log.mark(4095, 2);
        assert_eq!(bits(), [0b11, 0]);
        log.mark(7 * 4096, 4096);
        assert_eq!(bits(), [0x80, 0]);
        log.mark(7 * 4096 + 1, 4096);
        assert_eq!(bits(), [0x80, 1]);
        log.mark(15 * 4096, u64::MAX);
        assert_eq!(bits(), [0, 0x80]);
        log.mark(u64::MAX, 1);
        log.mark(0, 0);
        assert_eq!(bits(), [0, 0]);
    }
}
