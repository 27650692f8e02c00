//! From a passphrase to a key: the functions slots name, and how much a stranger's header may make us spend.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize;

use crate::hash::Hash;
use crate::secret::{KEY_LEN, SecretBox, secret_box};
use crate::{Error, ErrorKind, Result};

/// A key-derivation function with its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kdf {
    /// Argon2id (RFC 9106): the one to choose.
    Argon2id {
        /// Passes over the memory, at least 1 (`cryptsetup` wants 4 for its own).
        time: u32,
        /// Memory in KiB, at least 8 per lane (`cryptsetup` wants 32 in all).
        memory_kib: u32,
        /// Independent lanes, 1 to 255 (`cryptsetup` allows 4).
        lanes: u32,
    },
    /// Argon2i: read in headers by others.
    Argon2i {
        /// Passes over the memory.
        time: u32,
        /// Memory in KiB.
        memory_kib: u32,
        /// Independent lanes.
        lanes: u32,
    },
    /// PBKDF2-HMAC: for LUKS1 and for machines without memory to spare.
    Pbkdf2 {
        /// The hash under HMAC.
        hash: Hash,
        /// Rounds, at least 1000.
        iterations: u32,
    },
}

const MEMORY_KIB: u64 = 512 << 10;
const MIN_MEMORY_KIB: u64 = 64 << 10;
const MAX_LANES: u32 = 255;

impl Kdf {
    /// A sensible Argon2id for a machine that can spare `memory_limit` bytes for a second or so: four passes over
    /// 512 MiB or half of what there is (never under 64 MiB), in as many lanes as there are processors, at most
    /// four. Every later unlock needs as much, so give the limit of the weakest machine that shall open the disk.
    pub fn default_for(memory_limit: u64) -> Self {
        let lanes = std::thread::available_parallelism().map_or(1, |n| n.get().min(4) as u32);
        let memory = (memory_limit / 2 / 1024).clamp(MIN_MEMORY_KIB, MEMORY_KIB);
        Self::Argon2id {
            time: 4,
            memory_kib: memory as u32,
            lanes,
        }
    }

    /// Refuses costs that the function itself does not define or that protect nothing.
    pub(crate) fn check(&self, at: &str) -> Result<()> {
        match *self {
            Self::Argon2id {
                time,
                memory_kib,
                lanes,
            }
            | Self::Argon2i {
                time,
                memory_kib,
                lanes,
            } => {
                if time == 0 {
                    return Err(Error::corrupt(format!("{at}.time"), "0 passes"));
                }
                if !(1..=MAX_LANES).contains(&lanes) {
                    return Err(Error::corrupt(
                        format!("{at}.cpus"),
                        format!("{lanes} is not within 1 to {MAX_LANES}"),
                    ));
                }
                if memory_kib < 8 * lanes {
                    return Err(Error::corrupt(
                        format!("{at}.memory"),
                        format!("{memory_kib} KiB, but {lanes} lanes need {}", 8 * lanes),
                    ));
                }
            }
            Self::Pbkdf2 { iterations, .. } => {
                if iterations == 0 {
                    return Err(Error::corrupt(format!("{at}.iterations"), "0 iterations"));
                }
            }
        }
        Ok(())
    }

    /// Refuses what a new slot should not have, though it can be read.
    pub(crate) fn check_new(&self) -> Result<()> {
        self.check("kdf")
            .map_err(|e| Error::input(e.field().to_owned(), e.to_string()))?;
        match *self {
            Self::Argon2id { memory_kib, .. } | Self::Argon2i { memory_kib, .. }
                if memory_kib < 32 =>
            {
                Err(Error::input(
                    "kdf.memory",
                    "less than 32 KiB, which cryptsetup refuses",
                ))
            }
            Self::Pbkdf2 { iterations, .. } if iterations < 1000 => Err(Error::input(
                "kdf.iterations",
                "fewer than 1000, which cryptsetup refuses",
            )),
            Self::Pbkdf2 {
                hash: Hash::Sha1, ..
            } => Err(Error::input(
                "kdf.hash",
                "sha1 is only read, never written; take sha256",
            )),
            _ => Ok(()),
        }
    }

    /// Derives the key of a key-slot area.
    pub(crate) fn derive(&self, passphrase: &[u8], salt: &[u8]) -> Result<SecretBox> {
        let mut out = secret_box();
        match *self {
            Self::Argon2id {
                time,
                memory_kib,
                lanes,
            } => {
                argon2(
                    Algorithm::Argon2id,
                    time,
                    memory_kib,
                    lanes,
                    passphrase,
                    salt,
                    &mut out[..],
                )?;
            }
            Self::Argon2i {
                time,
                memory_kib,
                lanes,
            } => {
                argon2(
                    Algorithm::Argon2i,
                    time,
                    memory_kib,
                    lanes,
                    passphrase,
                    salt,
                    &mut out[..],
                )?;
            }
            Self::Pbkdf2 { hash, iterations } => {
                hash.pbkdf2(passphrase, salt, iterations, &mut out[..])
            }
        }
        Ok(out)
    }
}

impl fmt::Display for Kdf {
    /// For people: `argon2id, 4 passes over 512 MiB, 2 lanes`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, time, memory_kib, lanes) = match *self {
            Self::Argon2id {
                time,
                memory_kib,
                lanes,
            } => ("argon2id", time, memory_kib, lanes),
            Self::Argon2i {
                time,
                memory_kib,
                lanes,
            } => ("argon2i", time, memory_kib, lanes),
            Self::Pbkdf2 { hash, iterations } => {
                return write!(f, "pbkdf2-{}, {iterations} rounds", hash.name());
            }
        };
        let (memory, unit) = match memory_kib % 1024 {
            0 => (memory_kib / 1024, "MiB"),
            _ => (memory_kib, "KiB"),
        };
        write!(
            f,
            "{name}, {time} passes over {memory} {unit}, {lanes} lanes"
        )
    }
}

/// Runs Argon2 in memory that is erased afterwards: its last blocks give the derived key away.
fn argon2(
    algorithm: Algorithm,
    time: u32,
    memory_kib: u32,
    lanes: u32,
    passphrase: &[u8],
    salt: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let failed = |e: argon2::Error| Error::input("argon2", e.to_string());
    let params = Params::new(memory_kib, time, lanes, Some(out.len())).map_err(failed)?;
    let count = params.block_count();
    let mut memory: Vec<Block> = Vec::new();
    memory.try_reserve_exact(count).map_err(|_| {
        Error::new(
            ErrorKind::System,
            "argon2",
            format!("cannot get {} MiB of memory", memory_kib >> 10),
        )
    })?;
    memory.resize(count, Block::default());
    let result = Argon2::new(algorithm, Version::V0x13, params).hash_password_into_with_memory(
        passphrase,
        salt,
        out,
        &mut memory[..],
    );
    memory.iter_mut().for_each(Zeroize::zeroize);
    result.map_err(failed)
}

/// How much one unlock may spend over all slots it tries. A header comes from who knows where: without a limit
/// it could ask for terabytes or years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most memory of one derivation, in KiB.
    pub memory_kib: u32,
    /// Most KiB that Argon2 may pass over in all (time × memory, summed over slots).
    pub argon2_work_kib: u64,
    /// Most PBKDF2 rounds in all (times output blocks).
    pub pbkdf2_rounds: u64,
}

impl Default for Limits {
    /// 4 GiB of memory; 256 GiB passed over; 400 million rounds. Some minutes at worst.
    fn default() -> Self {
        Self {
            memory_kib: 4 << 20,
            argon2_work_kib: 256 << 20,
            pbkdf2_rounds: 400_000_000,
        }
    }
}

/// What is left of the limits during one unlock.
pub(crate) struct Budget(Limits);

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(limits)
    }

    /// Pays for one derivation, or says which field asks for too much.
    pub(crate) fn spend(&mut self, kdf: &Kdf, at: &str) -> Result<()> {
        match *kdf {
            Kdf::Argon2id {
                time, memory_kib, ..
            }
            | Kdf::Argon2i {
                time, memory_kib, ..
            } => {
                if memory_kib > self.0.memory_kib {
                    let what = format!(
                        "asks for {} MiB of memory, and {} MiB may be used",
                        memory_kib.div_ceil(1024),
                        self.0.memory_kib / 1024
                    );
                    return Err(Error::new(
                        ErrorKind::TooCostly,
                        format!("{at}.memory"),
                        what,
                    ));
                }
                let work = u64::from(time) * u64::from(memory_kib);
                pay(&mut self.0.argon2_work_kib, work, &format!("{at}.time"))
            }
            Kdf::Pbkdf2 { hash, iterations } => self.spend_rounds(hash, iterations, KEY_LEN, at),
        }
    }

    /// Pays for PBKDF2 with `out` bytes of output.
    pub(crate) fn spend_rounds(
        &mut self,
        hash: Hash,
        iterations: u32,
        out: usize,
        at: &str,
    ) -> Result<()> {
        let blocks = out.div_ceil(hash.output_len()) as u64;
        pay(
            &mut self.0.pbkdf2_rounds,
            u64::from(iterations) * blocks,
            &format!("{at}.iterations"),
        )
    }
}

fn pay(left: &mut u64, cost: u64, at: &str) -> Result<()> {
    match left.checked_sub(cost) {
        Some(rest) => {
            *left = rest;
            Ok(())
        }
        None => Err(Error::new(
            ErrorKind::TooCostly,
            at,
            format!("asks for {cost} units of work, {left} are left"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_the_memory() {
        let memory = |limit| match Kdf::default_for(limit) {
            Kdf::Argon2id {
                time: 4,
                memory_kib,
                lanes: 1..=4,
            } => memory_kib,
            other => panic!("{other:?}"),
        };
        assert_eq!(memory(u64::MAX), 512 << 10);
        assert_eq!(memory(512 << 20), 256 << 10);
        assert_eq!(memory(0), 64 << 10);
        Kdf::default_for(0).check_new().unwrap();
        let shown = Kdf::Argon2id {
            time: 4,
            memory_kib: 512 << 10,
            lanes: 2,
        }
        .to_string();
        assert_eq!(shown, "argon2id, 4 passes over 512 MiB, 2 lanes");
    }

    #[test]
    fn a_budget_is_spent_over_all_slots() {
        let limits = Limits {
            memory_kib: 100,
            argon2_work_kib: 250,
            pbkdf2_rounds: 5000,
        };
        let mut budget = Budget::new(limits);
        let kdf = Kdf::Argon2id {
            time: 1,
            memory_kib: 100,
            lanes: 1,
        };
        budget.spend(&kdf, "a").unwrap();
        budget.spend(&kdf, "b").unwrap();
        let error = budget.spend(&kdf, "c").unwrap_err();
        assert_eq!(
            (error.kind(), error.field()),
            (ErrorKind::TooCostly, "c.time")
        );
        let greedy = Kdf::Argon2i {
            time: 1,
            memory_kib: 101,
            lanes: 1,
        };
        assert_eq!(budget.spend(&greedy, "d").unwrap_err().field(), "d.memory");
        let rounds = Kdf::Pbkdf2 {
            hash: Hash::Sha256,
            iterations: 2000,
        };
        budget.spend(&rounds, "e").unwrap();
        assert_eq!(
            budget.spend(&rounds, "f").unwrap_err().kind(),
            ErrorKind::TooCostly
        );
        let worst = Kdf::Argon2id {
            time: u32::MAX,
            memory_kib: u32::MAX,
            lanes: 1,
        };
        assert!(
            Budget::new(Limits {
                memory_kib: u32::MAX,
                ..limits
            })
            .spend(&worst, "g")
            .is_err()
        );
    }

    #[test]
    fn costs_without_meaning_are_refused() {
        let argon = |time, memory_kib, lanes| Kdf::Argon2id {
            time,
            memory_kib,
            lanes,
        };
        for bad in [
            argon(0, 64, 1),
            argon(1, 31, 4),
            argon(1, 64, 0),
            argon(1, u32::MAX, 256),
        ] {
            assert_eq!(bad.check("kdf").unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(bad.check_new().unwrap_err().kind(), ErrorKind::Input);
        }
        assert!(
            Kdf::Pbkdf2 {
                hash: Hash::Sha256,
                iterations: 999
            }
            .check_new()
            .is_err()
        );
        assert!(
            Kdf::Pbkdf2 {
                hash: Hash::Sha1,
                iterations: 1000
            }
            .check_new()
            .is_err()
        );
    }
}
