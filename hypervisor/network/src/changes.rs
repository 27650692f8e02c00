//! What changes in the host's network, as it happens.

use crate::dns::HostDns;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often the resolver's files are looked at: they are replaced, linked and mounted in too many
/// ways to be watched.
const LOOK: Duration = Duration::from_secs(2);
// From linux/rtnetlink.h and linux/if.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
const LINK_GONE: u16 = 17;
const LINK: u16 = 16;
const ADDRESS: [u16; 2] = [20, 21];
const ROUTE: [u16; 2] = [24, 25];
const MAIN_TABLE: u8 = 254;
const LOWER_UP: u32 = 1 << 16;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Name servers or search domains, to these.
    Dns(HostDns),
    /// Addresses of interfaces.
    Addresses,
    /// The way out.
    DefaultRoute,
    /// An interface, by its number, has a connection.
    LinkUp(u32),
    /// An interface, by its number, has none, or is gone.
    LinkDown(u32),
}

/// Watches the host's network, that of the thread that made it.
#[derive(Debug)]
pub struct Changes {
    socket: OwnedFd,
    dns: HostDns,
    looked: Instant,
}

impl Changes {
    /// From now on.
    pub fn watch() -> io::Result<Changes> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Changes {
            socket,
            dns: HostDns::read()?,
            looked: Instant::now(),
        })
    }

    /// What changed meanwhile, each thing once; waits for something at most so long.
    pub fn next(&mut self, timeout: Duration) -> io::Result<Vec<Change>> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut changes = Vec::new();
            self.links(&mut changes)?;
            if !changes.is_empty() || self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                let dns = HostDns::read()?;
                if dns != self.dns {
                    self.dns = dns.clone();
                    changes.push(Change::Dns(dns));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !changes.is_empty() || left.is_zero() {
                return Ok(changes);
            }
            let wait = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO);
            match poll(
                &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
                wait,
            ) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn links(&self, changes: &mut Vec<Change>) -> io::Result<()> {
        let mut buffer = vec![0; 32 << 10];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(count) => read(&buffer[..count], changes),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                // The kernel said more than it could keep for us: anything may have changed.
                Err(Errno::ENOBUFS) => {
                    note(changes, Change::Addresses);
                    note(changes, Change::DefaultRoute);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn note(changes: &mut Vec<Change>, change: Change) {
    let link = |change: &Change| match change {
        Change::LinkUp(index) | Change::LinkDown(index) => Some(*index),
        _ => None,
    };
    // What is so now counts, not what was in between.
    changes.retain(|old| *old != change && (link(old).is_none() || link(old) != link(&change)));
    changes.push(change);
}

/// The kernel's messages; what is not understood is passed over.
fn read(mut bytes: &[u8], changes: &mut Vec<Change>) {
    let u32_at = |bytes: &[u8], at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .map(|four| u32::from_ne_bytes(*four))
    };
    while let Some(length) = u32_at(bytes, 0) {
        let length = length as usize;
        if length < 16 || length > bytes.len() {
            return;
        }
        let (kind, body) = (u16::from_ne_bytes([bytes[4], bytes[5]]), &bytes[16..length]);
        if let (LINK | LINK_GONE, Some(index), Some(flags)) =
            (kind, u32_at(body, 4), u32_at(body, 8))
        {
            let up = kind == LINK && flags & LOWER_UP != 0;
            note(
                changes,
                if up {
                    Change::LinkUp(index)
                } else {
                    Change::LinkDown(index)
                },
            );
        } else if ADDRESS.contains(&kind) {
            note(changes, Change::Addresses);
        } else if ROUTE.contains(&kind)
            && body.get(1) == Some(&0)
            && body.get(4) == Some(&MAIN_TABLE)
        {
            note(changes, Change::DefaultRoute);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = u32::try_from(16 + body.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message
    }

    #[test]
    fn the_last_word_about_a_link_counts() {
        let link = |index: u32, flags: u32| {
            let mut body = vec![0; 4];
            body.extend(index.to_ne_bytes());
            body.extend(flags.to_ne_bytes());
            message(LINK, &body)
        };
        let bytes = [
            link(3, LOWER_UP),
            link(4, 0),
            link(3, 0),
            link(4, 0),
            message(20, &[]),
        ]
        .concat();
        let mut changes = Vec::new();
        read(&bytes, &mut changes);
        assert_eq!(
            changes,
            [Change::LinkDown(3), Change::LinkDown(4), Change::Addresses]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, kind in 16u16..26) {
            read(&bytes, &mut Vec::new());
            read(&message(kind, &bytes), &mut Vec::new());
        }
    }
}
