//! A thread that talks to others on the desktop, who may be slow: nobody here waits for it.
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

/// It puts away what it shows when it ends, and may take so long.
const FAREWELL: Duration = Duration::from_secs(3);

/// A thread with tasks. Dropped, it ends, and is waited for a moment.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    name: &'static str,
    tasks: Option<SyncSender<T>>,
    /// Says that the thread has ended, by its end.
    ended: Receiver<()>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts one, for which so many tasks may wait. Its work ends with its tasks.
    pub fn start(
        name: &'static str,
        waiting: usize,
        work: impl FnOnce(&Receiver<T>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tasks, received) = sync_channel(waiting);
        let (alive, ended) = channel();
        let run = move || {
            let _alive = alive;
            work(&received);
        };
        std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self {
            name,
            tasks: Some(tasks),
            ended,
        })
    }

    /// Gives it a task. Never waits: what is too much is left out.
    pub fn put(&self, task: T) {
        if let Some(tasks) = &self.tasks
            && let Err(error) = tasks.try_send(task)
        {
            tracing::debug!(%error, "{} are slow", self.name);
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        drop(self.tasks.take());
        let ended = self.ended.recv_timeout(FAREWELL);
        if ended == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("{}: the desktop does not answer", self.name);
        }
    }
}
