//! The kernel's requests for the three files, answered from the disk.
//!
//! Files bypass the page cache, so the kernel keeps no plaintext of what is read and written, and both
//! names of the disk show the same bytes. There are two ways to it. A file that is opened with `O_DIRECT`
//! bypasses the cache by itself, and the kernel has the pieces of one large request served at the same
//! time; but it lets one writer at a time in. Any other open is made to bypass it by our answer: pieces
//! come one after the other, and writers work side by side, unless somebody has the file open with
//! `O_DIRECT` (newer kernels let one at a time in then, too). What is mapped or spliced (`sendfile`) does go
//! through the page cache, where the kernel can; pages of one name there show what is written through the
//! other only when the file is opened anew.
//!
//! What was read is wiped from our buffers when their threads end; what is written passes through buffers
//! of the FUSE library, which are freed as they are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use nix::fcntl::{FallocateFlags, OFlag};
use nix::unistd::{getgid, getuid};
use serde::Serialize;
use vdisk::{Disk, ExtentKind};
use zeroize::Zeroizing;

use super::allocated::Allocated;
use crate::stats::{Op, Stats, Summary};

/// Names of the files.
pub const RAW: &str = "disk.raw";
/// See [`RAW`].
pub const VHD: &str = "disk.vhd";
const STATUS: &str = "status.json";

/// Largest read or write of one request. The kernel makes pieces of this size from larger ones: small
/// enough that 1 MiB keeps every processor busy, large enough that a piece is worth its wake-up. Measured
/// on two processors, 1 MiB writes are fastest with it, beside 64 KiB, 256 KiB, 512 KiB and 1 MiB.
const MAX_IO: u32 = 128 << 10;
/// What a program does well to ask for at a time.
const GOOD_IO: u32 = 1 << 20;
/// How long the kernel may believe what it was told about a file.
const TTL: Duration = Duration::from_secs(1);
/// Status files open at the same time.
const MAX_STATUS: usize = 256;
const FOOTER: u64 = 512;
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// A handle of the disk for which we told the kernel to bypass the page cache.
const BYPASSING: FileHandle = FileHandle(0);
/// A handle of the disk that bypasses it by its own `O_DIRECT`. Those of status files lie between.
const DIRECT: FileHandle = FileHandle(u64::MAX);

thread_local! {
    /// Where reads go on their way to the kernel; one per thread, so that no request allocates. Never
    /// resized: growing would leave a copy behind that nobody wipes.
    static BUFFER: RefCell<Zeroizing<Vec<u8>>> = RefCell::new(Zeroizing::new(Vec::new()));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Root,
    Raw,
    Vhd,
    Status,
}

impl Node {
    const ALL: [(Self, &str); 4] = [
        (Self::Root, "."),
        (Self::Raw, RAW),
        (Self::Vhd, VHD),
        (Self::Status, STATUS),
    ];

    fn of(ino: INodeNo) -> Option<Self> {
        let index = usize::try_from(ino.0.checked_sub(1)?).ok()?;
        Self::ALL.get(index).map(|(node, _)| *node)
    }

    fn ino(self) -> INodeNo {
        INodeNo(self as u64 + 1)
    }
}

/// The directory.
pub struct Files {
    disk: Disk,
    read_only: bool,
    footer: [u8; FOOTER as usize],
    stats: Arc<Stats>,
    begin: Instant,
    mounted: SystemTime,
    /// Microseconds from `begin` to the last change.
    changed: AtomicU64,
    allocated: Allocated,
    status: Mutex<OpenStatus>,
}

/// Status files that are open, each as it was at its opening.
#[derive(Default)]
struct OpenStatus {
    next: u64,
    texts: HashMap<u64, Arc<[u8]>>,
}

/// What `status.json` says.
#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    size: u64,
    read_only: bool,
    seconds: f64,
    requests: Summary,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(error: &vdisk::Error) -> Errno {
    Errno::from_i32(error.kind().errno())
}

impl Files {
    pub fn new(disk: Disk, read_only: bool, footer: [u8; 512], stats: Arc<Stats>) -> Self {
        Self {
            disk,
            read_only,
            footer,
            stats,
            begin: Instant::now(),
            mounted: SystemTime::now(),
            changed: AtomicU64::new(0),
            allocated: Allocated::default(),
            status: Mutex::default(),
        }
    }

    /// Calls the disk, counts, and turns the error into what the kernel understands.
    fn timed<T>(
        &self,
        op: Op,
        bytes: u64,
        call: impl FnOnce() -> vdisk::Result<T>,
    ) -> Result<T, Errno> {
        self.stats.time(op, bytes, call).map_err(|error| {
            tracing::warn!(%error, "FUSE request failed");
            errno(&error)
        })
    }

    fn touch(&self) {
        let now = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.changed.store(now, Relaxed);
    }

    fn size(&self, node: Node) -> u64 {
        match node {
            Node::Root => 0,
            Node::Raw => self.disk.size(),
            Node::Vhd => self.disk.size() + FOOTER,
            Node::Status => self.report().len() as u64,
        }
    }

    fn report(&self) -> Arc<[u8]> {
        let info = self.disk.info();
        let status = Status {
            name: &info.name,
            size: info.size,
            read_only: self.read_only,
            seconds: self.begin.elapsed().as_secs_f64(),
            requests: self.stats.summary(),
        };
        let mut text = serde_json::to_vec_pretty(&status).unwrap_or_default();
        text.push(b'\n');
        text.into()
    }

    fn allocated(&self) -> u64 {
        self.allocated.bytes(&self.disk, self.changed.load(Relaxed))
    }

    fn attr(&self, node: Node) -> FileAttr {
        let size = self.size(node);
        let (kind, perm) = match node {
            Node::Root => (FileType::Directory, 0o500),
            Node::Status => (FileType::RegularFile, 0o400),
            _ if self.read_only => (FileType::RegularFile, 0o400),
            _ => (FileType::RegularFile, 0o600),
        };
        let bytes = match node {
            Node::Raw => self.allocated(),
            Node::Vhd => self.allocated() + FOOTER,
            _ => size,
        };
        let mtime = self.mounted + Duration::from_micros(self.changed.load(Relaxed));
        FileAttr {
            ino: node.ino(),
            size,
            blocks: bytes.div_ceil(512),
            atime: mtime,
            mtime,
            ctime: mtime,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: if node == Node::Root { 2 } else { 1 },
            uid: getuid().as_raw(),
            gid: getgid().as_raw(),
            rdev: 0,
            blksize: GOOD_IO,
            flags: 0,
        }
    }

    /// Fills `out` from the disk and the footer behind it; the range lies within the file.
    fn fill(&self, offset: u64, out: &mut [u8]) -> Result<(), Errno> {
        let (bytes, footer) = out.split_at_mut(self.on_disk(offset, out.len() as u64) as usize);
        if !bytes.is_empty() {
            self.timed(Op::Read, bytes.len() as u64, || {
                self.disk.read_at(offset, bytes)
            })?;
        }
        footer.copy_from_slice(self.footer_part(offset, footer.len() as u64));
        Ok(())
    }

    fn store(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let (bytes, footer) = data.split_at(self.on_disk(offset, data.len() as u64) as usize);
        // Writing the footer as it is does no harm, and some programs do it.
        if footer != self.footer_part(offset, footer.len() as u64) {
            return Err(Errno::EPERM);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.timed(Op::Write, bytes.len() as u64, || {
            self.disk.write_at(offset, bytes)
        })?;
        self.touch();
        Ok(())
    }

    /// How many bytes of a range of a file are the disk's.
    fn on_disk(&self, offset: u64, len: u64) -> u64 {
        self.disk.size().saturating_sub(offset).min(len)
    }

    /// The last `len` bytes of a range that starts at `offset`, when they are the footer's.
    fn footer_part(&self, offset: u64, len: u64) -> &[u8] {
        let start = offset.saturating_sub(self.disk.size()).min(FOOTER) as usize;
        &self.footer[start..][..len as usize]
    }

    fn read_file(&self, node: Node, fh: FileHandle, offset: u64, size: u32, reply: ReplyData) {
        if node == Node::Status {
            let text = lock(&self.status).texts.get(&fh.0).cloned();
            return match text {
                Some(text) => {
                    let start = text
                        .len()
                        .min(usize::try_from(offset).unwrap_or(usize::MAX));
                    let end = text.len().min(start.saturating_add(size as usize));
                    reply.data(&text[start..end]);
                }
                None => reply.error(Errno::EBADF),
            };
        }
        let len = self.size(node).saturating_sub(offset).min(size.into()) as usize;
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                *buffer = Zeroizing::new(vec![0; len.next_power_of_two()]);
            }
            let out = &mut buffer[..len];
            match self.fill(offset, out) {
                Ok(()) => reply.data(out),
                Err(errno) => reply.error(errno),
            }
        });
    }

    /// Writes what fits, as a block device does, and says how much that was.
    fn write_file(&self, node: Node, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        self.check_writable(node)?;
        let room = self.size(node).saturating_sub(offset);
        let data = &data[..room.min(data.len() as u64) as usize];
        if data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        self.store(offset, data)?;
        // The kernel's own limits keep the length far below 4 GiB.
        Ok(data.len() as u32)
    }

    fn check_writable(&self, node: Node) -> Result<(), Errno> {
        match node {
            Node::Root => Err(Errno::EISDIR),
            Node::Status => Err(Errno::EACCES),
            _ if self.read_only => Err(Errno::EROFS),
            _ => Ok(()),
        }
    }

    /// A punched hole has to read as zeros, which a discarded range need not: both kinds of request
    /// write zeros, and the disk gives the space back where it can.
    fn zero(&self, node: Node, offset: u64, len: u64, mode: i32) -> Result<(), Errno> {
        self.check_writable(node)?;
        let mode = FallocateFlags::from_bits_retain(mode);
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep;
        let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE;
        if mode != punch && mode != zero && mode != zero | keep {
            return Err(Errno::EOPNOTSUPP);
        }
        let size = self.size(node);
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if end > size && !mode.contains(keep) {
            return Err(Errno::EFBIG);
        }
        let len = end.min(size).saturating_sub(offset);
        if len == 0 {
            // There is nothing but holes past the end.
            return Ok(());
        }
        let on_disk = self.on_disk(offset, len);
        if on_disk < len {
            return Err(Errno::EPERM);
        }
        self.timed(Op::Zero, len, || self.disk.write_zeroes(offset, len))?;
        self.touch();
        Ok(())
    }

    /// Where the next data (or hole) begins, at or after `offset`.
    fn seek(&self, node: Node, offset: u64, whence: i32) -> Result<u64, Errno> {
        let (size, disk) = (self.size(node), self.disk.size());
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let wanted = match whence {
            SEEK_DATA => ExtentKind::Data,
            SEEK_HOLE => ExtentKind::Hole,
            _ => return Err(Errno::EINVAL),
        };
        if node == Node::Status {
            return Ok(if wanted == ExtentKind::Data {
                offset
            } else {
                size
            });
        }
        let mut found = ControlFlow::Continue(());
        // Small steps first: most often the answer is near.
        let (mut at, mut window) = (offset, 1 << 20);
        while at < disk && found.is_continue() {
            let len = (disk - at).min(window);
            self.timed(Op::Map, len, || {
                self.disk.extents(at, len, &mut |extent| {
                    if found.is_continue() && extent.kind == wanted {
                        found = ControlFlow::Break(extent.offset);
                    }
                })
            })?;
            at += len;
            window = (window * 2).min(1 << 30);
        }
        match (found, wanted) {
            (ControlFlow::Break(at), _) => Ok(at),
            // Every file ends with a hole that is not there.
            (_, ExtentKind::Hole) => Ok(size),
            // The footer is data.
            (_, ExtentKind::Data) if node == Node::Vhd => Ok(offset.max(disk)),
            (_, ExtentKind::Data) => Err(Errno::ENXIO),
        }
    }

    fn open_file(&self, node: Node, flags: OpenFlags) -> Result<FileHandle, Errno> {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            self.check_writable(node)?;
        }
        if node != Node::Status {
            return Ok(if is_direct(flags) { DIRECT } else { BYPASSING });
        }
        let text = self.report();
        let mut open = lock(&self.status);
        if open.texts.len() >= MAX_STATUS {
            return Err(Errno::EMFILE);
        }
        open.next += 1;
        let handle = open.next;
        open.texts.insert(handle, text);
        Ok(FileHandle(handle))
    }
}

fn is_direct(flags: OpenFlags) -> bool {
    OFlag::from_bits_retain(flags.0).contains(OFlag::O_DIRECT)
}

/// A program can take `O_DIRECT` back (`fcntl`), and would read what the page cache holds from then on:
/// such reads are refused. Not writes: `dd` does it for a last piece of an odd length. They come to us at
/// once; the page they touch stays with the kernel until the file is opened anew.
fn check_uncached(fh: FileHandle, flags: OpenFlags) -> Result<(), Errno> {
    if fh == DIRECT && !is_direct(flags) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn answer(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// The part of the protocol that this directory has. What it has not is refused in the words that make
/// the kernel stop asking, or that tell the user why.
impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is a wish: an older kernel does without.
        for wish in [
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            let _ = config.add_capabilities(wish);
        }
        let _ = config.set_max_write(MAX_IO);
        // The library lets a request be as large as the larger of the two.
        let _ = config.set_max_readahead(MAX_IO);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let files = Node::ALL.iter().skip(1);
        match files.into_iter().find(|(_, known)| name == *known) {
            Some((node, _)) if parent == Node::Root.ino() => {
                let ttl = ttl(*node);
                reply.entry_with_ttls(&TTL, &ttl, &self.attr(*node), Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match Node::of(ino) {
            Some(node) => reply.attr(&ttl(node), &self.attr(node)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let Some(node) = Node::of(ino) else {
            return reply.error(Errno::ENOENT);
        };
        // A disk does not change its size. Times may be set; nobody remembers them.
        let resize = size.is_some_and(|size| node == Node::Status || size != self.size(node));
        if resize || mode.is_some() || uid.is_some() || gid.is_some() {
            return reply.error(Errno::EPERM);
        }
        reply.attr(&ttl(node), &self.attr(node));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some(node) = Node::of(ino) else {
            return reply.error(Errno::ENOENT);
        };
        let bypass = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        match self.open_file(node, flags) {
            Ok(DIRECT) => reply.opened(DIRECT, FopenFlags::FOPEN_NOFLUSH),
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_NOFLUSH | bypass),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if fh != BYPASSING && fh != DIRECT {
            lock(&self.status).texts.remove(&fh.0);
        }
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match (Node::of(ino), check_uncached(fh, flags)) {
            (_, Err(errno)) => reply.error(errno),
            (Some(Node::Root), _) => reply.error(Errno::EISDIR),
            (Some(node), _) => self.read_file(node, fh, offset, size, reply),
            (None, _) => reply.error(Errno::ENOENT),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let node = Node::of(ino).ok_or(Errno::ENOENT);
        match node.and_then(|node| self.write_file(node, offset, data)) {
            // Of pieces the kernel takes no short count: the program would be told of an I/O error.
            Ok(written) if fh == DIRECT && (written as usize) < data.len() => {
                reply.error(Errno::ENOSPC);
            }
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file promises nothing about its bytes.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if self.read_only {
            return reply.ok();
        }
        answer(self.timed(Op::Flush, 0, || self.disk.flush()), reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let node = Node::of(ino).ok_or(Errno::ENOENT);
        answer(
            node.and_then(|node| self.zero(node, offset, length, mode)),
            reply,
        );
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let node = Node::of(ino).ok_or(Errno::ENOENT);
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO);
        let found = node.and_then(|node| self.seek(node, offset?, whence));
        match found.and_then(|at| i64::try_from(at).map_err(|_| Errno::EOVERFLOW)) {
            Ok(at) => reply.offset(at),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if ino != Node::Root.ino() {
            return reply.error(Errno::ENOTDIR);
        }
        let all = [(Node::Root, "..")].into_iter().chain(Node::ALL);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (node, name)) in all.enumerate().skip(start) {
            let kind = match node {
                Node::Root => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(node.ino(), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = self.disk.size().div_ceil(4096);
        reply.statfs(blocks, 0, 0, 3, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel copies by reading and writing then.
        reply.error(Errno::ENOSYS);
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EPERM);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EPERM);
    }
}

/// The size of the status file changes all the time.
fn ttl(node: Node) -> Duration {
    match node {
        Node::Status => Duration::ZERO,
        _ => TTL,
    }
}
