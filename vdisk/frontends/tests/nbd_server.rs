//! The NBD server against our own client: an oracle, and clients that misbehave.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "nbd")]

mod common;
mod nbd_client;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::Random;
use nbd_client::*;
use nix::fcntl::{Flock, FlockArg};
use vdisk::memory::MemoryDisk;
use vdisk::{BlockDevice, DeviceInfo, Disk, Error, ErrorKind, Extent, Result};
use vdisk_frontends::Error as FrontendError;
use vdisk_frontends::nbd::{NbdOptions, NbdServer};

struct Served {
    server: NbdServer,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn serve(device: impl BlockDevice + 'static, options: NbdOptions) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nbd.sock");
    let server = NbdServer::bind(&path, Disk::new(device), options).unwrap();
    Served {
        server,
        path,
        _dir: dir,
    }
}

fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < limit, "{what} took too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Random operations, odd ranges among them, give what a plain vector gives.
fn oracle(structured: bool, seed: u64) {
    const SIZE: u64 = 3 << 20;
    let served = serve(MemoryDisk::new(SIZE / 512), NbdOptions::default());
    let mut client = Client::connect(&served.path, structured).unwrap();
    assert_eq!(client.size, SIZE);
    let mut model = vec![0u8; SIZE as usize];
    let mut random = Random(seed);
    for _ in 0..2000 {
        let biggest = [600, 5000, 70_000, 1_500_000][random.below(4) as usize];
        let mut offset = random.below(SIZE);
        let mut len = random.below(biggest).min(SIZE - offset);
        if random.below(2) == 0 {
            offset -= offset % 512;
            len -= len % 512;
        }
        let range = offset as usize..(offset + len) as usize;
        let n = len as u32;
        match random.below(7) {
            0 | 1 => assert_eq!(client.call(READ, 0, offset, n, &[]).unwrap(), model[range]),
            2 | 3 => {
                let data = random.bytes(n as usize);
                let flags = [0, FUA][random.below(2) as usize];
                client.call(WRITE, flags, offset, n, &data).unwrap();
                model[range].copy_from_slice(&data);
            }
            4 => {
                let flags = [0, NO_HOLE, FUA][random.below(3) as usize];
                client.call(WRITE_ZEROES, flags, offset, n, &[]).unwrap();
                model[range].fill(0);
            }
            5 => {
                // A memory disk makes zeros of whole sectors that are discarded.
                client.call(TRIM, 0, offset, n, &[]).unwrap();
                let first = offset.next_multiple_of(512);
                let last = (offset + len) / 512 * 512;
                if first < last {
                    model[first as usize..last as usize].fill(0);
                }
            }
            _ if structured && n > 0 => {
                let extents = client.map(0, offset, n).unwrap();
                let mut at = range.start;
                for (len, hole) in &extents {
                    let end = at + *len as usize;
                    assert!(!hole || model[at..end].iter().all(|b| *b == 0));
                    at = end;
                }
                assert_eq!(at, range.end);
                assert!(extents.windows(2).all(|w| w[0].1 != w[1].1));
                assert_eq!(client.map(REQ_ONE, offset, n).unwrap(), extents[..1]);
            }
            _ => assert!(client.call(FLUSH, 0, 0, 0, &[]).unwrap().is_empty()),
        }
    }
    let stats = served.server.stats();
    assert!(stats.read.requests > 100 && stats.read.errors == 0);
}

#[test]
fn oracle_with_structured_replies() {
    oracle(true, 1);
}

#[test]
fn oracle_with_simple_replies() {
    oracle(false, 2);
}

#[test]
fn many_requests_in_flight_of_many_clients() {
    const SIZE: u64 = 8 << 20;
    let served = serve(MemoryDisk::new(SIZE / 512), NbdOptions::default());
    std::thread::scope(|scope| {
        for id in 0..4u64 {
            let path = &served.path;
            scope.spawn(move || {
                let mut client = Client::connect(path, true).unwrap();
                let mut random = Random(id + 7);
                let base = id * (SIZE / 4);
                for round in 0..40 {
                    let block = vec![(round + id) as u8 + 1; 8192];
                    let mut waiting = Vec::new();
                    for i in 0..32 {
                        let offset = base + i * 8192;
                        waiting.push(client.send(WRITE, 0, offset, 8192, &block).unwrap());
                    }
                    for _ in 0..32 {
                        let (cookie, reply) = client.receive(None).unwrap();
                        reply.unwrap();
                        let at = waiting.iter().position(|c| *c == cookie).unwrap();
                        waiting.swap_remove(at);
                    }
                    let offset = base + random.below(32 * 8192 - 5000);
                    let read = client.call(READ, 0, offset, 5000, &[]).unwrap();
                    assert!(read.iter().all(|b| *b == block[0]));
                }
            });
        }
    });
    served.server.shutdown().unwrap();
    assert!(!served.path.exists());
}

#[test]
fn bad_requests_get_the_right_error_and_the_connection_lives() {
    for structured in [true, false] {
        let served = serve(MemoryDisk::new(2048), NbdOptions::default());
        let mut client = Client::connect(&served.path, structured).unwrap();
        let size = client.size;
        assert_eq!(client.call(READ, 0, size - 10, 11, &[]), Err(22));
        assert_eq!(client.call(READ, 0, u64::MAX, 2, &[]), Err(22));
        assert_eq!(client.call(WRITE, 0, size - 1, 2, &[1, 2]), Err(28));
        assert_eq!(client.call(WRITE_ZEROES, 0, size, 1, &[]), Err(28));
        assert_eq!(client.call(TRIM, 0, size, 1, &[]), Err(22));
        assert_eq!(client.call(99, 0, 0, 1, &[]), Err(22));
        assert_eq!(client.call(READ, 1 << 9, 0, 1, &[]), Err(22));
        assert_eq!(client.call(WRITE_ZEROES, 1 << 4, 0, 1, &[]), Err(22));
        assert_eq!(
            client.call(BLOCK_STATUS, 0, 0, if structured { 0 } else { 1 }, &[]),
            Err(22)
        );
        // Too large: refused, but skipped, so that the next request is understood.
        assert_eq!(client.call(READ, 0, 0, (32 << 20) + 1, &[]), Err(22));
        let big = vec![7; (32 << 20) + 1];
        assert_eq!(client.call(WRITE, 0, 0, big.len() as u32, &big), Err(22));
        // Long but past the end: likewise.
        assert_eq!(client.call(WRITE, 0, 0, 2 << 20, &big[..2 << 20]), Err(28));
        assert_eq!(client.call(READ, 0, 0, 0, &[]), Ok(vec![]));
        assert_eq!(client.call(READ, 0, 5, 3, &[]), Ok(vec![0; 3]));
        if structured {
            assert_eq!(
                client.call(READ, DF, 0, 64 << 10, &[]),
                Ok(vec![0; 64 << 10])
            );
            assert_eq!(client.call(READ, DF, 0, 1 << 20, &[]), Err(75));
        }
        client.send(DISC, 0, 0, 0, &[]).unwrap();
        assert_eq!(client.socket.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn read_only_is_said_and_enforced() {
    let options = NbdOptions {
        read_only: true,
        ..NbdOptions::default()
    };
    let served = serve(MemoryDisk::new(2048), options);
    let mut client = Client::connect(&served.path, true).unwrap();
    assert_eq!(client.flags & 2, 2);
    assert_eq!(client.call(WRITE, 0, 0, 2, &[1, 2]), Err(1));
    assert_eq!(client.call(WRITE_ZEROES, 0, 0, 2, &[]), Err(1));
    assert_eq!(client.call(TRIM, 0, 0, 512, &[]), Err(1));
    assert_eq!(client.call(READ, 0, 0, 2, &[]), Ok(vec![0, 0]));
}

#[test]
fn nobody_is_kept_waiting_by_bad_clients() {
    let options = NbdOptions {
        max_connections: 8,
        ..NbdOptions::default()
    };
    let served = serve(MemoryDisk::new(16 << 11), options);
    // One says nothing; one talks garbage; one stops in the middle of a request; one does not read.
    let silent = UnixStream::connect(&served.path).unwrap();
    let mut garbage = UnixStream::connect(&served.path).unwrap();
    garbage.write_all(&Random(3).bytes(4000)).unwrap();
    let mut half = Client::connect(&served.path, true).unwrap();
    half.send(WRITE, 0, 0, 1 << 20, &[1; 1000]).unwrap();
    let mut deaf = Client::connect(&served.path, true).unwrap();
    for _ in 0..20 {
        deaf.send(READ, 0, 0, 4 << 20, &[]).unwrap();
    }
    let mut vanished = Client::connect(&served.path, false).unwrap();
    vanished.send(READ, 0, 0, 8 << 20, &[]).unwrap();
    drop(vanished);

    let mut good = Client::connect(&served.path, true).unwrap();
    for i in 0..100u64 {
        good.call(WRITE, 0, i * 512, 512, &[9; 512]).unwrap();
    }
    let mut nonsense = Client::connect(&served.path, true).unwrap();
    nonsense.socket.write_all(&[0x55; 28]).unwrap();
    assert_eq!(nonsense.socket.read(&mut [0]).unwrap(), 0, "hung up on");
    within(Duration::from_secs(5), "forgetting the dead", || {
        served.server.connections() <= 4
    });

    let begin = Instant::now();
    served.server.shutdown().unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "shutdown waited for a client"
    );
    drop((silent, half, deaf));
}

#[test]
fn silent_clients_are_hung_up_on_in_the_end() {
    let served = serve(MemoryDisk::new(8), NbdOptions::default());
    let mut silent = UnixStream::connect(&served.path).unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), 18);
}

#[test]
fn too_many_clients_are_turned_away() {
    let options = NbdOptions {
        max_connections: 2,
        ..NbdOptions::default()
    };
    let served = serve(MemoryDisk::new(8), options);
    let first = Client::connect(&served.path, true).unwrap();
    let _second = Client::connect(&served.path, true).unwrap();
    assert!(Client::connect(&served.path, true).is_err());
    drop(first);
    within(Duration::from_secs(5), "making room", || {
        Client::connect(&served.path, true).is_ok()
    });
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nbd.sock");
    let disk = || Disk::new(MemoryDisk::new(8));
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = NbdServer::bind(&path, disk(), NbdOptions::default()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = NbdServer::bind(&path, disk(), NbdOptions::default());
    assert!(
        matches!(&second, Err(FrontendError::SocketInUse { path: p }) if *p == path),
        "{second:?}"
    );
    Client::connect(&path, true).unwrap();
    drop(server);
    assert!(!path.exists());
    std::fs::write(&path, "mine").unwrap();
    let file = NbdServer::bind(&path, disk(), NbdOptions::default());
    assert!(matches!(file, Err(FrontendError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let long = dir.path().join("x".repeat(120));
    let long = NbdServer::bind(long, disk(), NbdOptions::default());
    assert!(matches!(long, Err(FrontendError::SocketPathTooLong { .. })));
    let nowhere = NbdServer::bind(dir.path().join("no/where"), disk(), NbdOptions::default());
    assert!(
        nowhere.unwrap_err().to_string().contains("no: "),
        "names the directory"
    );
}

#[test]
fn a_stopping_server_leaves_its_successors_socket() {
    let served = serve(MemoryDisk::new(8), NbdOptions::default());
    let dir = std::fs::File::open(served.path.parent().unwrap()).unwrap();
    let lock = Flock::lock(dir, FlockArg::LockExclusive).unwrap();
    let path = served.path.clone();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| served.server.shutdown());
        // As a successor does, which holds the lock meanwhile.
        within(Duration::from_secs(5), "stopping to listen", || {
            UnixStream::connect(&path).is_err()
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(path.exists(), "removed without the lock");
        std::fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(lock);
        stopping.join().unwrap().unwrap();
        UnixStream::connect(&path).unwrap();
    });
}

#[test]
fn a_panic_costs_the_connection_but_not_its_place() {
    let moody = Moody::new();
    let held = moody.held.clone();
    let options = NbdOptions {
        max_connections: 1,
        ..NbdOptions::default()
    };
    let served = serve(moody, options);
    // The first round panics in the connection's only thread; the second while another thread is at
    // work on a slow request, in whichever thread gets the bad one.
    for slow in [false, true] {
        *held.0.lock().unwrap() = false;
        let mut client = Client::connect(&served.path, true).unwrap();
        if slow {
            client.send(READ, 0, 512, 512, &[]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        client.send(READ, 0, PANIC, 512, &[]).unwrap();
        *held.0.lock().unwrap() = true;
        held.1.notify_all();
        let mut rest = Vec::new();
        // All that comes is the slow one's reply, or nothing.
        let _ = client.socket.read_to_end(&mut rest);
        assert!(rest.len() <= 28 + 512, "{} bytes", rest.len());
        within(Duration::from_secs(5), "giving the place back", || {
            served.server.connections() == 0
        });
    }
    let mut client = Client::connect(&served.path, true).unwrap();
    assert_eq!(client.call(READ, 0, 0, 512, &[]), Ok(vec![7; 512]));
    served.server.shutdown().unwrap();
}

/// Where [`Moody`] panics.
const PANIC: u64 = 8192;

/// A disk that fails, counts flushes, and holds reads of sector 1 until it is let go.
struct Moody {
    info: DeviceInfo,
    flushes: Arc<AtomicUsize>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl Moody {
    fn new() -> Self {
        let info = DeviceInfo {
            size: 4 << 20,
            read_only: false,
            preferred_io: 512,
            name: "moody".into(),
        };
        Self {
            info,
            flushes: Arc::default(),
            held: Arc::default(),
        }
    }
}

impl BlockDevice for Moody {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        assert_ne!(offset, PANIC, "as the test wants it");
        if offset == 512 {
            let (open, bell) = &*self.held;
            drop(
                bell.wait_while(open.lock().unwrap(), |open| !*open)
                    .unwrap(),
            );
        }
        if offset + buf.len() as u64 > 1 << 20 {
            return Err(Error::corrupt("a sector is bad").at_offset(1 << 20));
        }
        buf.fill(7);
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Error::new(ErrorKind::NoSpace, "full"))
    }
    fn write_zeroes(&self, _: u64, _: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "never heard of it"))
    }
    fn discard(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        self.flushes.fetch_add(1, SeqCst);
        Ok(())
    }
    fn extents(&self, _: u64, _: u64, _: &mut dyn FnMut(Extent)) -> Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_the_disk_are_told_and_fua_flushes() {
    let moody = Moody::new();
    let flushes = moody.flushes.clone();
    let served = serve(moody, NbdOptions::default());
    let mut client = Client::connect(&served.path, true).unwrap();
    assert_eq!(client.call(WRITE, 0, 0, 512, &[0; 512]), Err(28));
    assert_eq!(client.call(WRITE_ZEROES, 0, 0, 512, &[]), Err(95));
    // The first pieces are fine; the error comes in the middle of the reply.
    assert_eq!(client.call(READ, 0, 0, 2 << 20, &[]), Err(5));
    assert_eq!(client.call(READ, 0, 0, 512, &[]), Ok(vec![7; 512]));
    assert_eq!(client.call(TRIM, FUA, 0, 512, &[]), Ok(vec![]));
    assert_eq!(flushes.load(SeqCst), 1);
    // A simple reply has begun by then: the client is hung up on.
    let mut simple = Client::connect(&served.path, false).unwrap();
    simple.send(READ, 0, 0, 2 << 20, &[]).unwrap();
    assert!(simple.receive(Some((0, 2 << 20))).is_err());
    assert_eq!(served.server.stats().read.errors, 2);
    served.server.shutdown().unwrap();
    assert_eq!(flushes.load(SeqCst), 2);
}

#[test]
fn a_slow_request_does_not_hold_up_those_sent_with_it() {
    let moody = Moody::new();
    let held = moody.held.clone();
    let served = serve(moody, NbdOptions::default());
    let mut client = Client::connect(&served.path, false).unwrap();
    // Both in one packet, so that the server sees the second when it starts the first.
    let mut bytes = Vec::new();
    for (cookie, offset) in [(1u64, 512u64), (2, 4096)] {
        bytes.extend(0x2560_9513u32.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(512u32.to_be_bytes());
    }
    client.socket.write_all(&bytes).unwrap();
    assert_eq!(
        client.receive(Some((4096, 512))).unwrap(),
        (2, Ok(vec![7; 512]))
    );
    *held.0.lock().unwrap() = true;
    held.1.notify_all();
    assert_eq!(
        client.receive(Some((512, 512))).unwrap(),
        (1, Ok(vec![7; 512]))
    );
}
