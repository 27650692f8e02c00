//! Time, as fairly as a shared machine allows: processor time of this thread, best of many rounds.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Processor time this thread has used.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// The best rate, in GB/s, at which `work` gets `bytes` done, over rounds of at least a millisecond
/// that fill `time`.
pub fn best_gb_per_s(bytes: usize, time: Duration, mut work: impl FnMut(u64)) -> f64 {
    let mut calls = 1;
    let mut n = 0;
    let mut round = |calls: u64| {
        let start = thread_time();
        for _ in 0..calls {
            work(n);
            n = n.wrapping_add(1);
        }
        thread_time() - start
    };
    while round(calls) < Duration::from_millis(1) {
        calls *= 2;
    }
    let (mut spent, mut best) = (Duration::ZERO, Duration::MAX);
    while spent < time {
        let took = round(calls);
        spent += took;
        best = best.min(took);
    }
    (bytes as u64 * calls) as f64 / best.as_secs_f64() / 1e9
}
