//! The kernel for every processor: safe code over the `aes` crate, which is constant time.
//!
//! Speed comes from never asking for a single block: the tweaks of eight units are enciphered in
//! one call, and data goes through in calls of 32 blocks.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Aes256Enc, Block};
use zeroize::Zeroize;

use crate::unit::SECTOR;
use crate::xts::SectorCipher;
use crate::{DataUnit, XtsKey};

/// Units whose tweaks are enciphered together.
const BATCH: usize = 8;
/// Blocks per call of the block cipher: one 512-byte sector.
const RUN: usize = SECTOR / 16;

/// Both key schedules; the `aes` crate wipes them on drop.
pub(crate) struct Portable {
    data: Aes256,
    tweak: Aes256Enc,
}

impl Portable {
    pub(crate) fn new(key: &XtsKey) -> Self {
        Self {
            data: Aes256::new(Array::cast_from_core(key.data())),
            tweak: Aes256Enc::new(Array::cast_from_core(key.tweak())),
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
        let mut sector = first_sector;
        let mut first_tweaks = [Block::default(); BATCH];
        let mut tweaks = [0u128; RUN];
        for batch in buf.chunks_mut(unit.bytes() * BATCH) {
            let used = &mut first_tweaks[..batch.len() / unit.bytes()];
            for tweak in used.iter_mut() {
                *tweak = u128::from(sector).to_le_bytes().into();
                sector = sector.wrapping_add(unit.sectors());
            }
            self.tweak.encrypt_blocks(used);
            for (data, first) in batch.chunks_exact_mut(unit.bytes()).zip(used.iter()) {
                let mut next = u128::from_le_bytes((*first).into());
                let (blocks, _) = data.as_chunks_mut::<16>();
                for run in blocks.chunks_exact_mut(RUN) {
                    for tweak in &mut tweaks {
                        *tweak = next;
                        next = double(next);
                    }
                    whiten(run, &tweaks);
                    cipher(Array::cast_slice_from_core_mut(run));
                    whiten(run, &tweaks);
                }
            }
        }
        tweaks.zeroize();
        Block::slice_as_flattened_mut(&mut first_tweaks).zeroize();
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

/// Multiplies by x in GF(2¹²⁸) with the polynomial of XTS, without a branch on the secret.
fn double(tweak: u128) -> u128 {
    let carry = (tweak >> 127).wrapping_neg();
    (tweak << 1) ^ (carry & 0x87)
}

fn whiten(blocks: &mut [[u8; 16]], tweaks: &[u128; RUN]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
    }
}
