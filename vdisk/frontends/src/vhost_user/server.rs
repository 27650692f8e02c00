//! The socket and the client on it: one at a time, the next one after it has gone.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use vdisk::Disk;

use super::device::Device;
use super::session::converse;
use crate::error::{Error, Result};
use crate::socket::Socket;
use crate::stats::Summary;

/// Queues that a device may have: one for each processor of a large guest.
const MAX_QUEUES: u16 = 256;
/// Bytes of a virtio disk's serial number.
const MAX_SERIAL: usize = 20;

/// How a disk is served.
#[derive(Debug, Clone)]
pub struct VhostUserOptions {
    /// Refuse writes, even if the disk allows them.
    pub read_only: bool,
    /// Queues that a guest may use, 1 to 256. One that is not used costs nothing; each that is has a thread.
    pub queues: u16,
    /// What the guest sees as the disk's serial number, at most 20 ASCII characters.
    pub serial: String,
}

impl Default for VhostUserOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            queues: 64,
            serial: String::new(),
        }
    }
}

/// A running server. It serves one client (a virtual machine) at a time; when that has gone, the next may
/// connect, or the same again. Dropping it does what [`VhostUserServer::shutdown`] does, without telling
/// of errors.
#[derive(Debug)]
pub struct VhostUserServer {
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

struct Shared {
    socket: Socket,
    device: Arc<Device>,
    stopping: AtomicBool,
    client: Mutex<Option<UnixStream>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl VhostUserServer {
    /// Starts to serve `disk` on a new Unix socket at `path`, for this user only (mode 0600).
    ///
    /// The socket of a server that has died is replaced; that of a living one is left alone
    /// ([`Error::SocketInUse`]).
    pub fn bind(path: impl AsRef<Path>, disk: Disk, options: VhostUserOptions) -> Result<Self> {
        if !(1..=MAX_QUEUES).contains(&options.queues) {
            return Err(Error::Options {
                what: "a vhost-user disk has 1 to 256 queues",
            });
        }
        if options.serial.len() > MAX_SERIAL || !options.serial.is_ascii() {
            return Err(Error::Options {
                what: "the serial number of a virtio disk has at most 20 ASCII characters",
            });
        }
        let shared = Arc::new(Shared {
            socket: Socket::bind(path.as_ref())?,
            device: Arc::new(Device::new(disk, &options)),
            stopping: AtomicBool::new(false),
            client: Mutex::default(),
        });
        let mut server = Self {
            shared: shared.clone(),
            serving: None,
        };
        let thread = std::thread::Builder::new()
            .name("vhost-user".into())
            .spawn(move || serve(&shared))
            .map_err(Error::io(server.path(), "cannot start a thread"))?;
        server.serving = Some(thread);
        Ok(server)
    }

    /// Where the server listens.
    pub fn path(&self) -> &Path {
        self.shared.socket.path()
    }

    /// What was done so far.
    pub fn stats(&self) -> Summary {
        self.shared.device.stats.summary()
    }

    /// Whether a client is connected now.
    pub fn connected(&self) -> bool {
        self.shared.client().is_some()
    }

    /// Stops: the client is hung up on once the requests that the disk is working on are finished, the
    /// disk is flushed, the socket file removed. Requests that were not begun stay in the guest's
    /// queues, for the next server.
    pub fn shutdown(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        let Some(serving) = self.serving.take() else {
            return Ok(());
        };
        self.shared.stopping.store(true, SeqCst);
        self.shared.socket.close();
        if let Some(client) = &*self.shared.client() {
            let _ = client.shutdown(Shutdown::Both);
        }
        let _ = serving.join();
        if self.shared.device.read_only {
            return Ok(());
        }
        Ok(self.shared.device.disk.flush()?)
    }
}

impl Drop for VhostUserServer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, path = %self.path().display(), "vhost-user server ended badly");
        }
    }
}

impl Shared {
    fn client(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(shared: &Shared) {
    while let Some(client) = shared.socket.accept() {
        match client.try_clone() {
            Ok(handle) => *shared.client() = Some(handle),
            Err(error) => {
                tracing::warn!(%error, "vhost-user client turned away");
                continue;
            }
        }
        // Whoever stops us says so first and looks for a client afterwards.
        if !shared.stopping.load(SeqCst) {
            converse(client, &shared.device);
        }
        *shared.client() = None;
    }
}
