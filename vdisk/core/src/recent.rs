//! Where a layer was read a moment ago: whether a read goes on where others were, or jumps.

use std::sync::atomic::{AtomicU64, Ordering};

/// Neighbourhoods remembered. As many readers can go their ways side by side.
const REMEMBERED: usize = 16;
/// Bytes in a neighbourhood.
const REGION: u64 = 1 << 20;
const NOWHERE: u64 = u64::MAX;

/// The last few neighbourhoods that were read. A guess, and cheap: nobody waits for anybody.
pub(crate) struct Recent([AtomicU64; REMEMBERED]);

impl Default for Recent {
    fn default() -> Self {
        Self([const { AtomicU64::new(NOWHERE) }; REMEMBERED])
    }
}

impl Recent {
    /// Whether somebody read near `offset`, or before it, lately. From now on somebody did.
    pub(crate) fn visit(&self, offset: u64, len: u64) -> bool {
        let first = offset / REGION;
        let last = offset.saturating_add(len.saturating_sub(1)) / REGION;
        let seen = self.knows(first) || first.checked_sub(1).is_some_and(|n| self.knows(n));
        self.place(last).store(last, Ordering::Relaxed);
        seen
    }

    fn knows(&self, region: u64) -> bool {
        self.place(region).load(Ordering::Relaxed) == region
    }

    fn place(&self, region: u64) -> &AtomicU64 {
        &self.0[(region % REMEMBERED as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = 128 << 10;

    #[test]
    fn going_on_is_told_from_jumping() {
        let recent = Recent::default();
        assert!(!recent.visit(0, LEN));
        for at in (LEN..20 * REGION).step_by(LEN as usize) {
            assert!(recent.visit(at, LEN), "at {at}");
        }
        assert!(!recent.visit(u64::MAX - 5, LEN));
        let mut near = 0;
        for n in 0..1000u64 {
            near += u64::from(recent.visit(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, LEN));
        }
        assert!(near < 10, "{near} of 1000 jumps");
    }

    #[test]
    fn several_go_on_side_by_side() {
        let recent = Recent::default();
        let starts = [0, 1003, 5010, 777_775].map(|n| n * REGION);
        for start in starts {
            recent.visit(start, LEN);
        }
        for step in (LEN..REGION).step_by(LEN as usize) {
            assert!(starts.iter().all(|start| recent.visit(start + step, LEN)));
        }
    }
}
