//! How the guest and its agent are, from what the kernel tells.
use medley_wire::control::Health;

/// The answer to a heartbeat.
#[must_use]
pub fn health(sequence: u32, errors: u32) -> Health {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, at: usize| -> f64 {
        let number = text.split_whitespace().nth(at);
        number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
    };
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.ok().flatten().unwrap_or(4096) as f64;
    Health {
        sequence,
        uptime: (field(&read("/proc/uptime"), 0) * 1000.0) as u64,
        memory: (field(&read("/proc/self/statm"), 1) * page) as u64,
        load: (field(&read("/proc/loadavg"), 0) * 100.0) as u32,
        errors,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_of_this_machine() {
        let health = super::health(7, 3);
        assert_eq!((health.sequence, health.errors), (7, 3));
        assert!(health.uptime > 1000);
        assert!(
            (1 << 20..1 << 32).contains(&health.memory),
            "{}",
            health.memory
        );
    }
}
