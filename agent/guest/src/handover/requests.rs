//! What programs in the guest ask of its agent: to send a file, to open an address on the host. Over a Unix
//! socket of the user's own; one question a connection, as two texts that each end in a zero byte, and one
//! answer, `yes` or `no` and words.
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Who may ask at once.
const CLIENTS: usize = 64;

/// Bytes of a question: an address is the longest.
const QUESTION: usize = medley_wire::limits::URL_BYTES + 64;

/// Bytes of an answer.
const ANSWER: u64 = 4096;

/// What somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Send this file.
    Send(PathBuf),
    /// Open this address.
    Open(String),
}

/// What happened at the socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks.
    Asked(u64, Question),
    /// Somebody no longer waits for an answer.
    Gone(u64),
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    question: Vec<u8>,
    asked: bool,
}

/// The socket, and those who ask.
#[derive(Debug)]
pub struct Requests {
    listener: Option<UnixListener>,
    path: Option<PathBuf>,
    clients: BTreeMap<u64, Client>,
    next: u64,
}

impl Requests {
    /// Listens where programs of the same user look; without such a place, nobody can ask.
    #[must_use]
    pub fn new() -> Self {
        let place = places().into_iter().next();
        let listener = place.as_deref().map(listen).transpose();
        let listener = listener.unwrap_or_else(|error| {
            tracing::warn!("programs of the guest cannot ask the agent for anything: {error:#}");
            None
        });
        Self {
            path: place.filter(|_| listener.is_some()),
            listener,
            clients: BTreeMap::new(),
            next: 0,
        }
    }

    /// What to poll, and for what.
    pub fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let streams = self.clients.values().map(|client| client.stream.as_fd());
        self.listener
            .iter()
            .map(AsFd::as_fd)
            .chain(streams)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
    }

    /// Deals with whoever came, asked or went.
    pub fn work(&mut self) -> Vec<Event> {
        self.accept();
        let mut events = Vec::new();
        self.clients.retain(|id, client| match client.read() {
            Ok(None) => true,
            Ok(Some(question)) => {
                client.asked = true;
                events.push(Event::Asked(*id, question));
                true
            }
            Err(error) => {
                if client.asked {
                    events.push(Event::Gone(*id));
                } else if error.kind() == ErrorKind::InvalidData {
                    client.answer(Err("the agent does not understand the question"));
                }
                false
            }
        });
        events
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        loop {
            match listener.accept() {
                Ok((stream, _)) if self.clients.len() < CLIENTS => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.next += 1;
                        let client = Client {
                            stream,
                            question: Vec::new(),
                            asked: false,
                        };
                        self.clients.insert(self.next, client);
                    }
                }
                // Too many: this one finds its connection closed.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Answers, and is done with whoever asked.
    pub fn answer(&mut self, client: u64, result: Result<(), &str>) {
        if let Some(mut client) = self.clients.remove(&client) {
            client.answer(result);
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl Client {
    /// Reads what is there: a question, once it is whole. An error, if there will be none, or nobody any more.
    fn read(&mut self) -> std::io::Result<Option<Question>> {
        let mut room = [0; 4096];
        loop {
            match self.stream.read(&mut room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                // Whoever has asked has nothing more to say.
                Ok(_) if self.asked => {}
                Ok(count) => {
                    self.question.extend_from_slice(&room[..count]);
                    if self.question.len() > QUESTION {
                        return Err(ErrorKind::InvalidData.into());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.asked {
            return Ok(None);
        }
        parse(&self.question)
    }

    fn answer(&mut self, result: Result<(), &str>) {
        let text = match result {
            Ok(()) => "yes ".to_owned(),
            Err(words) => format!("no {words}"),
        };
        // It fits into the socket's own room, or whoever asked is gone.
        let _ = self.stream.write_all(text.as_bytes());
    }
}

/// A question, if it is whole.
fn parse(bytes: &[u8]) -> std::io::Result<Option<Question>> {
    let mut parts = bytes.split(|byte| *byte == 0);
    let (Some(verb), Some(what), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let wrong = || std::io::Error::from(ErrorKind::InvalidData);
    if !rest.is_empty() || what.is_empty() {
        return Err(wrong());
    }
    match verb {
        b"send" => {
            let path = PathBuf::from(OsStr::from_bytes(what));
            path.is_absolute()
                .then_some(Some(Question::Send(path)))
                .ok_or_else(wrong)
        }
        b"open" => {
            let url = str::from_utf8(what).map_err(|_| wrong())?;
            Ok(Some(Question::Open(url.to_owned())))
        }
        _ => Err(wrong()),
    }
}

/// Asks the agent, and waits for its answer.
///
/// # Errors
/// No agent listens, or it says no; in its words.
pub fn ask(question: &Question) -> Result<()> {
    let places = places();
    let connected = places
        .iter()
        .find_map(|path| UnixStream::connect(path).ok());
    let Some(mut stream) = connected else {
        bail!("medley's agent does not run here (systemctl status medley-session)");
    };
    let (verb, what) = match question {
        Question::Send(path) => ("send", path.as_os_str().as_bytes()),
        Question::Open(url) => ("open", url.as_bytes()),
    };
    if what.len() + 16 > QUESTION || what.contains(&0) {
        bail!("is too long, or holds a zero byte");
    }
    let message = [verb.as_bytes(), &[0], what, &[0]].concat();
    stream.write_all(&message).context("cannot ask the agent")?;
    let mut answer = String::new();
    stream
        .take(ANSWER)
        .read_to_string(&mut answer)
        .context("the agent did not answer")?;
    match answer.split_once(' ') {
        Some(("yes", _)) => Ok(()),
        Some(("no", words)) => bail!("{words}"),
        _ => bail!("the agent ended without an answer, or too many ask it at once"),
    }
}

/// Where the socket may be: the agent takes the first, and who asks tries one after the other.
fn places() -> Vec<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let user = PathBuf::from(format!("/run/user/{}", nix::unistd::geteuid()));
    // The first is what systemd makes for the agent's unit; it does not wait for the user's login.
    let all = [
        (folder("RUNTIME_DIRECTORY"), "agent"),
        (folder("XDG_RUNTIME_DIR"), "medley-guest"),
        (Some("/run/medley".into()), "agent"),
        (Some(user), "medley-guest"),
    ];
    all.into_iter()
        .filter_map(|(folder, name)| Some((folder?, name)))
        .filter(|(folder, _)| folder.is_absolute() && folder.is_dir())
        .map(|(folder, name)| folder.join(name))
        .collect()
}

fn listen(path: &Path) -> Result<UnixListener> {
    let bind = || UnixListener::bind(path);
    let listener = match bind() {
        // Of an agent that was killed; or one that runs beside this one, which keeps it.
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                bail!("{}: another agent listens there", path.display());
            }
            fs::remove_file(path).with_context(|| format!("{}: cannot remove", path.display()))?;
            bind()
        }
        other => other,
    };
    let listener = listener.with_context(|| format!("{}: cannot listen", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .with_context(|| format!("{}: cannot prepare", path.display()))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let asked = |bytes: &[u8]| parse(bytes).ok().flatten();
        assert_eq!(asked(b"send\0/a b\0"), Some(Question::Send("/a b".into())));
        assert_eq!(
            asked(b"open\0https://x/\0"),
            Some(Question::Open("https://x/".into()))
        );
        for begun in [&b""[..], b"se", b"send\0", b"send\0/a"] {
            assert!(matches!(parse(begun), Ok(None)), "{begun:?}");
        }
        for wrong in [
            &b"send\0a\0"[..],
            b"send\0\0",
            b"open\0\xff\0",
            b"run\0/bin/sh\0",
            b"open\0a\0b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_client_asks_and_is_answered_or_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let mut requests = Requests {
            listener: Some(listen(&path).unwrap()),
            path: Some(path.clone()),
            clients: BTreeMap::new(),
            next: 0,
        };
        assert!(listen(&path).is_err(), "the one that listens keeps it");
        requests.work();
        let mut one = UnixStream::connect(&path).unwrap();
        let mut two = UnixStream::connect(&path).unwrap();
        let mut mad = UnixStream::connect(&path).unwrap();
        one.write_all(b"send\0/x").unwrap();
        two.write_all(b"open\0http://a\0").unwrap();
        mad.write_all(&[b'x'; QUESTION + 1]).unwrap();
        let asked = requests.work();
        let Question::Open(url) = (match &asked[..] {
            [Event::Asked(_, question)] => question.clone(),
            other => panic!("{other:?}"),
        }) else {
            panic!("another question");
        };
        assert_eq!(url, "http://a");
        let Event::Asked(second, _) = asked[0] else {
            unreachable!()
        };
        one.write_all(b"\0").unwrap();
        let asked = requests.work();
        assert!(matches!(asked[..], [Event::Asked(_, Question::Send(_))]));
        drop(one);
        assert!(matches!(requests.work()[..], [Event::Gone(_)]));
        requests.answer(second, Err("not today"));
        let mut answer = String::new();
        two.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "no not today");
        drop(requests);
        assert!(!path.exists());
    }
}
