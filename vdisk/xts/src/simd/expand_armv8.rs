//! AES-256 key schedules by the AES instructions of ARMv8, which know no key expansion of their
//! own: its S-box comes from a round of a state whose columns are all the same, so that the row
//! shifts change nothing.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use zeroize::Zeroizing;

use super::round_keys::Schedule;

/// Whether [`expand`] and [`invert`] can run here.
pub(super) fn available() -> bool {
    is_aarch64_feature_detected!("aes")
}

/// Key expansion of FIPS 197, four words at a time.
#[target_feature(enable = "neon,aes")]
pub(super) fn expand(key: &[u8; 32], out: &mut Schedule) {
    let (halves, _) = key.as_chunks::<16>();
    out[..2].copy_from_slice(halves);
    let mut constant = 1;
    let mut word = Zeroizing::new(0);
    for i in 2..out.len() {
        let (former, rest) = out.split_at_mut(i);
        *word = u32::from_le_bytes([
            former[i - 1][12],
            former[i - 1][13],
            former[i - 1][14],
            former[i - 1][15],
        ]);
        *word = substitute(*word);
        if i % 2 == 0 {
            *word = word.rotate_right(8) ^ constant;
            constant <<= 1;
        }
        // No copy of a round key: it is read where it stays.
        let (to, _) = rest[0].as_chunks_mut::<4>();
        let (from, _) = former[i - 2].as_chunks::<4>();
        for (to, from) in to.iter_mut().zip(from) {
            *word ^= u32::from_le_bytes(*from);
            *to = word.to_le_bytes();
        }
    }
}

/// The S-box on each byte of a word.
#[target_feature(enable = "neon,aes")]
fn substitute(word: u32) -> u32 {
    let columns = vreinterpretq_u8_u32(vdupq_n_u32(word));
    let done = vaeseq_u8(columns, vdupq_n_u8(0));
    vgetq_lane_u32::<0>(vreinterpretq_u32_u8(done))
}

/// The round keys of the equivalent inverse cipher.
#[target_feature(enable = "neon,aes")]
pub(super) fn invert(encrypt: &Schedule, decrypt: &mut Schedule) {
    for (i, (to, from)) in decrypt.iter_mut().zip(encrypt.iter().rev()).enumerate() {
        let key = load(from);
        let key = if i == 0 || i == 14 {
            key
        } else {
            vaesimcq_u8(key)
        };
        // SAFETY: the reference is valid for 16 bytes; the instruction needs no alignment.
        unsafe { vst1q_u8(to.as_mut_ptr(), key) };
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the reference is valid for 16 bytes; the instruction needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}
