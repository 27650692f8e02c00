//! Changing an image's metadata in place, in steps that a power cut may come between.
//!
//! Whatever is written lies where nothing names it yet, or is one sector, which a medium writes whole or
//! not at all. A new header or table goes past the footer; when it is durable, first the footer at the
//! end and then its copy at the start switch over to it.

use super::footer::{FOOTER_LEN, Footer};
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// Steps in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan(pub Vec<Step>);

impl Plan {
    pub fn write(mut self, at: u64, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push(Step::Write(at, bytes.into()));
        self
    }

    pub fn set_len(mut self, len: u64) -> Self {
        self.0.push(Step::SetLen(len));
        self
    }

    pub fn sync(mut self) -> Self {
        self.0.push(Step::Sync);
        self
    }

    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub fn carry_out(&self, store: &dyn Store) -> Result<()> {
        self.0.iter().try_for_each(|step| match step {
            Step::Write(at, bytes) => store.write_at(*at, bytes),
            Step::SetLen(len) => store.set_len(*len),
            Step::Sync => store.sync(),
        })
    }
}

/// Both footers of a growing image anew, the one at `end` first.
pub(super) fn replace_footers(end: u64, footer: &[u8; FOOTER_LEN]) -> Plan {
    Plan::default()
        .write(end, *footer)
        .sync()
        .write(0, *footer)
        .sync()
}

/// The footer at `end`, and nothing after it.
pub(super) fn end_at(end: u64, footer: &[u8; FOOTER_LEN]) -> Plan {
    Plan::default()
        .write(end, *footer)
        .sync()
        .set_len(end + FOOTER_LEN as u64)
        .sync()
}

/// Where new metadata may be written in a file whose footer lies at `footer_at`: right after it.
pub(super) fn free_from(footer_at: u64) -> u64 {
    (footer_at + FOOTER_LEN as u64).next_multiple_of(SECTOR)
}

/// Puts `metadata`, which starts with a dynamic header, at `at`, and a footer that leads to it after it.
pub(super) fn switch_to(
    at: u64,
    metadata: Vec<u8>,
    footer: &Footer,
    original: &[u8; FOOTER_LEN],
) -> Plan {
    let end = at + metadata.len() as u64;
    let footer = Footer {
        header_offset: at,
        ..footer.clone()
    };
    Plan::default()
        .write(at, metadata)
        .sync()
        .then(replace_footers(end, &footer.to_bytes_over(original)))
}

/// A store as it would be after a plan. Nothing can be written through it.
pub(super) struct Preview<'a> {
    pub store: &'a dyn Store,
    pub plan: &'a Plan,
}

impl Preview<'_> {
    fn refused() -> Error {
        Error::new(ErrorKind::InvalidRequest, "a preview is only read")
    }
}

impl Store for Preview<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        if end > self.len()? {
            return Err(Error::new(ErrorKind::Io, "read past the end").at_offset(offset));
        }
        let there = self.store.len()?.clamp(offset, end) - offset;
        if there > 0 {
            self.store.read_at(offset, &mut buf[..there as usize])?;
        }
        buf[there as usize..].fill(0);
        for step in &self.plan.0 {
            let Step::Write(at, bytes) = step else {
                continue;
            };
            let from = offset.max(*at);
            let to = end.min(at + bytes.len() as u64);
            if from < to {
                buf[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        let before = self.store.len()?;
        Ok(self.plan.0.iter().fold(before, |len, step| match step {
            Step::Write(at, bytes) => len.max(at + bytes.len() as u64),
            Step::SetLen(len) => *len,
            Step::Sync => len,
        }))
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Self::refused())
    }

    fn set_len(&self, _: u64) -> Result<()> {
        Err(Self::refused())
    }

    fn punch(&self, _: u64, _: u64) -> Result<()> {
        Err(Self::refused())
    }

    fn sync(&self) -> Result<()> {
        Err(Self::refused())
    }
}
