//! The socket and the clients on it: who gets in, how they are thrown out, what is left afterwards.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use vdisk::Disk;

use super::connection::{Connection, MAX_PAYLOAD};
use super::negotiate::{Export, negotiate};
use crate::error::{Error, Result};
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
    path: PathBuf,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    listener: UnixListener,
    /// Device and inode of the socket file, to remove only what is ours.
    file: (u64, u64),
    disk: Disk,
    export: Export,
    stats: Stats,
    max_connections: usize,
    stopping: AtomicBool,
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
        // Remembered absolutely: the process may change its directory before it removes the socket.
        let path = std::path::absolute(path.as_ref())
            .map_err(Error::io(path.as_ref(), "cannot be made absolute"))?;
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
        let (listener, file) = listen(&path)?;
        let shared = Arc::new(Shared {
            listener,
            file,
            disk,
            export,
            stats: Stats::default(),
            max_connections: options.max_connections,
            stopping: AtomicBool::new(false),
            clients: Mutex::default(),
        });
        let mut server = Self {
            path,
            shared: shared.clone(),
            accepting: None,
        };
        let thread = std::thread::Builder::new()
            .name("nbd-accept".into())
            .spawn(move || accept(&shared))
            .map_err(Error::io(&server.path, "cannot start a thread"))?;
        server.accepting = Some(thread);
        Ok(server)
    }

    /// Where the server listens.
    pub fn path(&self) -> &Path {
        &self.path
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
            quote(self.path.as_os_str().as_encoded_bytes()),
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
        self.shared.stopping.store(true, SeqCst);
        // A listening socket that is shut down wakes whoever waits in accept.
        let _ = socket::shutdown(self.shared.listener.as_raw_fd(), socket::Shutdown::Both);
        let _ = accepting.join();
        remove(&self.path, self.shared.file);
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
        if self.accepting.is_none() {
            remove(&self.path, self.shared.file);
        } else if let Err(error) = self.stop() {
            tracing::error!(%error, path = %self.path.display(), "NBD server ended badly");
        }
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(shared: &Arc<Shared>) {
    while !shared.stopping.load(SeqCst) {
        match shared.listener.accept() {
            Ok((socket, _)) => admit(shared, socket),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if !shared.stopping.load(SeqCst) {
                    tracing::warn!(%error, "NBD: accept failed");
                    // Out of descriptors or memory: others may give some back.
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
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

/// Makes the socket file and listens on it. Returns its device and inode too.
fn listen(path: &Path) -> Result<(UnixListener, (u64, u64))> {
    let address = UnixAddr::new(path).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Error::SocketPathTooLong { path: path.into() },
        errno => Error::io(path, "is no address for a socket")(errno),
    })?;
    // Two servers that start at once must not both find the other's socket dead and remove it.
    let _lock = lock_parent(path)?;
    let fd = new_socket(path, SockFlag::empty())?;
    let bind = || socket::bind(fd.as_raw_fd(), &address);
    match bind() {
        Err(Errno::EADDRINUSE) => {
            remove_dead(path, &address)?;
            bind()
        }
        result => result,
    }
    .map_err(Error::io(path, "cannot make a socket"))?;
    // Nobody can connect before `listen`, so nobody gets in before the mode is set.
    let ready = fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .and_then(|()| Ok(socket::listen(&fd, Backlog::new(64)?)?))
        .and_then(|()| fs::symlink_metadata(path));
    match ready {
        Ok(meta) => Ok((UnixListener::from(fd), (meta.dev(), meta.ino()))),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(Error::io(path, "cannot listen")(error))
        }
    }
}

fn new_socket(path: &Path, flags: SockFlag) -> Result<OwnedFd> {
    socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | flags,
        None,
    )
    .map_err(Error::io(path, "cannot make a socket"))
}

/// Holds the directory of `path` while a socket in it is examined and replaced.
fn lock_parent(path: &Path) -> Result<Flock<File>> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut dir = File::open(parent).map_err(Error::io(parent, "cannot be opened"))?;
    let begin = Instant::now();
    loop {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR))
                if begin.elapsed() < Duration::from_secs(5) =>
            {
                dir = back;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((_, errno)) => return Err(Error::io(parent, "cannot be locked")(errno)),
        }
    }
}

/// Removes a socket that nobody answers at.
fn remove_dead(path: &Path, address: &UnixAddr) -> Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(path, "cannot be examined")(error)),
    };
    if !meta.file_type().is_socket() {
        return Err(Error::NotASocket { path: path.into() });
    }
    // Without waiting: a server that is alive but stuck has a full queue (EAGAIN).
    let probe = new_socket(path, SockFlag::SOCK_NONBLOCK)?;
    match socket::connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => {
            tracing::info!(path = %path.display(), "replacing the socket of a server that died");
            fs::remove_file(path).map_err(Error::io(path, "dead socket cannot be removed"))
        }
        // Whatever else happened, it does not prove that nobody is there.
        _ => Err(Error::SocketInUse { path: path.into() }),
    }
}

/// Removes the socket file if it is still the one we made. Under the lock, since a successor may be
/// replacing it right now; without the lock a dead socket stays, for the next server to replace.
fn remove(path: &Path, file: (u64, u64)) {
    let _lock = match lock_parent(path) {
        Ok(lock) => lock,
        Err(error) => return tracing::warn!(%error, "the socket of an NBD server stays behind"),
    };
    if fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == file) {
        let _ = fs::remove_file(path);
    }
}
