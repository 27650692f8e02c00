//! What the tests of the frontends share: peers (other people's programs) and random bytes.
#![allow(dead_code)] // Each test binary uses a part.

use std::process::{Child, Command, Output};

/// Whether `program` can be used. Missing peers fail the test unless `MEDLEY_SKIP_PEERS=1`.
pub fn peer(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert_eq!(
            std::env::var("MEDLEY_SKIP_PEERS").as_deref(),
            Ok("1"),
            "{program} is missing: apt-get install libnbd-bin nbdkit fuse3 fio qemu-utils, or MEDLEY_SKIP_PEERS=1",
        );
        eprintln!("skipped: {program} is missing");
    }
    found
}

/// Runs a peer (at most a minute), which has to succeed; returns what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = output(program, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Runs a peer, at most a minute.
pub fn output(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", program]).args(args);
    command
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// A child process that does not outlive the test.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Small, fast, repeatable random numbers (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Bytes with data and holes in turn, some of them odd in size.
pub fn patchwork(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let n = (random.below(300_000) as usize).min(len - bytes.len());
        let patch = if random.below(2) == 0 {
            vec![0; n]
        } else {
            random.bytes(n)
        };
        bytes.extend(patch);
    }
    bytes
}
