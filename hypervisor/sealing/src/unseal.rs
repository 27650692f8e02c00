//! From a file back to the stream. Every thread takes the next frame, reads, checks and unpacks it, and
//! hands its chunk on in its turn.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::Summary;
use crate::cancel::Cancel;
use crate::crew::{self, Turns};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{END_FRAME_LEN, HEAD_LEN, Head, Packer, end_body};
use crate::header::{self, Header, Identity};
use crate::keys::{TAG_LEN, WrappingKey};

/// Where a sealed state lies: a file, or bytes in memory.
pub trait Store: Sync {
    /// Fills `room` from byte `at` on, or fails.
    fn read(&self, at: u64, room: &mut [u8]) -> std::io::Result<()>;
}

impl Store for File {
    fn read(&self, at: u64, room: &mut [u8]) -> std::io::Result<()> {
        self.read_exact_at(room, at)
    }
}

impl Store for &[u8] {
    fn read(&self, at: u64, room: &mut [u8]) -> std::io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..));
        match from.and_then(|from| from.get(..room.len())) {
            Some(bytes) => room.copy_from_slice(bytes),
            None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}

/// A saved state whose header was read and believed; its frames are not read yet.
pub struct SealedFile<S = File> {
    store: S,
    len: u64,
    path: PathBuf,
    header: Header,
}

impl SealedFile {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] when it is no saved state, [`ErrorKind::Unsupported`] when a newer version
    /// wrote it, [`ErrorKind::Corrupt`] and [`ErrorKind::Truncated`] when its header is not as it was
    /// written, [`ErrorKind::Key`] when it was sealed under another key, [`ErrorKind::Io`].
    pub fn open(path: &Path, key: &WrappingKey) -> Result<Self> {
        let open = || {
            // What is not a regular file must not make us wait for somebody to write into it.
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open(path)
                .map_err(|e| Error::io("cannot open the saved state", e))?;
            let found = file.metadata();
            let found = found.map_err(|e| Error::io("cannot look at the saved state", e))?;
            if !found.is_file() {
                return Err(Error::new(ErrorKind::Foreign, "not a regular file"));
            }
            SealedFile::load(file, found.len(), path, key)
        };
        open().map_err(|e| e.at_path(path))
    }
}

impl<'a> SealedFile<&'a [u8]> {
    /// A saved state in memory. Errors as those of [`SealedFile::open`].
    ///
    /// # Errors
    /// As [`SealedFile::open`].
    pub fn from_bytes(bytes: &'a [u8], key: &WrappingKey) -> Result<Self> {
        Self::load(bytes, bytes.len() as u64, Path::new("memory"), key)
    }
}

impl<S: Store> SealedFile<S> {
    fn load(store: S, len: u64, path: &Path, key: &WrappingKey) -> Result<Self> {
        let mut start = vec![0; len.min(header::MAX_LEN as u64) as usize];
        let read = store.read(0, &mut start);
        read.map_err(|e| Error::io("cannot read", e).at_offset(0))?;
        Ok(Self {
            header: Header::parse(&start, key)?,
            path: path.to_owned(),
            store,
            len,
        })
    }

    /// What the state belongs to, as [`seal`](crate::seal) was told; authenticated.
    pub fn binding(&self) -> &[u8] {
        &self.header.binding
    }

    /// Which saved state it is; what [`Summary::identity`] was when it was sealed.
    pub fn identity(&self) -> Identity {
        self.header.identity
    }

    /// Refuses a state that belongs to something else.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when the binding is not `wanted`.
    pub fn expect_binding(&self, wanted: &[u8]) -> Result<()> {
        if self.binding() == wanted {
            return Ok(());
        }
        let what = "the state belongs to another disk, machine or moment than this one";
        Err(Error::new(ErrorKind::Stale, what).at_path(&self.path))
    }

    /// Reads and checks every byte, and gives nothing on. Anything wrong shows here before a resume is
    /// begun.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] or [`ErrorKind::Truncated`] with the offset of the frame that is not as it
    /// was written, [`ErrorKind::Io`], [`ErrorKind::Cancelled`].
    pub fn verify(&self, cancel: &Cancel) -> Result<Summary> {
        self.walk(None::<std::io::Sink>, cancel)
    }

    /// Writes the stream into `sink`, which is closed at the end. Every chunk is checked before it is
    /// written, but only `Ok` says that the stream was whole: do not use what `sink` received before.
    ///
    /// # Errors
    /// As [`SealedFile::verify`], and [`ErrorKind::Sink`] when `sink` does not take the stream.
    pub fn unseal(&self, sink: impl Write + Send, cancel: &Cancel) -> Result<Summary> {
        self.walk(Some(sink), cancel)
    }

    fn walk(&self, sink: Option<impl Write + Send>, cancel: &Cancel) -> Result<Summary> {
        let passes_on = sink.is_some();
        let cursor = Mutex::new(Cursor {
            at: self.header.len as u64,
            number: 0,
            ended: false,
        });
        let outlet = Outlet {
            sink,
            bytes: 0,
            summary: None,
        };
        let chunk_bytes = self.header.chunk_bytes;
        let work = |turns: &Turns<Outlet<_>>| {
            let mut sealed = Zeroizing::new(vec![0; (chunk_bytes + TAG_LEN).max(END_FRAME_LEN)]);
            let mut room = Zeroizing::new(vec![0; if passes_on { chunk_bytes } else { 0 }]);
            while !turns.failed() {
                cancel.check()?;
                let Ok(mut next) = cursor.lock() else { break };
                let Some(frame) = next.advance(self)? else {
                    break;
                };
                drop(next);

                let sealed = &mut sealed[..frame.head.sealed_len()];
                let read = self.store.read(frame.at + HEAD_LEN as u64, sealed);
                read.map_err(|e| Error::io("cannot read", e).at_offset(frame.at))?;
                let corrupt = |what: &str| Error::corrupt(what).at_offset(frame.at);
                let body = frame
                    .head
                    .open(&self.header, frame.number, sealed)
                    .ok_or_else(|| corrupt("a chunk is damaged or not in its place"))?;
                if frame.head.is_end() {
                    turns.take(frame.number, |outlet| {
                        if end_body(frame.number, outlet.bytes) != *body {
                            return Err(corrupt("the end does not fit what comes before it"));
                        }
                        outlet.end(self, frame.number)
                    })?;
                    break;
                }
                let chunk = match passes_on {
                    true => frame.head.decode(body, &mut room),
                    false => Some(&[][..]),
                };
                let chunk = chunk.ok_or_else(|| corrupt("a chunk was written wrongly"))?;
                let len = frame.head.chunk_len() as u64;
                if turns.take(frame.number, |o| o.pass(chunk, len))?.is_none() {
                    break;
                }
            }
            Ok(())
        };
        let threads = crew::size(Packer::memory(chunk_bytes));
        Turns::new(outlet)
            .run(threads, work)
            .and_then(|outlet| {
                outlet
                    .summary
                    .ok_or_else(|| Error::internal("no end was seen"))
            })
            .map_err(|e| e.at_path(&self.path))
    }
}

impl<S> std::fmt::Debug for SealedFile<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SealedFile({}, {})",
            self.path.display(),
            self.header.identity
        )
    }
}

/// Goes from frame to frame by their heads.
struct Cursor {
    at: u64,
    number: u64,
    ended: bool,
}

/// A frame that lies wholly within the file.
struct Frame {
    at: u64,
    number: u64,
    head: Head,
}

impl Cursor {
    fn advance<S: Store>(&mut self, file: &SealedFile<S>) -> Result<Option<Frame>> {
        if self.ended {
            return Ok(None);
        }
        // Whatever is wrong here, nobody else need look for another frame.
        self.ended = true;
        let at = self.at;
        let missing = || Error::new(ErrorKind::Truncated, "the file ends too early").at_offset(at);
        let rest = file.len - at;
        if rest < HEAD_LEN as u64 {
            return Err(missing());
        }
        let mut head = [0; HEAD_LEN];
        let read = file.store.read(at, &mut head);
        read.map_err(|e| Error::io("cannot read", e).at_offset(at))?;
        let head = Head::parse(head, file.header.chunk_bytes)
            .ok_or_else(|| Error::corrupt("a chunk's head is damaged").at_offset(at))?;
        let frame_len = (HEAD_LEN + head.sealed_len()) as u64;
        if rest < frame_len {
            return Err(missing());
        }
        if head.is_end() && rest > frame_len {
            let what = "something follows the end";
            return Err(Error::corrupt(what).at_offset(at + frame_len));
        }
        let number = self.number;
        self.at += frame_len;
        self.number += 1;
        self.ended = head.is_end();
        Ok(Some(Frame { at, number, head }))
    }
}

/// Where chunks go in their turn.
struct Outlet<W> {
    sink: Option<W>,
    bytes: u64,
    summary: Option<Summary>,
}

impl<W: Write> Outlet<W> {
    fn pass(&mut self, chunk: &[u8], len: u64) -> Result<()> {
        if let Some(sink) = &mut self.sink {
            sink.write_all(chunk).map_err(|e| refused(e, self.bytes))?;
        }
        self.bytes += len;
        Ok(())
    }

    fn end<S>(&mut self, file: &SealedFile<S>, chunks: u64) -> Result<()> {
        if let Some(sink) = &mut self.sink {
            sink.flush().map_err(|e| refused(e, self.bytes))?;
        }
        self.summary = Some(Summary {
            bytes: self.bytes,
            file_bytes: file.len,
            chunks,
            identity: file.header.identity,
        });
        Ok(())
    }
}

fn refused(e: std::io::Error, at: u64) -> Error {
    Error::new(ErrorKind::Sink, "the machine did not take its state")
        .because(e)
        .at_offset(at)
}
