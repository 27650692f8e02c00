//! Falling asleep and waking up: a machine's memory through the sealing stage, and the word that ties it
//! to what its disk holds.

use crate::{Error, ErrorKind, Result};
use medley_hypervisor::{Accelerator, Boot, Hypervisor, Machine, MachineSpec};
use medley_sealing::{Cancel, Options, SealedFile, Summary, WrappingKey, seal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use std::io::{PipeReader, Read, pipe};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a machine must be like to go on with a state; travels sealed in the state's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Likeness {
    /// Of the guest's RAM.
    pub memory_mib: u32,
    /// Of processors.
    pub cpus: u8,
    /// The translator's processor is not the host's.
    pub accelerator: Accelerator,
    /// Names of channels, in order.
    pub channels: Vec<String>,
    /// Whether the machine has a serial port.
    pub serial: bool,
    /// Whether it was booted from a kernel of the host's.
    pub kernel: bool,
    /// What its network card is plugged into: each has offers and a state of its own.
    pub network: String,
    /// Of shared memory.
    pub shared_mib: u32,
    /// Tags of folders, in order.
    pub folders: Vec<String>,
    /// Whether it has a screen; states of machines that could have none say nothing.
    #[serde(default)]
    pub screen: bool,
    /// How the disk is attached.
    pub disk: String,
    /// The kept boot that lies below what was written.
    pub on: Option<[u8; 32]>,
}

impl Likeness {
    /// Of a machine of this specification.
    pub fn of(spec: &MachineSpec, accelerator: Accelerator) -> Self {
        Self {
            memory_mib: spec.memory_mib,
            cpus: spec.cpus,
            accelerator,
            channels: spec.channels.iter().map(|c| c.name.clone()).collect(),
            serial: spec.serial.socket.is_some() || spec.serial.log.is_some(),
            kernel: matches!(spec.boot, Boot::Kernel { .. }),
            network: match spec.network {
                medley_hypervisor::Network::None => "none".into(),
                medley_hypervisor::Network::User => "user".into(),
                medley_hypervisor::Network::Stream { .. } => "stream".into(),
                medley_hypervisor::Network::Tap { .. }
                | medley_hypervisor::Network::TapDevice(_) => "tap".into(),
                _ => "other".into(),
            },
            shared_mib: spec.shared_memory.as_ref().map_or(0, |shared| shared.mib),
            folders: spec.folders.iter().map(|f| f.tag.clone()).collect(),
            screen: spec.screen.is_some(),
            disk: match spec.disk {
                medley_hypervisor::DiskEndpoint::NbdUnix { .. } => "nbd".into(),
                medley_hypervisor::DiskEndpoint::VhostUserBlk { queues, .. } => {
                    format!("vhost-user-blk {queues}")
                }
                _ => "other".into(),
            },
            on: None,
        }
    }

    /// What is not as it was, if anything.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let as_words = |likeness: &Self| serde_json::to_value(likeness).unwrap_or_default();
        let (ours, theirs) = (as_words(self), as_words(other));
        let fields = ours.as_object()?;
        let mut differing = fields
            .iter()
            .filter(|(name, value)| theirs[*name] != **value);
        differing
            .next()
            .map(|(name, value)| format!("{name} was {value}, and is {}", theirs[name]))
    }
}

/// What came of a sleep.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slept {
    /// Bytes of the machine's state.
    pub state_bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Time that the machine stood still.
    pub took: Duration,
}

/// A pipe whose reading ends when somebody says so.
struct Interruptible<'a> {
    pipe: PipeReader,
    over: &'a AtomicBool,
}

impl Read for Interruptible<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let mut ready = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(200u8)) {
                Ok(0) if self.over.load(Ordering::Acquire) => {
                    return Err(std::io::Error::other(
                        "the machine was not saved to its end",
                    ));
                }
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.pipe.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Seals the machine's state under this path. The machine stands still then.
pub fn save(
    machine: &dyn Machine,
    path: &Path,
    key: &WrappingKey,
    likeness: &Likeness,
) -> Result<Summary> {
    let failed = |what: &str| Error::new(ErrorKind::State, what.to_owned());
    let (reader, writer) = pipe().map_err(|e| failed("no pipe for the state").because(e))?;
    let binding = serde_json::to_vec(likeness)
        .map_err(|e| failed("cannot describe the machine").because(e))?;
    let options = Options::default();
    let over = AtomicBool::new(false);
    let (sealed, saved) = thread::scope(|scope| {
        let reader = Interruptible {
            pipe: reader,
            over: &over,
        };
        let sealing = scope.spawn(|| seal(reader, path, key, &binding, &options));
        let saved = machine.save(writer);
        // A hypervisor that failed may keep its end open.
        over.store(saved.is_err(), Ordering::Release);
        (sealing.join(), saved)
    });
    let sealed = sealed.map_err(|_| failed("the sealing broke down"))?;
    match (sealed, saved) {
        (Ok(sealed), Ok(())) => sealed
            .publish()
            .map_err(|e| failed("cannot keep the saved state").because(e)),
        // The reader was told that it would not come to its end.
        (Err(error), Err(saved)) if error.kind() == medley_sealing::ErrorKind::Source => {
            Err(failed("cannot save the machine").because(saved))
        }
        // The hypervisor only knows that nobody reads any more; the reader knows why.
        (Err(error), _) => Err(failed("cannot seal the machine's state").because(error)),
        (Ok(_), Err(error)) => Err(failed("cannot save the machine").because(error)),
    }
}

/// Why a state does not wake.
#[derive(Debug)]
pub enum Unwoken {
    /// It never will: damaged, forged, or of another key.
    Bad(Error),
    /// It would, on another host or at another time.
    NotNow(Error),
}

/// Opens a saved state, and tells what machine it is of.
pub fn open(path: &Path, key: &WrappingKey) -> Result<(SealedFile, Likeness), Unwoken> {
    let failed = || Error::new(ErrorKind::State, "the saved state");
    let file = SealedFile::open(path, key).map_err(|error| {
        let bad = is_bad(&error);
        let error = failed().because(error);
        match bad {
            true => Unwoken::Bad(error),
            false => Unwoken::NotNow(
                error
                    .remedy("name the disk it was made with, or drop what sleeps with --boot-anew"),
            ),
        }
    })?;
    let likeness = serde_json::from_slice(file.binding())
        .map_err(|error| Unwoken::NotNow(failed().because(error).remedy(OTHER_HOST)))?;
    Ok((file, likeness))
}

const OTHER_HOST: &str = "start it as and where it was saved, or drop what sleeps with --boot-anew";

/// Whether a machine can go on where the saved one stood.
pub fn check_likeness(saved: &Likeness, machine: &Likeness) -> Result<(), Unwoken> {
    let machine = Likeness {
        on: saved.on,
        ..machine.clone()
    };
    match saved.difference(&machine) {
        None => Ok(()),
        Some(why) => {
            let what = format!("the saved machine is another: its {why}");
            Err(Unwoken::NotNow(
                Error::new(ErrorKind::State, what).remedy(OTHER_HOST),
            ))
        }
    }
}

/// A machine that stands where the state was saved.
pub fn wake(
    hypervisor: &dyn Hypervisor,
    spec: &MachineSpec,
    file: &SealedFile,
) -> Result<Box<dyn Machine>, Unwoken> {
    let began = Instant::now();
    let pipe = pipe().map_err(|e| Error::new(ErrorKind::State, "no pipe for the state").because(e));
    let (reader, writer) = pipe.map_err(Unwoken::NotNow)?;
    let cancel = Cancel::default();
    let (unsealed, restored) = thread::scope(|scope| {
        let unsealing = scope.spawn(|| file.unseal(writer, &cancel));
        let restored = hypervisor.restore(spec, reader);
        if restored.is_err() {
            cancel.cancel();
        }
        (unsealing.join(), restored)
    });
    let broken = |_| Unwoken::NotNow(Error::new(ErrorKind::State, "the unsealing broke down"));
    match (unsealed.map_err(broken)?, restored) {
        (Ok(_), Ok(machine)) => {
            tracing::info!(took = ?began.elapsed(), "machine restored");
            Ok(machine)
        }
        // A machine that got all but the end has not run, and is gone with this.
        (Err(error), restored) if is_bad(&error) => {
            drop(restored);
            let what = "the saved state";
            Err(Unwoken::Bad(
                Error::new(ErrorKind::State, what).because(error),
            ))
        }
        (_, Err(error)) => Err(Unwoken::NotNow(Error::from(error).remedy(OTHER_HOST))),
        (Err(error), Ok(_)) => Err(Unwoken::NotNow(
            Error::new(ErrorKind::State, "read the saved state").because(error),
        )),
    }
}

/// Whether the file itself is to blame.
fn is_bad(error: &medley_sealing::Error) -> bool {
    use medley_sealing::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Foreign | Kind::Corrupt | Kind::Truncated
    )
}
