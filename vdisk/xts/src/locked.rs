//! Memory that is never written to a swap device or a core dump: where key schedules live.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// Alone on its pages, since locks and advice count in pages.
#[repr(C, align(4096))]
struct Pages<T>(ManuallyDrop<T>);

/// A value on pages of its own, locked into memory where the system allows (an unprivileged process may
/// lock a few MiB) and left out of core dumps. Dropping it drops the value first, and so wipes it.
pub(crate) struct Locked<T>(Box<Pages<T>>);

impl<T> Locked<T> {
    /// Moves `value` there. Secrets are better written in place afterwards.
    pub(crate) fn new(value: T) -> Self {
        let pages = Box::new(Pages(ManuallyDrop::new(value)));
        lock(&*pages);
        Self(pages)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.0
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value is dropped once, here, and not touched again.
        unsafe { ManuallyDrop::drop(&mut self.0.0) };
        unlock(&*self.0);
    }
}

// Miri knows no `mlock`.
#[cfg(all(target_os = "linux", not(miri)))]
use linux::{lock, unlock};

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use std::ptr::NonNull;

    use nix::sys::mman::{MmapAdvise, madvise, mlock, munlock};

    use super::Pages;

    /// Best effort: without the lock a key is as safe as any other memory of the process.
    pub(super) fn lock<T>(pages: &Pages<T>) {
        let (start, len) = (NonNull::from(pages).cast(), size_of::<Pages<T>>());
        // SAFETY: the range is the whole pages of a live allocation; both calls leave its bytes alone.
        unsafe {
            let _ = mlock(start, len);
            let _ = madvise(start, len, MmapAdvise::MADV_DONTDUMP);
        }
    }

    /// Gives the pages back as they were, before the allocator uses them for something else.
    pub(super) fn unlock<T>(pages: &Pages<T>) {
        let (start, len) = (NonNull::from(pages).cast(), size_of::<Pages<T>>());
        // SAFETY: as in `lock`.
        unsafe {
            let _ = madvise(start, len, MmapAdvise::MADV_DODUMP);
            let _ = munlock(start, len);
        }
    }
}

#[cfg(any(miri, not(target_os = "linux")))]
fn lock<T>(_pages: &Pages<T>) {}

#[cfg(any(miri, not(target_os = "linux")))]
fn unlock<T>(_pages: &Pages<T>) {}

#[cfg(test)]
#[cfg(all(target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    /// Flags (`VmFlags`) of the mapping that holds `address`.
    fn flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut here = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            if let Some((start, end)) = range
                && let (Ok(start), Ok(end)) = (
                    usize::from_str_radix(start, 16),
                    usize::from_str_radix(end, 16),
                )
            {
                here = (start..end).contains(&address);
            } else if here && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.to_owned();
            }
        }
        String::new()
    }

    #[test]
    fn schedules_are_locked_and_not_dumped_until_they_are_gone() {
        let locked = Locked::new([7u8; 720]);
        let address = &raw const *locked as usize;
        assert_eq!(address % 4096, 0);
        let during = flags(address);
        assert!(during.contains("lo") && during.contains("dd"), "{during}");
        drop(locked);
        let after = flags(address);
        assert!(!after.contains("lo"), "{after}");
    }
}
