//! What a sector says about itself.

use std::fmt;

use vdisk::SECTOR;

use crate::Random;

const LEN: usize = SECTOR as usize;

/// Whose sector it is, which generation, who wrote it. The rest of its bytes depends on these, and the
/// last eight are the sum of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The sector's number.
    pub sector: u64,
    /// Grows with everything that is done to the disk.
    pub generation: u64,
    /// The thread that wrote it.
    pub thread: u64,
}

/// What a sector can be instead of whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A whole sector, of another place.
    Misplaced(Stamp),
    /// It begins as a sector of this place does, and goes on as something else.
    Torn(Stamp),
    /// Nothing that was ever written.
    Noise,
    /// A generation from before one that was acknowledged.
    Stale(u64),
    /// A generation that nobody has written yet.
    Future(u64),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misplaced(stamp) => write!(f, "misplaced: {stamp:?}"),
            Self::Torn(stamp) => write!(f, "torn: {stamp:?}"),
            Self::Noise => write!(f, "noise"),
            Self::Stale(generation) => write!(f, "stale: generation {generation}"),
            Self::Future(generation) => write!(f, "never written: generation {generation}"),
        }
    }
}

/// FNV-1a over words.
fn sum(words: &[[u8; 8]]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        (sum ^ u64::from_le_bytes(*word))
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(29)
    })
}

impl Stamp {
    /// A sector's stamp.
    pub fn new(sector: u64, generation: u64, thread: u64) -> Self {
        Self {
            sector,
            generation,
            thread,
        }
    }

    /// What a [filled](super::fill) disk holds.
    pub fn first(sector: u64) -> Self {
        Self::new(sector, super::books::FIRST, u64::MAX)
    }

    /// The sector's bytes.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let words = bytes.as_chunks_mut::<8>().0;
        let mut filler = Random::new(self.sector ^ self.generation << 32 ^ self.thread);
        for (n, word) in words.iter_mut().enumerate() {
            *word = match n {
                0 => !self.sector,
                1 => self.generation,
                2 => self.thread,
                _ => filler.bits(),
            }
            .to_le_bytes();
        }
        if let Some((last, before)) = words.split_last_mut() {
            *last = sum(before).to_le_bytes();
        }
        bytes
    }

    /// What a sector's bytes are; `None` for zeros.
    pub fn read(sector: u64, bytes: &[u8]) -> Result<Option<Self>, Damage> {
        let words = bytes.as_chunks::<8>().0;
        let ([place, generation, thread, ..], Some((last, before))) = (words, words.split_last())
        else {
            return Err(Damage::Noise);
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let found = Self {
            sector: !u64::from_le_bytes(*place),
            generation: u64::from_le_bytes(*generation),
            thread: u64::from_le_bytes(*thread),
        };
        match (sum(before).to_le_bytes() == *last, found.sector == sector) {
            (true, true) => Ok(Some(found)),
            (true, false) => Err(Damage::Misplaced(found)),
            (false, true) => Err(Damage::Torn(found)),
            (false, false) => Err(Damage::Noise),
        }
    }
}
