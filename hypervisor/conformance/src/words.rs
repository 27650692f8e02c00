//! What the suite asks of a guest. Each question is a command line for the shell in a real guest,
//! and starts with a tag that means nothing to a shell and everything to an imagined guest.

/// What a guest says when it takes commands.
pub(crate) const READY: &str = "MEDLEY-GUEST-READY";

/// Starts a process that counts.
pub(crate) const WORK: &str = ": work; (i=0; while :; do i=$((i+1)); echo $i >/tmp/counting; \
     mv /tmp/counting /tmp/count; usleep 20000; done) >/dev/null 2>&1 & echo $! >/tmp/worker";

/// How far it has counted; fails if it is gone.
pub(crate) const COUNT: &str = ": count; kill -0 $(cat /tmp/worker) && cat /tmp/count";

/// Fills some of the guest's memory at random.
pub(crate) const FILL: &str =
    ": fill; dd if=/dev/urandom of=/dev/shm/data bs=64k count=128 2>/dev/null";

/// A checksum of that.
pub(crate) const SUM: &str = ": sum; sha256sum </dev/shm/data";

/// What was written to the disk, read from there and not from memory.
pub(crate) const READ: &str = ": read; echo 3 >/proc/sys/vm/drop_caches; cat /note";

/// KiB of memory that the guest's kernel has free.
pub(crate) const FREE: &str = ": free; sed -n 's/^MemFree: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo";

/// How many network cards there are.
pub(crate) const CARDS: &str = ": cards; ls /sys/class/net | grep -vc '^lo$'; true";

/// Whether the cable is in the card: 1 or 0.
pub(crate) const CARRIER: &str = ": carrier; ip link set eth0 up; cat /sys/class/net/eth0/carrier";

/// Starts again.
pub(crate) const REBOOT: &str = ": reboot; reboot";

/// Writes a word to the disk and flushes it.
pub(crate) fn write(word: &str) -> String {
    format!(": write {word}; echo {word} >/note && sync")
}

/// Sends back what comes through a channel, in the background.
pub(crate) fn echo(channel: &str) -> String {
    format!(
        ": echo {channel}; for port in /sys/class/virtio-ports/*; do read -r name <$port/name; \
         if [ \"$name\" = {channel} ]; then \
         (exec 3<>/dev/${{port##*/}}; cat <&3 >&3) >/dev/null 2>&1 & fi; done"
    )
}
