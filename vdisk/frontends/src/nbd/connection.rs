//! One client in transmission: its requests in, its replies out.
//!
//! The threads of a connection take turns at the socket: one reads a request, then either serves it
//! while it keeps the socket, or passes the socket on first. Keeping it costs no wake-up of another
//! thread and is best when the disk answers at once; passing it on keeps a slow disk busy with all
//! that the client has in flight. [`Connection::pass_on`] decides. Measured with a disk in memory on two
//! processors: always keeping takes 0.6 times the processor time of always passing on for 4 KiB one at
//! a time, but 1.4 times its time for 64 KiB sixteen at a time; deciding is as good as the better one.
//!
//! Memory is bounded: each thread owns one buffer of [`PIECE`] bytes, whatever the clients ask for. It is
//! wiped when its thread ends, as the inbox is when the connection does; what waits in the socket is the
//! kernel's.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, sendmsg};
use vdisk::{Disk, ExtentKind};
use zeroize::Zeroizing;

use super::negotiate::{CONTEXT_ID, Session};
use super::proto::{self, Command, Errno, Request, chunk, flag};
use crate::stats::{Op, Stats};
use crate::zeros;

/// Largest payload of one request.
pub const MAX_PAYLOAD: u32 = 32 << 20;
/// Largest payload that is skipped, to stay in step, when it is too large to be served.
const MAX_SKIP: u32 = 2 * MAX_PAYLOAD;
/// Bytes moved between disk and socket at a time.
const PIECE: usize = 256 << 10;
/// Threads of one connection.
const MAX_WORKERS: u32 = 8;
/// A disk that takes longer than this, on average, gets requests from several threads.
const SLOW_MICROS: u32 = 60;
/// From this size on, two processors are faster than one by more than a wake-up costs.
const LARGE: u32 = 32 << 10;
/// Descriptors in one block status.
const MAX_EXTENTS: usize = 4096;
/// Bytes of disk that are mapped at a time, so that a reply that is full ends the search.
const MAP_WINDOW: u64 = 64 << 20;

/// Requests that have arrived but were not looked at.
struct Inbox {
    bytes: Zeroizing<Box<[u8]>>,
    start: usize,
    end: usize,
}

/// One client.
pub struct Connection<'a> {
    socket: &'a UnixStream,
    disk: &'a Disk,
    stats: &'a Stats,
    session: Session,
    read_only: bool,
    inbox: Mutex<Inbox>,
    outbox: Mutex<()>,
    closed: AtomicBool,
    workers: AtomicU32,
    idle: AtomicU32,
    /// Moving average of the time the disk takes for a request, in microseconds.
    disk_micros: AtomicU32,
}

/// Why a request was not done.
struct Refusal {
    errno: Errno,
    text: String,
}

impl Refusal {
    fn new(errno: Errno, text: &str) -> Self {
        Self {
            errno,
            text: text.into(),
        }
    }
}

impl From<vdisk::Error> for Refusal {
    fn from(error: vdisk::Error) -> Self {
        Self {
            errno: error.kind().into(),
            text: error.to_string(),
        }
    }
}

/// How a request ended that the client shall hear about: done, or refused. An [`io::Error`] beside it
/// means that the client cannot hear anything any more.
type Outcome = Result<(), Refusal>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Connection<'a> {
    /// A connection that has been negotiated.
    pub fn new(
        socket: &'a UnixStream,
        disk: &'a Disk,
        stats: &'a Stats,
        session: Session,
        read_only: bool,
    ) -> Self {
        Self {
            socket,
            disk,
            stats,
            session,
            read_only,
            inbox: Mutex::new(Inbox {
                bytes: Zeroizing::new(vec![0; 16 << 10].into()),
                start: 0,
                end: 0,
            }),
            outbox: Mutex::new(()),
            closed: AtomicBool::new(false),
            workers: AtomicU32::new(1),
            idle: AtomicU32::new(0),
            disk_micros: AtomicU32::new(0),
        }
    }

    /// Serves until the client leaves, breaks the protocol, or the socket is shut down.
    pub fn serve(&self) {
        std::thread::scope(|scope| self.work(scope));
    }

    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let _panics = HangUp(self);
        let mut buffer = Zeroizing::new(vec![0; PIECE]);
        while !self.closed.load(Relaxed) {
            if let Err(error) = self.turn(scope, &mut buffer) {
                if !self.closed.swap(true, Relaxed) && error.kind() != io::ErrorKind::UnexpectedEof
                {
                    tracing::debug!(%error, "NBD client dropped");
                }
                // Others may be blocked in reading or writing.
                let _ = self.socket.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Reads one request and serves it.
    fn turn<'s>(&'s self, scope: &'s Scope<'s, '_>, buffer: &mut [u8]) -> io::Result<()> {
        self.idle.fetch_add(1, Relaxed);
        let mut inbox = lock(&self.inbox);
        self.idle.fetch_sub(1, Relaxed);
        if self.closed.load(Relaxed) {
            return Ok(());
        }
        let Some(request) = inbox.request(self.socket)? else {
            self.closed.store(true, Relaxed);
            return Ok(());
        };
        if request.command == Command::Disconnect {
            // Threads that are still at work send their replies; the scope waits for them.
            self.closed.store(true, Relaxed);
            return Ok(());
        }
        if request.command == Command::Write {
            if request.len as usize > buffer.len() {
                return self.write_long(&request, &mut inbox, buffer);
            }
            inbox.payload(self.socket, &mut buffer[..request.len as usize])?;
        }
        let _keep = if self.pass_on(scope, &inbox, request.len) {
            drop(inbox);
            None
        } else {
            Some(inbox)
        };
        match request.command {
            Command::Read => self.read(&request, buffer),
            Command::BlockStatus => self.block_status(&request, buffer),
            _ => {
                let outcome = self.change(&request, buffer);
                self.acknowledge(&request, outcome)
            }
        }
    }

    /// Whether another thread should read the next request while this one serves the last, of `len`
    /// bytes: if the disk is slow, if a request waits that would be held up by this one, or if this one
    /// is worth a look at the socket.
    fn pass_on<'s>(&'s self, scope: &'s Scope<'s, '_>, inbox: &Inbox, len: u32) -> bool {
        let slow = self.disk_micros.load(Relaxed) > SLOW_MICROS;
        let pays = slow || inbox.waiting() || (len >= LARGE && readable(self.socket));
        if !pays {
            return false;
        }
        if self.idle.load(Relaxed) == 0 && self.workers.load(Relaxed) < MAX_WORKERS {
            self.workers.fetch_add(1, Relaxed);
            let spawned = std::thread::Builder::new()
                .name("nbd-worker".into())
                .spawn_scoped(scope, || self.work(scope));
            if spawned.is_err() {
                // Fewer threads serve as well, only slower.
                self.workers.fetch_sub(1, Relaxed);
                return false;
            }
        }
        true
    }

    /// Calls the disk, counts, and remembers how long it took.
    fn timed<T>(
        &self,
        op: Op,
        bytes: u64,
        call: impl FnOnce() -> vdisk::Result<T>,
    ) -> vdisk::Result<T> {
        let begin = Instant::now();
        let result = call();
        let took = begin.elapsed();
        self.stats.count(op, bytes, took, result.is_ok());
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX) / 8;
        let average = self.disk_micros.load(Relaxed);
        self.disk_micros
            .store((average - average / 8).saturating_add(micros), Relaxed);
        result
    }

    /// Judges what every request has to fulfil.
    fn check(&self, request: &Request) -> Outcome {
        if request.flags & !request.known_flags() != 0 {
            return Err(Refusal::new(Errno::Invalid, "unknown flags"));
        }
        let writes = matches!(
            request.command,
            Command::Write | Command::Trim | Command::WriteZeroes
        );
        if writes && self.read_only {
            return Err(Refusal::new(Errno::Perm, "the export is read-only"));
        }
        let payload = matches!(request.command, Command::Read | Command::Write);
        if payload && request.len > MAX_PAYLOAD {
            return Err(Refusal::new(Errno::Invalid, "request too large"));
        }
        let end = request.offset.checked_add(request.len.into());
        if request.command != Command::Flush && end.is_none_or(|end| end > self.disk.size()) {
            let errno = match request.command {
                Command::Write | Command::WriteZeroes => Errno::NoSpace,
                _ => Errno::Invalid,
            };
            return Err(Refusal::new(errno, "past the end of the disk"));
        }
        Ok(())
    }

    /// Everything but reading and mapping; `payload` holds what a short write brought.
    fn change(&self, request: &Request, payload: &mut [u8]) -> Outcome {
        self.check(request)?;
        let (offset, len) = (request.offset, u64::from(request.len));
        match request.command {
            Command::Write => self.timed(Op::Write, len, || {
                self.disk.write_at(offset, &payload[..request.len as usize])
            })?,
            Command::WriteZeroes if request.has(flag::NO_HOLE) => {
                self.timed(Op::Zero, len, || zeros::write_solid(self.disk, offset, len))?;
            }
            Command::WriteZeroes => {
                self.timed(Op::Zero, len, || self.disk.write_zeroes(offset, len))?;
            }
            Command::Trim => self.timed(Op::Discard, len, || self.disk.discard(offset, len))?,
            Command::Flush => return Ok(self.timed(Op::Flush, 0, || self.disk.flush())?),
            _ => return Err(Refusal::new(Errno::Invalid, "unknown command")),
        }
        self.force(request)
    }

    /// Honours FUA. There is no narrower promise than a flush.
    fn force(&self, request: &Request) -> Outcome {
        if request.has(flag::FUA) {
            self.timed(Op::Flush, 0, || self.disk.flush())?;
        }
        Ok(())
    }

    /// A write larger than a buffer: payload flows from the socket to the disk, piece by piece.
    fn write_long(
        &self,
        request: &Request,
        inbox: &mut Inbox,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        if request.len > MAX_SKIP {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "write too large to be skipped",
            ));
        }
        let mut outcome = self.check(request);
        let mut done = 0;
        while done < request.len {
            let piece = buffer.len().min((request.len - done) as usize);
            inbox.payload(self.socket, &mut buffer[..piece])?;
            // After a failure the rest is only read to stay in step.
            if outcome.is_ok() {
                let at = request.offset + u64::from(done);
                outcome = self
                    .timed(Op::Write, piece as u64, || {
                        self.disk.write_at(at, &buffer[..piece])
                    })
                    .map_err(Refusal::from);
            }
            done += piece as u32;
        }
        let outcome = outcome.and_then(|()| self.force(request));
        self.acknowledge(request, outcome)
    }

    fn read(&self, request: &Request, buffer: &mut [u8]) -> io::Result<()> {
        if let Err(refusal) = self.check(request) {
            return self.acknowledge(request, Err(refusal));
        }
        let whole = request.len as usize <= buffer.len();
        if !self.session.structured {
            return self.read_simple(request, buffer);
        }
        if request.has(flag::DF) && !whole {
            let refusal = Refusal::new(Errno::Overflow, "too large to be unfragmented");
            return self.acknowledge(request, Err(refusal));
        }
        let mut done = 0;
        loop {
            let piece = &mut buffer[..PIECE.min((request.len - done) as usize)];
            let (at, len) = (request.offset + u64::from(done), piece.len() as u32);
            if let Err(error) = self.timed(Op::Read, len.into(), || self.disk.read_at(at, piece)) {
                return self.acknowledge(request, Err(error.into()));
            }
            done += len;
            let last = done == request.len;
            let flags = if last { chunk::DONE } else { 0 };
            if len == 0 {
                return self.send(&[&proto::chunk_head(flags, chunk::NONE, request.cookie, 0)]);
            }
            self.send(&[&proto::data_head(flags, request.cookie, at, len), piece])?;
            if last {
                return Ok(());
            }
        }
    }

    /// The reply without chunks says at its start that all is well, so an error after the first piece
    /// can only be told by hanging up.
    fn read_simple(&self, request: &Request, buffer: &mut [u8]) -> io::Result<()> {
        let mut outbox = None;
        let mut done = 0;
        loop {
            let piece = &mut buffer[..PIECE.min((request.len - done) as usize)];
            let (at, len) = (request.offset + u64::from(done), piece.len() as u32);
            let read = self.timed(Op::Read, len.into(), || self.disk.read_at(at, piece));
            match (read, &outbox) {
                (Ok(()), None) => {
                    // The pieces of one reply must not be parted by other replies.
                    let guard = outbox.insert(lock(&self.outbox));
                    let head = proto::simple_reply(None, request.cookie);
                    self.send_locked(guard, &[&head, piece])?;
                }
                (Ok(()), Some(guard)) => self.send_locked(guard, &[piece])?,
                (Err(error), None) => return self.acknowledge(request, Err(error.into())),
                (Err(error), Some(_)) => return Err(io::Error::other(error)),
            }
            done += len;
            if done == request.len {
                return Ok(());
            }
        }
    }

    fn block_status(&self, request: &Request, buffer: &mut [u8]) -> io::Result<()> {
        let outcome = self.check(request).and_then(|()| {
            if !self.session.allocation {
                return Err(Refusal::new(Errno::Invalid, "no context was negotiated"));
            }
            if request.len == 0 {
                return Err(Refusal::new(Errno::Invalid, "block status of nothing"));
            }
            let max = if request.has(flag::REQ_ONE) {
                1
            } else {
                MAX_EXTENTS
            };
            Ok(self.map(request, max, buffer)?)
        });
        match outcome {
            Ok(count) => {
                let head = proto::status_head(request.cookie, CONTEXT_ID, count as u32);
                self.send(&[&head, &buffer[..count * 8]])
            }
            Err(refusal) => self.acknowledge(request, Err(refusal)),
        }
    }

    /// Writes at most `max` descriptors, of alternating kind, into `out`; says how many.
    fn map(&self, request: &Request, max: usize, out: &mut [u8]) -> vdisk::Result<usize> {
        let len = u64::from(request.len);
        let mut count = 0;
        let mut put = |len: u64, kind: ExtentKind| {
            if count < max {
                let state = match kind {
                    ExtentKind::Data => 0,
                    ExtentKind::Hole => proto::STATE_HOLE_ZERO,
                };
                // A run is never longer than the request, whose length has 32 bits.
                out[count * 8..][..8].copy_from_slice(&proto::descriptor(len as u32, state));
                count += 1;
            }
            count < max
        };
        self.timed(Op::Map, len, || {
            let mut run: Option<(u64, ExtentKind)> = None;
            let mut more = true;
            let mut at = 0;
            while at < len && more {
                let window = MAP_WINDOW.min(len - at);
                self.disk
                    .extents(request.offset + at, window, &mut |extent| match &mut run {
                        Some((total, kind)) if *kind == extent.kind => *total += extent.len,
                        _ => {
                            if let Some((total, kind)) = run.replace((extent.len, extent.kind)) {
                                more = more && put(total, kind);
                            }
                        }
                    })?;
                at += window;
            }
            if let Some((total, kind)) = run {
                put(total, kind);
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Sends the reply of a request that returns no data.
    fn acknowledge(&self, request: &Request, outcome: Outcome) -> io::Result<()> {
        let Err(refusal) = outcome else {
            return self.send(&[&proto::simple_reply(None, request.cookie)]);
        };
        tracing::debug!(?request, text = refusal.text, "NBD request refused");
        // A read that may have sent chunks must end with one; a simple error has no room for words.
        if !self.session.structured {
            return self.send(&[&proto::simple_reply(Some(refusal.errno), request.cookie)]);
        }
        let mut end = refusal.text.len().min(1024);
        while !refusal.text.is_char_boundary(end) {
            end -= 1;
        }
        let head = proto::error_head(refusal.errno, request.cookie, end as u16);
        self.send(&[&head, &refusal.text.as_bytes()[..end]])
    }

    fn send(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.send_locked(&lock(&self.outbox), parts)
    }

    /// Sends head and data in one call, without copying them together.
    fn send_locked(&self, _outbox: &MutexGuard<'_, ()>, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let mut rest = &mut slices[..parts.len()];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let fd = self.socket.as_raw_fd();
            match sendmsg::<()>(fd, rest, &[], MsgFlags::MSG_NOSIGNAL, None) {
                Ok(sent) => IoSlice::advance_slices(&mut rest, sent),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Ends the connection when one of its threads panics: the reply that the client waits for, or the rest
/// of one, will never come.
struct HangUp<'c, 'a>(&'c Connection<'a>);

impl Drop for HangUp<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.closed.store(true, Relaxed);
            let _ = self.0.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Inbox {
    /// The next request, or `None` if the client hung up after the last.
    fn request(&mut self, socket: &UnixStream) -> io::Result<Option<Request>> {
        while self.end - self.start < Request::SIZE {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            match receive(socket, &mut self.bytes[self.end..], MsgFlags::empty())? {
                0 if self.end == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.end += n,
            }
        }
        let bytes = self.bytes[self.start..self.end].first_chunk();
        self.start += Request::SIZE;
        bytes
            .and_then(Request::parse)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a request"))
    }

    /// Fills `out` with what follows a request; what has not arrived yet comes straight from the socket.
    fn payload(&mut self, socket: &UnixStream, out: &mut [u8]) -> io::Result<()> {
        let here = out.len().min(self.end - self.start);
        let (head, mut rest) = out.split_at_mut(here);
        head.copy_from_slice(&self.bytes[self.start..][..here]);
        self.start += here;
        while !rest.is_empty() {
            match receive(socket, rest, MsgFlags::MSG_WAITALL)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => rest = &mut rest[n..],
            }
        }
        Ok(())
    }

    /// Whether another request has been received already.
    fn waiting(&self) -> bool {
        self.end - self.start >= Request::SIZE
    }
}

/// Whether the client has sent something more.
fn readable(socket: &UnixStream) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(1)
}

fn receive(socket: &UnixStream, buf: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    loop {
        match recv(socket.as_raw_fd(), buf, flags) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}
