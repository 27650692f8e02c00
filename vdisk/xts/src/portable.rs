//! The kernel for every processor: safe code over the `aes` crate, which is constant time.
//!
//! Speed comes from never asking for few blocks: the tweaks of eight units are enciphered in one
//! call, and data goes through 4 KiB at a time, whatever the unit.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Aes256Enc, Block};
use zeroize::Zeroize;

use crate::locked::Locked;
use crate::xts::SectorCipher;
use crate::{DataUnit, XtsKey};

/// Units whose sector numbers are enciphered together.
const BATCH: usize = 8;
/// Blocks whose tweaks are kept at once: eight small units or one large one.
const RUN: usize = DataUnit::B4096.bytes() / 16;

/// Both key schedules; the `aes` crate wipes them on drop.
pub(crate) struct Portable {
    data: Locked<Aes256>,
    tweak: Locked<Aes256Enc>,
}

impl Portable {
    pub(crate) fn new(key: &XtsKey) -> Self {
        Self {
            data: Locked::new(Aes256::new(Array::cast_from_core(key.data()))),
            tweak: Locked::new(Aes256Enc::new(Array::cast_from_core(key.tweak()))),
        }
    }

    /// Xors the blocks of every unit with their tweaks before and after `cipher`.
    fn each_run(
        &self,
        unit: DataUnit,
        first_sector: u64,
        buf: &mut [u8],
        cipher: impl Fn(&mut [Block]),
    ) {
        let unit_blocks = unit.bytes() / 16;
        let mut sector = first_sector;
        let mut firsts = [Block::default(); BATCH];
        let mut tweaks = [0u128; RUN];
        for batch in buf.chunks_mut(unit.bytes() * BATCH) {
            let (blocks, _) = batch.as_chunks_mut::<16>();
            let used = &mut firsts[..blocks.len() / unit_blocks];
            for first in used.iter_mut() {
                *first = u128::from(sector).to_le_bytes().into();
                sector = sector.wrapping_add(unit.sectors());
            }
            self.tweak.encrypt_blocks(used);
            for (run, firsts) in blocks.chunks_mut(RUN).zip(used.chunks(RUN / unit_blocks)) {
                for (tweaks, first) in tweaks.chunks_exact_mut(unit_blocks).zip(firsts) {
                    fill(tweaks, u128::from_le_bytes((*first).into()));
                }
                whiten(run, &tweaks);
                cipher(Array::cast_slice_from_core_mut(run));
                whiten(run, &tweaks);
            }
        }
        tweaks[..(buf.len() / 16).min(RUN)].zeroize();
        Block::slice_as_flattened_mut(&mut firsts).zeroize();
    }
}

impl SectorCipher for Portable {
    fn encrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]) {
        self.each_run(unit, first_sector, buf, |run| self.data.encrypt_blocks(run));
    }

    fn decrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]) {
        self.each_run(unit, first_sector, buf, |run| self.data.decrypt_blocks(run));
    }

    fn encrypt_into(&self, unit: DataUnit, first_sector: u64, src: &[u8], dst: &mut [u8]) {
        // A unit's copy is still in the first-level cache when it is enciphered.
        let step = unit.bytes() * BATCH;
        let mut sector = first_sector;
        for (src, dst) in src.chunks(step).zip(dst.chunks_mut(step)) {
            dst.copy_from_slice(src);
            self.encrypt(unit, sector, dst);
            sector = sector.wrapping_add(unit.sectors() * BATCH as u64);
        }
    }
}

/// A unit's tweaks: `first` times x⁰, x¹, x² and so on.
fn fill(tweaks: &mut [u128], first: u128) {
    // Eight side by side, so that no multiplication waits for the one before.
    const SIDE: usize = 8;
    let mut next = first;
    for tweak in &mut tweaks[..SIDE] {
        *tweak = next;
        next = double(next);
    }
    for i in SIDE..tweaks.len() {
        tweaks[i] = times_x8(tweaks[i - SIDE]);
    }
}

/// Multiplies by x in GF(2¹²⁸) with the polynomial of XTS, without a branch on the secret.
fn double(tweak: u128) -> u128 {
    let carry = (tweak >> 127).wrapping_neg();
    (tweak << 1) ^ (carry & 0x87)
}

/// Multiplies by x⁸: the byte that leaves at the top returns times x⁷ + x² + x + 1.
fn times_x8(tweak: u128) -> u128 {
    let top = tweak >> 120;
    (tweak << 8) ^ top ^ (top << 1) ^ (top << 2) ^ (top << 7)
}

fn whiten(blocks: &mut [[u8; 16]], tweaks: &[u128]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_doublings_are_one_byte() {
        let mut tweak = 0x8123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978;
        for _ in 0..300 {
            let doubled = (0..8).fold(tweak, |t, _| double(t));
            assert_eq!(times_x8(tweak), doubled);
            tweak = double(tweak);
        }
        assert_eq!(double(1 << 127), 0x87);
    }
}
