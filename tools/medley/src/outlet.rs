//! The guest's words on their way out: a thread of their own writes them, so that whoever does not read
//! them holds up nothing but the guest.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes that may wait; with more, the guest is not listened to.
const FULL: usize = 256 << 10;
/// Bytes that are written at once: what a pipe takes whole.
const PIECE: usize = 4096;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Where the guest's words go.
    Console,
    /// To standard error, in the same order.
    Notes,
}

/// A queue with a thread at its end.
pub struct Outlet(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: VecDeque<(To, Vec<u8>)>,
    /// Bytes that are not written yet, those in the thread's hands too.
    pending: usize,
    /// When something was last written, or when there was last nothing to write.
    moved: Instant,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// An outlet into `console`, with notes going to `notes`.
    pub fn start(console: File, notes: File) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                pending: 0,
                moved: Instant::now(),
                closed: false,
            }),
            changed: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("console".into())
            .spawn(move || carry(&theirs, console, notes))?;
        Ok(Self(shared))
    }

    /// Whether no more should be given to it for now.
    pub fn is_full(&self) -> bool {
        self.0.state().pending >= FULL
    }

    /// Takes bytes; never waits. A note that finds everything blocked is left out.
    pub fn write(&self, to: To, bytes: &[u8]) {
        let mut state = self.0.state();
        if bytes.is_empty() || (to == To::Notes && state.pending >= 2 * FULL) {
            return;
        }
        if state.pending == 0 {
            state.moved = Instant::now();
        }
        state.pending += bytes.len();
        state.queue.push_back((to, bytes.to_vec()));
        self.0.changed.notify_all();
    }

    /// For how long nothing has been written although there is something; `None` if all is written.
    pub fn stuck(&self) -> Option<Duration> {
        let state = self.0.state();
        (state.pending > 0).then(|| state.moved.elapsed())
    }

    /// Waits until something was written, or for so long.
    pub fn wait(&self, time: Duration) {
        let state = self.0.state();
        if state.pending > 0 {
            drop(self.0.changed.wait_timeout(state, time));
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // The thread may be stuck in a write: it ends with the process then.
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

fn carry(shared: &Shared, mut console: File, mut notes: File) {
    loop {
        let mut state = shared.state();
        let (to, bytes) = loop {
            if state.closed {
                return;
            }
            match state.queue.pop_front() {
                Some(next) => break next,
                None => {
                    state = shared
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(state);
        let file = match to {
            To::Console => &mut console,
            To::Notes => &mut notes,
        };
        for piece in bytes.chunks(PIECE) {
            if let Err(error) = write_all(file, piece) {
                // The guest goes on, whoever listens.
                tracing::debug!(%error, "the guest's words cannot be written");
            }
            let mut state = shared.state();
            state.pending -= piece.len();
            state.moved = Instant::now();
            shared.changed.notify_all();
        }
    }
}

/// Writes everything, also where the file was made not to wait.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn nothing_waits_for_a_reader_and_nothing_is_lost() {
        for flags in [nix::fcntl::OFlag::empty(), nix::fcntl::OFlag::O_NONBLOCK] {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
            let notes = File::options().write(true).open("/dev/null").unwrap();
            let outlet = Outlet::start(writer.into(), notes).unwrap();
            let mut said = Vec::new();
            while !outlet.is_full() {
                let words = format!("{} ", said.len()).repeat(100);
                outlet.write(To::Console, words.as_bytes());
                said.extend(words.bytes());
            }
            std::thread::sleep(Duration::from_millis(50));
            assert!(outlet.stuck().is_some() && outlet.is_full() || said.len() < FULL + (64 << 10));
            outlet.write(To::Notes, b"note");
            let mut heard = vec![0; said.len()];
            File::from(reader).read_exact(&mut heard).unwrap();
            assert!(heard == said);
            while outlet.stuck().is_some() {
                outlet.wait(Duration::from_millis(10));
            }
        }
    }
}
