//! A domain in the hand of its machine. libvirt's calls know no limit of time: each is made on a
//! thread of its own, which is given up when the time is over.

use crate::api::Domain;
use crate::maker::process_with;
use medley_hypervisor::qemu::hold::{Hold, Life};
use medley_hypervisor::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// How long libvirt may take to end a domain: it asks for ten seconds before it kills.
const END_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Held {
    domain: Domain,
    uuid: String,
    life: Arc<Life>,
    process: OnceLock<Option<u32>>,
}

impl Held {
    pub fn new(domain: Domain, uuid: String, life: Arc<Life>) -> Held {
        Held {
            domain,
            uuid,
            life,
            process: OnceLock::new(),
        }
    }

    fn command(&self, command: Value, file: Option<OwnedFd>, within: Duration) -> Result<Value> {
        let domain = self.domain.clone();
        bounded(within, move || domain.monitor(&command, file))
    }
}

/// What a call says within the time.
pub(crate) fn bounded<T: Send + 'static>(
    within: Duration,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (tell, told) = channel();
    thread::spawn(move || drop(tell.send(call())));
    told.recv_timeout(within).unwrap_or_else(|_| {
        let detail = format!("no answer within {within:?}");
        Err(Error::new(ErrorKind::Timeout, "ask libvirt", detail))
    })
}

impl Hold for Held {
    fn execute(&self, command: &str, arguments: Value, within: Duration) -> Result<Value> {
        let mut message = json!({"execute": command});
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        self.command(message, None, within)
    }

    fn hand_over(&self, name: &str, fd: BorrowedFd<'_>, within: Duration) -> Result<()> {
        let fd = fd.try_clone_to_owned();
        let fd = fd.map_err(|error| Error::io("hand over a descriptor", error))?;
        let message = json!({"execute": "getfd", "arguments": {"fdname": name}});
        self.command(message, Some(fd), within).map(drop)
    }

    fn process_id(&self) -> Option<u32> {
        *self.process.get_or_init(|| process_with(&self.uuid))
    }

    fn kill(&self) {
        let domain = self.domain.clone();
        if let Err(error) = bounded(END_WITHIN, move || domain.destroy()) {
            tracing::debug!(uuid = self.uuid, %error, "not ended");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.life.wait_exit(Duration::ZERO).is_none() {
            self.kill();
            if self.life.wait_exit(Duration::from_secs(5)).is_none() {
                tracing::warn!(uuid = self.uuid, "domain does not end");
            }
        }
        self.domain.unwatch(&self.uuid);
    }
}
