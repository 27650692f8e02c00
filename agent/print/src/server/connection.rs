//! Clients of the printer, and their HTTP.
use super::{CONNECTIONS, PATH, Shared, lock, operations};
use crate::http::{Body, Conn, Fault, Method, Peer, Request};
use crate::message::{self, Message, Unreadable};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

const ICON: &[u8] = include_bytes!("icon.png");
const PAGE: &[u8] =
    b"<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Medley</title>\
<h1>Medley</h1><p>What is printed here comes out of the host's printer.</p></html>\n";
/// What is read of a body that nobody wants, so that the connection can go on.
const UNWANTED: u64 = 1 << 20;

/// Waits for clients until the printer ends, and for the last of them.
pub fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut number = 0;
    for stream in listener.incoming() {
        if shared.ending.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: not in circles.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        threads.retain(|thread| !thread.is_finished());
        number += 1;
        match begin(shared, stream, number) {
            Ok(thread) => threads.extend(thread),
            Err(error) => tracing::debug!(%error, "a client is not served"),
        }
    }
    for stream in lock(&shared.open).values() {
        drop(stream.shutdown(Shutdown::Both));
    }
    for thread in threads {
        drop(thread.join());
    }
}

/// Serves a client on a thread of its own, if there is room for it.
fn begin(
    shared: &Arc<Shared>,
    stream: TcpStream,
    number: u64,
) -> io::Result<Option<JoinHandle<()>>> {
    stream.set_write_timeout(Some(shared.settings.patience.answer))?;
    stream.set_nodelay(true)?;
    let mut open = lock(&shared.open);
    if open.len() >= CONNECTIONS {
        drop(open);
        let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        (&stream).write_all(busy.as_bytes())?;
        return Ok(None);
    }
    open.insert(number, stream.try_clone()?);
    drop(open);
    let guest = Guest {
        shared: shared.clone(),
        number,
    };
    let thread = std::thread::Builder::new()
        .name("printer-client".into())
        .spawn(move || {
            let mut conn = Conn::new(stream);
            serve(&mut conn, &guest.shared);
            part(conn.peer());
        })?;
    Ok(Some(thread))
}

/// A place among the connections, which is free again when this is dropped: also if its thread never began.
struct Guest {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.shared.open).remove(&self.number);
    }
}

/// Closes a connection so that the answer arrives: what the client still sends would reset it else.
fn part(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Write));
    drop(stream.set_patience(Duration::from_millis(500)));
    drop(io::copy(&mut stream.take(UNWANTED), &mut io::sink()));
}

/// Answers requests until the client goes or does something that cannot be answered.
pub fn serve<P: Peer>(conn: &mut Conn<P>, shared: &Shared) {
    let patience = shared.settings.patience;
    while !shared.ending.load(Ordering::SeqCst) {
        let request = match conn.head(patience.idle, patience.head) {
            Ok(None) | Err(Fault::Io(_)) => return,
            Ok(Some(head)) => Request::parse(&head),
            Err(fault) => Err(fault),
        };
        let kept = match request {
            Ok(request) => reply(conn, shared, &request),
            Err(fault) => {
                tracing::debug!(%fault, "not HTTP");
                let status = match fault {
                    Fault::TooSlow => 408,
                    Fault::HeadTooLong => 431,
                    Fault::Coding => 501,
                    Fault::Expectation => 417,
                    Fault::Bad(_) | Fault::Io(_) => 400,
                };
                say(conn, Answer::only(status), false, false).map(|()| false)
            }
        };
        match kept {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::debug!(%error, "a client went away"),
        }
    }
}

struct Answer<'a> {
    status: u16,
    kind: &'a str,
    body: &'a [u8],
}

impl Answer<'_> {
    const fn only(status: u16) -> Self {
        Self {
            status,
            kind: "",
            body: b"",
        }
    }
}

/// Answers one request; whether another may follow.
fn reply<P: Peer>(conn: &mut Conn<P>, shared: &Shared, request: &Request) -> io::Result<bool> {
    conn.set_patience(shared.settings.patience.body)?;
    let most = shared
        .settings
        .largest
        .saturating_add(message::REQUEST.bytes as u64);
    let mut body = Body::new(conn, request.framing, most, request.expects);
    let mut bytes = Vec::new();
    let answer = match judge(request) {
        Err(status) => Answer::only(status),
        Ok(Wish::Page) => Answer {
            status: 200,
            kind: "text/html; charset=utf-8",
            body: PAGE,
        },
        Ok(Wish::Icon) => Answer {
            status: 200,
            kind: "image/png",
            body: ICON,
        },
        Ok(Wish::Options) => Answer::only(200),
        Ok(Wish::Ipp) if request.framing.exceeds(most) => Answer::only(413),
        Ok(Wish::Ipp) => match Message::read(&mut body, message::REQUEST) {
            Ok(message) => {
                bytes = operations::answer(shared, &message, &mut body);
                Answer {
                    status: 200,
                    kind: "application/ipp",
                    body: &bytes,
                }
            }
            Err(Unreadable::TooMuch) => Answer::only(413),
            // It broke off within its own length, or the client is gone: it makes no difference.
            Err(error) => {
                tracing::debug!(%error, "not IPP");
                Answer::only(400)
            }
        },
    };
    let keep = body.finish(UNWANTED) && request.keep;
    say(conn, answer, keep, request.method == Method::Head)?;
    bytes.clear();
    Ok(keep)
}

/// What can be asked of the printer.
enum Wish {
    Ipp,
    Page,
    Icon,
    Options,
}

fn judge(request: &Request) -> Result<Wish, u16> {
    if !request.host.as_deref().is_none_or(is_own) {
        return Err(403);
    }
    let is_ipp = request.path == PATH || request.path.starts_with("/ipp/print/");
    match (request.method, request.path.as_str()) {
        (Method::Options, _) => Ok(Wish::Options),
        (Method::Post, _) if is_ipp => {
            let kind = request.content_type.as_deref().unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            if kind.eq_ignore_ascii_case("application/ipp") {
                Ok(Wish::Ipp)
            } else {
                Err(415)
            }
        }
        (Method::Get | Method::Head, "/") => Ok(Wish::Page),
        (Method::Get | Method::Head, _) if is_ipp => Ok(Wish::Page),
        (Method::Get | Method::Head, "/icon.png") => Ok(Wish::Icon),
        (Method::Get | Method::Head, _) => Err(404),
        (Method::Post, path) if path != "/" && path != "/icon.png" => Err(404),
        _ => Err(405),
    }
}

/// Whether a host's name is this machine's. A web page whose name was turned to loopback has another one.
fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn say<P: Peer>(conn: &mut Conn<P>, answer: Answer<'_>, keep: bool, brief: bool) -> io::Result<()> {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        _ => "Error",
    };
    let mut all = format!("HTTP/1.1 {} {reason}\r\n", answer.status).into_bytes();
    let mut field = |name: &str, value: &str| {
        all.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    };
    field("Server", "Medley IPP/2.0");
    if !answer.kind.is_empty() {
        field("Content-Type", answer.kind);
        field("X-Content-Type-Options", "nosniff");
    }
    if answer.status == 405 || answer.body.is_empty() && answer.status == 200 {
        field("Allow", "GET, HEAD, OPTIONS, POST");
    }
    field("Content-Length", &answer.body.len().to_string());
    field("Connection", if keep { "keep-alive" } else { "close" });
    all.extend_from_slice(b"\r\n");
    if !brief {
        all.extend_from_slice(answer.body);
    }
    conn.write(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_meant() {
        for host in [
            "localhost",
            "LOCALHOST:631",
            "127.0.0.1:8631",
            "[::1]:80",
            "127.8.0.1",
            "localhost.",
        ] {
            assert!(is_own(host), "{host}");
        }
        for host in [
            "example.com",
            "127.0.0.1.example.com",
            "",
            "[::2]",
            "10.0.0.1:631",
        ] {
            assert!(!is_own(host), "{host}");
        }
    }
}
