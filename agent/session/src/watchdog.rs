//! When to start something again that died, and when to leave it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often something may be started again within a time: at once the first time, then after a pause
/// that doubles.
#[derive(Clone, Debug)]
pub struct Budget {
    most: usize,
    within: Duration,
    pause: Duration,
    spent: VecDeque<Instant>,
}

impl Budget {
    /// At most `most` starts within any time of this length; the second of them after `pause`.
    pub fn new(most: usize, within: Duration, pause: Duration) -> Self {
        Self {
            most,
            within,
            pause,
            spent: VecDeque::new(),
        }
    }

    /// How long to wait before the next start; `None` when there were too many.
    pub fn spend(&mut self, now: Instant) -> Option<Duration> {
        while let Some(first) = self.spent.front()
            && now.saturating_duration_since(*first) >= self.within
        {
            self.spent.pop_front();
        }
        let recent = self.spent.len();
        if recent >= self.most {
            return None;
        }
        self.spent.push_back(now);
        Some(match recent {
            0 => Duration::ZERO,
            n => self
                .pause
                .saturating_mul(1 << (n - 1).min(16))
                .min(self.within),
        })
    }
}

/// Listens for a guest's heartbeat: any bytes on a channel of its own.
#[derive(Debug)]
pub struct Heartbeat {
    channel: UnixStream,
    limit: Duration,
    last: Option<Instant>,
}

impl Heartbeat {
    /// Listens at the channel's socket. A guest that never says anything is not silent: it may have no
    /// agent, or be booting still.
    pub fn listen(socket: &Path, limit: Duration) -> std::io::Result<Self> {
        let channel = UnixStream::connect(socket)?;
        channel.set_nonblocking(true)?;
        Ok(Self {
            channel,
            limit,
            last: None,
        })
    }

    /// Whether the guest has been heard, and then not for longer than the limit.
    pub fn is_silent(&mut self, now: Instant) -> bool {
        let mut beats = [0; 256];
        loop {
            match self.channel.read(&mut beats) {
                Ok(1..) => self.last = Some(now),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) > self.limit)
    }

    /// Forgets what was heard: the guest stands still or begins anew.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn starts_come_slower_and_then_not_at_all() {
        let mut budget = Budget::new(4, 60 * SECOND, SECOND);
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| budget.spend(now)).collect();
        let seconds = |n: u32| Some(n * SECOND);
        assert_eq!(
            waits,
            [seconds(0), seconds(1), seconds(2), seconds(4), None]
        );
        assert_eq!(budget.spend(now + 59 * SECOND), None);
        assert_eq!(budget.spend(now + 60 * SECOND), seconds(0));
    }

    #[test]
    fn silence_begins_after_the_first_beat() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("beat");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut heartbeat = Heartbeat::listen(&socket, SECOND).unwrap();
        let (mut guest, _) = listener.accept().unwrap();
        let now = Instant::now();
        assert!(!heartbeat.is_silent(now + 100 * SECOND), "never heard");
        guest.write_all(b"\n").unwrap();
        assert!(!heartbeat.is_silent(now));
        assert!(!heartbeat.is_silent(now + SECOND));
        assert!(heartbeat.is_silent(now + 2 * SECOND));
        guest.write_all(b"\n").unwrap();
        assert!(!heartbeat.is_silent(now + 3 * SECOND));
        heartbeat.forget();
        assert!(!heartbeat.is_silent(now + 100 * SECOND));
        drop(guest);
        assert!(!heartbeat.is_silent(now + 200 * SECOND));
    }
}
