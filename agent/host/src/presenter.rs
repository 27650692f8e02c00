//! One presenter: a child process that is told commands and orders over a socket, its standard input, and tells
//! events on its standard output.
use crate::event::{Said, read};
use crate::lifeline;
use crate::line::Line;
use crate::{Error, Result};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Longer lines are no events. The longest is a whole menu of a tray item: 128 entries of 128 bytes, each of
/// which may have become three, and two of those in JSON.
const LINE: u64 = 256 << 10;

/// How presenters of a session are started.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// The workspace's name, in every title and every class.
    pub workspace: String,
    /// The sockets of the three channels.
    pub gui: PathBuf,
    /// See above.
    pub control: PathBuf,
    /// See above.
    pub bulk: PathBuf,
    /// The file of the memory that host and guest share, if there is one.
    pub pool: Option<PathBuf>,
    /// Further options: how windows look, what the clipboard may do, which display.
    pub options: Vec<OsString>,
}

/// A presenter that runs. Dropping it ends it.
pub(crate) struct Presenter {
    child: Arc<Mutex<Child>>,
    pid: u32,
    line: Line,
}

/// What it tells.
pub(crate) struct Events(BufReader<ChildStdout>);

impl Command {
    /// Starts one; a locked one shows nothing before it is told to. `allowed` are the services that the guest
    /// may use. It does not outlive the thread that calls this.
    pub(crate) fn start(&self, locked: bool, allowed: &str) -> Result<(Presenter, Events)> {
        let failed = || Error::system(format!("cannot start {}", self.program.display()));
        let mut command = std::process::Command::new(&self.program);
        command.args(["--json", "--commands"]);
        command.arg(format!("--workspace={}", self.workspace));
        if locked {
            command.arg("--locked");
        }
        if !allowed.is_empty() {
            command.args(["--allow", allowed]);
        }
        for (option, path) in [
            ("--gui", Some(&self.gui)),
            ("--control", Some(&self.control)),
            ("--bulk", Some(&self.bulk)),
            ("--pool", self.pool.as_ref()),
        ] {
            if let Some(path) = path {
                command.arg(option).arg(path);
            }
        }
        // A socket, for lines that carry descriptors.
        let (ours, theirs) = UnixStream::pair().map_err(failed())?;
        command
            .args(&self.options)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped());
        lifeline::tie(&mut command);
        let mut child = command.spawn().map_err(failed())?;
        // It holds the presenter's end of the socket, whose end is to be seen.
        drop(command);
        let (pid, events) = (child.id(), child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        let stuck = child.clone();
        let line = Line::to_presenter(ours, move || end(&stuck)).map_err(failed());
        match (line, events) {
            (Ok(line), Some(events)) => {
                let presenter = Presenter { child, pid, line };
                Ok((presenter, Events(BufReader::new(events))))
            }
            (line, _) => {
                end(&child);
                line?;
                Err(Error::Nonsense("the presenter has no output".into()))
            }
        }
    }
}

/// Ends the process, unless it has ended and was waited for.
fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // It holds nothing that it would have to put away; the display takes its windows back.
    let killed = child.kill();
    if let Err(error) = killed.and_then(|()| child.wait()) {
        tracing::debug!(%error, "the presenter has ended before");
    }
}

impl Presenter {
    /// The line to it.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl std::fmt::Debug for Presenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "presenter {}", self.pid)
    }
}

impl Drop for Presenter {
    fn drop(&mut self) {
        end(&self.child);
    }
}

impl Events {
    /// The next event; nothing when there will be no more. What cannot be read is passed over.
    pub fn next(&mut self) -> Option<Said> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let got = (&mut self.0).take(LINE).read_until(b'\n', &mut line);
            if !matches!(got, Ok(1..)) {
                return None;
            }
            match read(&line) {
                Ok(said) => return Some(said),
                Err(error) => tracing::warn!(%error, "the presenter said what is no event"),
            }
        }
    }
}
