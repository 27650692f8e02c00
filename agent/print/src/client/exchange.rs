//! One request to a printer or to CUPS and its answer, over HTTP on a connection of its own.
use super::place::{Door, Place};
use crate::error::{Error, Result};
use crate::http::{Body, Conn, Fault, Peer, Response, is_late};
use crate::message::{self, Message, Unreadable};
use crate::values::Says;
use std::fs::File;
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const CONNECTING: Duration = Duration::from_secs(10);
/// A printer that wakes up, or that reads a large document before it answers.
const ANSWERING: Duration = Duration::from_secs(120);
/// One that does not read.
const SENDING: Duration = Duration::from_secs(120);
/// How long leave to send a document is waited for. Those that never give it are sent it all the same.
const LEAVE: Duration = Duration::from_secs(1);

/// Sends a message, and the document that belongs to it; what is answered, if it says yes.
pub fn exchange(place: &Place, bytes: &[u8], document: Option<(File, u64)>) -> Result<Message> {
    let unreachable = |source| Error::Unreachable {
        place: place.to_string(),
        doing: "connect",
        source,
    };
    let message = match place.door() {
        Door::Socket(path) => {
            let stream = UnixStream::connect(path).map_err(unreachable)?;
            stream
                .set_write_timeout(Some(SENDING))
                .map_err(unreachable)?;
            talk(place, Conn::new(stream), bytes, document)
        }
        Door::Port(host, port) => {
            let stream = connect(host, port).map_err(unreachable)?;
            stream
                .set_write_timeout(Some(SENDING))
                .map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            talk(place, Conn::new(stream), bytes, document)
        }
    }?;
    if message.code > 0x00ff {
        let operation = message.operation();
        let said = operation.says("status-message").unwrap_or_default();
        return Err(Error::Refused {
            place: place.to_string(),
            status: message.code,
            message: (said.chars())
                .filter(|letter| !letter.is_control())
                .take(200)
                .collect(),
        });
    }
    Ok(message)
}

/// A name may have several addresses; the first that answers is taken.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECTING) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn talk<P: Peer>(
    place: &Place,
    mut conn: Conn<P>,
    bytes: &[u8],
    document: Option<(File, u64)>,
) -> Result<Message> {
    let failed = |doing| {
        move |source| Error::Unreachable {
            place: place.to_string(),
            doing,
            source,
        }
    };
    let size = document.as_ref().map_or(0, |(_, size)| *size);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Medley IPP/2.0\r\nContent-Type: application/ipp\r\n\
         Content-Length: {}\r\n{}Connection: close\r\n\r\n",
        place.path(),
        place.host(),
        bytes.len() as u64 + size,
        if document.is_some() {
            "Expect: 100-continue\r\n"
        } else {
            ""
        },
    );
    let mut early = None;
    conn.write(head.as_bytes()).map_err(failed("ask"))?;
    if document.is_some() {
        early = leave(place, &mut conn)?;
    }
    if early.is_none() {
        let sent = conn.write(bytes).and_then(|()| match document {
            Some((file, size)) => send(&mut conn, file, size),
            None => Ok(()),
        });
        // Whoever refuses while it is being sent closes; why, it may have said.
        if let Err(error) = sent {
            return match answer(place, &mut conn) {
                Ok(response) if response.status != 200 => Err(refused(place, response.status)),
                _ => Err(failed("send the document")(error)),
            };
        }
    }
    let response = match early {
        Some(response) => response,
        None => answer(place, &mut conn)?,
    };
    if response.status != 200 {
        return Err(refused(place, response.status));
    }
    let most = message::RESPONSE.bytes as u64;
    let mut body = Body::new(&mut conn, response.framing, most, false);
    Message::read(&mut body, message::RESPONSE).map_err(|error| match error {
        Unreadable::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            failed("read the answer")(source)
        }
        other => nonsense(place, &other),
    })
}

fn refused(place: &Place, status: u16) -> Error {
    Error::Http {
        place: place.to_string(),
        status,
    }
}

fn nonsense(place: &Place, why: &dyn std::fmt::Display) -> Error {
    Error::Nonsense {
        place: place.to_string(),
        why: why.to_string(),
    }
}

/// Waits a little for leave to send; an answer that comes instead of it is final.
fn leave<P: Peer>(place: &Place, conn: &mut Conn<P>) -> Result<Option<Response>> {
    match conn.head(LEAVE, ANSWERING) {
        Err(Fault::Io(error)) if is_late(&error) => Ok(None),
        Ok(None) => Err(nonsense(place, &"it closed the connection")),
        Err(fault) => Err(nonsense(place, &fault)),
        Ok(Some(head)) => {
            let response = Response::parse(&head).map_err(|fault| nonsense(place, &fault))?;
            Ok((response.status >= 200).then_some(response))
        }
    }
}

/// The head of the answer, behind those that only say that there will be one.
fn answer<P: Peer>(place: &Place, conn: &mut Conn<P>) -> Result<Response> {
    for _ in 0..8 {
        let head = conn
            .head(ANSWERING, ANSWERING)
            .map_err(|fault| match fault {
                Fault::Io(source) => Error::Unreachable {
                    place: place.to_string(),
                    doing: "hear an answer",
                    source,
                },
                other => nonsense(place, &other),
            })?;
        let head = head.ok_or_else(|| nonsense(place, &"it closed the connection"))?;
        let response = Response::parse(&head).map_err(|fault| nonsense(place, &fault))?;
        if response.status >= 200 {
            return Ok(response);
        }
    }
    Err(nonsense(place, &"it never comes to an answer"))
}

/// Sends exactly so many bytes of a file: a file that shrinks meanwhile breaks the job off.
fn send<P: Peer>(conn: &mut Conn<P>, file: File, size: u64) -> io::Result<()> {
    let mut from = file.take(size);
    let mut piece = vec![0; 64 << 10];
    let mut sent = 0;
    while sent < size {
        let count = from.read(&mut piece)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter",
            ));
        }
        conn.write(&piece[..count])?;
        sent += count as u64;
    }
    Ok(())
}
