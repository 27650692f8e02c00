//! The vhost-user-blk server, driven from the host: data against an oracle, how it starts and stops, and the
//! log of dirty pages.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "vhost-user")]

mod common;
mod served;

use std::time::{Duration, Instant};

use common::Random;
use served::{LIMIT, SECTORS, Served, Strange, data, fill, finish};
use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::Error;
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};
use vdisk_vhost_client::{Client, Memory, Options, Queue, Segment, status};

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
