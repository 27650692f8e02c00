//! One mapping, and what happens when a page of it cannot be had: the medium failed, or somebody cut the
//! file. The kernel tells by SIGBUS, in the middle of a load. Our handler puts a page of zeros there, so
//! that the load ends, and marks the mapping, so that nobody believes what was loaded.
//!
//! All `unsafe` code of this crate.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::{SysconfVar, sysconf};
use vdisk_xts::SharedBytes;

/// Bytes of each mapping. All have the same, so one word says all that the handler needs to know.
pub(super) const LENGTH: u64 = 64 << 30;
/// The same; 0, and no mapping, where that is more than there are addresses.
const ADDRESSES: usize = LENGTH as usize;
/// Mappings of this process at a time. Whoever comes later reads without.
const PLACES: usize = 256;
/// Bytes of files that this process keeps mapped at most, give or take what is being read: they count as
/// its memory, though they are the system's. Below a few MiB page faults would cost more than copies.
const RESIDENT: u64 = 32 << 20;
/// The kernel maps pages by the neighbourhood.
const NEIGHBOURS: u64 = 64 << 10;

/// A mapping as the handler finds it. Everything else about a mapping is in [`Mapping`].
struct Place {
    /// First address; 0 if the place is free.
    start: AtomicUsize,
    /// Some page of it is not the file's.
    spoiled: AtomicBool,
}

static ALL: [Place; PLACES] = [const {
    Place {
        start: AtomicUsize::new(0),
        spoiled: AtomicBool::new(false),
    }
}; PLACES];

/// Held while mappings come and go, or pages are given back. Never by the handler.
static CHANGING: Mutex<()> = Mutex::new(());
/// Bytes that may have been mapped since pages were last given back.
static TOUCHED: AtomicU64 = AtomicU64::new(0);

/// What SIGBUS did before us; set once our handler is installed, `None` if it could not be.
static BEFORE: OnceLock<Option<SigAction>> = OnceLock::new();
static PAGE: AtomicUsize = AtomicUsize::new(4096);

thread_local! {
    /// Whether SIGBUS reaches this thread. A fault kills whoever blocks it.
    static REACHED: Cell<bool> = const { Cell::new(false) };
}

fn changing() -> MutexGuard<'static, ()> {
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Read-only pages of a file that never fault to death.
pub(super) struct Mapping {
    at: NonNull<c_void>,
    place: &'static Place,
}

// SAFETY: an address that any thread may read from; it is unmapped by the last owner.
unsafe impl Send for Mapping {}
// SAFETY: as above, and nothing in it changes but atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps [`LENGTH`] bytes of `file` from `offset` on, which may lie behind its end. `None` if that is
    /// not to be had.
    pub(super) fn new(file: BorrowedFd<'_>, offset: u64) -> Option<Self> {
        let len = NonZeroUsize::new(ADDRESSES)?;
        let offset = i64::try_from(offset).ok()?;
        if !install() {
            return None;
        }
        let _alone = changing();
        let place = ALL
            .iter()
            .find(|place| place.start.load(Ordering::Relaxed) == 0)?;
        let (read, shared) = (ProtFlags::PROT_READ, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address that the system chooses touches nothing that is there.
        let at = unsafe { mmap(None, len, read, shared, file, offset) }
            .inspect_err(|error| tracing::debug!(%error, "a file is not mapped"))
            .ok()?;
        for advice in [
            // Read ahead as `pread` would do.
            MmapAdvise::MADV_SEQUENTIAL,
            // A page of 2 MiB for a read of 64 KiB would make nonsense of what is counted here.
            MmapAdvise::MADV_NOHUGEPAGE,
            MmapAdvise::MADV_DONTDUMP,
        ] {
            // SAFETY: our own mapping; none of these changes what is read from it.
            let _ = unsafe { madvise(at, len.get(), advice) };
        }
        place.spoiled.store(false, Ordering::Relaxed);
        place.start.store(at.as_ptr() as usize, Ordering::Release);
        Some(Self { at, place })
    }

    /// Calls `take` with some bytes. `false` if they are not in here, or were not the file's.
    pub(super) fn show(
        &self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(SharedBytes<'_>),
    ) -> bool {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > LENGTH) || self.spoiled() || !reached() {
            return false;
        }
        // SAFETY: the range lies within our mapping, which lives as long as `self`. Nobody writes through
        // it, so what changes in it is changed by the kernel. The handler mends faults.
        let bytes =
            unsafe { SharedBytes::new(self.at.as_ptr().cast::<u8>().add(offset as usize), len) };
        take(bytes);
        give_back(offset, len as u64);
        // The mark is set before the zeros are there: whoever loaded zeros sees the mark now.
        fence(Ordering::SeqCst);
        !self.spoiled()
    }

    fn spoiled(&self) -> bool {
        self.place.spoiled.load(Ordering::Acquire)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _alone = changing();
        // The place is left first: the address may be anybody's as soon as it is unmapped.
        self.place.start.store(0, Ordering::Release);
        // SAFETY: our own mapping, and nobody has a part of it any more: `show` borrows `self`.
        let gone = unsafe { munmap(self.at, ADDRESSES) };
        debug_assert_eq!(gone, Ok(()));
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("spoiled", &self.spoiled())
            .finish_non_exhaustive()
    }
}

/// Counts what a read has mapped, and now and then gives all pages back to the system, which keeps them in
/// its page cache.
fn give_back(offset: u64, len: u64) {
    let end = (offset + len).next_multiple_of(NEIGHBOURS);
    let touched = end - offset / NEIGHBOURS * NEIGHBOURS;
    if TOUCHED.fetch_add(touched, Ordering::Relaxed) + touched < RESIDENT {
        return;
    }
    // Somebody who is at it already will do it for us, too.
    let Ok(_alone) = CHANGING.try_lock() else {
        return;
    };
    TOUCHED.store(0, Ordering::Relaxed);
    for place in &ALL {
        let start = place.start.load(Ordering::Relaxed);
        if let Some(at) = NonNull::new(start as *mut c_void) {
            // SAFETY: the lock keeps this mapping of ours where it is. Its pages are the file's, or zeros
            // that nobody believes: loads that come later find them again.
            let _ = unsafe { madvise(at, ADDRESSES, MmapAdvise::MADV_DONTNEED) };
        }
    }
}

/// Lets SIGBUS through to this thread, once: threads that leave all signals to others block it.
fn reached() -> bool {
    if REACHED.get() {
        return true;
    }
    let mut bus = SigSet::empty();
    bus.add(Signal::SIGBUS);
    REACHED.set(bus.thread_unblock().is_ok());
    REACHED.get()
}

/// Installs the handler, once in a process.
fn install() -> bool {
    let before = BEFORE.get_or_init(|| {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
        PAGE.store(usize::try_from(page).ok()?, Ordering::Relaxed);
        let ours = SigAction::new(
            SigHandler::SigAction(on_bus_error),
            SaFlags::SA_ONSTACK,
            SigSet::empty(),
        );
        // SAFETY: the handler loads and stores atomics, makes system calls, and calls what was installed
        // before it as the system would have.
        unsafe { sigaction(Signal::SIGBUS, &ours) }
            .inspect_err(
                |error| tracing::warn!(%error, "no handler for SIGBUS: files are not mapped"),
            )
            .ok()
    });
    before.is_some()
}

extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands over what it promises for a handler with SA_SIGINFO. The address is read
    // where it means one: not of a signal that some process sent.
    let fault = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if fault.is_none_or(|at| !mend(at)) {
        pass_on(signal, info, context, fault.is_some());
    }
}

/// Puts zeros where a page cannot be had, if it is one of ours.
fn mend(at: usize) -> bool {
    let ours = |start: usize| start != 0 && (start..start.saturating_add(ADDRESSES)).contains(&at);
    let mut found = false;
    for place in &ALL {
        if ours(place.start.load(Ordering::Acquire)) {
            // First the mark: another thread may load the zeros as soon as they are there.
            place.spoiled.store(true, Ordering::SeqCst);
            found = true;
        }
    }
    if !found {
        return false;
    }
    let page = PAGE.load(Ordering::Relaxed);
    let errno = Errno::last_raw();
    // SAFETY: the page lies within a mapping of ours: the thread that faulted is reading it and so keeps
    // it from being unmapped. Only loads of ours ever look at it.
    let zeros = unsafe {
        libc::mmap(
            (at / page * page) as *mut c_void,
            page,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    Errno::set_raw(errno);
    zeros != libc::MAP_FAILED
}

/// Does what was to be done before we came. `fault`: the signal comes again if we just return.
fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void, fault: bool) {
    match BEFORE
        .get()
        .and_then(Option::as_ref)
        .map(SigAction::handler)
    {
        Some(SigHandler::SigAction(handler)) => handler(signal, info, context),
        Some(SigHandler::Handler(handler)) => handler(signal),
        Some(SigHandler::SigIgn) if !fault => {}
        // The default, which ends the process. Nobody can ignore a fault.
        _ => {
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            // SAFETY: no handler is installed.
            let _ = unsafe { sigaction(Signal::SIGBUS, &default) };
            if !fault {
                let _ = raise(Signal::SIGBUS);
            }
        }
    }
}
