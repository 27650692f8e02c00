//! SIGINT, SIGTERM and SIGHUP. While somebody [watches](Watch), a signal is a request to end in good order,
//! and a second one to hurry; otherwise, and the third time, it ends the process at once, with the terminal
//! as it was.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::MsgFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::exit::{Failure, Kind, Result};
use crate::terminal;

/// How often whoever watches is asked before the process ends without them.
const REQUESTS: u32 = 2;

/// What goes through the bell.
const END: u8 = 0;
/// See [`END`].
const SLEEP: u8 = 1;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To end in good order.
    End,
    /// To fall asleep (SIGUSR1).
    Sleep,
}

static RECEIVED: AtomicI32 = AtomicI32::new(0);
static AT_ONCE: AtomicBool = AtomicBool::new(false);
static BELL: Mutex<Option<UnixStream>> = Mutex::new(None);

/// Starts to listen; once, early in `main`.
pub fn listen() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    // `nohup` lets programs outlive their terminal by ignoring this one for them.
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP)?;
    }
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut asked = 0;
            for signal in signals.forever() {
                let bell = BELL.lock().unwrap_or_else(PoisonError::into_inner);
                if signal == SIGUSR1 {
                    // Whoever has no machine that could sleep does not listen.
                    if let Some(mut stream) = bell.as_ref() {
                        let _ = stream.write_all(&[SLEEP]);
                    }
                    continue;
                }
                let _ = RECEIVED.compare_exchange(0, signal, SeqCst, SeqCst);
                asked += 1;
                match (&*bell, asked <= REQUESTS && !AT_ONCE.load(SeqCst)) {
                    (Some(stream), true) => {
                        let mut stream: &UnixStream = stream;
                        let _ = stream.write_all(&[END]);
                    }
                    _ => {
                        terminal::restore();
                        std::process::exit(Kind::Interrupted(signal).code().into());
                    }
                }
            }
        })?;
    Ok(())
}

/// Whether whoever started us wants this signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// The signal that came, if one did.
pub fn received() -> Option<i32> {
    Some(RECEIVED.load(SeqCst)).filter(|signal| *signal != 0)
}

/// Does something that waits for the user: meanwhile a signal ends the process at once, watched or not.
pub fn at_once<T>(wait: impl FnOnce() -> T) -> T {
    AT_ONCE.store(true, SeqCst);
    let result = wait();
    AT_ONCE.store(false, SeqCst);
    result
}

/// Fails if a signal came, before anything has got a name.
pub fn check() -> Result<()> {
    received().map_or(Ok(()), |signal| {
        Err(Failure::interrupted(signal).remedy("nothing was left behind"))
    })
}

/// Somebody who will end in good order when asked to. One at a time.
pub struct Watch {
    bell: UnixStream,
    ringer: UnixStream,
}

impl Watch {
    /// From now on signals are requests.
    pub fn start() -> Result<Self> {
        let fail = Failure::io("cannot watch for signals");
        let (bell, ringer) = UnixStream::pair().map_err(fail)?;
        let theirs = ringer
            .try_clone()
            .map_err(Failure::io("cannot watch for signals"))?;
        *BELL.lock().unwrap_or_else(PoisonError::into_inner) = Some(theirs);
        Ok(Self { bell, ringer })
    }

    /// Waits for a signal that asks to end, or for [`Watch::ringer`].
    pub fn wait(&self) {
        let mut byte = [END];
        loop {
            match (&self.bell).read_exact(&mut byte) {
                Ok(()) if byte[0] == SLEEP => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }

    /// Takes one request, if there is one.
    pub fn take(&self) -> Option<Asked> {
        let mut byte = [0];
        let taken =
            nix::sys::socket::recv(self.bell.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT);
        (taken == Ok(1)).then_some(match byte[0] {
            SLEEP => Asked::Sleep,
            _ => Asked::End,
        })
    }

    /// Something else to be woken by: one byte wakes [`Watch::wait`].
    pub fn ringer(&self) -> &UnixStream {
        &self.ringer
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *BELL.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
