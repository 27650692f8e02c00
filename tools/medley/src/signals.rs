//! SIGINT, SIGTERM and SIGHUP. While somebody [watches](Watch), a signal is a request to end in good order,
//! and a second one to hurry; otherwise, and the third time, it ends the process at once, with the terminal
//! as it was.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::MsgFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Failure, Kind, Result};
use crate::terminal;

/// How often whoever watches is asked before the process ends without them.
const REQUESTS: u32 = 2;

static RECEIVED: AtomicI32 = AtomicI32::new(0);
static AT_ONCE: AtomicBool = AtomicBool::new(false);
static BELL: Mutex<Option<UnixStream>> = Mutex::new(None);

/// Starts to listen; once, early in `main`.
pub fn listen() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
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
                let _ = RECEIVED.compare_exchange(0, signal, SeqCst, SeqCst);
                asked += 1;
                match (&*bell, asked <= REQUESTS && !AT_ONCE.load(SeqCst)) {
                    (Some(stream), true) => {
                        let mut stream: &UnixStream = stream;
                        let _ = stream.write_all(&[0]);
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

    /// Waits for a signal or for [`Watch::ringer`].
    pub fn wait(&self) {
        while let Err(error) = (&self.bell).read_exact(&mut [0])
            && error.kind() == io::ErrorKind::Interrupted
        {}
    }

    /// Takes one request, if there is one.
    pub fn take(&self) -> bool {
        let mut byte = [0];
        nix::sys::socket::recv(self.bell.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) == Ok(1)
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
