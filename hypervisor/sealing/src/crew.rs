//! Several threads on one ordered stream. Each takes a piece and its number, works on it by itself, and
//! then waits for its number's turn; the first error ends everybody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, Result};

/// Memory that the buffers of one crew may take together, in bytes.
const MEMORY: usize = 64 << 20;

/// How many processors a crew keeps busy: more of them only wait for the one stream.
pub(crate) fn processors() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(8)
}

/// How many threads work on pieces that take each of them `bytes` of memory: more than there are
/// processors, because one or two are usually waiting for a pipe, a file or their turn.
pub(crate) fn size(bytes: usize) -> usize {
    (processors() + 2).min(MEMORY / bytes).max(1)
}

/// What the threads share in turn.
pub(crate) struct Turns<T> {
    state: Mutex<State<T>>,
    moved: Condvar,
    failed: AtomicBool,
}

struct State<T> {
    next: u64,
    shared: T,
    error: Option<Error>,
}

impl<T> Turns<T> {
    /// Turns from number 0 on `shared`.
    pub(crate) fn new(shared: T) -> Self {
        let state = State {
            next: 0,
            shared,
            error: None,
        };
        Self {
            state: Mutex::new(state),
            moved: Condvar::new(),
            failed: AtomicBool::new(false),
        }
    }

    // A turn that panicked did not end, so whoever comes next waits until the panic is reported.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all turns before `number` are over and does `act`; `None` when somebody has failed.
    pub(crate) fn take<R>(
        &self,
        number: u64,
        act: impl FnOnce(&mut T) -> Result<R>,
    ) -> Result<Option<R>> {
        let mut state = self.lock();
        while state.next != number && state.error.is_none() {
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.error.is_some() {
            return Ok(None);
        }
        let done = act(&mut state.shared)?;
        state.next += 1;
        self.moved.notify_all();
        Ok(Some(done))
    }

    /// Whether somebody has failed, so that nobody needs to begin anything.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
        self.moved.notify_all();
    }

    /// Runs `work` on `threads` threads, this one among them, until all have returned, and gives back
    /// what they shared, or the first error or panic.
    pub(crate) fn run(self, threads: usize, work: impl Fn(&Self) -> Result<()> + Sync) -> Result<T>
    where
        T: Send,
    {
        let member = || match catch_unwind(AssertUnwindSafe(|| work(&self))) {
            Ok(Ok(())) => (),
            Ok(Err(error)) => self.fail(error),
            Err(_) => self.fail(Error::internal("a worker panicked")),
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // A system that has no more threads gets a smaller crew.
                let name = thread::Builder::new().name("sealing".into());
                let _ = name.spawn_scoped(scope, member);
            }
            member();
        });
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match state.error {
            None => Ok(state.shared),
            Some(error) => Err(error),
        }
    }
}
