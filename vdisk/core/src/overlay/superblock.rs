//! The superblock of a durable overlay: whose it is, in what state, and its key, wrapped.
//!
//! Two copies lie in the first 8 KiB. A new one replaces the older of the two and has the higher
//! generation, so that one is whole at every instant. All numbers are little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `MEDLEYOV` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | state: 0 open, 1 clean, 2 suspended, 3 committing |
//! | 16 | 8 | generation |
//! | 24 | 16 | UUID of the overlay |
//! | 40 | 8 | sectors of the disk |
//! | 48 | 8 | clusters handed out (not while open) |
//! | 56 | 8 | clusters in use (not while open) |
//! | 64 | 8 | most clusters that may be in use, 0 for no limit |
//! | 72 | 16 | UUID of the base, zeros where it has none |
//! | 88 | 8 | length of the base's file |
//! | 96 | 8 | when the base was last written: a VHD's own timestamp (seconds since 2000), else its file's (since 1970) |
//! | 104 | 4 | length of the wrapped key: 72, or 0 for an overlay that is not encrypted |
//! | 108 | 72 | the wrapped key |
//! | 180 | 32 | SHA-256 of the saved machine, where suspended |
//! | 4064 | 32 | SHA-256 of the bytes before |

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::key::WRAPPED_LEN;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Bytes of one copy.
pub(super) const LEN: u64 = 4096;
const SUM: usize = 32;
const MAGIC: &[u8; 8] = b"MEDLEYOV";
const VERSION: u32 = 1;
/// Sectors of the largest disk, 64 TiB: what is in memory for a disk grows with its size.
const MAX_SECTORS: u64 = 1 << 37;

/// What a durable overlay was doing when its superblock was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A session writes it, or its host crashed.
    Open,
    /// Closed.
    Clean,
    /// Belongs to a saved machine, whose state has this SHA-256: only that machine may go on with it.
    Suspended([u8; 32]),
    /// Being written into its base; the base may hold a part of it already.
    Committing,
}

impl State {
    /// The state's name for people and machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Clean => "clean",
            Self::Suspended(_) => "suspended",
            Self::Committing => "committing",
        }
    }
}

/// The disk that an overlay lies above. Sectors that the overlay does not have are the base's as it was
/// then, so a base that changed since makes no sense under it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// UUID of the VHD; nil for a raw disk.
    pub id: Uuid,
    /// Size of the disk in sectors.
    pub sectors: u64,
    /// Length of its file in bytes.
    pub file_len: u64,
    /// When it was last written: by a VHD's own [timestamp](crate::vhd::Footer::timestamp), else by the
    /// file's, in seconds since 1970.
    pub modified: i64,
}

/// One superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// What the overlay was doing.
    pub state: State,
    /// Grows with every superblock that is written.
    pub generation: u64,
    /// The overlay's own UUID.
    pub id: Uuid,
    /// The disk below.
    pub base: Base,
    /// Clusters handed out; only known where the overlay is not [`State::Open`].
    pub clusters: u64,
    /// Clusters in use; likewise.
    pub used: u64,
    /// Most clusters that may be in use; 0 for no limit.
    pub quota: u64,
    /// The overlay's key under the base's.
    pub(super) key: Option<[u8; WRAPPED_LEN]>,
}

/// Refuses disks that are too large for an overlay.
pub(super) fn check_size(sectors: u64) -> Result<()> {
    if sectors <= MAX_SECTORS {
        return Ok(());
    }
    let what = format!("an overlay for a disk of {sectors} sectors; 64 TiB are the most");
    Err(Error::new(ErrorKind::Unsupported, what))
}

impl Superblock {
    /// The newest whole superblock in `store`.
    pub(super) fn read(store: &dyn Store) -> Result<Self> {
        let len = store.len()?;
        let mut newest: Option<Self> = None;
        let mut ours = false;
        for at in [0, LEN] {
            if at + LEN > len {
                continue;
            }
            let mut bytes = vec![0; LEN as usize];
            store.read_at(at, &mut bytes)?;
            ours |= bytes.starts_with(MAGIC);
            if let Some(found) = Self::parse(&bytes)?
                && newest
                    .as_ref()
                    .is_none_or(|old| old.generation < found.generation)
            {
                newest = Some(found);
            }
        }
        newest.ok_or_else(|| match ours {
            true => Error::corrupt("both superblocks of the overlay are damaged")
                .remedy("restore the overlay from a copy, or revert it"),
            false => Error::corrupt("not an overlay").remedy("check the name"),
        })
    }

    /// A superblock, or `None` where there is none that is whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some((body, sum)) = bytes.split_at_checked(LEN as usize - SUM) else {
            return Ok(None);
        };
        if !body.starts_with(MAGIC) || Sha256::digest(body)[..] != *sum {
            return Ok(None);
        }
        let mut fields = Fields(&body[MAGIC.len()..]);
        let version = fields.u32();
        if version != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("overlay of version {version}; this program knows version {VERSION}"),
            )
            .remedy("use the program that wrote it, or a newer one"));
        }
        let state = fields.u32();
        let generation = fields.u64();
        let id = Uuid::from_bytes(fields.array());
        let sectors = fields.u64();
        // Half of all numbers is more than anybody ever writes, and leaves as many to follow.
        if generation > u64::MAX / 2 {
            return Err(Error::corrupt("a superblock that none can follow").at_offset(16));
        }
        check_size(sectors).map_err(|e| e.at_offset(40))?;
        let (clusters, used, quota) = (fields.u64(), fields.u64(), fields.u64());
        // Words have 32 bits for a cluster's number.
        if clusters.max(quota) > u64::from(u32::MAX) || used > clusters {
            return Err(Error::corrupt(format!(
                "an overlay of {clusters} clusters, {used} in use, {quota} allowed"
            ))
            .at_offset(48));
        }
        let base = Base {
            id: Uuid::from_bytes(fields.array()),
            sectors,
            file_len: fields.u64(),
            modified: fields.u64() as i64,
        };
        let key = match fields.u32() as usize {
            0 => None,
            WRAPPED_LEN => Some(()),
            n => return Err(Error::corrupt(format!("an overlay key of {n} bytes")).at_offset(104)),
        };
        let wrapped = fields.array();
        let digest = fields.array();
        let state = match state {
            0 => State::Open,
            1 => State::Clean,
            2 => State::Suspended(digest),
            3 => State::Committing,
            n => {
                return Err(Error::corrupt(format!("{n} is no state of an overlay")).at_offset(12));
            }
        };
        Ok(Some(Self {
            state,
            generation,
            id,
            base,
            clusters,
            used,
            quota,
            key: key.map(|()| wrapped),
        }))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let (state, digest) = match self.state {
            State::Open => (0u32, [0; 32]),
            State::Clean => (1, [0; 32]),
            State::Suspended(digest) => (2, digest),
            State::Committing => (3, [0; 32]),
        };
        let key_len = self.key.map_or(0, |key| key.len() as u32);
        let mut bytes = Vec::with_capacity(LEN as usize);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(state.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(self.id.as_bytes());
        for n in [self.base.sectors, self.clusters, self.used, self.quota] {
            bytes.extend(n.to_le_bytes());
        }
        bytes.extend(self.base.id.as_bytes());
        bytes.extend(self.base.file_len.to_le_bytes());
        bytes.extend(self.base.modified.to_le_bytes());
        bytes.extend(key_len.to_le_bytes());
        bytes.extend(self.key.unwrap_or([0; WRAPPED_LEN]));
        bytes.extend(digest);
        bytes.resize(LEN as usize - SUM, 0);
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Writes this as the newest superblock and makes it durable. Everything written before is durable
    /// first: a superblock speaks of what is there.
    pub(super) fn advance(&mut self, store: &dyn Store) -> Result<()> {
        let mut next = self.clone();
        next.generation += 1;
        store.sync()?;
        store.write_at(next.generation % 2 * LEN, &next.to_bytes())?;
        store.sync()?;
        *self = next;
        Ok(())
    }

    /// Destroys the overlay: without the key in a superblock its clusters are noise. What is left says that
    /// it was one.
    pub(super) fn wipe(store: &dyn Store) -> Result<()> {
        store.write_at(0, &wiped())?;
        store.sync()
    }

    /// Whether this is what [`Superblock::wipe`] leaves.
    pub(super) fn is_wiped(store: &dyn Store) -> Result<bool> {
        let mut start = [0; 2 * LEN as usize];
        if store.len()? < start.len() as u64 {
            return Ok(false);
        }
        store.read_at(0, &mut start)?;
        Ok(start == wiped())
    }

    /// Whether the file calls itself an overlay, whole or not.
    pub(super) fn is_named(store: &dyn Store) -> Result<bool> {
        let mut named = false;
        for at in [0, LEN] {
            let mut magic = [0; MAGIC.len()];
            if at + LEN <= store.len()? {
                store.read_at(at, &mut magic)?;
                named |= magic == *MAGIC;
            }
        }
        Ok(named)
    }
}

fn wiped() -> [u8; 2 * LEN as usize] {
    let mut start = [0; 2 * LEN as usize];
    for copy in start.chunks_exact_mut(LEN as usize) {
        copy[..MAGIC.len()].copy_from_slice(MAGIC);
    }
    start
}

/// Takes fields off a superblock, whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn sample() -> Superblock {
        Superblock {
            state: State::Suspended([9; 32]),
            generation: 7,
            id: Uuid::from_u128(1),
            base: Base {
                id: Uuid::from_u128(2),
                sectors: 1 << 20,
                file_len: 12345,
                modified: -3,
            },
            clusters: 44,
            used: 40,
            quota: 1000,
            key: Some([5; WRAPPED_LEN]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for state in [
            State::Open,
            State::Clean,
            State::Suspended([3; 32]),
            State::Committing,
        ] {
            for key in [None, Some([8; WRAPPED_LEN])] {
                let block = Superblock {
                    state,
                    key,
                    ..sample()
                };
                assert_eq!(Superblock::parse(&block.to_bytes()).unwrap(), Some(block));
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_loses_the_copy_and_the_other_one_counts() {
        let store = MemoryStore::new(vec![0; 2 * LEN as usize]);
        let mut block = sample();
        block.advance(&store).unwrap();
        let older = block.clone();
        block.state = State::Clean;
        block.advance(&store).unwrap();
        assert_eq!(Superblock::read(&store).unwrap(), block);
        let whole = store.contents();
        let newest = (block.generation % 2 * LEN) as usize;
        for at in (0..LEN as usize).step_by(37) {
            let mut bytes = whole.clone();
            bytes[newest + at] ^= 0x10;
            assert_eq!(Superblock::read(&MemoryStore::new(bytes)).unwrap(), older);
        }
    }

    #[test]
    fn strangers_and_newer_versions_are_told_apart() {
        let message = |bytes: Vec<u8>| {
            Superblock::read(&MemoryStore::new(bytes))
                .unwrap_err()
                .to_string()
        };
        assert!(message(Vec::new()).contains("not an overlay"));
        assert!(message(vec![1; 9000]).contains("not an overlay"));
        let mut damaged = MAGIC.to_vec();
        damaged.resize(2 * LEN as usize, 0);
        assert!(message(damaged).contains("damaged"));
        let mut newer = sample().to_bytes();
        newer[8] = 2;
        let sum = Sha256::digest(&newer[..LEN as usize - SUM]);
        newer[LEN as usize - SUM..].copy_from_slice(&sum);
        assert!(message(newer).contains("version 2"));
    }
}
