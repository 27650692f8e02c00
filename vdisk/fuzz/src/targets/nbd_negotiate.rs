//! What an NBD client says before its first request, without a socket.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use vdisk_frontends::nbd::{Export, GoRequest, MetaRequest, OptionHeader, Request, negotiate};

use super::Target;

pub const TARGET: Target = Target {
    name: "nbd_negotiate",
    about: "the client's half of an NBD negotiation, read by the server without a socket",
    max_len: 2048,
    run,
};

/// A client that says what it has to say whatever it hears.
struct Deaf<'a> {
    says: &'a [u8],
    heard: usize,
}

impl Read for Deaf<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.says.read(buf)
    }
}

impl Write for Deaf<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.heard += buf.len();
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(bytes: &[u8]) {
    let export = Export {
        name: "disk".into(),
        description: "a disk".into(),
        size: 1 << 20,
        read_only: bytes.len() % 2 == 1,
        preferred_block: 4096,
        max_payload: 32 << 20,
    };
    let mut client = Deaf {
        says: bytes,
        heard: 0,
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    if let Ok(Some(session)) = negotiate(&mut client, &export, deadline) {
        assert!(
            session.structured || !session.allocation,
            "allocation needs structured replies"
        );
    }
    // A client cannot make us say much more than it says itself.
    assert!(
        client.heard <= 1024 + 64 * bytes.len(),
        "{} bytes said",
        client.heard
    );

    if let Some(head) = bytes.first_chunk()
        && let Some(option) = OptionHeader::parse(head)
    {
        assert!(option.len as usize <= u32::MAX as usize);
    }
    if let Some(request) = bytes.first_chunk().and_then(Request::parse) {
        let _ = (request.known_flags(), request.has(1));
    }
    if let Some(go) = GoRequest::parse(bytes) {
        let _ = (0..4).filter(|info| go.wants(*info)).count();
        assert!(go.name.len() <= bytes.len());
    }
    if let Some(meta) = MetaRequest::parse(bytes) {
        assert_eq!(meta.queries().count(), meta.count as usize);
    }
}
