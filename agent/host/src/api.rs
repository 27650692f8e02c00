//! How other processes of the same user ask a session for its windows: a socket in the session's folder, one
//! question and one answer on a line of JSON each. The folder is its owner's alone, and so is the socket.
use crate::app::App;
use crate::desk::{Counter, Desk, Launch};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The socket's name in the session's folder.
const SOCKET: &str = "windows.sock";
/// The longest question names as many files as a launch may have.
const QUESTION: u64 = 512 << 10;
/// An answer may list the most apps there can be, with all the types and actions that each may have: some 12 KB.
const ANSWER: u64 = 32 << 20;
/// Questions that are answered at the same time.
const AT_ONCE: usize = 32;
/// The longest that an answer is waited for.
const LONGEST: Duration = Duration::from_secs(600);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Which apps the guest has.
    Apps {
        /// Seconds to wait until it says so.
        seconds: u32,
    },
    /// Launch one.
    Run {
        /// Its id, or its name.
        app: String,
        /// Which of its actions; zero is the app itself.
        #[serde(default)]
        action: u8,
        /// Addresses for it to open.
        #[serde(default)]
        arguments: Vec<String>,
        /// Files for it to open: absolute paths, whose last parts are no links. They are sent first.
        #[serde(default)]
        files: Vec<PathBuf>,
        /// Answer when its first window is there.
        window: bool,
        /// Seconds to wait.
        seconds: u32,
    },
    /// Launch whichever app opens these.
    Open {
        /// Addresses.
        #[serde(default)]
        arguments: Vec<String>,
        /// Files, as above.
        #[serde(default)]
        files: Vec<PathBuf>,
        /// Answer when its first window is there.
        window: bool,
        /// Seconds to wait.
        seconds: u32,
    },
    /// Send files to the guest.
    Send {
        /// Absolute paths, as above.
        files: Vec<PathBuf>,
        /// Seconds to wait.
        seconds: u32,
    },
    /// Take the guest's windows off the screen, or show them again.
    Lock {
        /// Whether.
        locked: bool,
    },
    /// How things stand.
    Status,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The guest's apps.
    Apps {
        /// By name.
        apps: Vec<App>,
    },
    /// It runs.
    Running {
        /// Which.
        app: App,
    },
    /// It was done.
    Done,
    /// How things stand.
    Status {
        /// A presenter is there.
        ready: bool,
        /// Windows on the screen.
        windows: u32,
        /// None of them shows the guest's pixels.
        locked: bool,
    },
    /// It was not done.
    Refused {
        /// Why.
        words: String,
    },
}

/// Answers questions until it is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    path: PathBuf,
    door: UnixListener,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    /// Lets other processes of this user ask, through a socket in the session's folder. It is gone when the
    /// returned value is dropped.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn answer_in(&self, folder: &Path) -> Result<impl Sized + use<>> {
        let path = folder.join(SOCKET);
        // One that a killed process left; the folder's lock says that it has no owner.
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::file("cannot replace the socket", &path)(error));
        }
        let failed = "cannot listen";
        let listener = UnixListener::bind(&path).map_err(Error::file(failed, &path))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private)
            .map_err(Error::file("cannot keep others out", &path))?;
        let door = listener.try_clone().map_err(Error::file(failed, &path))?;
        let ending = Arc::new(AtomicBool::new(false));
        let (counter, over) = (self.counter(), ending.clone());
        let thread = std::thread::Builder::new()
            .name("windows-api".into())
            .spawn(move || listen(&listener, &counter, &over))
            .map_err(Error::system("cannot start a thread that answers"))?;
        Ok(Service {
            path,
            door,
            ending,
            thread: Some(thread),
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the listener up, whatever has become of the socket's name.
        let woken =
            nix::sys::socket::shutdown(self.door.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Err(error) = woken {
            tracing::debug!(%error, "the listener sleeps on");
            drop(UnixStream::connect(&self.path));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        drop(std::fs::remove_file(&self.path));
    }
}

fn listen(listener: &UnixListener, counter: &Counter, ending: &AtomicBool) {
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: not in circles.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if busy.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            busy.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (counter, own) = (counter.clone(), busy.clone());
        let answering = std::thread::Builder::new().spawn(move || {
            if let Err(error) = converse(&stream, &counter) {
                tracing::debug!(%error, "a question was not answered");
            }
            own.fetch_sub(1, Ordering::SeqCst);
        });
        if answering.is_err() {
            busy.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn converse(stream: &UnixStream, counter: &Counter) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(QUESTION)).read_until(b'\n', &mut line)?;
    let answer = match serde_json::from_slice(&line) {
        Ok(ask) => respond(&ask, counter).unwrap_or_else(|words| Answer::Refused { words }),
        Err(error) => Answer::Refused {
            words: format!("no question: {error}"),
        },
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    (&mut &*stream).write_all(&line)
}

fn respond(ask: &Ask, counter: &Counter) -> Result<Answer, String> {
    let limit = |seconds: u32| Duration::from_secs(seconds.into()).min(LONGEST);
    Ok(match ask {
        Ask::Apps { seconds } => Answer::Apps {
            apps: counter.apps(limit(*seconds))?.1,
        },
        Ask::Run {
            app,
            action,
            arguments,
            files,
            window,
            seconds,
        } => {
            let how = Launch {
                action: *action,
                arguments: arguments.clone(),
                files: files.clone(),
                window: *window,
            };
            let app = counter.run(app, &how, limit(*seconds))?;
            Answer::Running { app }
        }
        Ask::Open {
            arguments,
            files,
            window,
            seconds,
        } => {
            let how = Launch {
                action: 0,
                arguments: arguments.clone(),
                files: files.clone(),
                window: *window,
            };
            let app = counter.open(&how, limit(*seconds))?;
            Answer::Running { app }
        }
        Ask::Send { files, seconds } => {
            counter.send(files, limit(*seconds))?;
            Answer::Done
        }
        Ask::Lock { locked } => {
            counter.set_locked(*locked, Duration::from_secs(10))?;
            Answer::Done
        }
        Ask::Status => {
            let (ready, windows, locked) = counter.status();
            Answer::Status {
                ready,
                windows,
                locked,
            }
        }
    })
}

/// Asks the session in this folder.
///
/// # Errors
/// No session with windows runs there, it refuses, or does not answer.
pub fn ask(folder: &Path, ask: &Ask) -> Result<Answer> {
    let path = folder.join(SOCKET);
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Err(Error::Nobody(folder.to_path_buf()));
        }
        Err(error) => return Err(Error::file("cannot ask", &path)(error)),
    };
    let failed = || Error::file("cannot ask", &path);
    let nonsense = |error: serde_json::Error| Error::Nonsense(error.to_string());
    let mut line = serde_json::to_vec(ask).map_err(nonsense)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed())?;
    let patience = LONGEST + Duration::from_secs(20);
    stream.set_read_timeout(Some(patience)).map_err(failed())?;
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER))
        .read_until(b'\n', &mut line)
        .map_err(failed())?;
    match serde_json::from_slice(&line).map_err(nonsense)? {
        Answer::Refused { words } => Err(Error::Refused(words)),
        answer => Ok(answer),
    }
}
