//! The disk's server as the session sees it: a child that is told what to do, and started again under the
//! running guest when it dies.

use crate::server::{Order, Reply, Request, receive, send};
use crate::watchdog::Budget;
use crate::{Code, Error, ErrorKind, Notice, Result};
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vdisk::image::DiskKey;

/// How long a server may take to open the disk, or to flush it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How long a server of a session that was killed may still hold the disk, flushing.
const HELD_WITHIN: Duration = Duration::from_secs(10);

/// How the server's process is started: a program that calls [`crate::server::serve`] on its standard
/// input.
#[derive(Clone)]
pub struct Program(Arc<dyn Fn() -> Command + Send + Sync>);

impl Program {
    /// `command` makes the command, each time anew.
    pub fn new(command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self(Arc::new(command))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0())
    }
}

/// A disk that is being served. Dropping it ends the server in good order.
#[derive(Debug)]
pub struct DiskServer {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    program: Program,
    key: Option<DiskKey>,
    now: Mutex<Now>,
    changed: Condvar,
    notices: Sender<Notice>,
}

#[derive(Debug)]
struct Now {
    order: Order,
    stream: Option<UnixStream>,
    pid: u32,
    ending: bool,
    /// Why there is no server any more, and will be none.
    lost: Option<String>,
    /// How the last server ended.
    ended: Option<Result<(), String>>,
}

/// A server that has opened the disk.
struct Started {
    child: Child,
    stream: UnixStream,
}

impl DiskServer {
    /// Starts a server and waits until it listens.
    pub fn start(
        program: Program,
        order: Order,
        key: Option<DiskKey>,
        notices: Sender<Notice>,
    ) -> Result<Self> {
        let mut started = launch_patiently(&program, &order, key.as_ref())?;
        let alive = started.child.stdout.take();
        let shared = Arc::new(Shared {
            program,
            key,
            now: Mutex::new(Now {
                // A server that is started again finds the overlay awake.
                order: Order {
                    wakes: None,
                    ..order
                },
                stream: Some(started.stream),
                pid: started.child.id(),
                ending: false,
                lost: None,
                ended: None,
            }),
            changed: Condvar::new(),
            notices,
        });
        let theirs = Arc::clone(&shared);
        let child = started.child;
        let keeper = thread::Builder::new()
            .name("disk-keeper".into())
            .spawn(move || theirs.keep(child, alive))
            .map_err(|e| {
                Error::new(ErrorKind::Disk, "no thread for the disk's server").because(e)
            })?;
        Ok(Self {
            shared,
            keeper: Some(keeper),
        })
    }

    /// The server's process now.
    pub fn process_id(&self) -> u32 {
        self.shared.lock().pid
    }

    /// Asks the server something. A server that dies over it is started again, and asked once more.
    pub fn ask(&self, request: Request) -> Result<()> {
        let failed = |why: String| Error::new(ErrorKind::Disk, format!("{request:?}: {why}"));
        for _ in 0..2 {
            let now = self.shared.lock();
            let (mut now, _) = self
                .shared
                .changed
                .wait_timeout_while(now, ANSWER_WITHIN, |now| {
                    now.stream.is_none() && now.lost.is_none()
                })
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(why) = &now.lost {
                return Err(failed(why.clone()));
            }
            let Some(stream) = &mut now.stream else {
                return Err(failed("the server does not come back".into()));
            };
            let reply: Result<Reply, _> = send(stream, &request).and_then(|()| receive(stream));
            match reply {
                Ok(Reply { error: None, .. }) => return Ok(()),
                Ok(Reply {
                    error: Some(why), ..
                }) => return Err(failed(why)),
                Err(error) => {
                    tracing::warn!(%error, "the disk's server does not answer");
                    now.stream = None;
                }
            }
        }
        Err(failed("the server died twice over it".into()))
    }

    /// Ends the server in good order: what the guest wrote is on disk when this returns.
    pub fn close(mut self) -> Result<()> {
        self.end();
        let now = self.shared.lock();
        match (&now.lost, &now.ended) {
            (Some(why), _) | (None, Some(Err(why))) => {
                Err(Error::new(ErrorKind::Disk, "the disk's server").because(why.clone()))
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self) {
        let mut now = self.shared.lock();
        now.ending = true;
        // The end of its input is the order to end.
        now.stream = None;
        drop(now);
        self.shared.changed.notify_all();
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
    }
}

impl Drop for DiskServer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, code: Code, text: String) {
        // Nobody has to listen.
        drop(self.notices.send(Notice::new(code, text)));
    }

    /// Waits for the server's end, starts the next one, and so on.
    fn keep(&self, mut child: Child, mut alive: Option<std::process::ChildStdout>) {
        let mut budget = Budget::new(8, Duration::from_secs(60), Duration::from_millis(250));
        loop {
            // It writes nothing: this ends when it does.
            if let Some(mut alive) = alive.take() {
                let _ = alive.read_to_end(&mut Vec::new());
            }
            let status = child.wait();
            let words = status.map_or_else(|e| e.to_string(), |status| status.to_string());
            let mut now = self.lock();
            now.stream = None;
            if now.ending {
                now.ended = Some(match words.as_str() {
                    "exit status: 0" => Ok(()),
                    _ => Err(format!(
                        "it ended with {words}: the last writes may be lost"
                    )),
                });
                return;
            }
            drop(now);
            self.tell(
                Code::DiskServerDied,
                format!("the disk's server died ({words})"),
            );
            let started = match budget.spend(Instant::now()) {
                Some(pause) => self.again(pause),
                None => Err(Error::new(ErrorKind::Disk, "it died too often")),
            };
            let mut now = self.lock();
            match started {
                Ok(None) => return,
                Ok(Some(mut next)) => {
                    alive = next.child.stdout.take();
                    child = next.child;
                    now.pid = child.id();
                    now.stream = Some(next.stream);
                    drop(now);
                    let text = "the disk's server serves again".into();
                    self.tell(Code::DiskServerRestarted, text);
                }
                Err(error) => {
                    now.lost = Some(error.to_string());
                    drop(now);
                    self.tell(
                        Code::DiskServerGaveUp,
                        format!("the disk's server is not started again: {error}"),
                    );
                }
            }
            self.changed.notify_all();
            if self.lock().lost.is_some() {
                return;
            }
        }
    }

    /// The next server, unless the session ends first.
    fn again(&self, pause: Duration) -> Result<Option<Started>> {
        let now = self.lock();
        let (now, _) = self
            .changed
            .wait_timeout_while(now, pause, |now| !now.ending)
            .unwrap_or_else(PoisonError::into_inner);
        if now.ending {
            return Ok(None);
        }
        let order = now.order.clone();
        drop(now);
        launch_patiently(&self.program, &order, self.key.as_ref()).map(Some)
    }
}

/// Starts a server; one before it may still be at its last flush.
fn launch_patiently(program: &Program, order: &Order, key: Option<&DiskKey>) -> Result<Started> {
    let deadline = Instant::now() + HELD_WITHIN;
    loop {
        match launch(program, order, key) {
            Err(error)
                if order.wakes.is_none()
                    && error.kind() == ErrorKind::Busy
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

fn launch(program: &Program, order: &Order, key: Option<&DiskKey>) -> Result<Started> {
    let failed = |what: &str| {
        let what = format!("{}: {what}", order.disk.display());
        move |error: std::io::Error| Error::new(ErrorKind::Disk, what).because(error)
    };
    let (mut ours, theirs) =
        UnixStream::pair().map_err(failed("cannot talk to the disk's server"))?;
    let child = (program.0)()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        // Ctrl-C is the session's to handle.
        .process_group(0)
        .spawn()
        .map_err(failed("cannot start the disk's server"))?;
    let mut started = Started {
        child,
        stream: ours.try_clone().map_err(failed("cannot share a stream"))?,
    };
    let mut talk = || -> std::io::Result<Reply> {
        ours.set_read_timeout(Some(ANSWER_WITHIN))?;
        ours.set_write_timeout(Some(ANSWER_WITHIN))?;
        send(&mut ours, order)?;
        if let Some(key) = key {
            ours.write_all(key.key.as_bytes())?;
        }
        receive(&mut ours)
    };
    let refused = match talk() {
        Ok(Reply { error: None, .. }) => return Ok(started),
        Ok(Reply {
            error: Some(why),
            outdated,
        }) => {
            let kind = if outdated {
                ErrorKind::Busy
            } else {
                ErrorKind::Disk
            };
            Error::new(kind, why)
        }
        Err(error) => failed("the disk's server ended at its start")(error),
    };
    drop(started.child.kill());
    drop(started.child.wait());
    Err(refused)
}
