//! AES-256 key schedules made by the processor's own key instructions: no table look-up, so no
//! timing that depends on the key.

use std::arch::asm;
use std::arch::x86_64::*;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::XtsKey;
use crate::locked::Locked;

/// The 15 round keys of AES-256 in the order in which they are used.
pub(super) type Schedule = [[u8; 16]; 15];

/// The three schedules of one XTS key, made in the place where they stay.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
pub(super) struct RoundKeys {
    pub(super) encrypt: Schedule,
    /// For the equivalent inverse cipher.
    pub(super) decrypt: Schedule,
    pub(super) tweak: Schedule,
}

impl RoundKeys {
    /// Expands both halves of `key` in their final place; `None` without AES-NI.
    pub(super) fn new(key: &XtsKey) -> Option<Locked<Self>> {
        if !(is_x86_feature_detected!("aes") && is_x86_feature_detected!("sse2")) {
            return None;
        }
        let none = [[0; 16]; 15];
        let mut keys = Locked::new(Self {
            encrypt: none,
            decrypt: none,
            tweak: none,
        });
        // SAFETY: the features of both functions were detected above.
        unsafe {
            expand(key.data(), &mut keys.encrypt);
            expand(key.tweak(), &mut keys.tweak);
            let Self {
                encrypt, decrypt, ..
            } = &mut *keys;
            invert(encrypt, decrypt);
        }
        Some(keys)
    }
}

/// Key expansion of FIPS 197, two round keys per round constant.
#[target_feature(enable = "aes,sse2")]
fn expand(key: &[u8; 32], out: &mut Schedule) {
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

#[target_feature(enable = "aes,sse2")]
fn invert(encrypt: &Schedule, decrypt: &mut Schedule) {
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
pub(super) fn store(bytes: &mut [u8; 16], value: __m128i) {
    // SAFETY: the reference is valid for 16 bytes; the instruction needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}

/// The same keys, but the compiler must read them anew from here on.
///
/// Otherwise it would read all of them before a loop over data, run out of registers and keep
/// copies on the stack, where nobody wipes them.
#[inline]
pub(super) fn read_again(keys: &Schedule) -> &Schedule {
    let mut at: *const Schedule = keys;
    // SAFETY: there is no instruction in it; `at` is still the address of `keys`.
    unsafe {
        asm!("/* {0} */", inout(reg) at, options(readonly, nostack, preserves_flags));
        &*at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix A.3: the expansion of a 256-bit key.
    #[test]
    fn expansion_matches_fips_197() {
        if !is_x86_feature_detected!("aes") {
            return;
        }
        let key: [u8; 32] = [
            0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d,
            0x77, 0x81, 0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3,
            0x09, 0x14, 0xdf, 0xf4,
        ];
        let mut out = [[0; 16]; 15];
        // SAFETY: AES-NI (and with it SSE2) was detected above.
        unsafe { expand(&key, &mut out) };
        assert_eq!(out.as_flattened()[..32], key);
        // w8 and w56..w59.
        assert_eq!(out[2][..4], [0x9b, 0xa3, 0x54, 0x11]);
        assert_eq!(
            u128::from_be_bytes(out[14]),
            0xfe4890d1_e6188d0b_046df344_706c631e,
        );
    }
}
