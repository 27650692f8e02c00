//! What the disk's server took and has not flushed, kept where the server's death does not reach it.
//!
//! A guest is told that a write is done long before it asks for a flush, and the flush may be answered by
//! a server that was started in between. So a server tells every change to whoever started it, before the
//! guest hears that it is done; and the next server is told all of them before it serves.

use crate::{Error, ErrorKind, Result};
use std::io::{self, BufReader, ErrorKind as Io, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use vdisk::{BlockDevice, DeviceInfo, Disk, Extent};

/// A server that took so many bytes flushes unasked, to bound what is kept.
const MOST: u64 = 32 << 20;
/// No change comes near this.
const CHANGE_MAX: u64 = 1 << 30;

/// What is told: one byte, then an offset and a length; the bytes themselves behind a write.
const WRITE: u8 = 1;
const ZEROES: u8 = 2;
/// A flush begins: everything before is done.
const FLUSHING: u8 = 3;
/// The flush that began last has ended well.
const FLUSHED: u8 = 4;

const HEADER: usize = 17;

/// What stands before a change's bytes.
#[derive(Clone, Copy)]
struct Header {
    kind: u8,
    offset: u64,
    len: u64,
}

impl Header {
    fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [self.kind; HEADER];
        bytes[1..9].copy_from_slice(&self.offset.to_le_bytes());
        bytes[9..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// The next one; `None` at the end, and at an end in the midst of it.
    fn next(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0];
        let (mut offset, mut len) = ([0; 8], [0; 8]);
        for part in [&mut kind[..], &mut offset, &mut len] {
            match from.read_exact(part) {
                Err(error) if error.kind() == Io::UnexpectedEof => return Ok(None),
                read => read?,
            }
        }
        let header = Self {
            kind: kind[0],
            offset: u64::from_le_bytes(offset),
            len: u64::from_le_bytes(len),
        };
        match header.kind {
            WRITE if header.len > CHANGE_MAX => {
                let what = format!("a change of {} bytes", header.len);
                Err(io::Error::other(what))
            }
            WRITE | ZEROES | FLUSHING | FLUSHED => Ok(Some(header)),
            kind => Err(io::Error::other(format!("no change: {kind}"))),
        }
    }
}

/// Changes that are not known to be flushed, in order, as they were told.
#[derive(Default)]
pub struct Unflushed {
    /// From before the flush that began last.
    before: Vec<u8>,
    /// From after its beginning.
    since: Vec<u8>,
}

impl Unflushed {
    /// Takes what a server tells, until its end. Of a change that it could not tell wholly, the guest was
    /// never told either.
    pub fn listen(&mut self, server: impl Read) -> io::Result<()> {
        let mut server = BufReader::with_capacity(256 << 10, server);
        while let Some(header) = Header::next(&mut server)? {
            match header.kind {
                FLUSHING => self.before.append(&mut self.since),
                FLUSHED => self.before = Vec::new(),
                _ => {
                    let whole = self.since.len();
                    self.since.extend(header.bytes());
                    let Header { kind, len, .. } = header;
                    if kind == WRITE
                        && (&mut server).take(len).read_to_end(&mut self.since)? < len as usize
                    {
                        self.since.truncate(whole);
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the next server.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let len = (self.before.len() + self.since.len()) as u64;
        to.write_all(&len.to_le_bytes())?;
        to.write_all(&self.before)?;
        to.write_all(&self.since)
    }
}

/// A disk that tells its changes.
struct Telling {
    disk: Disk,
    to: Mutex<Box<dyn Write + Send>>,
    /// One flush at a time.
    flushing: Mutex<()>,
    /// Bytes that were told and not flushed.
    told: AtomicU64,
}

/// Does to a disk what `from` says a server before could not flush; from then on the disk tells its own
/// changes to `to`.
pub fn go_on(disk: Disk, from: &mut impl Read, to: impl Write + Send + 'static) -> Result<Disk> {
    let failed = |e: io::Error| Error::new(ErrorKind::Disk, "what was not flushed").because(e);
    let mut len = [0; 8];
    from.read_exact(&mut len).map_err(failed)?;
    let len = u64::from_le_bytes(len);
    let mut changes = BufReader::new(from.take(len));
    let mut bytes = Vec::new();
    while let Some(header) = Header::next(&mut changes).map_err(failed)? {
        let Header { kind, offset, len } = header;
        let done = match kind {
            WRITE => {
                bytes.clear();
                let read = (&mut changes).take(len).read_to_end(&mut bytes);
                read.map_err(failed)?;
                disk.write_at(offset, &bytes)
            }
            ZEROES => disk.write_zeroes(offset, len),
            _ => Ok(()),
        };
        done.map_err(|e| failed(io::Error::other(e)))?;
    }
    let disk = Telling {
        disk,
        to: Mutex::new(Box::new(to)),
        flushing: Mutex::default(),
        told: AtomicU64::new(0),
    };
    if len > 0 {
        let flushed = disk.flush();
        flushed.map_err(|e| failed(io::Error::other(e)))?;
    }
    Ok(Disk::from_arc(Arc::new(disk)))
}

impl Telling {
    fn tell(&self, kind: u8, offset: u64, len: u64, bytes: &[u8]) {
        let header = Header { kind, offset, len };
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let told = to
            .write_all(&header.bytes())
            .and_then(|()| to.write_all(bytes));
        if let Err(error) = told {
            // Nobody is there who could start another server.
            tracing::debug!(%error, "nobody remembers what is not flushed");
        }
    }

    fn limit(&self, more: u64) -> vdisk::Result<()> {
        if self.told.fetch_add(more, Relaxed).saturating_add(more) > MOST {
            self.flush()?;
        }
        Ok(())
    }
}

impl BlockDevice for Telling {
    fn info(&self) -> &DeviceInfo {
        self.disk.info()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> vdisk::Result<()> {
        self.disk.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> vdisk::Result<()> {
        self.disk.write_at(offset, buf)?;
        self.tell(WRITE, offset, buf.len() as u64, buf);
        self.limit((buf.len() + HEADER) as u64)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> vdisk::Result<()> {
        self.disk.write_zeroes(offset, len)?;
        self.tell(ZEROES, offset, len, &[]);
        self.limit(HEADER as u64)
    }

    // What was discarded may read as anything that was ever there: nothing to remember.
    fn discard(&self, offset: u64, len: u64) -> vdisk::Result<()> {
        self.disk.discard(offset, len)
    }

    fn flush(&self) -> vdisk::Result<()> {
        let _alone = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever was told until here is done, and the flush covers it.
        self.told.store(0, Relaxed);
        self.tell(FLUSHING, 0, 0, &[]);
        self.disk.flush()?;
        self.tell(FLUSHED, 0, 0, &[]);
        Ok(())
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> vdisk::Result<()> {
        self.disk.extents(offset, len, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::pipe;
    use vdisk::memory::MemoryDisk;

    fn disk() -> Disk {
        Disk::new(MemoryDisk::new(2048))
    }

    /// A server that does this and dies.
    fn server(disk: &Disk, unflushed: &mut Unflushed, life: impl FnOnce(&Disk) + Send) {
        let mut past = Vec::new();
        unflushed.send(&mut past).unwrap();
        let (reader, writer) = pipe().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                life(&go_on(disk.clone(), &mut &past[..], writer).unwrap());
            });
            unflushed.listen(reader).unwrap();
        });
    }

    #[test]
    fn what_one_server_forgot_the_next_one_does_again() {
        let mut unflushed = Unflushed::default();
        server(&disk(), &mut unflushed, |disk| {
            disk.write_at(0, &[1; 4096]).unwrap();
            disk.flush().unwrap();
            disk.write_at(4096, &[2; 4096]).unwrap();
            disk.write_at(4096, &[3; 1024]).unwrap();
            disk.write_zeroes(4096, 512).unwrap();
        });
        // Its successor finds a disk that has nothing: all but what was flushed is there again.
        let successor = disk();
        server(&successor, &mut unflushed, |_| {});
        let mut bytes = vec![9; 8192];
        successor.read_at(0, &mut bytes).unwrap();
        assert!(bytes[..4608].iter().all(|byte| *byte == 0));
        assert!(bytes[4608..5120].iter().all(|byte| *byte == 3));
        assert!(bytes[5120..].iter().all(|byte| *byte == 2));
        assert!(unflushed.before.is_empty() && unflushed.since.is_empty());
    }

    #[test]
    fn what_was_told_in_part_was_never_told() {
        let header = |len| {
            let (kind, offset) = (WRITE, 0);
            Header { kind, offset, len }.bytes()
        };
        let mut told = header(512).to_vec();
        told.extend([7; 512]);
        for cut in 0..told.len() {
            let mut unflushed = Unflushed::default();
            unflushed.listen(&told[..cut]).unwrap();
            assert!(unflushed.since.is_empty(), "{cut}");
        }
        let mut unflushed = Unflushed::default();
        assert!(unflushed.listen(&[77; HEADER][..]).is_err());
        assert!(unflushed.listen(&header(u64::MAX)[..]).is_err());
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut unflushed = Unflushed::default();
        server(&disk(), &mut unflushed, |disk| {
            for _ in 0..100 {
                disk.write_at(0, &[5; 1 << 20]).unwrap();
            }
        });
        let kept = (unflushed.before.len() + unflushed.since.len()) as u64;
        assert!(kept <= MOST + (1 << 20), "{kept}");
    }
}
