//! Guests and clients of the vhost-user-blk server that mean no good: each harms itself alone.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "vhost-user")]

mod common;
mod served;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::Random;
use served::{LIMIT, SECTORS, Served, Strange, data, finish};
use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::vhost_user::{Layout, VhostUserOptions, VhostUserServer, process};
use vdisk_vhost_client::{Client, Memory, Options, Queue, flag, status};

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
