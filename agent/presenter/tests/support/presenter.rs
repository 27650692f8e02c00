//! The presenter as a supervisor has it: commands go in, events come out.
use super::{PATIENCE, Sockets, wait_for};
use medley_desktop::{Desktop, Process};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// The presenter.
pub struct Presenter {
    pub process: Process,
    stdin: UnixStream,
    lines: Receiver<serde_json::Value>,
    pub seen: Vec<serde_json::Value>,
}

impl Presenter {
    pub fn start(desk: &Desktop, guest: &Sockets, more: &[&str]) -> Self {
        let mut all = vec!["--workspace", "test", "--colour", "c02040"];
        all.extend(more);
        Self::start_as(desk, guest, &all)
    }

    pub fn start_as(desk: &Desktop, guest: &Sockets, more: &[&str]) -> Self {
        let mut command = Self::command_line(guest, more);
        command.args(["--display", &desk.name]);
        Self::run(command)
    }

    /// How it is started, but for its display.
    pub fn command_line(guest: &Sockets, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_medley-presenter"));
        command
            .args(["--json", "--commands"])
            .arg("--gui")
            .arg(guest.dir.path().join("gui"))
            .args(more);
        command
    }

    pub fn run(mut command: Command) -> Self {
        let (stdin, theirs) = UnixStream::pair().unwrap();
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped());
        let mut process = Process::start(&mut command).unwrap();
        let out = BufReader::new(process.0.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("every line is JSON");
                if to.send(value).is_err() {
                    break;
                }
            }
        });
        Self {
            stdin,
            process,
            lines,
            seen: Vec::new(),
        }
    }

    pub fn command(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Gives an order that goes with a file.
    pub fn order(&self, order: &serde_json::Value, file: &std::fs::File) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let line = format!("{order}\n");
        let pieces = [std::io::IoSlice::new(line.as_bytes())];
        sendmsg(&self.stdin, &pieces, &mut control, SendFlags::empty()).unwrap();
    }

    /// Waits for an event with that name.
    pub fn event(&mut self, name: &str) -> serde_json::Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(value) = self.lines.recv_timeout(left) else {
                panic!("no event {name:?}; there were {:?}", self.seen);
            };
            self.seen.push(value.clone());
            if value["event"] == name {
                return value;
            }
        }
    }

    /// Waits until it ends, and says with which code.
    pub fn ended(&mut self) -> i32 {
        let mut code = None;
        wait_for("the presenter's end", || {
            code = self.process.0.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code().unwrap_or(-1)
    }
}
