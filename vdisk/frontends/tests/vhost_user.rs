//! The vhost-user-blk server, driven from the host: data against an oracle, hostile clients, reconnection
//! and the log of dirty pages.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "vhost-user")]

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use common::Random;
use vdisk::Disk;
use vdisk::image::{Format, Mode, OpenImage};
use vdisk::memory::MemoryDisk;
use vdisk::{BlockDevice, DeviceInfo, Extent};
use vdisk_frontends::Error;
use vdisk_frontends::vhost_user::{Layout, VhostUserOptions, VhostUserServer, process};
use vdisk_vhost_client::{Client, Done, Memory, Options, Queue, Segment, flag, status};

const SECTORS: u64 = 16 << 11;
const LIMIT: Duration = Duration::from_secs(20);

struct Served {
    server: VhostUserServer,
    disk: Disk,
    dir: tempfile::TempDir,
}

impl Served {
    fn new(bytes: Vec<u8>, options: VhostUserOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(MemoryDisk::with(bytes, false));
        let path = dir.path().join("v.sock");
        let server = VhostUserServer::bind(path, disk.clone(), options).unwrap();
        Self { server, disk, dir }
    }

    fn zeros() -> Self {
        Self::new(
            vec![0; (SECTORS * 512) as usize],
            VhostUserOptions::default(),
        )
    }

    fn client(&self, options: Options) -> Client {
        Client::connect(self.server.path(), options).unwrap()
    }

    fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.disk.read_at(offset, &mut bytes).unwrap();
        bytes
    }
}

fn finish(queue: &mut Queue) -> Done {
    queue.kick().unwrap();
    queue.wait(LIMIT).unwrap()
}

fn fill(queue: &Queue, slot: u16, bytes: &[u8]) {
    queue.memory().write(queue.data(slot), bytes);
}

fn data(queue: &Queue, slot: u16, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    queue.memory().read(queue.data(slot), &mut bytes);
    bytes
}

#[test]
fn one_of_each() {
    let served = Served::new(
        vec![0x5a; (SECTORS * 512) as usize],
        VhostUserOptions {
            serial: "MEDLEY-1".into(),
            ..VhostUserOptions::default()
        },
    );
    let mut client = served.client(Options::default());
    assert_eq!(client.sectors(), SECTORS);
    assert_eq!(client.max_queues().unwrap(), 64);
    let queue = &mut client.queues[0];

    fill(queue, 0, &[7; 4096]);
    queue.write(0, 8, 4096);
    let done = finish(queue);
    assert_eq!((done.status, done.written), (status::OK, 1));
    assert_eq!(served.bytes(4096, 4096), [7; 4096]);
    assert_eq!(served.bytes(8192, 512), [0x5a; 512]);

    queue.read(1, 7, 1024);
    let done = finish(queue);
    assert_eq!(
        (done.slot, done.status, done.written),
        (1, status::OK, 1025)
    );
    assert_eq!(data(queue, 1, 1024), [[0x5a; 512], [7; 512]].concat());

    queue.flush(2);
    assert_eq!(finish(queue).status, status::OK);

    let serial = [queue.whole(3, 20, true)];
    queue.submit(3, 8, 0, &serial);
    assert_eq!(finish(queue).status, status::OK);
    assert_eq!(data(queue, 3, 20), *b"MEDLEY-1\0\0\0\0\0\0\0\0\0\0\0\0");

    for (kind, flags, sector) in [(11, 0, 8), (13, 1, 9), (13, 0, 10)] {
        queue.range(4, kind, sector, 1, flags);
        assert_eq!(finish(queue).status, status::OK);
        assert_eq!(served.bytes(sector * 512, 512), [0; 512]);
    }
    assert_eq!(served.bytes(11 * 512, 512), [7; 512]);

    let stats = served.server.stats();
    let counts = [
        &stats.read,
        &stats.write,
        &stats.zero,
        &stats.discard,
        &stats.flush,
    ];
    assert_eq!(counts.map(|op| op.requests), [1, 1, 2, 1, 1]);
    assert_eq!(client.stop().unwrap(), [7]);
    served.server.shutdown().unwrap();
    assert!(served.dir.path().read_dir().unwrap().next().is_none());
}

#[test]
fn wrong_requests_fail_alone() {
    let served = Served::zeros();
    let mut client = served.client(Options::default());
    let queue = &mut client.queues[0];
    let bad_reads = [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (u64::MAX, 512),
        (1 << 55, 512),
        (0, 100),
    ];
    for (sector, len) in bad_reads {
        queue.read(0, sector, len);
        let done = finish(queue);
        assert_eq!(
            (done.status, done.written),
            (status::IOERR, 1),
            "{sector} {len}"
        );
    }
    queue.submit(0, 99, 0, &[]);
    assert_eq!(finish(queue).status, status::UNSUPP);
    for (kind, sector, sectors, flags, answer) in [
        (11, 0, 8, 1, status::UNSUPP),
        (13, 0, 8, 2, status::UNSUPP),
        (13, SECTORS, 1, 0, status::IOERR),
        (11, u64::MAX, u32::MAX, 0, status::IOERR),
        (11, 0, (4 << 20) + 1, 0, status::IOERR),
        (13, 0, (4 << 20) + 1, 1, status::IOERR),
    ] {
        queue.range(0, kind, sector, sectors, flags);
        assert_eq!(
            finish(queue).status,
            answer,
            "{kind} {sector} {sectors} {flags}"
        );
    }
    queue.read(0, 0, 4096);
    assert_eq!(finish(queue).status, status::OK);
}

#[test]
fn a_disk_for_reading_is_not_written() {
    let served = Served::new(
        vec![9; 1 << 20],
        VhostUserOptions {
            read_only: true,
            ..VhostUserOptions::default()
        },
    );
    let mut client = served.client(Options::default());
    assert_ne!(client.features() & (1 << 5), 0);
    let queue = &mut client.queues[0];
    queue.write(0, 0, 4096);
    assert_eq!(finish(queue).status, status::IOERR);
    queue.range(0, 13, 0, 8, 1);
    assert_eq!(finish(queue).status, status::IOERR);
    queue.flush(0);
    assert_eq!(finish(queue).status, status::OK);
    assert_eq!(served.bytes(0, 4096), [9; 4096]);
}

/// Random requests of all kinds, cut into segments in all ways, on several queues at once, each with its
/// own part of the disk and its own oracle.
fn agrees_with_oracle(options: Options) {
    const SLOT: usize = 128 << 10;
    const ROUNDS: usize = 400;
    let served = Served::zeros();
    let queues = u64::from(options.queues);
    let mut client = served.client(Options {
        size: 256,
        depth: 4,
        slot_bytes: SLOT,
        ..options
    });
    let share = SECTORS / queues;
    std::thread::scope(|scope| {
        for (index, queue) in client.queues.iter_mut().enumerate() {
            let served = &served;
            scope.spawn(move || {
                let mut random = Random(0x1234 + index as u64);
                let base = share * index as u64;
                let mut oracle = vec![0; (share * 512) as usize];
                for _ in 0..ROUNDS {
                    let slot = random.below(4) as u16;
                    let sectors = 1 + random.below(SLOT as u64 / 512);
                    let sector = random.below(share - sectors);
                    let range = (sector * 512) as usize..((sector + sectors) * 512) as usize;
                    match random.below(10) {
                        0 => queue.flush(slot),
                        1 => {
                            let (kind, flags) =
                                [(11, 0), (13, 0), (13, 1)][random.below(3) as usize];
                            queue.range(slot, kind, base + sector, sectors as u32, flags);
                            oracle[range.clone()].fill(0);
                        }
                        kind => {
                            let write = kind < 6;
                            let bytes = random.bytes(range.len());
                            fill(queue, slot, &bytes);
                            let list = cut(queue, slot, range.len() as u32, write, &mut random);
                            queue.submit(slot, write.into(), base + sector, &list);
                            if write {
                                oracle[range.clone()].copy_from_slice(&bytes);
                            }
                        }
                    }
                    let done = finish(queue);
                    assert_eq!(done.status, status::OK);
                    if done.written as usize == range.len() + 1 {
                        assert!(data(queue, slot, range.len()) == oracle[range]);
                    }
                }
                assert!(served.bytes(base * 512, oracle.len()) == oracle);
            });
        }
    });
}

/// The first `len` bytes of a slot as segments of any length, some of them empty.
fn cut(queue: &Queue, slot: u16, len: u32, write: bool, random: &mut Random) -> Vec<Segment> {
    let whole = queue.whole(slot, len, !write);
    let mut list = Vec::new();
    let mut at = 0;
    while at < len {
        let most = if list.len() > 50 {
            len
        } else {
            [1, 700, 5000, 40000, len][random.below(5) as usize]
        };
        let n = (random.below(u64::from(most) + 1) as u32).min(len - at);
        let n = if list.len() > 50 { len - at } else { n };
        list.push(Segment {
            guest: whole.guest + u64::from(at),
            len: n,
            write: whole.write,
        });
        at += n;
    }
    list
}

#[test]
fn random_requests_agree_with_an_oracle() {
    agrees_with_oracle(Options {
        queues: 3,
        ..Options::default()
    });
}

#[test]
fn memory_in_pieces_and_queues_without_event_indices() {
    agrees_with_oracle(Options {
        split: true,
        without: 1 << 29,
        ..Options::default()
    });
}

/// Descriptors that no driver would write. The server has to answer or ignore them, and to live on.
#[test]
fn hostile_descriptors() {
    let served = Served::zeros();
    let mut client = served.client(Options {
        slot_bytes: 64 << 10,
        ..Options::default()
    });
    let queue = &mut client.queues[0];
    let header = Memory::GUEST + queue.data(0) as u64;
    let room = header + 4096;
    let (read, write) = (flag::NEXT, flag::NEXT | flag::WRITE);
    let table = queue.data(1);
    let indirect = Memory::GUEST + table as u64;
    type Chain<'a> = &'a [(u64, u32, u16, u16)];
    let chains: &[(&str, Chain)] = &[
        ("a loop of one", &[(header, 16, read, 0)]),
        (
            "a loop of two",
            &[(header, 16, read, 1), (room, 16, write, 0)],
        ),
        (
            "a header out of memory",
            &[(0, 16, read, 1), (room, 1, flag::WRITE, 0)],
        ),
        (
            "a status out of memory",
            &[(header, 16, read, 1), (u64::MAX, 1, flag::WRITE, 0)],
        ),
        (
            "data out of memory",
            &[
                (header, 16, read, 1),
                (1 << 40, 4096, write, 2),
                (room, 1, flag::WRITE, 0),
            ],
        ),
        (
            "data that wraps around",
            &[
                (header, 16, read, 1),
                (u64::MAX - 511, 4096, write, 2),
                (room, 1, flag::WRITE, 0),
            ],
        ),
        (
            "huge data",
            &[
                (header, 16, read, 1),
                (room, u32::MAX, write, 2),
                (room, u32::MAX, write, 3),
                (room, 1, flag::WRITE, 0),
            ],
        ),
        (
            "half of the data behind the end of memory",
            &[
                (header, 16, read, 1),
                (
                    Memory::GUEST + queue.memory().len() as u64 - 512,
                    1024,
                    write,
                    2,
                ),
                (room, 1, flag::WRITE, 0),
            ],
        ),
        ("no status", &[(header, 16, 0, 0)]),
        (
            "a short header",
            &[(header, 15, read, 1), (room, 1, flag::WRITE, 0)],
        ),
        ("nothing but nothing", &[(header, 0, 0, 0)]),
        (
            "all to write",
            &[(header, 16, write, 1), (room, 512, flag::WRITE, 0)],
        ),
        (
            "the wrong way round",
            &[(room, 1, write, 1), (header, 16, 0, 0)],
        ),
        (
            "read data to be read",
            &[
                (header, 16, read, 1),
                (room, 512, read, 2),
                (room, 1, flag::WRITE, 0),
            ],
        ),
        ("a next that does not exist", &[(header, 16, read, 500)]),
        (
            "a table out of memory",
            &[(1 << 50, 4096, flag::INDIRECT, 0)],
        ),
        ("a table of odd size", &[(indirect, 17, flag::INDIRECT, 0)]),
        ("an empty table", &[(indirect, 0, flag::INDIRECT, 0)]),
        ("a table in a table", &[(indirect, 32, flag::INDIRECT, 0)]),
        (
            "a huge table",
            &[(indirect, 0xffff_fff0, flag::INDIRECT, 0)],
        ),
        (
            "a table and more",
            &[
                (indirect, 32, flag::INDIRECT | flag::NEXT, 1),
                (room, 1, flag::WRITE, 0),
            ],
        ),
    ];
    // A table that names itself.
    queue.table_entry(table, 0, indirect, 32, flag::INDIRECT, 0);
    for (what, chain) in chains {
        queue.memory().write(queue.data(0), &[0; 4096]);
        queue
            .memory()
            .write(queue.data(0) + 4096, &[status::NONE; 4096]);
        for (index, (guest, len, flags, next)) in (0..).zip(*chain) {
            queue.descriptor(index, *guest, *len, *flags, *next);
        }
        queue.offer(0);
        queue.kick().unwrap();
        let done = queue
            .wait(LIMIT)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(done.head, 0, "{what}");
        let mut answer = [0];
        queue.memory().read(queue.data(0) + 4096, &mut answer);
        assert!(
            [status::NONE, status::IOERR].contains(&answer[0]) || *what == "read data to be read",
            "{what}: {answer:?}"
        );
        // A good request still works.
        queue.flush(2);
        assert_eq!(finish(queue).status, status::OK, "after {what}");
    }
    assert!(
        served
            .bytes(0, (SECTORS * 512) as usize)
            .iter()
            .all(|byte| *byte == 0)
    );
}

/// Rings and descriptors at random, most of them nearly right: nothing panics, hangs or leaves memory.
#[test]
fn random_guests() {
    let disk = Disk::new(MemoryDisk::new(64));
    let layout = Layout {
        size: 16,
        descriptors: 0,
        available: 256,
        used: 512,
    };
    let mut random = Random(5);
    let mut served = 0;
    for _ in 0..3000 {
        let mut image = random.bytes(8192);
        // Most descriptors point into memory, most types of requests exist.
        for index in 0..16 {
            let descriptor = &mut image[index * 16..][..16];
            let space = [1 << 40, 8192][usize::from(random.below(8) > 0)];
            let address = random.below(space);
            let len = [0, 1, 16, 17, 512, 4096, 1 << 30][random.below(7) as usize] as u32;
            descriptor[..8].copy_from_slice(&address.to_le_bytes());
            descriptor[8..12].copy_from_slice(&len.to_le_bytes());
            descriptor[12..].copy_from_slice(&[
                random.below(8) as u8,
                0,
                random.below(17) as u8,
                0,
            ]);
        }
        for at in (1024..8192).step_by(16) {
            let kind = [0, 1, 4, 8, 11, 13, 77][random.below(7) as usize];
            image[at..at + 16]
                .copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        }
        image[258..260].copy_from_slice(&(random.below(20) as u16).to_le_bytes());
        for slot in 0..16 {
            image[260 + slot * 2..][..2].copy_from_slice(&(random.below(17) as u16).to_le_bytes());
        }
        served += process(&disk, &mut image, layout, random.below(2) == 0, 100).unwrap_or(0);
    }
    assert!(served > 3000, "{served}");
    for bad in [
        Layout { size: 0, ..layout },
        Layout { size: 3, ..layout },
        Layout {
            size: 2048,
            ..layout
        },
        Layout {
            used: 513,
            ..layout
        },
        Layout {
            available: 8191,
            ..layout
        },
        Layout {
            descriptors: u64::MAX - 15,
            ..layout
        },
    ] {
        assert!(
            process(&disk, &mut [0; 8192], bad, false, 1).is_err(),
            "{bad:?}"
        );
    }
}

/// A ring that cannot be: the queue is given up, the server is not.
#[test]
fn broken_rings() {
    let served = Served::zeros();
    for break_it in [
        (|queue: &mut Queue| queue.offer(128)) as fn(&mut Queue),
        |queue| queue.set_available_index(30000),
    ] {
        let mut client = served.client(Options::default());
        break_it(&mut client.queues[0]);
        client.queues[0].kick_anyway().unwrap();
        let silent = client.queues[0].wait(Duration::from_millis(200));
        assert_eq!(silent.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(client.stop().unwrap(), [0]);
        drop(client);
        let mut client = served.client(Options::default());
        client.queues[0].read(0, 0, 4096);
        assert_eq!(finish(&mut client.queues[0]).status, status::OK);
    }
}

#[test]
fn garbage_and_silence_do_not_keep_others_out() {
    let served = Served::zeros();
    let mut random = Random(7);
    for round in 0..200 {
        let mut stream = UnixStream::connect(served.server.path()).unwrap();
        let mut bytes = random.bytes(1 + random.0 as usize % 600);
        if round % 2 == 0 && bytes.len() >= 12 {
            // A header that could be: a known code, version 1, a small body.
            bytes[..12].copy_from_slice(&[(round / 2 % 45) as u8, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
        }
        let _ = stream.write_all(&bytes);
    }
    // One that says half a word and then nothing, and goes.
    let mut stream = UnixStream::connect(served.server.path()).unwrap();
    stream.write_all(&[1, 0, 0]).unwrap();
    drop(stream);
    let mut client = served.client(Options::default());
    client.queues[0].read(0, 0, 4096);
    assert_eq!(finish(&mut client.queues[0]).status, status::OK);
}

#[test]
fn a_stopping_server_does_not_wait_for_its_client() {
    let served = Served::zeros();
    let mut client = served.client(Options::default());
    client.queues[0].read(0, 0, 4096);
    finish(&mut client.queues[0]);
    assert!(served.server.connected());
    let begin = Instant::now();
    served.server.shutdown().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2));
    // What it offers now stays in the queue for the next server.
    client.queues[0].read(1, 0, 4096);
    client.queues[0].kick().unwrap();
    let path = served.dir.path().join("v.sock");
    let server = VhostUserServer::bind(&path, served.disk, VhostUserOptions::default()).unwrap();
    client.reconnect(&path).unwrap();
    assert_eq!(client.queues[0].wait(LIMIT).unwrap().slot, 1);
    drop(server);
}

#[test]
fn the_log_names_every_page_that_was_written() {
    let served = Served::zeros();
    let mut client = served.client(Options {
        slot_bytes: 16 << 10,
        ..Options::default()
    });
    client.queues[0].read(0, 0, 4096);
    finish(&mut client.queues[0]);
    let log = client.start_log().unwrap();
    let queue = &mut client.queues[0];
    // A page and a half, in the middle of a slot.
    let data = queue.data(1) + 4096;
    let segment = Segment {
        guest: Memory::GUEST + data as u64,
        len: 6144,
        write: true,
    };
    queue.submit(1, 0, 0, &[segment]);
    finish(queue);
    queue.write(2, 0, 4096);
    finish(queue);
    let dirty: Vec<_> = [
        data - 4096,
        data,
        data + 4096,
        data + 8192,
        queue.data(2),
        queue.data(0),
    ]
    .map(|at| log.dirty(at))
    .into();
    assert_eq!(dirty, [false, true, true, false, false, false]);
    // The rings and the status bytes lie in the queue's first pages.
    assert!((0..4096 * 3).step_by(4096).any(|at| log.dirty(at)));
    let used_page = 128 * 18 + 6;
    assert!(
        log.dirty(used_page),
        "the used ring's page is not in the log"
    );

    client.stop_log().unwrap();
    let queue = &mut client.queues[0];
    queue.read(5, 0, 4096);
    finish(queue);
    assert!(!log.dirty(queue.data(5)), "logged after the log's end");
}

/// A server is killed after it gave a chain back and before it said so: the driver sleeps, and wakes up
/// when the next server is there, or when it names another eventfd.
#[test]
fn a_call_that_was_lost_is_made_again() {
    for without in [0, 1 << 29] {
        let served = Served::zeros();
        let mut client = served.client(Options {
            without,
            ..Options::default()
        });
        let silence = Duration::from_millis(100);
        while client.queues[0].called(silence).unwrap() {}
        // The driver hears of the first request and sleeps on, as if it had not.
        client.queues[0].read(0, 0, 4096);
        client.queues[0].kick().unwrap();
        assert!(client.queues[0].called(LIMIT).unwrap());
        while client.queues[0].called(silence).unwrap() {}
        client.set_calls().unwrap();
        assert!(client.queues[0].called(LIMIT).unwrap());
        while client.queues[0].called(silence).unwrap() {}

        served.server.shutdown().unwrap();
        let path = served.dir.path().join("v.sock");
        let options = VhostUserOptions::default();
        let _server = VhostUserServer::bind(&path, served.disk, options).unwrap();
        client.reconnect(&path).unwrap();
        assert!(client.queues[0].called(LIMIT).unwrap());
        assert_eq!(client.queues[0].poll().unwrap().slot, 0);
    }
}

/// A large disk that is slow to write, and reads as somebody says.
struct Strange<R> {
    info: DeviceInfo,
    read: R,
}

impl<R: Fn(&mut [u8]) + Send + Sync + 'static> Strange<R> {
    fn disk(read: R) -> Disk {
        let info = DeviceInfo {
            size: 8 << 30,
            read_only: false,
            preferred_io: 4096,
            name: "strange".into(),
        };
        Disk::new(Self { info, read })
    }
}

impl<R: Fn(&mut [u8]) + Send + Sync> BlockDevice for Strange<R> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_at(&self, _: u64, buf: &mut [u8]) -> vdisk::Result<()> {
        (self.read)(buf);
        Ok(())
    }

    fn write_at(&self, _: u64, buf: &[u8]) -> vdisk::Result<()> {
        std::thread::sleep(Duration::from_nanos(buf.len() as u64 * 10));
        Ok(())
    }

    fn write_zeroes(&self, _: u64, len: u64) -> vdisk::Result<()> {
        std::thread::sleep(Duration::from_nanos(len * 10));
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> vdisk::Result<()> {
        self.write_zeroes(offset, len)
    }

    fn flush(&self) -> vdisk::Result<()> {
        Ok(())
    }

    fn extents(&self, _: u64, _: u64, _: &mut dyn FnMut(Extent)) -> vdisk::Result<()> {
        Ok(())
    }
}

/// Zeros for twenty seconds: the server stops all the same, and the next one does the request.
#[test]
fn long_zeroing_does_not_hold_up_a_server_that_stops() {
    for (kind, flags) in [(13, 0), (13, 1), (11, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let slow = Strange::disk(|buf| buf.fill(0));
        let server = VhostUserServer::bind(&path, slow, VhostUserOptions::default()).unwrap();
        let mut client = Client::connect(&path, Options::default()).unwrap();
        client.queues[0].range(0, kind, 0, 4 << 20, flags);
        client.queues[0].kick().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        server.shutdown().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "{kind} {flags}");
        assert!(client.queues[0].poll().is_none(), "{kind} {flags}");
        // Its successor has nothing there: the request is answered at last, and it alone.
        let disk = Disk::new(MemoryDisk::new(SECTORS));
        let _server = VhostUserServer::bind(&path, disk, VhostUserOptions::default()).unwrap();
        client.reconnect(&path).unwrap();
        let done = client.queues[0].wait(LIMIT).unwrap();
        assert_eq!((done.slot, done.status), (0, status::IOERR));
        assert_eq!(client.queues[0].in_flight(), 0);
    }
}

/// A guest neither sees ciphertext nor changes it before it is decrypted.
#[test]
fn decryption_is_out_of_the_guests_reach() {
    const LEN: usize = 256 << 10;
    let guest: Arc<OnceLock<(Memory, usize)>> = Arc::default();
    let seen = guest.clone();
    let disk = Strange::disk(move |buf| {
        let (memory, at) = seen.get().unwrap();
        // What comes from the file; what a guest makes of it that writes all the time; decryption.
        buf.fill(1);
        memory.write(*at, &[100; LEN]);
        buf.iter_mut().for_each(|byte| *byte += 1);
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.sock");
    let _server = VhostUserServer::bind(&path, disk, VhostUserOptions::default()).unwrap();
    let options = Options {
        slot_bytes: LEN,
        ..Options::default()
    };
    let mut client = Client::connect(&path, options).unwrap();
    let queue = &mut client.queues[0];
    guest.set((queue.memory().clone(), queue.data(0))).unwrap();
    for len in [512, 4096, LEN] {
        queue.read(0, 0, len as u32);
        assert_eq!(finish(queue).status, status::OK);
        let bytes = data(queue, 0, len);
        assert!(!bytes.contains(&101), "{len}");
        assert!(bytes.ends_with(&[2; 512]), "{len}");
    }
}

/// A queue whose rings are taken away waits until they are back.
#[test]
fn memory_goes_and_comes_back() {
    let served = Served::zeros();
    let mut client = served.client(Options::default());
    client.queues[0].read(0, 0, 4096);
    assert_eq!(finish(&mut client.queues[0]).status, status::OK);
    client.unplug().unwrap();
    client.queues[0].read(1, 0, 4096);
    client.queues[0].kick_anyway().unwrap();
    let silent = client.queues[0].wait(Duration::from_millis(100));
    assert_eq!(silent.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    client.plug().unwrap();
    let done = client.queues[0].wait(LIMIT).unwrap();
    assert_eq!((done.slot, done.status), (1, status::OK));
}

/// Set for the child of `a_killed_server_loses_nothing`.
const CHILD: &str = "MEDLEY_TEST_VHOST_SERVER";

/// The other half of the test below: serves a raw file until it is killed.
#[test]
#[ignore = "runs only as a child of a_killed_server_loses_nothing"]
fn child_that_serves() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let image = OpenImage {
        path: &dir.join("disk.raw"),
        format: Some(Format::Raw),
        mode: Mode::Keep,
        key: None,
    };
    let disk = image.open().unwrap().disk;
    let options = VhostUserOptions::default();
    let _server = VhostUserServer::bind(dir.join("v.sock"), disk, options).unwrap();
    loop {
        std::thread::park();
    }
}

/// A server is killed in the midst of writes, again and again: its successors finish what it began, and
/// what was written stays.
#[test]
fn a_killed_server_loses_nothing() {
    const BLOCKS: usize = 1024;
    const DEPTH: u16 = 16;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("v.sock");
    std::fs::write(dir.path().join("disk.raw"), vec![0; BLOCKS * 4096]).unwrap();
    let serve = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--ignored", "child_that_serves"]);
        command.env(CHILD, dir.path()).stdout(Stdio::null());
        common::Guard(command.spawn().unwrap())
    };
    let eventually = |attempt: &mut dyn FnMut() -> std::io::Result<()>| {
        let end = Instant::now() + LIMIT;
        while let Err(error) = attempt() {
            assert!(Instant::now() < end, "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut server = serve();
    let options = Options {
        depth: DEPTH,
        queues: 2,
        ..Options::default()
    };
    let mut client = None;
    eventually(&mut || Client::connect(&socket, options.clone()).map(|new| client = Some(new)));
    let mut client = client.unwrap();
    let mut random = Random(99);
    let mut oracle = vec![0u64; BLOCKS];
    // What each slot of each queue is writing.
    let mut busy = [[None; DEPTH as usize]; 2];
    let mut stamp = 0;
    let mut completed = 0;
    let mut left_behind = 0;
    for _ in 0..10 {
        let kill_at = completed + 20 + random.below(2000);
        while completed < kill_at {
            for (half, (queue, busy)) in client.queues.iter_mut().zip(&mut busy).enumerate() {
                for slot in 0..DEPTH {
                    // One write at a time in each place, or their order would be anybody's guess.
                    let block = random.below(BLOCKS as u64 / 2) as usize * 2 + half;
                    if busy[usize::from(slot)].is_some() || busy.contains(&Some(block)) {
                        continue;
                    }
                    stamp += 1;
                    oracle[block] = stamp;
                    busy[usize::from(slot)] = Some(block);
                    fill(queue, slot, &stamp.to_le_bytes().repeat(512));
                    queue.write(slot, block as u64 * 8, 4096);
                }
                queue.kick().unwrap();
                while let Some(done) = queue.poll() {
                    assert_eq!(done.status, status::OK);
                    assert!(
                        busy[usize::from(done.slot)].take().is_some(),
                        "answered twice"
                    );
                    completed += 1;
                }
            }
        }
        drop(server);
        for (queue, busy) in client.queues.iter_mut().zip(&mut busy) {
            queue.called(Duration::ZERO).unwrap();
            while let Some(done) = queue.poll() {
                assert!(
                    busy[usize::from(done.slot)].take().is_some(),
                    "answered twice"
                );
            }
            left_behind += u64::from(queue.in_flight());
        }
        server = serve();
        eventually(&mut || client.reconnect(&socket));
        for (queue, busy) in client.queues.iter_mut().zip(&mut busy) {
            assert!(queue.called(LIMIT).unwrap(), "a sleeping driver sleeps on");
            while queue.in_flight() > 0 {
                let done = queue.wait(LIMIT).unwrap();
                assert_eq!(done.status, status::OK);
                assert!(
                    busy[usize::from(done.slot)].take().is_some(),
                    "answered twice"
                );
            }
            assert_eq!(*busy, [None; DEPTH as usize], "never answered");
        }
    }
    assert!(
        left_behind > 10,
        "the server was never killed at work: {left_behind}"
    );
    let disk = std::fs::read(dir.path().join("disk.raw")).unwrap();
    for (block, stamp) in oracle.iter().enumerate() {
        let found = &disk[block * 4096..][..4096];
        assert!(found == stamp.to_le_bytes().repeat(512), "block {block}");
    }
    drop(server);
}

#[test]
fn one_server_per_socket() {
    let served = Served::zeros();
    let again = VhostUserServer::bind(
        served.server.path(),
        served.disk.clone(),
        VhostUserOptions::default(),
    );
    assert!(matches!(again, Err(Error::SocketInUse { .. })));
    for (queues, serial) in [(0, ""), (257, ""), (1, "twenty-one characters")] {
        let options = VhostUserOptions {
            queues,
            serial: serial.into(),
            ..VhostUserOptions::default()
        };
        let bad = VhostUserServer::bind(served.dir.path().join("x"), served.disk.clone(), options);
        assert!(matches!(bad, Err(Error::Options { .. })));
    }
}
