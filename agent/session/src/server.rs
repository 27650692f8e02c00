//! The disk's server: a process of its own that holds the disk's key and little else.
//!
//! It is told everything over one stream, which is its standard input: an [`Order`], the key and what a
//! server before it did not flush, then [`Request`]s, each answered. When the stream ends, because it was
//! told to end or because whoever started it died, it flushes the disk and ends too.

use crate::{Error, ErrorKind, Result, unflushed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use uuid::Uuid;
use vdisk::Disk;
use vdisk::image::{DiskKey, Format, Mode, OpenImage};
use vdisk::overlay::{Kept, Overlay, OverlayOptions, State};
use vdisk_frontends::nbd::{NbdOptions, NbdServer};
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};
use vdisk_xts::{KEY_LEN, XtsKey};
use zeroize::Zeroizing;

/// No message comes near this.
const MESSAGE_MAX: u32 = 64 << 10;

/// How the machine reaches the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frontend {
    /// NBD: works everywhere, and the boot loader may read through it.
    #[default]
    Nbd,
    /// vhost-user-blk: fastest.
    VhostUser,
}

/// What to serve, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The disk below.
    pub disk: PathBuf,
    /// Its format, by name, where it should not be found out.
    pub format: Option<String>,
    /// What is written goes here; made if it is not there.
    pub overlay: PathBuf,
    /// Most bytes the overlay may take.
    pub quota: Option<u64>,
    /// The saved state that the overlay belongs to: it stays asleep until [`Request::Wake`].
    pub wakes: Option<[u8; 32]>,
    /// The server before this one may have died before the overlay fell asleep, or after it woke.
    pub again: bool,
    /// An overlay below, of a machine that was kept after its boot, and its saved state.
    pub on: Option<(PathBuf, [u8; 32])>,
    /// Where to listen.
    pub socket: PathBuf,
    /// For what.
    pub frontend: Frontend,
    /// The LUKS header the key came from; with it, the key follows the order as raw bytes.
    pub header: Option<Uuid>,
}

/// What a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Flush, and tie the overlay to the saved state of this identity. Asked twice, it is done once.
    Sleep([u8; 32]),
    /// Let the overlay be written: the saved state is out of date from here on.
    Wake,
    /// Flush.
    Flush,
}

/// The answer to the order and to every request: an error in words, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Why it could not be done.
    pub refused: Option<Refusal>,
}

/// Why a server did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// In words.
    pub why: String,
    /// What to make of it.
    pub kind: RefusalKind,
}

/// What to make of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The overlay went on without the saved state.
    Outdated,
    /// Another process has the disk or the overlay; it may let go of them.
    Busy,
    /// Anything else.
    Other,
}

/// Serves as it is told over `stream`, until that ends. Through `changes` goes what the next server must be
/// told if this one dies.
pub fn serve(stream: impl Read + Write, changes: impl Write + Send + 'static) -> Result<()> {
    let mut stream = stream;
    let broken = |e| Error::new(ErrorKind::Disk, "the session hung up").because(e);
    let order: Order = receive(&mut stream).map_err(broken)?;
    let key = match order.header {
        Some(header) => Some(receive_key(&mut stream, header)?),
        None => None,
    };
    let served = Served::open(&order, key.as_ref(), &mut stream, changes);
    drop(key);
    let served = match served {
        Ok(served) => served,
        Err(error) => {
            let reply = Reply::refused(&error);
            send(&mut stream, &reply).map_err(broken)?;
            return Err(Error::new(ErrorKind::Disk, "serve the disk").because(error));
        }
    };
    send(&mut stream, &Reply::done()).map_err(broken)?;
    // Its end is the order to end.
    while let Ok(request) = receive(&mut stream) {
        let reply = served
            .answer(request)
            .map_or_else(|e| Reply::refused(&e.into()), |()| Reply::done());
        if send(&mut stream, &reply).is_err() {
            break;
        }
    }
    let shut = served.shutdown();
    shut.map_err(|e| Error::new(ErrorKind::Disk, "flush the disk at the end").because(e))
}

impl Reply {
    fn done() -> Self {
        Self { refused: None }
    }

    fn refused(error: &Failed) -> Self {
        let disk = error.downcast_ref::<vdisk::Error>();
        let kind = match error.downcast_ref::<Outdated>() {
            Some(_) => RefusalKind::Outdated,
            None if disk.is_some_and(|error| error.kind() == vdisk::ErrorKind::Busy) => {
                RefusalKind::Busy
            }
            None => RefusalKind::Other,
        };
        let why = error.to_string();
        Self {
            refused: Some(Refusal { why, kind }),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the disk went on without the saved machine")]
struct Outdated;

/// What the disk or a frontend has to say.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A disk that is served.
struct Served {
    server: Server,
    disk: Disk,
    overlay: Option<Overlay>,
}

enum Server {
    Nbd(NbdServer),
    VhostUser(VhostUserServer),
}

impl Served {
    fn open(
        order: &Order,
        key: Option<&DiskKey>,
        past: &mut impl Read,
        changes: impl Write + Send + 'static,
    ) -> Result<Self, Failed> {
        let format = order.format.as_deref().map(str::parse::<Format>);
        let wakes = wakes(order)?;
        let opened = OpenImage {
            path: &order.disk,
            format: format.transpose()?,
            mode: Mode::Durable {
                overlay: order.overlay.clone(),
                options: OverlayOptions {
                    quota: order.quota,
                    resume: wakes,
                    asleep: true,
                    on: order
                        .on
                        .clone()
                        .map(|(overlay, saved)| Kept { overlay, saved }),
                    ..OverlayOptions::default()
                },
            },
            key,
        }
        .open()?;
        let disk = unflushed::go_on(opened.disk, past, changes)?;
        let server = match order.frontend {
            Frontend::Nbd => Server::Nbd(NbdServer::bind(
                order.socket.clone(),
                disk.clone(),
                NbdOptions::default(),
            )?),
            Frontend::VhostUser => Server::VhostUser(VhostUserServer::bind(
                order.socket.clone(),
                disk.clone(),
                VhostUserOptions::default(),
            )?),
        };
        Ok(Self {
            server,
            disk,
            overlay: opened.overlay,
        })
    }

    fn answer(&self, request: Request) -> vdisk::Result<()> {
        match (request, &self.overlay) {
            (Request::Flush, _) | (_, None) => self.disk.flush(),
            (Request::Sleep(state), Some(overlay)) => {
                self.disk.flush()?;
                overlay.suspend(state)
            }
            (Request::Wake, Some(overlay)) => overlay.resume(),
        }
    }

    fn shutdown(self) -> Result<(), vdisk_frontends::Error> {
        match self.server {
            Server::Nbd(server) => server.shutdown(),
            Server::VhostUser(server) => server.shutdown(),
        }
    }
}

/// The saved state that the overlay sleeps with. The one that it should sleep with, unless it may have been
/// caught on the way.
fn wakes(order: &Order) -> Result<Option<[u8; 32]>, Failed> {
    let Some(wanted) = order.wakes else {
        return Ok(None);
    };
    let sleeps = match order.overlay.symlink_metadata() {
        Ok(_) => vdisk::overlay::inspect(&order.overlay)?.state == State::Suspended(wanted),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    match (sleeps, order.again) {
        (true, _) => Ok(Some(wanted)),
        (false, true) => Ok(None),
        (false, false) => Err(Outdated.into()),
    }
}

/// Sends one message: its length, and JSON.
pub(crate) fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text);
    stream.write_all(&bytes)
}

/// Takes one message.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > MESSAGE_MAX {
        return Err(io::Error::other(format!("a message of {len} bytes")));
    }
    let mut text = vec![0; len as usize];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn receive_key(stream: &mut impl Read, header: Uuid) -> Result<DiskKey> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    stream
        .read_exact(&mut *bytes)
        .map_err(|e| Error::new(ErrorKind::Disk, "no key came").because(e))?;
    let key = XtsKey::try_from(&bytes[..])
        .map_err(|e| Error::new(ErrorKind::Disk, "the key is none").because(e))?;
    Ok(DiskKey { key, header })
}
