//! Threads of transfers: how many there are, and when the last has ended.
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Instant;

/// Counts them.
#[derive(Debug, Default)]
pub(crate) struct Busy(Arc<(Mutex<usize>, Condvar)>);

/// One of them, while it lives.
struct One {
    all: Arc<(Mutex<usize>, Condvar)>,
    _alive: Arc<()>,
}

impl Busy {
    /// How many there are.
    pub fn count(&self) -> usize {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; what is handed back tells as long as it is there.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn spawn(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Weak<()>> {
        let alive = Arc::new(());
        let is_alive = Arc::downgrade(&alive);
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let one = One {
            all: self.0.clone(),
            _alive: alive,
        };
        let run = move || {
            let _one = one;
            work();
        };
        std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(is_alive)
    }

    /// Waits until all have ended. Whether they have in time.
    pub fn wait(&self, until: Instant) -> bool {
        let (count, ended) = &*self.0;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = ended.wait_timeout_while(count, left, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let (count, ended) = &*self.all;
        *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ended.notify_all();
    }
}
