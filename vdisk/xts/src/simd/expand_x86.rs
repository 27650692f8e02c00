//! AES-256 key schedules by the key instructions of AES-NI.

use std::arch::x86_64::*;

use super::round_keys::Schedule;

/// Whether [`expand`] and [`invert`] can run here.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("sse2")
}

/// Key expansion of FIPS 197, two round keys per round constant.
#[target_feature(enable = "aes,sse2")]
pub(super) fn expand(key: &[u8; 32], out: &mut Schedule) {
    let [first, second] = key.as_chunks().0 else {
        return;
    };
    let (mut even, mut odd) = (load(first), load(second));
    let mut slots = out.iter_mut();
    let mut put = |value| {
        if let Some(slot) = slots.next() {
            store(slot, value);
        }
    };
    put(even);
    put(odd);
    macro_rules! round {
        ($constant:literal) => {
            let word = _mm_aeskeygenassist_si128::<$constant>(odd);
            even = _mm_xor_si128(running_xor(even), _mm_shuffle_epi32::<0xff>(word));
            put(even);
            let word = _mm_aeskeygenassist_si128::<0>(even);
            odd = _mm_xor_si128(running_xor(odd), _mm_shuffle_epi32::<0xaa>(word));
            put(odd);
        };
    }
    round!(0x01);
    round!(0x02);
    round!(0x04);
    round!(0x08);
    round!(0x10);
    round!(0x20);
    // Fourteen rounds need 15 keys: the last pair is only half used.
    let word = _mm_aeskeygenassist_si128::<0x40>(odd);
    put(_mm_xor_si128(
        running_xor(even),
        _mm_shuffle_epi32::<0xff>(word),
    ));
}

/// Each 32-bit word xored with all words before it.
#[target_feature(enable = "sse2")]
fn running_xor(x: __m128i) -> __m128i {
    let x = _mm_xor_si128(x, _mm_slli_si128::<4>(x));
    _mm_xor_si128(x, _mm_slli_si128::<8>(x))
}

/// The round keys of the equivalent inverse cipher.
#[target_feature(enable = "aes,sse2")]
pub(super) fn invert(encrypt: &Schedule, decrypt: &mut Schedule) {
    for (i, (to, from)) in decrypt.iter_mut().zip(encrypt.iter().rev()).enumerate() {
        let key = load(from);
        store(
            to,
            if i == 0 || i == 14 {
                key
            } else {
                _mm_aesimc_si128(key)
            },
        );
    }
}

#[inline]
#[target_feature(enable = "sse2")]
pub(super) fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is valid for 16 bytes; the instruction needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store(bytes: &mut [u8; 16], value: __m128i) {
    // SAFETY: the reference is valid for 16 bytes; the instruction needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}
