//! The connection to a machine's screen: one thread that listens and keeps the picture as it is, one that speaks,
//! so that a machine which takes nothing holds up nobody.
use crate::error::{Error, Result};
use medley_rfb::picture::{Picture, hold};
use medley_rfb::{Decoder, Heard, Say, greet};
use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a machine may take to greet.
const GREETED_WITHIN: Duration = Duration::from_secs(10);
/// Messages that wait to be taken.
const WAITING: usize = 1000;

/// A connection that was greeted.
#[derive(Debug)]
pub struct Greeted {
    stream: UnixStream,
    size: (u16, u16),
}

/// A connection, and the picture it keeps. Dropped, it is closed.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    picture: Arc<Mutex<Picture>>,
    end: Arc<Mutex<Option<Result<()>>>>,
    woken: Arc<AtomicBool>,
    says: SyncSender<Say>,
}

impl Greeted {
    /// Connects, and hears how large the screen is.
    ///
    /// # Errors
    /// Nobody is there, or it is no screen.
    pub fn connect(socket: &Path) -> Result<Self> {
        let unreached = |source| Error::Reach {
            socket: socket.to_owned(),
            source,
        };
        let mut stream = UnixStream::connect(socket).map_err(unreached)?;
        let limit = |limit| {
            let set = stream.set_read_timeout(limit);
            set.and_then(|()| stream.set_write_timeout(limit))
        };
        limit(Some(GREETED_WITHIN)).map_err(system)?;
        let size = greet(&mut &stream)?;
        limit(None).map_err(system)?;
        stream.flush().map_err(system)?;
        Ok(Self { stream, size })
    }

    /// The screen's size.
    #[must_use]
    pub const fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Begins to listen; `wake` is called when the picture has changed, or will never again, for the first time
    /// since somebody [looked](Link::look).
    ///
    /// # Errors
    /// There can be no threads.
    pub fn listen(self, wake: impl Fn() + Send + 'static) -> Result<Link> {
        let Self { stream, size } = self;
        let (says, said) = sync_channel(WAITING);
        let link = Link {
            picture: Arc::new(Mutex::new(Picture::new(size.0, size.1))),
            end: Arc::default(),
            woken: Arc::default(),
            says,
            stream: stream.try_clone().map_err(system)?,
        };
        let output = stream.try_clone().map_err(system)?;
        start("screen-says", move || speak(output, &said))?;
        let (picture, end) = (Arc::clone(&link.picture), Arc::clone(&link.end));
        let (says, woken) = (link.says.clone(), Arc::clone(&link.woken));
        // A machine that says a million times that nothing changed is heard once.
        let wake = move || {
            if !woken.swap(true, Ordering::AcqRel) {
                wake();
            }
        };
        start("screen-hears", move || {
            let ended = listen(stream, &picture, &says, &wake);
            *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            wake();
        })?;
        Ok(link)
    }
}

impl Link {
    /// The screen as it is now.
    #[must_use]
    pub fn picture(&self) -> &Mutex<Picture> {
        &self.picture
    }

    /// Whoever was woken looks now: how it ended, once, if it did. What comes from now on wakes again.
    pub fn look(&self) -> Option<Result<()>> {
        self.woken.swap(false, Ordering::AcqRel);
        self.end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Says something; what is worth nothing later is not kept for a machine that takes nothing.
    ///
    /// # Errors
    /// The machine has not taken a thousand messages, and this one may not be lost.
    pub fn say(&self, say: Say, may_be_lost: bool) -> Result<()> {
        match self.says.try_send(say) {
            Err(TrySendError::Full(_)) if !may_be_lost => Err(Error::Deaf),
            // Who listens will say why nobody speaks any more.
            _ => Ok(()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn listen(
    stream: UnixStream,
    picture: &Mutex<Picture>,
    says: &SyncSender<Say>,
    wake: &impl Fn(),
) -> Result<()> {
    let mut decoder = Decoder::new(BufReader::with_capacity(64 << 10, stream));
    let ask = |changes| {
        let size = hold(picture).size();
        // Fails when nobody speaks any more: then nobody will be heard, either.
        let _ = says.send(Say::Ask { changes, size });
    };
    ask(false);
    loop {
        match decoder.hear(picture)? {
            Heard::End => return Ok(()),
            Heard::Nothing => continue,
            Heard::Updated => ask(true),
            Heard::Resized => ask(false),
        }
        wake();
    }
}

fn speak(mut stream: UnixStream, said: &Receiver<Say>) {
    while let Ok(say) = said.recv() {
        if let Err(error) = stream.write_all(&say.bytes()) {
            tracing::debug!(%error, "the screen takes nothing any more");
            return;
        }
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = thread::Builder::new().name(name.into()).spawn(run);
    started.map(drop).map_err(system)
}

fn system(source: std::io::Error) -> Error {
    Error::System {
        doing: "the connection to the screen",
        source,
    }
}
