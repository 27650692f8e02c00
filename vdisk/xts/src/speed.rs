//! The cipher measures itself, so that a person can ask a machine what it can do.

use std::time::{Duration, Instant};

use crate::{DataUnit, Error, Kernel, Xts, XtsKey};

/// The longest request that [`measure`] allocates, in bytes.
pub const MAX_REQUEST: usize = 64 << 20;

/// Encryption speed of one kernel on this thread in GB/s (10⁹ bytes per second).
///
/// Enciphers one buffer of `request_len` bytes in place, again and again, for at least `min_time`
/// of processor time (wall-clock time where the system does not tell), and reports the fastest
/// millisecond or so: the figure least disturbed by whatever else the machine does.
///
/// # Errors
/// [`Error::KernelUnavailable`], and [`Error::RequestLength`] if `request_len` is not one or more
/// whole units or exceeds [`MAX_REQUEST`].
pub fn measure(
    kernel: Kernel,
    unit: DataUnit,
    request_len: usize,
    min_time: Duration,
) -> Result<f64, Error> {
    let whole = request_len > 0 && request_len.is_multiple_of(unit.bytes());
    if !whole || request_len > MAX_REQUEST {
        return Err(Error::RequestLength {
            len: request_len,
            unit: unit.bytes(),
            max: MAX_REQUEST,
        });
    }
    // The speed of AES here does not depend on the key.
    let key = XtsKey::new(core::array::from_fn(|i| i as u8))?;
    let xts = Xts::with_kernel(&key, kernel)?;
    // On a page, as the buffers of real requests are.
    let mut room = vec![0; request_len + PAGE];
    let lead = room.as_ptr().align_offset(PAGE).min(PAGE);
    let buf = &mut room[lead..][..request_len];
    Ok(best_rate(request_len, min_time, |n| {
        xts.encrypt(unit, n, buf)
    }))
}

const PAGE: usize = 4096;

/// Long beside the clock's resolution, short beside a neighbour's time slice.
const ROUND: Duration = Duration::from_millis(1);

/// The fastest of the rounds of `work` that fit in `time` (at least one), in GB/s. One call of
/// `work` does `bytes`; it is given a running number.
fn best_rate(bytes: usize, time: Duration, mut work: impl FnMut(u64)) -> f64 {
    let mut n = 0;
    let mut timed = |calls: u64| {
        let start = Clock::now();
        for _ in 0..calls {
            work(n);
            n = n.wrapping_add(1);
        }
        start.elapsed()
    };
    // Doubling until one round is long enough also warms caches and clock rate.
    let mut calls = 1;
    let mut best = timed(calls);
    while best < ROUND {
        calls *= 2;
        best = timed(calls);
    }
    let start = Clock::now();
    while start.elapsed() < time {
        best = best.min(timed(calls));
    }
    let seconds = best.as_secs_f64().max(1e-9);
    (calls as f64) * (bytes as f64) / seconds / 1e9
}

/// This thread's processor time if the system keeps it, else the wall clock.
enum Clock {
    #[cfg(target_os = "linux")]
    Thread(Duration),
    Wall(Instant),
}

impl Clock {
    fn now() -> Self {
        #[cfg(target_os = "linux")]
        if let Some(time) = thread_time() {
            return Self::Thread(time);
        }
        Self::Wall(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        match self {
            #[cfg(target_os = "linux")]
            Self::Thread(start) => thread_time().unwrap_or(*start).saturating_sub(*start),
            Self::Wall(start) => start.elapsed(),
        }
    }
}

#[cfg(target_os = "linux")]
fn thread_time() -> Option<Duration> {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .ok()
        .map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_a_speed() {
        for kernel in Kernel::all_available() {
            let rate = measure(kernel, DataUnit::B512, 4096, Duration::ZERO).unwrap();
            assert!(rate.is_finite() && rate > 0.001, "{kernel}: {rate} GB/s");
        }
    }

    #[test]
    fn odd_requests_are_refused() {
        for len in [0, 100, 513, MAX_REQUEST + 512, usize::MAX] {
            let refused = measure(Kernel::Portable, DataUnit::B512, len, Duration::ZERO);
            assert!(matches!(refused, Err(Error::RequestLength { .. })), "{len}");
        }
    }
}
