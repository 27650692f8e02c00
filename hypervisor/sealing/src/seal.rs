//! From a stream to a file. Every thread takes the next chunk off the stream, packs and encrypts it,
//! learns in its turn where it goes, and writes it there.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::Summary;
use crate::cancel::Cancel;
use crate::crew::{self, Turns};
use crate::draft::Draft;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Effort, Packer, end_frame};
use crate::header::Header;
use crate::keys::WrappingKey;

/// The smallest chunk, in bytes.
pub const MIN_CHUNK: usize = 256;
/// The largest chunk, in bytes.
pub const MAX_CHUNK: usize = 4 << 20;

/// Bytes after which what was written is pushed to the disk, so that little is left for the end.
const WRITE_BACK: u64 = 32 << 20;
/// Bytes after which it is pushed for the first time, to learn how fast the disk is.
const FIRST_WRITE_BACK: u64 = 4 << 20;
/// Bytes per second from which a disk takes more than two processors pack beside a hypervisor.
const FAST_DISK: f64 = 400e6;

/// How to seal.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the stream that are packed and encrypted at a time, from [`MIN_CHUNK`] to [`MAX_CHUNK`].
    pub chunk_bytes: usize,
    /// Bytes that the file is expected to have at most; refused at once when so many are not free. The
    /// stream of a guest that does not compress is as long as the guest has used memory.
    pub expected_bytes: u64,
    /// Ends the sealing early.
    pub cancel: Cancel,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Packed and plain, it stays in a processor's own cache on the way through.
            chunk_bytes: 256 << 10,
            expected_bytes: 0,
            cancel: Cancel::default(),
        }
    }
}

pub(crate) fn check_chunk_bytes(bytes: usize) -> Result<()> {
    if (MIN_CHUNK..=MAX_CHUNK).contains(&bytes) {
        return Ok(());
    }
    let what = format!("chunks of {bytes} bytes, but they have {MIN_CHUNK} to {MAX_CHUNK}");
    Err(Error::new(ErrorKind::Input, what))
}

/// A whole and durable file that has no name yet. Dropped, it never existed.
#[must_use = "a sealed state is lost unless it is published"]
pub struct Sealed {
    draft: Draft,
    path: std::path::PathBuf,
    summary: Summary,
}

impl Sealed {
    /// What was sealed.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Gives the file its name, durably, in place of an older file of that name.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::NoSpace`] when the folder does not take the name.
    pub fn publish(self) -> Result<Summary> {
        self.draft.publish().map_err(|e| e.at_path(&self.path))?;
        Ok(self.summary)
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({}, {:?})", self.path.display(), self.summary)
    }
}

/// Seals `source`, read to its end, under `key` for a file that will be called `path`. `binding`, at
/// most [`crate::MAX_BINDING`] bytes, says what the state belongs to; it is encrypted too.
///
/// The end of `source` is taken for the end of the state. A pipe ends also when its writer dies, so ask
/// the hypervisor whether it wrote everything before [`Sealed::publish`].
///
/// # Errors
/// [`ErrorKind::Source`] when the stream cannot be read, [`ErrorKind::NoSpace`] and [`ErrorKind::Io`] of
/// the file, [`ErrorKind::Input`], [`ErrorKind::Cancelled`], [`ErrorKind::Internal`]. Nothing is left
/// on disk then, and `source` is closed.
pub fn seal(
    source: impl Read + Send,
    path: &Path,
    key: &WrappingKey,
    binding: &[u8],
    options: &Options,
) -> Result<Sealed> {
    write(source, path, key, binding, options).map_err(|e| e.at_path(path))
}

fn write(
    source: impl Read + Send,
    path: &Path,
    key: &WrappingKey,
    binding: &[u8],
    options: &Options,
) -> Result<Sealed> {
    let (header, header_bytes) = Header::new(key, binding, options.chunk_bytes)?;
    let draft = Draft::new(path, options.expected_bytes)?;
    let out = Out::new(draft.file());
    out.write(0, &header_bytes)?;

    let source = Mutex::new(Source {
        from: source,
        chunks: 0,
        bytes: 0,
        ended: false,
    });
    let threads = crew::size(Packer::memory(options.chunk_bytes));
    let processors = crew::processors() as u32;
    let end = Turns::new(header.len as u64).run(threads, |turns| {
        let mut packer = Packer::new(options.chunk_bytes);
        let mut effort = Effort::Normal;
        while !turns.failed() {
            options.cancel.check()?;
            // Poisoned: a read panicked, which its thread reports.
            let Ok(mut from) = source.lock() else { break };
            let begun = Instant::now();
            let Some((number, len)) = from.fill(packer.room(), &options.cancel)? else {
                break;
            };
            drop(from);
            let filled = begun.elapsed();
            let frame = packer.frame(&header, number, len, effort)?;
            let packed = begun.elapsed() - filled;
            let place = turns.take(number, |end| {
                let place = *end;
                *end += frame.len() as u64;
                Ok(place)
            })?;
            let Some(place) = place else { break };
            let begun = Instant::now();
            out.write(place, frame)?;
            let written = begun.elapsed();
            // Meanwhile the stream could have filled a chunk for every processor: it waits for us.
            let waits = filled * processors < filled + packed + written;
            effort = match (waits, effort) {
                (true, Effort::Hasty | Effort::Least) if out.is_fast() => Effort::Least,
                (true, _) if packed > written => Effort::Hasty,
                _ => Effort::Normal,
            };
        }
        Ok(())
    })?;

    let source = source.into_inner();
    let source = source.map_err(|_| Error::internal("a reader panicked"))?;
    let last = end_frame(&header, source.chunks, source.bytes)?;
    out.write(end, &last)?;
    let sync = draft.file().sync_all();
    sync.map_err(|e| Error::io("cannot make the file durable", e))?;
    Ok(Sealed {
        summary: Summary {
            bytes: source.bytes,
            file_bytes: end + last.len() as u64,
            chunks: source.chunks,
            identity: header.identity,
        },
        path: path.to_owned(),
        draft,
    })
}

/// The stream, taken off chunk by chunk.
struct Source<R> {
    from: R,
    chunks: u64,
    bytes: u64,
    ended: bool,
}

impl<R: Read> Source<R> {
    /// Fills `room` as far as the stream goes: the chunk's number and length, or `None` at the end.
    fn fill(&mut self, room: &mut [u8], cancel: &Cancel) -> Result<Option<(u64, usize)>> {
        let mut len = 0;
        while len < room.len() && !self.ended {
            cancel.check()?;
            match self.from.read(&mut room[len..]) {
                Ok(0) => self.ended = true,
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    // Nobody else shall find more in a stream that broke.
                    self.ended = true;
                    let at = self.bytes + len as u64;
                    return Err(
                        Error::new(ErrorKind::Source, "cannot read the machine's state")
                            .because(e)
                            .at_offset(at),
                    );
                }
            }
        }
        if len == 0 {
            return Ok(None);
        }
        let number = self.chunks;
        self.chunks += 1;
        self.bytes += len as u64;
        Ok(Some((number, len)))
    }
}

/// The file, written anywhere by anybody, and pushed to the disk now and then by whoever is there.
struct Out<'a> {
    file: &'a File,
    waiting: AtomicU64,
    /// Whoever pushes holds it; how many bytes are worth the next push.
    pushing: Mutex<u64>,
    fast: AtomicBool,
}

impl<'a> Out<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            file,
            waiting: AtomicU64::new(0),
            pushing: Mutex::new(FIRST_WRITE_BACK),
            fast: AtomicBool::new(false),
        }
    }

    /// Whether the disk took what was pushed faster than it could have been packed.
    fn is_fast(&self) -> bool {
        self.fast.load(Ordering::Relaxed)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, at)
            .map_err(|e| Error::io("cannot write", e).at_offset(at))?;
        let len = bytes.len() as u64;
        let waiting = self.waiting.fetch_add(len, Ordering::Relaxed) + len;
        let Ok(mut worth) = self.pushing.try_lock() else {
            return Ok(());
        };
        if waiting < *worth {
            return Ok(());
        }
        *worth = WRITE_BACK;
        let pushed = self.waiting.swap(0, Ordering::Relaxed);
        let begun = Instant::now();
        self.file
            .sync_data()
            .map_err(|e| Error::io("cannot write", e).at_offset(at))?;
        let fast = pushed as f64 > FAST_DISK * begun.elapsed().as_secs_f64();
        self.fast.store(fast, Ordering::Relaxed);
        Ok(())
    }
}
