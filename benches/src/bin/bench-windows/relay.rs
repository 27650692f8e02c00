//! What a hypervisor is to the guest's agent and the host's presenter: both connect to it, and it copies bytes.
//! This one counts them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The channels, as the options of agent and presenter call them.
pub const CHANNELS: [&str; 3] = ["gui", "control", "bulk"];

/// Three channels. Its threads end when agent and presenter have.
pub struct Relay {
    dir: PathBuf,
    bytes: Arc<AtomicU64>,
}

impl Relay {
    /// Listens in this folder.
    pub fn listen(dir: &Path) -> Result<Self> {
        let bytes = Arc::new(AtomicU64::new(0));
        for channel in CHANNELS {
            let guest = UnixListener::bind(dir.join(format!("guest-{channel}")))?;
            let host = UnixListener::bind(dir.join(format!("host-{channel}")))?;
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || {
                // They connect once: what either of them is without the other is not measured here.
                let (Ok((guest, _)), Ok((host, _))) = (guest.accept(), host.accept()) else {
                    return;
                };
                if let (Ok(from), Ok(to)) = (guest.try_clone(), host.try_clone()) {
                    let bytes = Arc::clone(&bytes);
                    std::thread::spawn(move || pump(from, to, &bytes));
                }
                pump(host, guest, &bytes);
            });
        }
        let dir = dir.to_owned();
        Ok(Self { dir, bytes })
    }

    /// Where a side (`guest` or `host`) finds a channel.
    pub fn socket(&self, side: &str, channel: &str) -> PathBuf {
        self.dir.join(format!("{side}-{channel}"))
    }

    /// Bytes that went over all channels, both ways, until now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream, bytes: &AtomicU64) {
    let mut room = vec![0; 256 << 10];
    while await_input(&from)
        && let Ok(count @ 1..) = from.read(&mut room)
    {
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&room[..count]).is_err() {
            break;
        }
    }
    // Both fail only if the other side was faster.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// As a hypervisor waits. Who waits in a read is also woken whenever the other side takes what was written to it.
fn await_input(from: &UnixStream) -> bool {
    loop {
        let mut asked = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            answer => return answer.is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_through_and_are_counted_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let relay = Relay::listen(dir.path()).unwrap();
        let mut guest = UnixStream::connect(relay.socket("guest", "gui")).unwrap();
        let mut host = UnixStream::connect(relay.socket("host", "gui")).unwrap();
        let mut four = [0; 4];
        guest.write_all(b"said").unwrap();
        host.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"said");
        host.write_all(b"no").unwrap();
        guest.read_exact(&mut four[..2]).unwrap();
        assert_eq!(relay.bytes(), 6);
        drop(guest);
        assert_eq!(host.read(&mut four).unwrap(), 0);
    }
}
