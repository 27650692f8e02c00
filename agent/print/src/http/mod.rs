//! HTTP/1.1 as IPP needs it, for both halves: heads with bounds, bodies that are streams, time-outs.
mod body;
mod head;

pub use body::{Body, Framing};
pub use head::{Fault, Method, Request, Response};

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest head. Ours and CUPS' have a few hundred bytes.
pub const HEAD: usize = 16 << 10;

/// The other side of a connection.
pub trait Peer: Read + Write {
    /// The longest that one read may wait from now on.
    fn set_patience(&self, limit: Duration) -> io::Result<()>;
}

impl Peer for TcpStream {
    fn set_patience(&self, limit: Duration) -> io::Result<()> {
        // Zero would be for ever.
        self.set_read_timeout(Some(limit.max(Duration::from_millis(1))))
    }
}

impl Peer for UnixStream {
    fn set_patience(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit.max(Duration::from_millis(1))))
    }
}

/// A connection, and what was read from it but not used yet.
pub struct Conn<P> {
    peer: P,
    ahead: Vec<u8>,
    used: usize,
}

impl<P: Peer> Conn<P> {
    pub fn new(peer: P) -> Self {
        Self {
            peer,
            ahead: Vec::new(),
            used: 0,
        }
    }

    pub const fn peer(&self) -> &P {
        &self.peer
    }

    pub fn set_patience(&self, limit: Duration) -> io::Result<()> {
        self.peer.set_patience(limit)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.peer.write_all(bytes)?;
        self.peer.flush()
    }

    /// The next head, its last empty line included, or nothing if the other side has closed before it. Waits
    /// `first` for its first byte and `whole` for all others: each read alone could be dragged out for ever.
    pub fn head(&mut self, first: Duration, whole: Duration) -> Result<Option<Vec<u8>>, Fault> {
        let mut head = Vec::new();
        let mut end = None;
        self.set_patience(first)?;
        loop {
            let before = head.len();
            if self.used == self.ahead.len() {
                match self.fill() {
                    Ok(0) if head.is_empty() => return Ok(None),
                    Ok(0) => return Err(Fault::Bad("the head ends too early")),
                    Err(error) if end.is_some() && is_late(&error) => return Err(Fault::TooSlow),
                    result => result?,
                };
            }
            let rest = self.ahead.get(self.used..).unwrap_or_default();
            let most = rest.len().min(HEAD + 1 - before);
            head.extend_from_slice(&rest[..most]);
            // A head may begin with empty lines (RFC 9112, 2.2), which do not end it.
            let blank = head
                .iter()
                .take_while(|byte| b"\r\n".contains(byte))
                .count();
            head.drain(..blank);
            let known = before.saturating_sub(3);
            if let Some(length) = head_length(&head, known.min(head.len())) {
                // What was read beyond it stays for later.
                self.used += most - (head.len() - length);
                head.truncate(length);
                return Ok(Some(head));
            }
            self.used += most;
            if head.len() > HEAD {
                return Err(Fault::HeadTooLong);
            }
            if !head.is_empty() || blank > 0 {
                let end = *end.get_or_insert_with(|| Instant::now() + whole);
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Fault::TooSlow);
                }
                self.set_patience(left)?;
            }
        }
    }

    /// Reads more; how many bytes are there now.
    fn fill(&mut self) -> io::Result<usize> {
        self.ahead.resize(8 << 10, 0);
        self.used = 0;
        let count = read_on(&mut self.peer, &mut self.ahead);
        self.ahead.truncate(*count.as_ref().unwrap_or(&0));
        count
    }
}

impl<P: Peer> Read for Conn<P> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used == self.ahead.len() {
            // A document goes where it belongs at once; small pieces are read together.
            if into.len() >= 8 << 10 {
                return read_on(&mut self.peer, into);
            }
            self.fill()?;
        }
        let rest = self.ahead.get(self.used..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}

fn read_on(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether nothing came in time.
pub fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// How long the head is, if all of it is there: it ends with the first empty line.
fn head_length(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A peer that says these pieces, one for each read, and keeps what it is told.
    pub struct Said {
        pieces: std::collections::VecDeque<Vec<u8>>,
        pub told: Vec<u8>,
    }

    impl Said {
        pub fn new(pieces: &[&[u8]]) -> Self {
            Self {
                pieces: pieces.iter().map(|piece| piece.to_vec()).collect(),
                told: Vec::new(),
            }
        }
    }

    impl Read for Said {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(mut piece) = self.pieces.pop_front() else {
                return Ok(0);
            };
            let count = piece.len().min(into.len());
            into[..count].copy_from_slice(&piece[..count]);
            if count < piece.len() {
                self.pieces.push_front(piece.split_off(count));
            }
            Ok(count)
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.told.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Peer for Said {
        fn set_patience(&self, _: Duration) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(9);

    #[test]
    fn heads_are_cut_where_they_end() {
        let all = b"\r\nPOST / HTTP/1.1\r\nA: b\r\n\r\nbodyGET / HTTP/1.0\n\n";
        for cut in 0..all.len() {
            let mut conn = Conn::new(Said::new(&[&all[..cut], &all[cut..]]));
            if cut == 0 {
                conn.peer.pieces.pop_front();
            }
            let head = conn.head(LONG, LONG).unwrap().unwrap();
            assert_eq!(head, b"POST / HTTP/1.1\r\nA: b\r\n\r\n", "cut at {cut}");
            let mut body = [0; 4];
            conn.read_exact(&mut body).unwrap();
            assert_eq!(&body, b"body");
            let head = conn.head(LONG, LONG).unwrap().unwrap();
            assert_eq!(head, b"GET / HTTP/1.0\n\n");
            assert!(conn.head(LONG, LONG).unwrap().is_none());
        }
    }

    #[test]
    fn heads_have_an_end() {
        let long = vec![b'a'; HEAD + 1];
        let mut conn = Conn::new(Said::new(&[&long, &long]));
        assert!(matches!(conn.head(LONG, LONG), Err(Fault::HeadTooLong)));
        let mut conn = Conn::new(Said::new(&[b"POST /"]));
        assert!(matches!(conn.head(LONG, LONG), Err(Fault::Bad(_))));
    }
}
