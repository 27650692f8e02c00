//! How much of the disk is not holes, for `stat`: programs look for holes only in files that seem to have
//! some.
//!
//! Counting walks the whole disk, and anybody may call `stat` at any time. So the walk goes in steps,
//! between which requests get at the disk; one thread walks while others make do with what was known
//! before; and nobody walks again unless something was written and a pause has passed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vdisk::{Disk, ExtentKind};

/// Bytes of disk that are walked at a time.
const WINDOW: u64 = 64 << 20;
/// Least time between two walks; a long one is followed by a longer pause.
const PAUSE: Duration = Duration::from_secs(3);

/// The count, as far as it was made lately.
#[derive(Default)]
pub struct Allocated(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Count>,
    /// Whether a thread is walking.
    walking: bool,
}

#[derive(Clone, Copy)]
struct Count {
    bytes: u64,
    /// The caller's mark of the last change when the walk began.
    as_of: u64,
    /// No other walk before.
    until: Instant,
}

impl Allocated {
    /// Bytes of `disk` that are not holes: exact if nothing was written lately, all of them while nothing
    /// is known. `changed` differs whenever something was written.
    pub fn bytes(&self, disk: &Disk, changed: u64) -> u64 {
        let begin = Instant::now();
        {
            let mut state = self.lock();
            let good = |count: &Count| count.as_of == changed || begin < count.until;
            if state.walking || state.last.as_ref().is_some_and(good) {
                return state.last.map_or(disk.size(), |count| count.bytes);
            }
            state.walking = true;
        }
        let bytes = walk(disk);
        *self.lock() = State {
            last: Some(Count {
                bytes,
                as_of: changed,
                until: Instant::now() + PAUSE + begin.elapsed() * 50,
            }),
            walking: false,
        };
        bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What cannot be mapped counts as data: it is no hole that could be skipped.
fn walk(disk: &Disk) -> u64 {
    let size = disk.size();
    let (mut at, mut bytes) = (0, 0);
    while at < size {
        let len = WINDOW.min(size - at);
        let mapped = disk.extents(at, len, &mut |extent| {
            if extent.kind == ExtentKind::Data {
                bytes += extent.len;
            }
        });
        at += len;
        if mapped.is_err() {
            return size;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use vdisk::{BlockDevice, DeviceInfo, Extent, Result};

    use super::*;

    /// A disk whose first half is data, and that remembers how it was asked.
    struct Watched {
        info: DeviceInfo,
        seen: Arc<Seen>,
    }

    #[derive(Default)]
    struct Seen {
        calls: AtomicU64,
        longest: AtomicU64,
        /// Nothing is told while this is set.
        held: AtomicBool,
    }

    impl BlockDevice for Watched {
        fn info(&self) -> &DeviceInfo {
            &self.info
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
            Ok(())
        }
        fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn write_zeroes(&self, _: u64, _: u64) -> Result<()> {
            Ok(())
        }
        fn discard(&self, _: u64, _: u64) -> Result<()> {
            Ok(())
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
        fn extents(&self, offset: u64, len: u64, tell: &mut dyn FnMut(Extent)) -> Result<()> {
            self.seen.calls.fetch_add(1, SeqCst);
            self.seen.longest.fetch_max(len, SeqCst);
            while self.seen.held.load(SeqCst) {
                std::thread::yield_now();
            }
            let data = (self.info.size / 2).clamp(offset, offset + len) - offset;
            for (offset, len, kind) in [
                (offset, data, ExtentKind::Data),
                (offset + data, len - data, ExtentKind::Hole),
            ] {
                if len > 0 {
                    tell(Extent { offset, len, kind });
                }
            }
            Ok(())
        }
    }

    const SIZE: u64 = 100 << 30;

    fn watched() -> (Disk, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let info = DeviceInfo {
            size: SIZE,
            read_only: false,
            preferred_io: 512,
            name: "watched".into(),
        };
        let device = Watched {
            info,
            seen: seen.clone(),
        };
        (Disk::new(device), seen)
    }

    #[test]
    fn large_disks_are_walked_in_steps_and_not_again_at_once() {
        let (disk, seen) = watched();
        let allocated = Allocated::default();
        assert_eq!(allocated.bytes(&disk, 0), SIZE / 2);
        assert_eq!(seen.longest.load(SeqCst), WINDOW);
        let walked = seen.calls.load(SeqCst);
        assert_eq!(walked, SIZE / WINDOW);
        // Neither unchanged, nor soon after a change.
        for changed in [0, 1, 2] {
            assert_eq!(allocated.bytes(&disk, changed), SIZE / 2);
        }
        assert_eq!(seen.calls.load(SeqCst), walked);
        if let Some(count) = &mut allocated.lock().last {
            count.until = Instant::now();
        }
        allocated.bytes(&disk, 0);
        assert_eq!(seen.calls.load(SeqCst), walked);
        allocated.bytes(&disk, 2);
        assert_eq!(seen.calls.load(SeqCst), 2 * walked);
    }

    #[test]
    fn nobody_waits_for_another_walk() {
        let (disk, seen) = watched();
        let allocated = Allocated::default();
        seen.held.store(true, SeqCst);
        std::thread::scope(|scope| {
            let walker = scope.spawn(|| allocated.bytes(&disk, 0));
            while seen.calls.load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert_eq!(allocated.bytes(&disk, 0), SIZE);
            seen.held.store(false, SeqCst);
            assert_eq!(walker.join().unwrap(), SIZE / 2);
        });
        assert_eq!(allocated.bytes(&disk, 0), SIZE / 2);
    }
}
