//! What the guest's printer reads from strangers, for a fuzzer.
use crate::http::{Conn, Peer};
use crate::server::{self, Settings};
use std::io::{self, Cursor, Read, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A client that says these bytes and closes.
struct Client<'a> {
    said: Cursor<&'a [u8]>,
    heard: usize,
}

impl Read for Client<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.said.read(into)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Peer for Client<'_> {
    fn set_patience(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// Serves a client that says these bytes: any number of requests, HTTP and IPP and their documents. Documents go
/// to files without names.
///
/// # Panics
/// The answers are longer than such requests can have: a mistake in Medley.
pub fn fuzz_request(bytes: &[u8]) {
    let settings = Settings {
        largest: 1 << 20,
        ..Settings::default()
    };
    let address = (Ipv4Addr::LOCALHOST, 631).into();
    let Ok((shared, _heard, _ring)) = server::Shared::new(settings, address) else {
        return;
    };
    let client = Client {
        said: Cursor::new(bytes),
        heard: 0,
    };
    let mut conn = Conn::new(client);
    server::serve(&mut conn, &shared);
    // A request has at least 16 bytes; the longest answer lists what is known of a hundred jobs.
    let most = (bytes.len() / 16 + 1) * (512 << 10);
    assert!(conn.peer().heard <= most, "an answer without bounds");
}
