//! An imagined guest: what it knows, what it answers, and its state as bytes.

use super::Fault;
use medley_hypervisor::{Error, ErrorKind, MachineSpec, Network, Result};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8] = b"medley imagined guest\n";
/// More than a pipe holds, so that a reader who leaves is noticed.
const BALLAST: usize = 1 << 20;
/// What the guest's own programs take, in MiB.
const USED_MIB: u32 = 40;

/// Everything that a suspend must carry over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Guest {
    memory_mib: u32,
    pub ready: bool,
    /// How far the process that counts has come.
    pub count: Option<u64>,
    /// Stands for the bytes in its memory.
    pub data: u64,
    pub card: bool,
    pub link: bool,
    pub balloon_mib: u32,
    /// Channels whose bytes go back.
    pub echoes: Vec<String>,
    /// A question that waits for the disk.
    pub waiting: Option<String>,
}

/// What becomes of a question.
pub(super) enum Answer {
    Said(String),
    Failed,
    /// Write this to the disk.
    Write(String),
    /// Say what is on the disk.
    Read,
    /// Send back what comes through this channel.
    Echo(String),
    Reboot,
}

impl Guest {
    pub fn new(spec: &MachineSpec) -> Guest {
        Guest {
            memory_mib: spec.memory_mib,
            ready: false,
            count: None,
            data: 0,
            card: spec.network != Network::None,
            link: true,
            balloon_mib: spec.memory_mib,
            echoes: Vec::new(),
            waiting: None,
        }
    }

    /// MiB that its kernel has free.
    pub fn free_mib(&self) -> u32 {
        self.balloon_mib.saturating_sub(USED_MIB)
    }

    /// Answers a question by its tag: `: tag word; …`.
    pub fn answer(&mut self, command: &str, fault: Option<Fault>) -> Answer {
        let question = command.trim_start_matches([':', ' ']);
        let question = question.split(';').next().unwrap_or_default();
        let (tag, word) = question.split_once(' ').unwrap_or((question, ""));
        let said = |text: String| Answer::Said(text);
        match tag {
            "work" => {
                self.count = Some(0);
                said(String::new())
            }
            "count" => self.count.map_or(Answer::Failed, |n| said(n.to_string())),
            "fill" => {
                self.data = u64::from(std::process::id()) << 8 | 1;
                said(String::new())
            }
            "sum" => said(format!("{:016x}", self.data)),
            "free" if fault == Some(Fault::BalloonPretended) => {
                said((u64::from(self.memory_mib) << 10).to_string())
            }
            "free" => said((u64::from(self.free_mib()) << 10).to_string()),
            "cards" => said(u8::from(self.card).to_string()),
            "carrier" if self.card => said(u8::from(self.link).to_string()),
            "write" => Answer::Write(word.to_owned()),
            "read" => Answer::Read,
            "echo" => Answer::Echo(word.to_owned()),
            "reboot" => Answer::Reboot,
            _ => Answer::Failed,
        }
    }

    /// Magic, length, the state, ballast, checksum.
    pub fn to_state(&self) -> Result<Vec<u8>> {
        let own = serde_json::to_vec(self)
            .map_err(|error| Error::new(ErrorKind::State, "save", error.to_string()))?;
        let mut state = MAGIC.to_vec();
        state.extend((own.len() as u64).to_le_bytes());
        state.extend(own);
        state.resize(state.len() + BALLAST, 0xba);
        state.extend(checksum(&state).to_le_bytes());
        Ok(state)
    }

    pub fn from_state(state: &[u8], spec: &MachineSpec, fault: Option<Fault>) -> Result<Guest> {
        let read = || {
            let (state, sum) = state.split_last_chunk::<8>()?;
            let own = state.strip_prefix(MAGIC)?;
            let (length, own) = own.split_first_chunk::<8>()?;
            let own = own.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            let guest: Guest = serde_json::from_slice(own).ok()?;
            let whole = u64::from_le_bytes(*sum) == checksum(state);
            (whole && guest.memory_mib == spec.memory_mib).then_some(guest)
        };
        match read() {
            Some(mut guest) => {
                if fault == Some(Fault::MemoryLost) {
                    guest.data ^= 1 << 40;
                }
                Ok(guest)
            }
            None if fault == Some(Fault::BelievesAnything) => Ok(Guest::new(spec)),
            None => {
                let operation = format!("restore machine {}", spec.name);
                let detail = "this is not the state of such a machine";
                Err(Error::new(ErrorKind::State, operation, detail))
            }
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
