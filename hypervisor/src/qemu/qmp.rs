//! A client of the QEMU Machine Protocol: commands matched to replies, events, time limits.
//!
//! Our own, because what a session needs is small and strict: many threads, a limit on every
//! wait, a limit on every line, and a peer that may fall silent or talk nonsense. (The `qapi`
//! crate's blocking client has no limits, and cannot take events and replies from several threads
//! without tokio; its generated types would serve the dozen commands we send.)

use crate::sync::lock;
use crate::{Error, ErrorKind, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// No message we ask for comes near this.
const LINE_MAX: u64 = 1 << 20;

/// A QEMU that does not read our few bytes in this time never will.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// What QEMU sends without being asked.
#[derive(Debug)]
pub struct QmpEvent {
    /// Its name, as `SHUTDOWN`.
    pub name: String,
    /// Its fields; an empty object if it has none.
    pub data: Value,
}

/// What the reader's thread reports.
#[derive(Debug)]
pub enum Report {
    /// QEMU tells of itself.
    Event(QmpEvent),
    /// QEMU hung up or talked nonsense; nothing comes after.
    Closed,
}

/// A connection to one QEMU.
#[derive(Debug)]
pub(super) struct Client {
    writer: Mutex<UnixStream>,
    waiting: Arc<Waiting>,
}

/// Those who wait for a reply.
#[derive(Debug, Default)]
struct Waiting {
    state: Mutex<WaitingState>,
}

#[derive(Debug, Default)]
struct WaitingState {
    last_id: u64,
    replies: HashMap<u64, SyncSender<Value>>,
    // Why there will be no more replies.
    closed: Option<String>,
}

impl Client {
    /// Greets QEMU and starts listening. `report` runs on the reader's thread, in the order of the
    /// protocol: the report of an event that QEMU sent before a reply is over before `execute`
    /// returns. It must not call `execute`.
    pub fn connect(
        stream: UnixStream,
        timeout: Duration,
        mut report: impl FnMut(Report) + Send + 'static,
    ) -> Result<Client> {
        let deadline = Instant::now() + timeout;
        stream
            .set_write_timeout(Some(WRITE_WITHIN))
            .map_err(|error| Error::io("connect to QEMU's monitor", error))?;
        let mut reader = Lines::new(&stream)?;
        let mut early = Vec::new();
        let greeting = reader.next_before(deadline)?;
        if !greeting.get("QMP").is_some_and(Value::is_object) {
            return Err(nonsense("the greeting", &greeting));
        }
        write(
            &stream,
            &json!({"execute": "qmp_capabilities", "id": 0}),
            None,
        )?;
        loop {
            let message = reader.next_before(deadline)?;
            if let Some(event) = event_of(&message) {
                early.push(event);
            } else if message.get("return").is_some() {
                break;
            } else {
                return Err(refused("qmp_capabilities", &message));
            }
        }
        reader.no_deadline()?;

        let waiting = Arc::new(Waiting::default());
        let theirs = Arc::clone(&waiting);
        thread::Builder::new()
            .name("machine-monitor".into())
            .spawn(move || {
                early
                    .into_iter()
                    .for_each(|event| report(Report::Event(event)));
                let why = theirs.read(&mut reader, &mut report);
                theirs.close(why);
                report(Report::Closed);
            })
            .map_err(|error| Error::io("start the monitor's thread", error))?;
        Ok(Client {
            writer: Mutex::new(stream),
            waiting,
        })
    }

    /// Runs one command and returns its result.
    ///
    /// Fails with `Refused` and QEMU's words if QEMU declines, `Timeout` if it stays silent (a late
    /// reply is dropped), `Protocol` if the connection is or becomes unusable.
    pub fn execute(&self, command: &str, arguments: Value, timeout: Duration) -> Result<Value> {
        self.run(command, arguments, None, timeout)
    }

    /// Gives QEMU a descriptor, which later commands may call by this name.
    pub fn hand_over(&self, name: &str, fd: BorrowedFd<'_>, timeout: Duration) -> Result<()> {
        let arguments = json!({"fdname": name});
        self.run("getfd", arguments, Some(fd), timeout).map(drop)
    }

    fn run(
        &self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
        timeout: Duration,
    ) -> Result<Value> {
        let (send, reply) = sync_channel(1);
        let id = self.waiting.enter(command, send)?;
        let mut message = Map::new();
        message.insert("execute".into(), command.into());
        message.insert("id".into(), id.into());
        if !arguments.is_null() {
            message.insert("arguments".into(), arguments);
        }
        tracing::trace!(command, id, "qmp");
        let written = write(&lock(&self.writer), &Value::Object(message), fd);
        if let Err(error) = written {
            self.waiting.leave(id);
            return Err(error);
        }
        match reply.recv_timeout(timeout) {
            Ok(mut reply) => match reply.get_mut("return") {
                Some(value) => Ok(value.take()),
                None => Err(refused(command, &reply)),
            },
            Err(RecvTimeoutError::Timeout) => {
                self.waiting.leave(id);
                let detail = format!("no reply within {timeout:?}");
                Err(Error::new(ErrorKind::Timeout, operation(command), detail))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.waiting.why_closed(command)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Wakes the reader's thread, which holds the other half.
        drop(lock(&self.writer).shutdown(Shutdown::Both));
    }
}

impl Waiting {
    fn enter(&self, command: &str, reply: SyncSender<Value>) -> Result<u64> {
        let mut state = lock(&self.state);
        if state.closed.is_some() {
            drop(state);
            return Err(self.why_closed(command));
        }
        state.last_id += 1;
        let id = state.last_id;
        state.replies.insert(id, reply);
        Ok(id)
    }

    fn leave(&self, id: u64) {
        lock(&self.state).replies.remove(&id);
    }

    fn close(&self, why: String) {
        let mut state = lock(&self.state);
        state.closed = Some(why);
        state.replies.clear(); // wakes all who wait
    }

    fn why_closed(&self, command: &str) -> Error {
        let why = lock(&self.state)
            .closed
            .clone()
            .unwrap_or_else(|| "it hung up".into());
        Error::new(ErrorKind::Protocol, operation(command), why)
    }

    /// Reads until the connection ends; returns why it did.
    fn read(&self, reader: &mut Lines, report: &mut impl FnMut(Report)) -> String {
        loop {
            let message = match reader.next() {
                Ok(message) => message,
                Err(error) => return error.to_string(),
            };
            if let Some(event) = event_of(&message) {
                report(Report::Event(event));
            } else if let Some(id) = message.get("id").and_then(Value::as_u64) {
                // Nobody waits if the reply comes too late.
                if let Some(reply) = lock(&self.state).replies.remove(&id) {
                    drop(reply.send(message));
                }
            } else {
                return nonsense("a message", &message).to_string();
            }
        }
    }
}

fn operation(command: &str) -> String {
    format!("QEMU monitor command {command}")
}

fn refused(command: &str, reply: &Value) -> Error {
    match reply.pointer("/error/desc").and_then(Value::as_str) {
        Some(words) => Error::new(ErrorKind::Refused, operation(command), words),
        None => nonsense("the reply", reply),
    }
}

fn nonsense(what: &str, message: &Value) -> Error {
    let text: String = message.to_string().chars().take(120).collect();
    Error::new(
        ErrorKind::Protocol,
        "read from QEMU's monitor",
        format!("{what} is not of the protocol: {text}"),
    )
}

fn event_of(message: &Value) -> Option<QmpEvent> {
    let name = message.get("event")?.as_str()?.to_owned();
    let data = message.get("data").cloned().unwrap_or_else(|| json!({}));
    Some(QmpEvent { name, data })
}

/// Writes one line; a descriptor travels with its first byte.
fn write(mut stream: &UnixStream, message: &Value, fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let line = format!("{message}\n");
    let mut rest = line.as_bytes();
    let sent = match fd {
        None => Ok(0),
        Some(fd) => {
            let fds = [fd.as_raw_fd()];
            let (bytes, rights) = ([IoSlice::new(rest)], [ControlMessage::ScmRights(&fds)]);
            let flags = MsgFlags::MSG_NOSIGNAL;
            sendmsg::<()>(stream.as_raw_fd(), &bytes, &rights, flags, None)
        }
    };
    sent.map_err(io::Error::from)
        .and_then(|sent| {
            rest = &rest[sent..];
            stream.write_all(rest)
        })
        .map_err(|error| match error.kind() {
            // Part of the line may be out: whoever writes next must not continue it.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                drop(stream.shutdown(Shutdown::Both));
                Error::new(
                    ErrorKind::Timeout,
                    "write to QEMU's monitor",
                    "it does not read",
                )
            }
            _ => Error::new(
                ErrorKind::Protocol,
                "write to QEMU's monitor",
                error.to_string(),
            ),
        })
}

/// The messages of a stream, one a line.
struct Lines {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Lines {
    fn new(stream: &UnixStream) -> Result<Lines> {
        let stream = stream
            .try_clone()
            .map_err(|error| Error::io("connect to QEMU's monitor", error))?;
        Ok(Lines {
            reader: BufReader::new(stream),
            line: Vec::new(),
        })
    }

    fn next(&mut self) -> Result<Value> {
        let failed = |kind, why: String| Err(Error::new(kind, "read from QEMU's monitor", why));
        let room = LINE_MAX - self.line.len() as u64;
        match self
            .reader
            .by_ref()
            .take(room)
            .read_until(b'\n', &mut self.line)
        {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return failed(ErrorKind::Timeout, "it is silent".into());
            }
            Err(error) => return failed(ErrorKind::Protocol, error.to_string()),
            Ok(_) => {}
        }
        let line = std::mem::take(&mut self.line);
        if line.last() != Some(&b'\n') {
            let why = match line.len() as u64 {
                LINE_MAX => "a line of more than 1 MiB",
                _ => "it hung up",
            };
            return failed(ErrorKind::Protocol, why.into());
        }
        match serde_json::from_slice(&line) {
            Ok(message @ Value::Object(_)) => Ok(message),
            Ok(message) => Err(nonsense("a message", &message)),
            Err(error) => failed(ErrorKind::Protocol, format!("not JSON: {error}")),
        }
    }

    /// Like `next`, against a peer that sends a little now and then for ever.
    fn next_before(&mut self, deadline: Instant) -> Result<Value> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let silent = || {
                Error::new(
                    ErrorKind::Timeout,
                    "read from QEMU's monitor",
                    "it does not finish",
                )
            };
            if left.is_zero() {
                return Err(silent());
            }
            self.reader
                .get_ref()
                .set_read_timeout(Some(left))
                .map_err(|error| Error::io("read from QEMU's monitor", error))?;
            // One system call at most, so that the deadline is looked at after each.
            let ready = self.reader.fill_buf();
            let chunk = match ready {
                Ok([]) => return self.next(),
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(silent()),
                Err(_) => return self.next(),
            };
            if chunk.contains(&b'\n') || self.line.len() + chunk.len() >= LINE_MAX as usize {
                return self.next();
            }
            let count = chunk.len();
            self.line.extend_from_slice(chunk);
            self.reader.consume(count);
        }
    }

    fn no_deadline(&self) -> Result<()> {
        self.reader
            .get_ref()
            .set_read_timeout(None)
            .map_err(|error| Error::io("read from QEMU's monitor", error))
    }
}

#[cfg(test)]
#[path = "qmp_tests.rs"]
mod tests;
