//! A body, as a stream of at most so many bytes.
use super::{Conn, Peer};
use std::io::{self, Read};

/// A chunk's size and what may follow it on its line, or a line of the trailer.
const LINE: usize = 1024;
/// Lines of a trailer.
const TRAILER: usize = 32;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After a chunk without bytes.
    Chunked,
    /// With the connection.
    UntilClosed,
}

impl Framing {
    /// Whether it says that there are more bytes than this.
    pub const fn exceeds(self, most: u64) -> bool {
        matches!(self, Self::Length(length) if length > most)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are left of a whole that says no more.
    Plain(u64),
    /// So many bytes are left of a chunk.
    Chunk(u64),
    /// A chunk's size comes next; the line end of the one before comes first.
    Size {
        first: bool,
    },
    /// Until the other side closes.
    Open,
    Done,
}

/// Reads a body, and no byte of what follows it.
pub struct Body<'a, P> {
    conn: &'a mut Conn<P>,
    state: State,
    left: u64,
    /// The other side waits for leave.
    asked: bool,
}

impl<'a, P: Peer> Body<'a, P> {
    /// A body of at most `most` bytes; what has more fails with [`io::ErrorKind::FileTooLarge`].
    pub fn new(conn: &'a mut Conn<P>, framing: Framing, most: u64, asked: bool) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Plain(length),
            Framing::Chunked => State::Size { first: true },
            Framing::UntilClosed => State::Open,
        };
        Self {
            conn,
            state,
            left: most,
            asked,
        }
    }

    /// Reads what is left, if it is not more than `most`: whether another message may follow.
    pub fn finish(&mut self, most: u64) -> bool {
        if self.state == State::Done {
            return true;
        }
        // Whoever was not given leave may send the body or not: nobody knows what comes next.
        if self.asked || self.state == State::Open {
            return false;
        }
        let copied = io::copy(&mut self.by_ref().take(most + 1), &mut io::sink());
        copied.is_ok_and(|count| count <= most) && self.state == State::Done
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.conn.read_exact(&mut byte)?;
            line.push(byte[0]);
            match byte {
                [b'\n'] => return Ok(line),
                _ if line.len() > LINE => return Err(bad("a line of the chunks is too long")),
                _ => {}
            }
        }
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<State> {
        if !first && !matches!(self.line()?.as_slice(), b"\r\n" | b"\n") {
            return Err(bad("a chunk is longer than it said"));
        }
        let line = self.line()?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, 0))) => {
                for _ in 0..TRAILER {
                    if matches!(self.line()?.as_slice(), b"\r\n" | b"\n") {
                        return Ok(State::Done);
                    }
                }
                Err(bad("the trailer is too long"))
            }
            Ok(httparse::Status::Complete((_, size))) => Ok(State::Chunk(size)),
            _ => Err(bad("a chunk's size is no number")),
        }
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<P: Peer> Read for Body<'_, P> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if std::mem::take(&mut self.asked) {
            self.conn.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        while let State::Size { first } = self.state {
            self.state = self.next_chunk(first)?;
        }
        let here = match self.state {
            State::Plain(left) | State::Chunk(left) => left,
            State::Open => u64::MAX,
            State::Size { .. } | State::Done => return Ok(0),
        };
        // One byte beyond the limit is asked for, to tell a body that has it from one that just ends.
        if self.left == 0 && self.state != State::Open {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let most = here.min(self.left.max(1)).min(into.len() as u64);
        let most = usize::try_from(most).unwrap_or(into.len());
        let count = self.conn.read(&mut into[..most])?;
        match (self.state, count) {
            (State::Open, 0) => {
                self.state = State::Done;
                return Ok(0);
            }
            (_, 0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if self.left == 0 => return Err(io::ErrorKind::FileTooLarge.into()),
            _ => {}
        }
        self.left -= count as u64;
        self.state = match self.state {
            State::Plain(left) if left == count as u64 => State::Done,
            State::Plain(left) => State::Plain(left - count as u64),
            State::Chunk(left) if left == count as u64 => State::Size { first: false },
            State::Chunk(left) => State::Chunk(left - count as u64),
            other => other,
        };
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::Said;

    fn read(framing: Framing, most: u64, bytes: &[u8]) -> (io::Result<Vec<u8>>, Vec<u8>) {
        let mut conn = Conn::new(Said::new(&bytes.chunks(3).collect::<Vec<_>>()));
        let mut body = Vec::new();
        let result = Body::new(&mut conn, framing, most, false).read_to_end(&mut body);
        let mut rest = Vec::new();
        conn.read_to_end(&mut rest).unwrap();
        (result.map(|_| body), rest)
    }

    #[test]
    fn bodies_end_where_they_say() {
        let (body, rest) = read(Framing::Length(5), 5, b"abcdeNEXT");
        assert_eq!(
            (body.unwrap().as_slice(), rest.as_slice()),
            (&b"abcde"[..], &b"NEXT"[..])
        );
        let chunks = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: r\r\n\r\nNEXT";
        let (body, rest) = read(Framing::Chunked, 13, chunks);
        assert_eq!(body.unwrap(), b"abc0123456789");
        assert_eq!(rest, b"NEXT");
        assert_eq!(read(Framing::UntilClosed, 9, b"abc").0.unwrap(), b"abc");
        assert_eq!(read(Framing::UntilClosed, 3, b"abc").0.unwrap(), b"abc");
    }

    #[test]
    fn bodies_have_limits() {
        for (framing, bytes) in [
            (Framing::Length(6), &b"abcdef"[..]),
            (Framing::Chunked, b"6\r\nabcdef\r\n0\r\n\r\n"),
            (Framing::Chunked, b"FFFFFFFFFFFFFFFF\r\nabcdef"),
            (Framing::UntilClosed, b"abcdef"),
        ] {
            let error = read(framing, 5, bytes).0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{framing:?}");
        }
    }

    #[test]
    fn broken_bodies_are_errors() {
        for bytes in [
            &b"3\r\nabcd\r\n0\r\n\r\n"[..],
            b"x\r\n",
            b"3\r\nab",
            b"-1\r\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
        ] {
            assert!(read(Framing::Chunked, 99, bytes).0.is_err());
        }
        let line = [b'1'; 5000];
        assert!(read(Framing::Chunked, 99, &line).0.is_err());
        let trailer = format!("0\r\n{}", "A: b\r\n".repeat(99));
        assert!(read(Framing::Chunked, 99, trailer.as_bytes()).0.is_err());
        assert!(read(Framing::Length(9), 99, b"short").0.is_err());
    }

    #[test]
    fn leave_is_given_with_the_first_read() {
        let mut conn = Conn::new(Said::new(&[b"abc"]));
        let mut body = Body::new(&mut conn, Framing::Length(3), 9, true);
        assert!(!body.finish(99));
        assert_eq!(body.read(&mut [0; 9]).unwrap(), 3);
        assert!(body.finish(0));
        assert_eq!(conn.peer().told, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}
