//! The guest's half: an IPP Everywhere printer on loopback.
//!
//! [`Printer::listen`] starts it on threads of its own: one that waits for clients, and one for each of at most
//! eight connections. Its owner, a loop that sleeps in `poll`, watches the printer's descriptor, takes a
//! [`Notice`] with [`Printer::next`] and says with [`Printer::tell`] how a job goes on.
//!
//! Everybody on the guest can print: that is the guest's own affair. Web pages cannot: a browser sends neither
//! IPP's media type unasked nor a host's name that is not this machine's.
mod connection;
mod describe;
mod document;
mod jobs;
mod jpeg;
mod operations;
mod request;
mod wishes;

use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::ticket::{Format, JobId, Ticket};
use jobs::{Queue, UNFINISHED};
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

pub(crate) use connection::serve;

/// Where the printer is in its address.
pub(crate) const PATH: &str = "/ipp/print";
/// Connections at the same time; more are told that the printer is busy.
const CONNECTIONS: usize = 8;
/// Notices that wait for the owner: each unfinished job may come and be taken back.
const NOTICES: usize = 2 * UNFINISHED;

/// A job whose document has come.
#[derive(Debug)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it is called: any text, to be made fit for display by whoever shows it.
    pub title: String,
    /// Whose it is, as the client says.
    pub user: String,
    /// How it is to be printed.
    pub ticket: Ticket,
    /// The document's language.
    pub format: Format,
    /// Pages, as document or client count them; zero if neither does.
    pub pages: u32,
    /// Bytes of the document.
    pub size: u64,
    /// The document, at its beginning. It has no name: it is gone when this is dropped.
    pub file: File,
}

/// What the printer's owner hears.
#[derive(Debug)]
pub enum Notice {
    /// Something is to be printed.
    Print(Job),
    /// A job was taken back: what has not been printed of it need not be.
    Canceled(JobId),
    /// Somebody wants to know which printer this is.
    Identify,
}

/// How a job goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something is waited for; in words for the user.
    Held(String),
    /// It is on its way.
    Processing,
    /// It was printed.
    Completed,
    /// It was not printed; in words for the user.
    Aborted(String),
}

/// How long is waited for clients.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request on a connection that has none.
    pub idle: Duration,
    /// For a whole head once it has begun.
    pub head: Duration,
    /// For the next bytes of a body. Filters take their time between pages.
    pub body: Duration,
    /// For a client that does not read its answer.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            head: Duration::from_secs(10),
            body: Duration::from_secs(120),
            answer: Duration::from_secs(30),
        }
    }
}

/// What a printer is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is called.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// By what clients know it again.
    pub uuid: Uuid,
    /// Where documents lie while they are printed. They have no names there.
    pub spool: PathBuf,
    /// Bytes of the largest document.
    pub largest: u64,
    /// How long is waited.
    pub patience: Patience,
}

impl Default for Settings {
    fn default() -> Self {
        // /tmp may be memory, and documents are large.
        let spool = std::env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
        Self {
            name: "Medley".into(),
            capabilities: Capabilities::default(),
            uuid: Uuid::new_v4(),
            spool: spool.into(),
            largest: medley_wire::limits::PRINT_BYTES,
            patience: Patience::default(),
        }
    }
}

/// What jobs and settings are now.
pub(crate) struct State {
    queue: Queue,
    capabilities: Capabilities,
    accepting: bool,
    /// When capabilities changed last, since the printer began.
    configured: Duration,
    /// When anything else did.
    changed: Duration,
}

/// What the printer's threads share.
pub(crate) struct Shared {
    settings: Settings,
    address: SocketAddr,
    start: Instant,
    began: SystemTime,
    state: Mutex<State>,
    notices: SyncSender<Notice>,
    bell: UnixStream,
    ending: AtomicBool,
    /// To be closed when the printer ends.
    open: Mutex<HashMap<u64, TcpStream>>,
}

/// A lock whose holder panicked protects plain values, which are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        mut settings: Settings,
        address: SocketAddr,
    ) -> std::io::Result<(Self, Receiver<Notice>, UnixStream)> {
        let (notices, heard) = sync_channel(NOTICES);
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        settings.capabilities = settings.capabilities.sane();
        let state = State {
            queue: Queue::default(),
            capabilities: settings.capabilities.clone(),
            accepting: true,
            configured: Duration::ZERO,
            changed: Duration::ZERO,
        };
        let shared = Self {
            settings,
            address,
            start: Instant::now(),
            began: SystemTime::now(),
            state: Mutex::new(state),
            notices,
            bell,
            ending: AtomicBool::new(false),
            open: Mutex::new(HashMap::new()),
        };
        Ok((shared, heard, ring))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn uri(&self) -> String {
        format!("ipp://{}{PATH}", self.address)
    }

    fn page(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn sweep(&self) {
        let now = self.now();
        let mut state = self.state();
        if state.queue.sweep(now) {
            state.changed = now;
        }
    }

    /// Tells the owner; whether there is room for one more to hear.
    fn notify(&self, notice: Notice) -> bool {
        match self.notices.try_send(notice) {
            Ok(()) => {
                // If it is full it rings already.
                let rung = (&self.bell).write(&[0]);
                tracing::trace!(?rung, "a notice");
                true
            }
            Err(TrySendError::Full(notice) | TrySendError::Disconnected(notice)) => {
                tracing::warn!(?notice, "the printer's owner does not listen");
                false
            }
        }
    }
}

/// A printer on loopback. It stops when it is dropped; jobs that have not ended are gone then.
pub struct Printer {
    shared: Arc<Shared>,
    listener: TcpListener,
    heard: Receiver<Notice>,
    ring: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Printer {
    /// Starts a printer; port 0 is any that is free.
    ///
    /// # Errors
    /// The address is not this machine's own, or is taken.
    pub fn listen(address: SocketAddr, settings: Settings) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback(address));
        }
        let failed = |doing| {
            move |source| Error::System {
                place: address.to_string(),
                doing,
                source,
            }
        };
        let listener = TcpListener::bind(address).map_err(failed("listen"))?;
        let address = listener.local_addr().map_err(failed("listen"))?;
        let (shared, heard, ring) =
            Shared::new(settings, address).map_err(failed("make its bell"))?;
        let shared = Arc::new(shared);
        let (door, own) = (
            listener.try_clone().map_err(failed("listen"))?,
            shared.clone(),
        );
        let thread = std::thread::Builder::new()
            .name("printer".into())
            .spawn(move || connection::listen(&door, &own))
            .map_err(failed("start a thread"))?;
        Ok(Self {
            shared,
            listener,
            heard,
            ring,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// By what clients find it.
    #[must_use]
    pub fn uri(&self) -> String {
        self.shared.uri()
    }

    /// The next notice, if there is one. While there is, the printer's descriptor can be read; ask until
    /// there is none.
    #[must_use]
    pub fn next(&self) -> Option<Notice> {
        self.heard.try_recv().ok().or_else(|| {
            // What rings after this rings again.
            let mut rings = [0; 64];
            while (&self.ring).read(&mut rings).is_ok_and(|count| count > 0) {}
            self.heard.try_recv().ok()
        })
    }

    /// The next notice, waited for.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<Notice> {
        self.next().or_else(|| self.heard.recv_timeout(limit).ok())
    }

    /// Says how a job goes on; whether anybody still wants to know: a job may have been taken back.
    pub fn tell(&self, id: JobId, progress: Progress) -> bool {
        let now = self.shared.now();
        let mut state = self.shared.state();
        state.changed = now;
        state.queue.tell(id, progress, now)
    }

    /// What the printer can do from now on: what the host's does.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        let capabilities = capabilities.sane();
        let mut state = self.shared.state();
        if state.capabilities != capabilities {
            state.capabilities = capabilities;
            state.configured = self.shared.now();
        }
    }

    /// Whether it takes jobs. It does from its beginning.
    pub fn set_accepting(&self, accepting: bool) {
        let mut state = self.shared.state();
        state.accepting = accepting;
        state.changed = self.shared.now();
    }
}

impl AsFd for Printer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Printer").field(&self.uri()).finish()
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        if let Err(error) = shutdown(self.listener.as_raw_fd(), Shutdown::Both) {
            tracing::debug!(%error, "the listener sleeps on");
            drop(TcpStream::connect_timeout(
                &self.shared.address,
                Duration::from_secs(1),
            ));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
