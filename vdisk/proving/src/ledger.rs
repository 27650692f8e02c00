//! Stamped sectors, and the books on what each of them may hold after a power cut.

use std::ops::Range;

use vdisk::SECTOR;

use crate::Eras;

const LEN: usize = SECTOR as usize;

/// A sector's contents: where it belongs and which write it was. Version 0 is zeros.
pub fn stamp(sector: u64, version: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    if version > 0 {
        for chunk in bytes.chunks_exact_mut(16) {
            chunk[..8].copy_from_slice(&(!sector).to_le_bytes());
            chunk[8..].copy_from_slice(&version.to_le_bytes());
        }
    }
    bytes
}

/// The version that `bytes` are of `sector`; `None` for another sector's, torn or foreign ones.
pub fn version(sector: u64, bytes: &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first_chunk::<16>()?;
    let whole = bytes.len() == LEN && *rest == bytes[..LEN - 16];
    let (place, version) = first.split_first_chunk::<8>()?;
    let version = u64::from_le_bytes(version.try_into().ok()?);
    let place = u64::from_le_bytes(*place);
    (whole && (place == !sector && version > 0 || place == 0 && version == 0)).then_some(version)
}

/// What one sector may hold after a cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// The version that the last flush made certain.
    pub flushed: u64,
    /// Versions that it may have got since.
    pub since: Vec<u64>,
}

impl Allowed {
    /// Whether a version may be there.
    pub fn permits(&self, version: u64) -> bool {
        self.flushed == version || self.since.contains(&version)
    }
}

/// What every sector of a disk holds and may hold. Its times are numbers of events of the disk's store.
#[derive(Debug, Clone)]
pub struct Ledger {
    now: Vec<Allowed>,
    latest: Vec<u64>,
    eras: Eras<Vec<Allowed>>,
}

impl Ledger {
    /// A disk whose sectors are certain to hold these versions.
    pub fn new(versions: Vec<u64>) -> Self {
        let certain = |version: &u64| Allowed {
            flushed: *version,
            since: Vec::new(),
        };
        let now: Vec<_> = versions.iter().map(certain).collect();
        Self {
            eras: Eras::new(now.clone()),
            latest: versions,
            now,
        }
    }

    /// From now on, each of `versions` may be in these sectors too.
    pub fn may_become(&mut self, at: usize, sectors: Range<u64>, versions: &[u64]) {
        for sector in sectors {
            self.now[sector as usize].since.extend(versions);
        }
        self.eras.loosen(at, self.now.clone());
    }

    /// The disk reads like this now.
    pub fn became(&mut self, sectors: Range<u64>, version: u64) {
        self.latest[sectors.start as usize..sectors.end as usize].fill(version);
    }

    /// What the disk reads like now.
    pub fn latest(&self) -> &[u64] {
        &self.latest
    }

    /// A flush returned: what was written before is certain.
    pub fn flushed(&mut self, at: usize) {
        for (allowed, latest) in self.now.iter_mut().zip(&self.latest) {
            allowed.flushed = *latest;
            allowed.since.clear();
        }
        self.eras.tighten(at, self.now.clone());
    }

    /// What may be there after a cut after so many events.
    pub fn at(&self, events: usize) -> &[Allowed] {
        self.eras.at(events)
    }

    /// Whether a medium may be wrong after so many events that was right before.
    pub fn is_stricter_at(&self, events: usize) -> bool {
        self.eras.is_stricter_at(events)
    }

    /// Judges a whole disk read after a cut; answers its versions, or what is wrong with it.
    pub fn judge(&self, events: usize, disk: &[u8]) -> Result<Vec<u64>, String> {
        let sectors = disk.chunks(LEN).zip(self.at(events)).enumerate();
        sectors
            .map(
                |(sector, (bytes, allowed))| match version(sector as u64, bytes) {
                    Some(version) if allowed.permits(version) => Ok(version),
                    found => Err(format!(
                        "sector {sector} holds {:02x?}… ({}), allowed are version {} and {:?}",
                        &bytes[..16],
                        found.map_or("no stamp of its own".into(), |v| format!("version {v}")),
                        allowed.flushed,
                        allowed.since
                    )),
                },
            )
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_its_version_and_only_at_home() {
        for sector in [0, 1, 77] {
            assert_eq!(version(sector, &stamp(sector, 9)), Some(9));
            assert_eq!(version(sector, &stamp(sector, 0)), Some(0));
            assert_eq!(version(sector + 1, &stamp(sector, 9)), None);
            let mut torn = stamp(sector, 9);
            torn[300..].fill(0);
            assert_eq!(version(sector, &torn), None);
        }
    }

    #[test]
    fn only_what_a_flush_made_certain_must_be_there() {
        let disk = |version| stamp(0, version);
        let mut ledger = Ledger::new(vec![0]);
        ledger.may_become(3, 0..1, &[5]);
        ledger.became(0..1, 5);
        ledger.flushed(6);
        assert!(ledger.judge(2, &disk(5)).is_err());
        assert_eq!(ledger.judge(4, &disk(5)), Ok(vec![5]));
        assert_eq!(ledger.judge(4, &disk(0)), Ok(vec![0]));
        assert!(ledger.judge(6, &disk(0)).unwrap_err().contains("version 0"));
        assert!(ledger.is_stricter_at(6) && !ledger.is_stricter_at(3));
    }
}
