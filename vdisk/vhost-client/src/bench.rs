//! How fast a server is: requests of one kind, as many in flight as wanted, for as long as wanted.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::{Client, Options};
use crate::queue::{Queue, status};

/// Which requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Reads anywhere.
    RandomRead,
    /// Writes anywhere.
    RandomWrite,
    /// Reads one after the other, from the beginning again at the end.
    SequentialRead,
    /// Writes likewise.
    SequentialWrite,
}

/// How they are sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of each request.
    pub block: u32,
    /// Requests in flight in each queue.
    pub depth: u16,
    /// Queues, each with a thread.
    pub queues: u16,
    /// For how long.
    pub time: Duration,
}

impl Load {
    /// 4 KiB, 32 in flight, one queue.
    pub fn small(time: Duration) -> Self {
        Self {
            block: 4096,
            depth: 32,
            queues: 1,
            time,
        }
    }

    /// 1 MiB, 4 in flight, one queue.
    pub fn large(time: Duration) -> Self {
        Self {
            block: 1 << 20,
            depth: 4,
            queues: 1,
            time,
        }
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Requests that came back.
    pub requests: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Requests a second.
    pub iops: f64,
    /// Millions of bytes a second.
    pub mb_per_s: f64,
}

/// Measures the server at `socket`. Writes destroy what is on its disk. Every request has to succeed.
pub fn bench(socket: impl AsRef<Path>, pattern: Pattern, load: &Load) -> io::Result<Figures> {
    let options = Options {
        queues: load.queues,
        size: (load.depth * 4).next_power_of_two(),
        depth: load.depth,
        slot_bytes: load.block as usize,
        ..Options::default()
    };
    let mut client = Client::connect(socket, options)?;
    let blocks = client.sectors() * 512 / u64::from(load.block);
    if blocks == 0 {
        return Err(io::Error::other("the disk is smaller than one request"));
    }
    let begin = Instant::now();
    let counts: Vec<io::Result<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = client
            .queues
            .iter_mut()
            .zip(1..)
            .map(|(queue, seed)| scope.spawn(move || drive(queue, pattern, load, blocks, seed)))
            .collect();
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let requests = counts.into_iter().sum::<io::Result<u64>>()?;
    let iops = requests as f64 / seconds;
    Ok(Figures {
        requests,
        seconds,
        iops,
        mb_per_s: iops * f64::from(load.block) / 1e6,
    })
}

fn drive(
    queue: &mut Queue,
    pattern: Pattern,
    load: &Load,
    blocks: u64,
    seed: u64,
) -> io::Result<u64> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut place = 0;
    let mut next = move || {
        if matches!(pattern, Pattern::RandomRead | Pattern::RandomWrite) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % blocks
        } else {
            place = (place + 1) % blocks;
            place
        }
    };
    let mut send = |queue: &mut Queue, slot| {
        let sector = next() * u64::from(load.block) / 512;
        match pattern {
            Pattern::RandomRead | Pattern::SequentialRead => queue.read(slot, sector, load.block),
            _ => queue.write(slot, sector, load.block),
        }
    };
    let end = Instant::now() + load.time;
    let mut requests = 0;
    for slot in 0..load.depth {
        // Not zeros, which some servers treat as holes.
        let at = queue.data(slot);
        queue
            .memory()
            .write(at, &vec![slot as u8 | 0x40; load.block as usize]);
        send(queue, slot);
    }
    queue.kick()?;
    while queue.in_flight() > 0 {
        let going = Instant::now() < end;
        let mut done = Some(queue.wait(Duration::from_secs(30))?);
        while let Some(one) = done {
            if one.status != status::OK {
                return Err(io::Error::other(format!("status {}", one.status)));
            }
            requests += 1;
            if going {
                send(queue, one.slot);
            }
            done = queue.poll();
        }
        queue.kick()?;
    }
    Ok(requests)
}
