//! The `delay` filter: a disk as slow as somebody else's. Every request waits for itself before it is
//! passed on, so requests of several clients wait side by side.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use vdisk::{BlockDevice, Result};
use vdisk_frontends::stats::Op;

use crate::chance::throw;
use crate::hook::{Hook, Hooked};
use crate::spec::{Ops, SpecError, item, number, time};

/// How long each kind of request waits.
///
/// Written as `OPS=TIME[,jitter=TIME]` as often as wanted, with commas between, and `seed=N`:
/// `read=2ms,jitter=1ms,write+flush=10ms`. A jitter belongs to the operations before it and is a random
/// time, from nothing to that much, on top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelaySpec {
    text: String,
    waits: [Wait; Op::Map as usize + 1],
    seed: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wait {
    fixed: Duration,
    jitter: Duration,
}

impl FromStr for DelaySpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut spec = Self {
            text: text.to_owned(),
            waits: Default::default(),
            seed: 0,
        };
        let mut last: Option<Ops> = None;
        for part in text.split(',') {
            let (key, Some(value)) = item(part) else {
                return Err(SpecError::new(format!(
                    "`{part}`: how long? Write it as in read=2ms"
                )));
            };
            match key {
                "seed" => spec.seed = number(key, value)?,
                "jitter" => {
                    let Some(ops) = last else {
                        return Err(SpecError::new(
                            "a jitter belongs to the operation before it, as in read=2ms,jitter=1ms",
                        ));
                    };
                    let jitter = time(key, value)?;
                    spec.each(ops, |wait| wait.jitter = jitter);
                }
                _ => {
                    let (ops, fixed) = (Ops::parse(key)?, time(key, value)?);
                    spec.each(ops, |wait| wait.fixed = fixed);
                    last = Some(ops);
                }
            }
        }
        if last.is_none() {
            return Err(SpecError::new("which operation? Write it as in read=2ms"));
        }
        Ok(spec)
    }
}

impl DelaySpec {
    fn each(&mut self, ops: Ops, set: impl Fn(&mut Wait)) {
        for op in Ops::all().filter(|op| ops.has(*op)) {
            set(&mut self.waits[op as usize]);
        }
    }
}

impl fmt::Display for DelaySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A device whose requests wait.
pub type Delay = Hooked<Waiting>;

impl Delay {
    /// Slows `inner` down.
    pub fn slow(inner: Arc<dyn BlockDevice>, spec: DelaySpec) -> Self {
        Self::new(
            inner,
            Waiting {
                spec,
                requests: AtomicU64::new(0),
            },
        )
    }
}

/// The hook of a [`Delay`].
pub struct Waiting {
    spec: DelaySpec,
    /// Requests that were random so far.
    requests: AtomicU64,
}

impl Waiting {
    fn wait(&self, op: Op) -> Duration {
        let Wait { fixed, jitter } = self.spec.waits[op as usize];
        if jitter.is_zero() {
            return fixed;
        }
        let chance = throw(self.spec.seed, self.requests.fetch_add(1, Relaxed));
        fixed + jitter.mul_f64(chance as f64 / u64::MAX as f64)
    }
}

impl Hook for Waiting {
    fn around(&self, op: Op, _: u64, request: impl FnOnce() -> Result<()>) -> Result<()> {
        let wait = self.wait(op);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        request()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn waiting(spec: &str) -> Waiting {
        Waiting {
            spec: spec.parse().unwrap(),
            requests: AtomicU64::new(0),
        }
    }

    #[test]
    fn each_kind_waits_as_long_as_it_should() {
        let waiting = waiting("read=2ms,jitter=1ms,write+flush=10ms,seed=7");
        let ms = Duration::from_millis;
        let reads: Vec<_> = (0..100).map(|_| waiting.wait(Op::Read)).collect();
        assert!(
            reads.iter().all(|wait| (ms(2)..=ms(3)).contains(wait)),
            "{reads:?}"
        );
        assert!(reads.iter().any(|wait| *wait < Duration::from_micros(2300)));
        assert!(reads.iter().any(|wait| *wait > Duration::from_micros(2700)));
        assert_eq!(
            (waiting.wait(Op::Write), waiting.wait(Op::Flush)),
            (ms(10), ms(10))
        );
        assert_eq!(waiting.wait(Op::Discard), ms(0));
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for (spec, says) in [
            ("", "read=2ms"),
            ("read", "read=2ms"),
            ("seed=1", "which operation"),
            ("jitter=1ms", "before it"),
            ("read=2", "250us"),
            ("reed=2ms", "`reed`"),
            ("read=2ms,,", "how long"),
            ("read=2ms,seed=x", "seed=x"),
        ] {
            let error = spec.parse::<DelaySpec>().unwrap_err().to_string();
            assert!(error.contains(says), "{spec}: {error}");
        }
    }
}
