//! What those who write a back end need, and nobody else: a machine's record, and the small rules
//! that every back end keeps alike.

pub use crate::sync::{Broadcast, lock};

#[cfg(target_os = "linux")]
use crate::Network;
use crate::{Error, ErrorKind, Event, Events, Exit, Result, State};
#[cfg(target_os = "linux")]
use nix::errno::Errno;
#[cfg(target_os = "linux")]
use std::os::{fd::AsRawFd, unix::net::UnixStream};
#[cfg(target_os = "linux")]
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An address of its own for each machine, the same at every start: guests know their networks by
/// it, and two machines may meet on one bridge.
pub fn mac_address(name: &str) -> String {
    // FNV-1a: any spread will do, and it must never change.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let [.., a, b, c] = hash.to_be_bytes();
    // QEMU's own prefix, of the locally administered range.
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// Refuses a network that is bad, or that is not there on this host:
/// a tap device that is not there would be made by a QEMU that may, and would lead nowhere.
#[cfg(target_os = "linux")]
pub fn check_network(network: &Network) -> Result<()> {
    network.validate("network")?;
    let Network::Tap { interface } = network else {
        return Ok(());
    };
    nix::net::if_::if_nametoindex(interface.as_str())
        .map(drop)
        .map_err(|_| {
            let operation = format!("use the tap device {interface}");
            Error::new(ErrorKind::Missing, operation, "there is none of this name")
        })
}

/// The states of a machine that has not ended.
pub const ALIVE: [State; 4] = [
    State::Created,
    State::Running,
    State::Paused,
    State::Faulted,
];

/// Connects to a machine's serial port.
///
/// A hypervisor stops taking clients while it has one, and the kernel keeps a few that wait: where that
/// queue is full, too, a connection would be waited for without a limit.
#[cfg(target_os = "linux")]
pub fn connect_serial(name: &str, socket: Option<&Path>) -> Result<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket as open};
    let operation = || format!("reach the serial port of machine {name}");
    let Some(path) = socket else {
        let detail = "it has none with a socket";
        return Err(Error::new(ErrorKind::BadSpec, operation(), detail));
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connected = || -> nix::Result<UnixStream> {
        let socket = open(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(socket.into())
    };
    let stream = connected().map_err(|errno| match errno {
        Errno::EAGAIN => Error::new(
            ErrorKind::Timeout,
            operation(),
            "another client holds it, and others wait for it",
        )
        .remedy("close the connections that nobody needs any more"),
        errno => Error::io(operation(), errno.into()),
    })?;
    stream
        .set_nonblocking(false)
        .map_err(|error| Error::io(operation(), error))?;
    Ok(stream)
}

/// The failure of a call that the back end cannot do, as [`crate::Capabilities`] said before.
pub fn unsupported(operation: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, operation, detail)
        .remedy("ask the hypervisor's capabilities first")
}

/// Where a machine is in its life, for any number of threads: its state, its end, its listeners.
/// State and event change together, so nobody sees one without the other.
#[derive(Debug)]
pub struct Record {
    name: String,
    now: Mutex<Now>,
    changed: Condvar,
    broadcast: Broadcast,
}

#[derive(Debug)]
struct Now {
    state: State,
    exit: Option<Exit>,
}

impl Record {
    /// The record of a machine that was just created.
    pub fn new(name: impl Into<String>) -> Record {
        let now = Now {
            state: State::Created,
            exit: None,
        };
        Record {
            name: name.into(),
            now: Mutex::new(now),
            changed: Condvar::new(),
            broadcast: Broadcast::new(),
        }
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// See [`crate::Machine::state`].
    pub fn state(&self) -> State {
        lock(&self.now).state
    }

    /// See [`crate::Machine::events`].
    pub fn events(&self) -> Events {
        self.broadcast.subscribe()
    }

    /// Tells the listeners of something that is no change of state.
    pub fn tell(&self, event: Event) {
        self.broadcast.send(event);
    }

    /// The machine is in this state now. The event is told only if it was not before. No effect
    /// after the end.
    pub fn change(&self, state: State, event: Option<Event>) {
        let mut now = lock(&self.now);
        if now.exit.is_some() || now.state == state {
            return;
        }
        now.state = state;
        event
            .into_iter()
            .for_each(|event| self.broadcast.send(event));
        drop(now);
        self.changed.notify_all();
    }

    /// The machine has ended; only the first call counts.
    pub fn end(&self, exit: Exit) {
        let mut now = lock(&self.now);
        if now.exit.is_none() {
            now.state = State::Stopped;
            now.exit = Some(exit.clone());
            drop(now);
            self.changed.notify_all();
            self.broadcast.finish(Event::Stopped(exit));
        }
    }

    /// See [`crate::Machine::wait_exit`].
    pub fn wait_exit(&self, timeout: Duration) -> Option<Exit> {
        let now = self.wait(timeout, |now| now.exit.is_some());
        now.exit.clone()
    }

    /// See [`crate::Machine::wait_state`].
    pub fn wait_state(&self, wanted: State, timeout: Duration) -> Result<()> {
        let now = self.wait(timeout, |now| now.state == wanted || now.exit.is_some());
        match &now.exit {
            _ if now.state == wanted => Ok(()),
            Some(exit) => Err(self.ended("wait for", exit)),
            None => {
                let state = now.state;
                let detail = format!("it is {state:?}, not {wanted:?}, after {timeout:?}");
                let operation = format!("wait for machine {}", self.name);
                Err(Error::new(ErrorKind::Timeout, operation, detail))
            }
        }
    }

    /// Refuses an operation that does not fit the state; returns the state.
    pub fn expect(&self, operation: &str, allowed: &[State]) -> Result<State> {
        let now = lock(&self.now);
        match &now.exit {
            _ if allowed.contains(&now.state) => Ok(now.state),
            Some(exit) => Err(self.ended(operation, exit)),
            None => Err(Error::new(
                ErrorKind::State,
                format!("{operation} machine {}", self.name),
                format!("it is {:?}, not one of {allowed:?}", now.state).to_lowercase(),
            )),
        }
    }

    /// The failure of an operation on a machine that has ended.
    pub fn ended(&self, operation: &str, exit: &Exit) -> Error {
        Error::new(
            ErrorKind::Ended,
            format!("{operation} machine {}", self.name),
            format!("it has ended: {exit}"),
        )
    }

    fn wait(&self, timeout: Duration, until: impl Fn(&Now) -> bool) -> MutexGuard<'_, Now> {
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.now), timeout, |now| !until(now));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StopReason;

    fn exit(reason: StopReason) -> Exit {
        Exit {
            reason,
            code: None,
            signal: None,
            stderr: String::new(),
        }
    }

    #[test]
    fn a_record_tells_each_change_once_and_ends_once() {
        let record = Record::new("office");
        let events = record.events();
        record.change(State::Running, Some(Event::Started));
        record.change(State::Running, Some(Event::Resumed));
        assert_eq!(record.state(), State::Running);
        let refused = record.expect("start", &[State::Created]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::State);
        record.end(exit(StopReason::Killed));
        record.end(exit(StopReason::Died));
        record.change(State::Running, Some(Event::Resumed));
        let heard: Vec<_> = events.iter().collect();
        let end = exit(StopReason::Killed);
        assert_eq!(heard, [Event::Started, Event::Stopped(end.clone())]);
        assert_eq!(record.wait_exit(Duration::ZERO), Some(end));
        record.wait_state(State::Stopped, Duration::ZERO).unwrap();
        let late = record.wait_state(State::Running, Duration::ZERO);
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Ended);
    }

    #[test]
    fn waiting_ends_with_the_time() {
        let record = Record::new("office");
        let error = record.wait_state(State::Paused, Duration::from_millis(10));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(record.wait_exit(Duration::ZERO), None);
    }

    #[test]
    fn a_mac_address_is_stable_and_local() {
        assert_eq!(mac_address("office"), mac_address("office"));
        assert_ne!(mac_address("office"), mac_address("office2"));
        assert!(mac_address("office").starts_with("52:54:00:"));
    }
}
