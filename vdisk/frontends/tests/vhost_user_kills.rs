//! vhost-user-blk servers that end in the midst of requests: their successors finish what they began.
#![allow(clippy::unwrap_used)] // A helper that fails fails its test.
#![cfg(feature = "vhost-user")]

mod common;
mod served;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Random;
use served::{LIMIT, Served, fill};
use vdisk::image::{Format, Mode, OpenImage};
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};
use vdisk_vhost_client::{Client, Options, status};

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
