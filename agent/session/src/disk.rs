//! The disk's server as the session sees it: a child that is told what to do, and started again under the
//! running guest when it dies.

use crate::server::{Order, RefusalKind, Reply, Request, receive, send};
use crate::unflushed::Unflushed;
use crate::watchdog::Budget;
use crate::{Code, Error, ErrorKind, Notice, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fmt;
use std::io::Write;
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
/// How often a server may be started again within a minute, and the pause before the second time.
const BUDGET: (usize, Duration, Duration) =
    (8, Duration::from_secs(60), Duration::from_millis(250));

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
    /// One question at a time; never held together with `now`'s lock by whoever waits for an answer.
    turn: Mutex<()>,
    now: Mutex<Now>,
    changed: Condvar,
    notices: Sender<Notice>,
}

#[derive(Debug)]
struct Now {
    /// What the next server is told.
    order: Order,
    /// The present one's; `None` while there is none that listens.
    stream: Option<UnixStream>,
    /// The present one's, until it is reaped: only then may its number be another's.
    pid: Option<u32>,
    /// The session ends the server, and wants no other.
    ending: bool,
    /// The session ends this server, and wants another one.
    moving: bool,
    /// Why there is no server any more, and will be none.
    lost: Option<String>,
    /// How the last server ended.
    ended: Option<Result<(), String>>,
}

impl Now {
    /// Ends a server that does not answer.
    fn kill(&mut self) {
        self.stream = None;
        if let Some(pid) = self.pid {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
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
        let started = launch_patiently(
            &program,
            &order,
            key.as_ref(),
            &Unflushed::default(),
            || false,
        )?;
        let shared = Arc::new(Shared {
            program,
            key,
            turn: Mutex::default(),
            now: Mutex::new(Now {
                order: Order {
                    again: true,
                    ..order
                },
                stream: Some(started.stream),
                pid: Some(started.child.id()),
                ending: false,
                moving: false,
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
            .spawn(move || theirs.keep(child))
            .map_err(|e| {
                Error::new(ErrorKind::Disk, "no thread for the disk's server").because(e)
            })?;
        Ok(Self {
            shared,
            keeper: Some(keeper),
        })
    }

    /// The server's process now, if there is one.
    pub fn process_id(&self) -> Option<u32> {
        self.shared.lock().pid
    }

    /// Flushes the disk and ties its overlay to a saved state.
    pub fn sleep(&self, state: [u8; 32]) -> Result<()> {
        // Whether a server that dies over it has done it or not, the next one copes.
        self.shared.lock().order.wakes = Some(state);
        self.ask(Request::Sleep(state))
    }

    /// Lets the overlay be written again.
    pub fn wake(&self) -> Result<()> {
        self.ask(Request::Wake)?;
        self.shared.lock().order.wakes = None;
        Ok(())
    }

    /// Has the disk served as this says from now on, on the same socket: by a new server, for which the
    /// machine's requests wait.
    pub fn move_on(&self, change: impl FnOnce(&mut Order)) -> Result<()> {
        let mut now = self.shared.lock();
        change(&mut now.order);
        now.moving = true;
        now.stream = None;
        drop(now);
        self.ask(Request::Flush)
    }

    /// Asks the server something. A server that dies over it, or does not answer, is started again, and
    /// asked once more.
    fn ask(&self, request: Request) -> Result<()> {
        let _turn = self
            .shared
            .turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let failed = |why: String| Error::new(ErrorKind::Disk, format!("{request:?}: {why}"));
        for _ in 0..2 {
            let mut stream = self.shared.stream().map_err(failed)?;
            let reply: Result<Reply, _> =
                send(&mut stream, &request).and_then(|()| receive(&mut stream));
            match reply {
                Ok(Reply { refused: None }) => return Ok(()),
                Ok(Reply {
                    refused: Some(refusal),
                }) => return Err(failed(refusal.why)),
                Err(error) => {
                    tracing::warn!(%error, "the disk's server does not answer");
                    self.shared.lock().kill();
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
            (None, Some(Ok(()))) => Ok(()),
            (Some(why), _) | (None, Some(Err(why))) => {
                Err(Error::new(ErrorKind::Disk, "the disk's server").because(why.clone()))
            }
            (None, None) => Err(Error::new(ErrorKind::Disk, "nobody knows how it ended")),
        }
    }

    fn end(&mut self) {
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        let mut now = self.shared.lock();
        now.ending = true;
        // The end of its input is the order to end.
        now.stream = None;
        self.shared.changed.notify_all();
        let over = |now: &mut Now| now.ended.is_none() && now.lost.is_none();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(now, ANSWER_WITHIN, over);
        let (mut now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            tracing::warn!("the disk's server does not end; killing it");
            now.kill();
        }
        drop(now);
        drop(keeper.join());
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

    /// The stream to the server, waiting for one that is being started.
    fn stream(&self) -> Result<UnixStream, String> {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), ANSWER_WITHIN, |now| {
                now.stream.is_none() && now.lost.is_none()
            });
        let (now, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (&now.lost, &now.stream) {
            (Some(why), _) => Err(why.clone()),
            (None, Some(stream)) => stream.try_clone().map_err(|error| error.to_string()),
            (None, None) => Err("the server does not come back".into()),
        }
    }

    /// Waits for the server's end, starts the next one, and so on.
    fn keep(&self, mut child: Child) {
        let (most, within, pause) = BUDGET;
        let mut budget = Budget::new(most, within, pause);
        let mut unflushed = Unflushed::default();
        loop {
            // This ends when it does.
            if let Some(Err(error)) = child.stdout.take().map(|told| unflushed.listen(told)) {
                tracing::warn!(%error, "the disk's server talks nonsense");
            }
            let words = self.reap(&mut child);
            let mut now = self.lock();
            now.stream = None;
            let clean = words == "exit status: 0";
            if now.ending {
                now.ended = Some(match clean {
                    true => Ok(()),
                    false => Err(format!(
                        "it ended with {words}: the last writes may be lost"
                    )),
                });
                drop(now);
                return self.changed.notify_all();
            }
            let moving = std::mem::take(&mut now.moving) && clean;
            drop(now);
            if !moving {
                let text = format!("the disk's server died ({words})");
                self.tell(Code::DiskServerDied, text);
            }
            match self.next(&mut budget, moving, &unflushed) {
                Ok(Some(next)) => child = next,
                Ok(None) => {
                    self.lock().ended = Some(Err(format!("it died ({words})")));
                    return self.changed.notify_all();
                }
                Err(error) => {
                    self.lock().lost = Some(error.to_string());
                    self.changed.notify_all();
                    let text = format!("the disk's server is not started again: {error}");
                    return self.tell(Code::DiskServerGaveUp, text);
                }
            }
            if !moving {
                let text = "the disk's server serves again".into();
                self.tell(Code::DiskServerRestarted, text);
            }
        }
    }

    /// Waits for the child's end without reaping it, so that its number stays its own while others may
    /// kill it.
    fn reap(&self, child: &mut Child) -> String {
        let pid = Pid::from_raw(child.id().cast_signed());
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), ended) == Err(nix::errno::Errno::EINTR) {}
        let mut now = self.lock();
        now.pid = None;
        let status = child.wait();
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    /// Starts the next server, as often as the budget allows; `None` when the session ends meanwhile.
    fn next(
        &self,
        budget: &mut Budget,
        moving: bool,
        unflushed: &Unflushed,
    ) -> Result<Option<Child>> {
        let mut last = Error::new(ErrorKind::Disk, "it died too often");
        let mut pause = match moving {
            true => Some(Duration::ZERO),
            false => budget.spend(Instant::now()),
        };
        while let Some(wait) = pause {
            let waited = self
                .changed
                .wait_timeout_while(self.lock(), wait, |now| !now.ending);
            let (now, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if now.ending {
                return Ok(None);
            }
            let order = now.order.clone();
            drop(now);
            let (key, ending) = (self.key.as_ref(), || self.lock().ending);
            match launch_patiently(&self.program, &order, key, unflushed, ending) {
                Ok(started) => {
                    let mut now = self.lock();
                    now.pid = Some(started.child.id());
                    // A session that ends meanwhile wants this one to end, too: its input ends here.
                    now.stream = (!now.ending).then_some(started.stream);
                    drop(now);
                    self.changed.notify_all();
                    return Ok(Some(started.child));
                }
                Err(error) => last = error,
            }
            pause = budget.spend(Instant::now());
        }
        Err(last)
    }
}

/// Starts a server; one before it may still be at its last flush.
fn launch_patiently(
    program: &Program,
    order: &Order,
    key: Option<&DiskKey>,
    unflushed: &Unflushed,
    hurry: impl Fn() -> bool,
) -> Result<Started> {
    let deadline = Instant::now() + HELD_WITHIN;
    loop {
        match launch(program, order, key, unflushed) {
            Err(error)
                if error.kind() == ErrorKind::Busy && Instant::now() < deadline && !hurry() =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

fn launch(
    program: &Program,
    order: &Order,
    key: Option<&DiskKey>,
    unflushed: &Unflushed,
) -> Result<Started> {
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
        let sent = unflushed.send(&mut ours);
        // One that refuses the disk does not take them, and its answer says more.
        receive(&mut ours).map_err(|error| sent.err().unwrap_or(error))
    };
    let refused = match talk() {
        Ok(Reply { refused: None }) => return Ok(started),
        Ok(Reply {
            refused: Some(refusal),
        }) => {
            let kind = match refusal.kind {
                RefusalKind::Outdated => ErrorKind::Outdated,
                RefusalKind::Busy => ErrorKind::Busy,
                RefusalKind::Other => ErrorKind::Disk,
            };
            Error::new(kind, refusal.why)
        }
        Err(error) => failed("the disk's server ended at its start")(error),
    };
    drop(started.child.kill());
    drop(started.child.wait());
    Err(refused)
}
