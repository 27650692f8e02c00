//! The terminal's state, and that it comes back on every way out.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// The state to go back to while it is changed. (`Termios` itself may not cross threads.)
static SAVED: Mutex<Option<(OwnedFd, nix::libc::termios)>> = Mutex::new(None);

/// Puts the terminal back into the state it was in when it was [kept](Kept).
pub fn restore() {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((terminal, state)) = &*saved {
        let _ = tcsetattr(terminal, SetArg::TCSANOW, &Termios::from(*state));
    }
}

/// Remembers a terminal's state and restores it when dropped, or when a signal ends the process.
pub struct Kept(());

impl Kept {
    /// Of this terminal; `None` if it is none.
    fn of(terminal: impl AsFd) -> Option<Self> {
        let state = tcgetattr(&terminal).ok()?;
        let terminal = terminal.as_fd().try_clone_to_owned().ok()?;
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal, state.into()));
        Some(Self(()))
    }

    /// Of the process's own terminal, if it has one.
    pub fn controlling() -> Option<Self> {
        Self::of(
            File::options()
                .read(true)
                .write(true)
                .open("/dev/tty")
                .ok()?,
        )
    }

    /// Makes standard input raw: every key goes to whoever reads. `None` if it is no terminal.
    pub fn raw() -> Option<Self> {
        let input = std::io::stdin();
        let kept = Self::of(&input)?;
        let mut state = tcgetattr(&input).ok()?;
        cfmakeraw(&mut state);
        tcsetattr(&input, SetArg::TCSADRAIN, &state).ok()?;
        Some(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        restore();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
