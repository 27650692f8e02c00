//! A client of the NBD server on a socket, from its first byte to its last.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::nbd::{NbdOptions, NbdServer};

use super::Target;

pub const TARGET: Target = Target {
    name: "nbd",
    about: "a client of a real NBD server: its first byte chooses what is agreed on before the rest",
    max_len: 4096,
    run,
};

/// Small, so that a client of a hundred requests cannot ask for much.
const SECTORS: u64 = 96;

fn server() -> PathBuf {
    static SERVER: OnceLock<Option<(NbdServer, tempfile::TempDir)>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let dir = tempfile::tempdir().ok()?;
        let disk = Disk::new(MemoryDisk::new(SECTORS));
        let options = NbdOptions {
            export_name: "disk".into(),
            ..NbdOptions::default()
        };
        let server = NbdServer::bind(dir.path().join("nbd"), disk, options).ok()?;
        Some((server, dir))
    });
    let (server, _) = server.as_ref().expect("a server can be started");
    server.path().to_owned()
}

/// A negotiation that ends well. Bits of `how`: 0 structured replies, 1 block status as well.
fn agreed(how: u8) -> Vec<u8> {
    let mut says = 3u32.to_be_bytes().to_vec();
    let mut option = |number: u32, data: &[u8]| {
        says.extend(*b"IHAVEOPT");
        says.extend(number.to_be_bytes());
        says.extend((data.len() as u32).to_be_bytes());
        says.extend(data);
    };
    if how & 1 != 0 {
        option(8, &[]);
        if how & 2 != 0 {
            let mut data = 0u32.to_be_bytes().to_vec();
            data.extend(1u32.to_be_bytes());
            data.extend(15u32.to_be_bytes());
            data.extend(*b"base:allocation");
            option(10, &data);
        }
    }
    option(7, &[0; 6]);
    says
}

fn run(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else {
        return;
    };
    let mut socket = UnixStream::connect(server()).expect("the server is there");
    socket
        .set_read_timeout(Some(Duration::from_secs(8)))
        .expect("a timeout can be set");
    let begins = if how & 4 == 0 {
        agreed(how)
    } else {
        Vec::new()
    };
    // Fits into the socket's buffer, so it never waits; fails when the server has hung up already.
    let _ = socket
        .write_all(&begins)
        .and_then(|()| socket.write_all(rest));
    let _ = socket.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    match socket.read_to_end(&mut heard) {
        Ok(_) => {}
        // Hung up with some of our bytes unread.
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("the server neither answers nor hangs up: {e}"),
    }
    assert!(heard.is_empty() || heard.starts_with(b"NBDMAGICIHAVEOPT"));
}
