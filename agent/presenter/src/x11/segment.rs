//! Memory that is shared with the X server: pixels are written into a file without a name, and the server
//! copies them from there. Written, not mapped: that costs one call a piece, and nothing unsafe.
use crate::error::Result;
use medley_x11::Conn;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use x11rb::protocol::shm::{self, ConnectionExt};

/// Bytes of it: two screens of 4K at 32 bits. Only what is used costs memory.
const BYTES: usize = 64 << 20;

/// Pixels on their way to the server.
pub(super) struct Segment {
    file: File,
    pub id: shm::Seg,
    used: usize,
}

impl Segment {
    /// A segment, if the server is on this machine and takes descriptors.
    pub fn open(conn: &Conn) -> Result<Option<Self>> {
        use x11rb::connection::{Connection, RequestConnection};
        if conn
            .extension_information(shm::X11_EXTENSION_NAME)?
            .is_none()
        {
            return Ok(None);
        }
        let version = conn.shm_query_version()?.reply()?;
        if (version.major_version, version.minor_version) < (1, 2) {
            return Ok(None);
        }
        let Ok(file) = memory() else {
            return Ok(None);
        };
        let Ok(server) = file.try_clone() else {
            return Ok(None);
        };
        let id = conn.generate_id()?;
        // A server at the other end of a network refuses.
        let attached = conn.shm_attach_fd(id, OwnedFd::from(server), true);
        let attached = attached.is_ok_and(|cookie| cookie.check().is_ok());
        Ok(attached.then_some(Self { file, id, used: 0 }))
    }

    /// Room for so many bytes, if there is as much before the server has read what is there.
    pub fn room(&self, bytes: usize) -> bool {
        self.used + bytes <= BYTES
    }

    /// Writes pixels and says where they are; nothing, if the system has no memory.
    pub fn put(&mut self, bytes: &[u8]) -> Option<u32> {
        let offset = self.used;
        self.file.write_all_at(bytes, offset as u64).ok()?;
        self.used += bytes.len();
        u32::try_from(offset).ok()
    }

    /// The server has read everything.
    pub const fn read(&mut self) {
        self.used = 0;
    }
}

fn memory() -> std::io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = File::from(memfd_create(c"medley-pixels", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(BYTES as u64)?;
    Ok(file)
}

/// The most that goes in one piece.
pub(super) const PIECE: usize = BYTES / 4;
