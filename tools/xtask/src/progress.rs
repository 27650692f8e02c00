//! What a person sees while a long step runs: its name, then its time.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Runs `work`, showing `name` while it runs and the seconds it took. Goes to standard error, so
/// that standard output stays for results.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    if terminal {
        eprint!("  {name} …");
        // A lost progress line is no reason to fail.
        let _ = std::io::stderr().flush();
    }
    let outcome = work();
    if terminal {
        eprint!("\r");
    }
    told(name, started.elapsed(), outcome.is_ok());
    outcome
}

/// The line of a step that has ended: for steps that run beside others.
pub fn told(name: &str, time: Duration, well: bool) {
    let end = if well { "" } else { "  failed" };
    eprintln!("  {name:<44} {:>7}{end}", seconds(time));
}

/// `1.2 s`, or `3 min 05 s` for what takes longer than two minutes.
pub fn seconds(time: Duration) -> String {
    if time.as_secs() < 120 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_told_in_minutes() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }
}
