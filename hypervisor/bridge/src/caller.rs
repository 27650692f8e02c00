//! Who calls, as the kernel says it, and the socket to answer on.

use crate::Refusal;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Group, User, getgid, getgroups, getuid};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A user and all their groups, by number.
#[derive(Debug)]
pub struct Caller {
    pub user: u32,
    pub groups: Vec<u32>,
}

impl Caller {
    /// The user that started us, and who by now we are.
    pub fn ourselves() -> Result<Caller, Refusal> {
        let more = getgroups().map_err(|error| format!("cannot ask for your groups: {error}"))?;
        let groups = std::iter::once(getgid()).chain(more);
        Ok(Caller {
            user: getuid().as_raw(),
            groups: groups.map(nix::unistd::Gid::as_raw).collect(),
        })
    }
}

/// A user's number; `None` if there is no such user.
pub fn user(name: &str) -> Result<Option<u32>, Refusal> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let found =
        User::from_name(name).map_err(|error| format!("cannot look up user {name}: {error}"))?;
    Ok(found.map(|user| user.uid.as_raw()))
}

/// A group's number; `None` if there is no such group.
pub fn group(name: &str) -> Result<Option<u32>, Refusal> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let found =
        Group::from_name(name).map_err(|error| format!("cannot look up group {name}: {error}"))?;
    Ok(found.map(|group| group.gid.as_raw()))
}

/// Standard input, if it is a Unix stream socket.
pub fn socket() -> Result<BorrowedFd<'static>, Refusal> {
    let input = rustix::stdio::stdin();
    let is_unix = getsockname::<SockaddrStorage>(input.as_raw_fd())
        .is_ok_and(|name| name.family() == Some(AddressFamily::Unix));
    let is_stream =
        getsockopt(&input, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    match is_unix && is_stream {
        true => Ok(input),
        false => Err(
            "standard input is not a Unix socket: it is started by medley, and not by hand".into(),
        ),
    }
}

/// Sends one byte, and the device with it.
pub fn hand_over(caller: BorrowedFd<'_>, device: &impl AsFd) -> Result<(), Refusal> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [device.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err("no room for the device in the message".into());
    }
    sendmsg(
        caller,
        &[IoSlice::new(&[1])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
    .map_err(|error| format!("cannot hand over the device: {error}"))
}
