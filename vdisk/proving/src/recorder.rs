//! A store that notes what is done to it, honestly or with a lie that a test must then catch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vdisk::store::Store;
use vdisk::{Error, ErrorKind, Result, SECTOR};

use crate::{Medium, Random};

/// What happened to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// These bytes were written from here on.
    Write(u64, Vec<u8>),
    /// The store got this length.
    Length(u64),
    /// A range was made zeros.
    Punch(u64, u64),
    /// Everything before is durable.
    Sync,
}

impl Event {
    /// Does it to a medium.
    pub fn apply(&self, medium: &mut Medium) {
        match self {
            Self::Write(at, bytes) => medium.write(*at, bytes),
            Self::Length(len) => medium.set_len(*len),
            Self::Punch(at, len) => medium.punch(*at, *len),
            Self::Sync => {}
        }
    }

    /// Whether a power cut may leave a part of it.
    pub fn can_tear(&self) -> bool {
        match self {
            Self::Write(at, bytes) => at % SECTOR + bytes.len() as u64 > SECTOR,
            Self::Punch(at, len) => at % SECTOR + len > SECTOR,
            Self::Length(_) | Self::Sync => false,
        }
    }

    /// Does some sectors of it to a medium: of each, all or nothing.
    pub fn tear(&self, medium: &mut Medium, random: &mut Random) {
        let sectors = |at: u64, len: u64| {
            let (mut from, end) = (at, at.saturating_add(len));
            std::iter::from_fn(move || {
                let to = ((from / SECTOR + 1) * SECTOR).min(end);
                let part = (from < end).then_some((from, to));
                from = to;
                part
            })
        };
        match self {
            Self::Write(at, bytes) => {
                for (from, to) in sectors(*at, bytes.len() as u64) {
                    if random.once_in(2) {
                        medium.write(from, &bytes[(from - at) as usize..(to - at) as usize]);
                    }
                }
            }
            Self::Punch(at, len) => {
                let len = (*len).min(medium.len().saturating_sub(*at));
                for (from, to) in sectors(*at, len) {
                    if random.once_in(2) {
                        medium.punch(from, to - from);
                    }
                }
            }
            whole => whole.apply(medium),
        }
    }
}

/// How a store betrays its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Says that things are durable that are not.
    SwallowsSyncs,
    /// Of every sync, the last write before it becomes durable with the next one.
    LateWrites,
}

#[derive(Default)]
struct Log {
    now: Medium,
    events: Vec<Event>,
    late: Option<Event>,
}

/// A store in memory that notes what is done to it.
#[derive(Default)]
pub struct Recorder {
    log: Mutex<Log>,
    lie: Option<Lie>,
}

impl Recorder {
    /// A store that holds `medium`, all of it durable.
    pub fn new(medium: Medium) -> Self {
        let log = Log {
            now: medium,
            ..Log::default()
        };
        Self {
            log: Mutex::new(log),
            lie: None,
        }
    }

    /// A store whose log tells of a medium that does not do what it says.
    pub fn lying(medium: Medium, lie: Lie) -> Self {
        Self {
            lie: Some(lie),
            ..Self::new(medium)
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: Event) -> Result<()> {
        let mut log = self.log();
        event.apply(&mut log.now);
        match (self.lie, event) {
            (Some(Lie::SwallowsSyncs), Event::Sync) => {}
            (Some(Lie::LateWrites), Event::Sync) => {
                let last = log.events.pop_if(|last| *last != Event::Sync);
                let before = std::mem::replace(&mut log.late, last);
                log.events.extend(before);
                log.events.push(Event::Sync);
            }
            (_, event) => log.events.push(event),
        }
        Ok(())
    }

    /// How many things happened so far.
    pub fn count(&self) -> usize {
        self.log().events.len()
    }

    /// What happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.log().events.clone()
    }

    /// What the store holds, as its user sees it.
    pub fn medium(&self) -> Medium {
        self.log().now.clone()
    }
}

impl Store for Recorder {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.log().now.read(offset, buf) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Io, "read past the end").at_offset(offset)),
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.note(Event::Write(offset, buf.to_vec()))
    }

    fn len(&self) -> Result<u64> {
        Ok(self.log().now.len())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.note(Event::Length(len))
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.note(Event::Punch(offset, len))
    }

    fn allocated(&self, offset: u64, len: u64) -> Result<(bool, u64)> {
        Ok(self.log().now.allocated(offset, len))
    }

    fn sync(&self) -> Result<()> {
        self.note(Event::Sync)
    }
}
