//! The messages of a vhost-user client, from the first to the last, over a connected socket.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::vhost_user::{VhostUserOptions, serve};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "vhost_user",
    about: "messages of a vhost-user client, without file descriptors: answered or hung up on",
    max_len: 1024,
    run,
};

/// Messages of one client.
const MOST: usize = 24;

fn run(bytes: &[u8]) {
    let (mut client, server) = UnixStream::pair().expect("sockets can be made");
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let mut says = Vec::new();
    if flags & 1 != 0 {
        says.extend(input.rest());
    }
    // A message: request, flags, size, payload. The size is the payload's own, unless told otherwise.
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let (request, marks) = (input.u8(), input.u8());
        let len = usize::from(input.u8());
        let payload = input.take(len);
        let size = match marks & 0x80 {
            0 => payload.len() as u32,
            _ => u32::from(input.u16()) << 4,
        };
        says.extend(u32::from(request).to_le_bytes());
        // Version 1, and whether a reply is wanted.
        says.extend((u32::from(marks & 0x0c) | 1).to_le_bytes());
        says.extend(size.to_le_bytes());
        says.extend(payload);
    }
    // Fits into the socket's buffer. Answers are left unread: they are small.
    client.write_all(&says).expect("the buffer takes it");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let disk = Disk::new(MemoryDisk::new(16));
    let options = VhostUserOptions {
        queues: 2,
        ..VhostUserOptions::default()
    };
    serve(server, &disk, &options);
}
