//! A thread that talks to others on the desktop, who may be slow: nobody here waits for it.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel,
};
use std::time::{Duration, Instant};

/// It puts away what it shows when it ends, and may take so long.
const FAREWELL: Duration = Duration::from_secs(3);

/// A thread with tasks. Dropped, it ends, and is waited for a moment.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    name: &'static str,
    tasks: Option<SyncSender<Aged<T>>>,
    age: Arc<AtomicU64>,
    /// Says that the thread has ended, by its end.
    ended: Receiver<()>,
}

/// A task and the age that it was given in; without a task it only wakes.
type Aged<T> = (u64, Option<T>);

/// The tasks, as their thread gets them.
#[derive(Debug)]
pub(crate) struct Tasks<T> {
    received: Receiver<Aged<T>>,
    age: Arc<AtomicU64>,
    seen: u64,
    next: Option<T>,
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Do<T> {
    /// All that was shown is to go. What was given before is not to be done any more.
    Clear,
    /// This.
    Task(T),
}

impl<T> Tasks<T> {
    /// The next, however long that takes.
    ///
    /// # Errors
    /// There will be no more.
    pub fn next(&mut self) -> Result<Do<T>, RecvError> {
        loop {
            if let Some(found) = self.at_hand() {
                return Ok(found);
            }
            let aged = self.received.recv()?;
            self.take(aged);
        }
    }

    /// The next, unless that takes too long.
    ///
    /// # Errors
    /// There was none in time, or will be none.
    pub fn next_within(&mut self, limit: Duration) -> Result<Do<T>, RecvTimeoutError> {
        let until = Instant::now() + limit;
        loop {
            if let Some(found) = self.at_hand() {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            // A time that is over still finds what is there.
            let aged = match self.received.try_recv() {
                Ok(aged) => aged,
                Err(TryRecvError::Empty) => self.received.recv_timeout(left)?,
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            };
            self.take(aged);
        }
    }

    fn at_hand(&mut self) -> Option<Do<T>> {
        let age = self.age.load(Ordering::Acquire);
        if age != self.seen {
            self.seen = age;
            self.next = None;
            return Some(Do::Clear);
        }
        self.next.take().map(Do::Task)
    }

    fn take(&mut self, (age, task): Aged<T>) {
        if age == self.age.load(Ordering::Acquire) {
            self.next = task;
        }
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Starts one, for which so many tasks may wait. Its work ends with its tasks.
    pub fn start(
        name: &'static str,
        waiting: usize,
        work: impl FnOnce(Tasks<T>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tasks, received) = sync_channel(waiting);
        let (alive, ended) = channel();
        let age = Arc::new(AtomicU64::new(0));
        let received = Tasks {
            received,
            age: age.clone(),
            seen: 0,
            next: None,
        };
        let run = move || {
            let _alive = alive;
            work(received);
        };
        std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self {
            name,
            tasks: Some(tasks),
            age,
            ended,
        })
    }

    /// Gives it a task. Never waits: what is too much is left out.
    pub fn put(&self, task: T) {
        self.give(Some(task));
    }

    /// Has it take back all that it shows. Never waits and is never left out, however much waits.
    pub fn clear(&self) {
        self.age.fetch_add(1, Ordering::AcqRel);
        self.give(None);
    }

    fn give(&self, task: Option<T>) {
        let age = self.age.load(Ordering::Acquire);
        if let Some(tasks) = &self.tasks
            && let Err(error) = tasks.try_send((age, task))
        {
            tracing::debug!(%error, "{} are slow", self.name);
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        drop(self.tasks.take());
        let ended = self.ended.recv_timeout(FAREWELL);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("{}: the desktop does not answer", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_is_never_left_out_and_what_was_before_it_is() {
        let (go, wait) = channel::<()>();
        let (tell, told) = channel();
        let worker = Worker::start("test", 2, move |mut tasks: Tasks<u32>| {
            wait.recv().unwrap();
            while let Ok(found) = tasks.next() {
                let _ = tell.send(found);
            }
        })
        .unwrap();
        for task in 0..5 {
            worker.put(task);
        }
        worker.clear();
        worker.clear();
        go.send(()).unwrap();
        let patience = Duration::from_secs(20);
        let next = || told.recv_timeout(patience).unwrap();
        assert_eq!(next(), Do::Clear, "once, and no old task");
        // What waited takes its time to go; until then there may be no room.
        let begun = Instant::now();
        loop {
            worker.put(7);
            match told.recv_timeout(Duration::from_millis(50)) {
                Ok(found) => break assert_eq!(found, Do::Task(7)),
                Err(_) => assert!(begun.elapsed() < patience, "no room"),
            }
        }
        worker.put(8);
        // On a slow machine the seventh was given more than once.
        let mut last = next();
        while last == Do::Task(7) {
            last = next();
        }
        assert_eq!(last, Do::Task(8));
        worker.clear();
        assert_eq!(next(), Do::Clear, "it wakes");
        drop(worker);
        assert!(told.recv_timeout(patience).is_err());
    }
}
