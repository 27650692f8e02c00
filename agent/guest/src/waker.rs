//! How another thread wakes the agent's loop.
use anyhow::{Context, Result};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};

/// A descriptor that can be read once somebody has called.
#[derive(Debug)]
pub struct Waker(EventFd);

impl Waker {
    /// One that nobody has called.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new() -> Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let event = EventFd::from_value_and_flags(0, flags);
        event
            .map(Self)
            .context("cannot make a descriptor to wake by")
    }

    /// Wakes the loop.
    pub fn wake(&self) {
        // It fails only if nobody has heard some 2⁶⁴ calls.
        let _ = self.0.write(1);
    }

    /// The loop has woken.
    pub fn heard(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
