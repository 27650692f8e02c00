//! What a frontend has done so far: requests, bytes, errors and latencies by kind of request.
//!
//! Counting is a few relaxed atomic additions; a reader sees each figure as it is at that moment, not
//! all of them at one instant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Kinds of requests that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Writing zeros.
    Zero,
    /// Discarding.
    Discard,
    /// Flushing.
    Flush,
    /// Asking where data and holes are.
    Map,
}

const OPS: usize = Op::Map as usize + 1;

/// One bucket for each power of two of nanoseconds, up to about 9 minutes.
const BUCKETS: usize = 40;

/// Counters of one frontend.
#[derive(Debug, Default)]
pub struct Stats {
    ops: [Counter; OPS],
}

/// Counters of one kind of request, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Counter {
    requests: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            max: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Stats {
    /// Runs a request of `bytes` bytes and counts it. Bytes of failed requests are not counted.
    pub fn time<T, E>(
        &self,
        op: Op,
        bytes: u64,
        request: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let begin = Instant::now();
        let result = request();
        self.count(op, bytes, begin.elapsed(), result.is_ok());
        result
    }

    /// Counts a request that was timed elsewhere.
    pub fn count(&self, op: Op, bytes: u64, took: Duration, ok: bool) {
        let counter = &self.ops[op as usize];
        counter.requests.fetch_add(1, Relaxed);
        if ok {
            counter.bytes.fetch_add(bytes, Relaxed);
        } else {
            counter.errors.fetch_add(1, Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counter.nanos.fetch_add(nanos, Relaxed);
        // Almost never a new maximum: look before taking the cache line for writing.
        if counter.max.load(Relaxed) < nanos {
            counter.max.fetch_max(nanos, Relaxed);
        }
        let bucket = (nanos.max(1).ilog2() as usize).min(BUCKETS - 1);
        counter.buckets[bucket].fetch_add(1, Relaxed);
    }

    /// The figures as they are now.
    pub fn summary(&self) -> Summary {
        let of = |op: Op| self.ops[op as usize].summary();
        Summary {
            read: of(Op::Read),
            write: of(Op::Write),
            zero: of(Op::Zero),
            discard: of(Op::Discard),
            flush: of(Op::Flush),
            map: of(Op::Map),
        }
    }
}

impl Counter {
    fn summary(&self) -> OpSummary {
        let requests = self.requests.load(Relaxed);
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        OpSummary {
            requests,
            bytes: self.bytes.load(Relaxed),
            errors: self.errors.load(Relaxed),
            mean_us: micros(self.nanos.load(Relaxed).checked_div(requests).unwrap_or(0)),
            p50_us: micros(self.percentile(50)),
            p99_us: micros(self.percentile(99)),
            max_us: micros(self.max.load(Relaxed)),
            latencies: self.latencies(),
        }
    }

    fn latencies(&self) -> Vec<Latency> {
        let latency = |(bucket, count): (usize, &AtomicU64)| Latency {
            below_us: (2u64 << bucket) as f64 / 1000.0,
            requests: count.load(Relaxed),
        };
        let all = self.buckets.iter().enumerate().map(latency);
        all.filter(|latency| latency.requests > 0).collect()
    }

    /// The upper bound, in nanoseconds, of the bucket in which `percent` of the requests are done.
    fn percentile(&self, percent: u64) -> u64 {
        let counts: [u64; BUCKETS] = std::array::from_fn(|i| self.buckets[i].load(Relaxed));
        let wanted = (counts.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return (2 << bucket).min(self.max.load(Relaxed));
            }
        }
        0
    }
}

/// The figures of a frontend, by kind of request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Reads.
    pub read: OpSummary,
    /// Writes.
    pub write: OpSummary,
    /// Writes of zeros.
    pub zero: OpSummary,
    /// Discards.
    pub discard: OpSummary,
    /// Flushes.
    pub flush: OpSummary,
    /// Questions about data and holes.
    pub map: OpSummary,
}

/// The figures of one kind of request. Latencies are in microseconds and end when the disk is done,
/// before the reply is sent; percentiles are rounded up to a power of two of nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpSummary {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Bytes of the requests that did not fail.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Mean latency.
    pub mean_us: f64,
    /// Half of the requests were done within this time.
    pub p50_us: f64,
    /// 99 of 100 requests were done within this time.
    pub p99_us: f64,
    /// The slowest request.
    pub max_us: f64,
    /// The histogram: how many requests took how long, without empty rows, fastest first.
    pub latencies: Vec<Latency>,
}

/// A row of a histogram of latencies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Requests of this row took less than this, in microseconds, and at least half of it. The slowest row
    /// has no bound.
    pub below_us: f64,
    /// How many.
    pub requests: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_percentiles() {
        let stats = Stats::default();
        for _ in 0..98 {
            stats.count(Op::Read, 10, Duration::from_micros(1), true);
        }
        stats.count(Op::Read, 10, Duration::from_millis(1), true);
        stats.count(Op::Read, 10, Duration::from_millis(2), false);
        let read = stats.summary().read;
        assert_eq!((read.requests, read.bytes, read.errors), (100, 990, 1));
        assert_eq!(read.p50_us, 1.024);
        assert!(
            read.p99_us >= 1000.0 && read.p99_us <= 2000.0,
            "{}",
            read.p99_us
        );
        assert_eq!(read.max_us, 2000.0);
        assert_eq!(stats.summary().write.p99_us, 0.0);
        let rows = |latencies: &[Latency]| -> Vec<(f64, u64)> {
            latencies
                .iter()
                .map(|row| (row.below_us, row.requests))
                .collect()
        };
        let expected = [(1.024, 98), (1048.576, 1), (2097.152, 1)];
        assert_eq!(rows(&read.latencies), expected);
        assert!(stats.summary().write.latencies.is_empty());
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let stats = Stats::default();
        stats.count(Op::Map, 0, Duration::ZERO, true);
        stats.count(Op::Map, 0, Duration::MAX, true);
        assert_eq!(stats.summary().map.requests, 2);
    }
}
