//! One presenter: a child process that is told commands on its standard input and tells events on its
//! standard output.
use crate::event::Event;
use crate::{Error, Result};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// Longer lines are no events: a name has at most 256 bytes.
const LINE: u64 = 16 << 10;

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

/// A presenter that runs. Dropping it hangs up, by which it ends.
pub(crate) struct Presenter {
    child: Child,
    commands: Option<ChildStdin>,
}

/// What it tells.
pub(crate) struct Events(BufReader<ChildStdout>);

impl Command {
    /// Starts one; a locked one shows nothing before it is told to.
    pub(crate) fn start(&self, locked: bool) -> Result<(Presenter, Events)> {
        let mut command = std::process::Command::new(&self.program);
        command.args(["--json", "--commands"]);
        command.arg(format!("--workspace={}", self.workspace));
        if locked {
            command.arg("--locked");
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
        command
            .args(&self.options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let what = format!("cannot start {}", self.program.display());
        let mut child = command.spawn().map_err(Error::system(what))?;
        let (commands, events) = (child.stdin.take(), child.stdout.take());
        let presenter = Presenter { child, commands };
        match events {
            Some(events) => Ok((presenter, Events(BufReader::new(events)))),
            None => Err(Error::Nonsense("the presenter has no output".into())),
        }
    }
}

impl Presenter {
    /// Tells it a command. One that has just died does not hear it; its end is noticed elsewhere.
    pub fn tell(&mut self, command: &str) {
        if let Some(commands) = &mut self.commands
            && let Err(error) = writeln!(commands, "{command}").and_then(|()| commands.flush())
        {
            tracing::debug!(%error, "the presenter does not listen");
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Presenter {
    fn drop(&mut self) {
        drop(self.commands.take());
        // It holds nothing that it would have to put away; the display takes its windows back.
        let killed = self.child.kill();
        if let Err(error) = killed.and_then(|()| self.child.wait()) {
            tracing::debug!(%error, "the presenter has ended before");
        }
    }
}

impl Events {
    /// The next event; nothing when there will be no more. What cannot be read is passed over.
    pub fn next(&mut self) -> Option<Event> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.0).take(LINE).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                return None;
            }
            match serde_json::from_slice(&line) {
                Ok(event) => return Some(event),
                Err(error) => tracing::warn!(%error, "the presenter said what is no event"),
            }
        }
    }
}
