//! The socket and the clients on it: who gets in, how they are thrown out, what is left afterwards.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket;
use vdisk::Disk;

use super::connection::{Connection, MAX_PAYLOAD};
use super::negotiate::{Export, negotiate};
use crate::error::{Error, Result};
use crate::socket::Socket;
use crate::stats::{Stats, Summary};

/// A client has this long to say what it wants.
const NEGOTIATION: Duration = Duration::from_secs(10);
/// Longest name or description the protocol allows.
const MAX_NAME: usize = 4096;

/// How a disk is served.
#[derive(Debug, Clone)]
pub struct NbdOptions {
    /// Name of the export. Clients may also ask for the nameless default.
    pub export_name: String,
    /// Refuse writes, even if the disk allows them.
    pub read_only: bool,
    /// Clients at the same time, at least 1; more are hung up on.
    pub max_connections: usize,
}

impl Default for NbdOptions {
    fn default() -> Self {
        Self {
            export_name: String::new(),
            read_only: false,
            max_connections: 32,
        }
    }
}

/// A running server. Dropping it does what [`NbdServer::shutdown`] does, without telling of errors.
#[derive(Debug)]
pub struct NbdServer {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    socket: Socket,
    disk: Disk,
    export: Export,
    stats: Stats,
    max_connections: usize,
    clients: Mutex<Clients>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("export", &self.export)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Clients {
    next: u64,
    connected: HashMap<u64, Client>,
    /// Threads that have said goodbye, or are about to return.
    leaving: Vec<JoinHandle<()>>,
}

struct Client {
    socket: Arc<UnixStream>,
    thread: JoinHandle<()>,
}

impl NbdServer {
    /// Starts to serve `disk` on a new Unix socket at `path`, for this user only (mode 0600).
    ///
    /// The socket of a server that has died is replaced; that of a living one is left alone
    /// ([`Error::SocketInUse`]).
    pub fn bind(path: impl AsRef<Path>, disk: Disk, options: NbdOptions) -> Result<Self> {
        if options.export_name.len() > MAX_NAME {
            return Err(Error::Options {
                what: "the name of an NBD export has at most 4096 bytes",
            });
        }
        if options.max_connections == 0 {
            return Err(Error::Options {
                what: "max_connections must be at least 1",
            });
        }
        let info = disk.info();
        let export = Export {
            name: options.export_name,
            description: info.name.chars().take(MAX_NAME / 4).collect(),
            size: info.size,
            read_only: options.read_only || info.read_only,
            preferred_block: info
                .preferred_io
                .clamp(4096, MAX_PAYLOAD)
                .next_power_of_two(),
            max_payload: MAX_PAYLOAD,
        };
        let shared = Arc::new(Shared {
            socket: Socket::bind(path.as_ref())?,
            disk,
            export,
            stats: Stats::default(),
            max_connections: options.max_connections,
            clients: Mutex::default(),
        });
        let mut server = Self {
            shared: shared.clone(),
            accepting: None,
        };
        let thread = std::thread::Builder::new()
            .name("nbd-accept".into())
            .spawn(move || accept(&shared))
            .map_err(Error::io(server.path(), "cannot start a thread"))?;
        server.accepting = Some(thread);
        Ok(server)
    }

    /// Where the server listens.
    pub fn path(&self) -> &Path {
        self.shared.socket.path()
    }

    /// The URI that NBD clients understand.
    pub fn uri(&self) -> String {
        let quote = |text: &[u8]| -> String {
            text.iter()
                .map(|byte| match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                        char::from(*byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect()
        };
        format!(
            "nbd+unix:///{}?socket={}",
            quote(self.shared.export.name.as_bytes()),
            quote(self.path().as_os_str().as_encoded_bytes()),
        )
    }

    /// What was done so far.
    pub fn stats(&self) -> Summary {
        self.shared.stats.summary()
    }

    /// Clients that are connected now.
    pub fn connections(&self) -> usize {
        self.shared.clients().connected.len()
    }

    /// Stops: no new clients, connections are closed (requests that the disk is working on are finished,
    /// their replies may be lost), the disk is flushed, the socket file removed.
    pub fn shutdown(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        let Some(accepting) = self.accepting.take() else {
            return Ok(());
        };
        self.shared.socket.close();
        let _ = accepting.join();
        let threads: Vec<_> = {
            let mut clients = self.shared.clients();
            let leaving = std::mem::take(&mut clients.leaving);
            clients
                .connected
                .drain()
                .map(|(_, client)| {
                    let _ = client.socket.shutdown(Shutdown::Both);
                    client.thread
                })
                .chain(leaving)
                .collect()
        };
        for thread in threads {
            let _ = thread.join();
        }
        if self.shared.export.read_only {
            return Ok(());
        }
        Ok(self.shared.disk.flush()?)
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, path = %self.path().display(), "NBD server ended badly");
        }
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(shared: &Arc<Shared>) {
    while let Some(socket) = shared.socket.accept() {
        admit(shared, socket);
    }
}

fn admit(shared: &Arc<Shared>, socket: UnixStream) {
    let mut clients = shared.clients();
    // Threads that left are joined here, so that they do not pile up.
    for thread in clients
        .leaving
        .extract_if(.., |thread| thread.is_finished())
    {
        let _ = thread.join();
    }
    if clients.connected.len() >= shared.max_connections {
        tracing::warn!(
            max = shared.max_connections,
            "NBD client turned away: too many"
        );
        return;
    }
    let id = clients.next;
    clients.next += 1;
    let socket = Arc::new(socket);
    // The new thread's first step is to wait for `clients`, where its own entry is then found.
    let spawned = std::thread::Builder::new()
        .name("nbd-client".into())
        .spawn({
            let (shared, socket) = (shared.clone(), socket.clone());
            move || {
                drop(shared.clients());
                let goodbye = Goodbye { shared, socket, id };
                if let Err(error) = serve(&goodbye.shared, &goodbye.socket) {
                    tracing::debug!(%error, "NBD negotiation failed");
                }
            }
        });
    match spawned {
        Ok(thread) => {
            clients.connected.insert(id, Client { socket, thread });
        }
        Err(error) => tracing::warn!(%error, "NBD client turned away: no thread"),
    }
}

/// Gives a client's place back when its thread ends, even by a panic.
struct Goodbye {
    shared: Arc<Shared>,
    socket: Arc<UnixStream>,
    id: u64,
}

impl Drop for Goodbye {
    fn drop(&mut self) {
        // Hang up now: the entry of `clients` holds the socket open otherwise.
        let _ = self.socket.shutdown(Shutdown::Both);
        let mut clients = self.shared.clients();
        if let Some(client) = clients.connected.remove(&self.id) {
            clients.leaving.push(client.thread);
        }
    }
}

fn serve(shared: &Shared, socket: &UnixStream) -> io::Result<()> {
    socket.set_read_timeout(Some(NEGOTIATION))?;
    socket.set_write_timeout(Some(NEGOTIATION))?;
    let deadline = Instant::now() + NEGOTIATION;
    let mut io = Impatient { socket, deadline };
    let Some(session) = negotiate(&mut io, &shared.export, deadline)? else {
        return Ok(());
    };
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    // Larger queues mean fewer wake-ups; the system's limit applies.
    let _ = socket::setsockopt(socket, socket::sockopt::SndBuf, &(1 << 20));
    let _ = socket::setsockopt(socket, socket::sockopt::RcvBuf, &(1 << 20));
    let read_only = shared.export.read_only;
    Connection::new(socket, &shared.disk, &shared.stats, session, read_only).serve();
    Ok(())
}

/// A socket that is given up at a deadline, even by a client that sends a byte now and then.
struct Impatient<'a> {
    socket: &'a UnixStream,
    deadline: Instant,
}

impl Impatient<'_> {
    fn check(&self) -> io::Result<()> {
        if Instant::now() > self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl io::Read for Impatient<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        (&mut &*self.socket).read(buf)
    }
}

impl io::Write for Impatient<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.check()?;
        (&mut &*self.socket).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
