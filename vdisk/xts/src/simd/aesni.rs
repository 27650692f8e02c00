//! AES-NI: eight blocks in flight hide the latency of the AES unit; needs nothing beyond SSE2
//! besides, so it runs on every x86-64 processor that has AES at all.

use std::arch::asm;
use std::arch::x86_64::*;

use super::round_keys::{RoundKeys, Schedule, load, read_again};
use super::x86::{Lanes, Tweaks};

/// Blocks in flight. Eight states, a round key and a few tweaks fill the 16 registers.
const WIDTH: usize = 8;

pub(super) struct AesNi;

impl Lanes for AesNi {
    fn available() -> bool {
        is_x86_feature_detected!("aes") && is_x86_feature_detected!("sse2")
    }

    unsafe fn tweaks(keys: &RoundKeys, first: u64, step: u64, used: usize, out: &mut Tweaks) {
        // SAFETY: the caller saw `available`, which lists the features.
        unsafe { tweaks(&keys.tweak, first, step, used, out) }
    }

    unsafe fn units<const ENCRYPT: bool, const SECTORS: usize>(
        keys: &RoundKeys,
        tweaks: &[[u64; 2]],
        src: *const u8,
        dst: *mut u8,
    ) {
        let schedule = if ENCRYPT {
            &keys.encrypt
        } else {
            &keys.decrypt
        };
        // SAFETY: features as above; the pointers are the caller's contract.
        unsafe { units::<ENCRYPT, SECTORS>(schedule, tweaks, src, dst) }
    }
}

/// Enciphers sector numbers, `WIDTH` at a time.
#[inline(never)]
#[target_feature(enable = "aes,sse2")]
fn tweaks(keys: &Schedule, first: u64, step: u64, used: usize, out: &mut Tweaks) {
    let mut number = first;
    for group in out
        .0
        .as_chunks_mut::<WIDTH>()
        .0
        .iter_mut()
        .take(used.div_ceil(WIDTH))
    {
        let mut state = [_mm_setzero_si128(); WIDTH];
        for x in &mut state {
            *x = _mm_xor_si128(_mm_set_epi64x(0, number.cast_signed()), load(&keys[0]));
            number = number.wrapping_add(step);
        }
        rounds::<true>(keys, &mut state);
        for (x, out) in state.iter().zip(group) {
            let done = _mm_aesenclast_si128(*x, load(&keys[14]));
            // SAFETY: `out` is 16 writable bytes; the instruction needs no alignment.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), done) };
        }
    }
}

/// # Safety
/// As [`Lanes::units`].
#[inline(never)]
#[target_feature(enable = "aes,sse2")]
unsafe fn units<const ENCRYPT: bool, const SECTORS: usize>(
    keys: &Schedule,
    tweaks: &[[u64; 2]],
    mut src: *const u8,
    mut dst: *mut u8,
) {
    for first in tweaks {
        // SAFETY: 16 readable bytes; no alignment is needed.
        let mut next = unsafe { _mm_loadu_si128(first.as_ptr().cast()) };
        for _ in 0..SECTORS * 512 / (16 * WIDTH) {
            let keys = read_again(keys);
            let mut tweaks = [_mm_setzero_si128(); WIDTH];
            let mut state = [_mm_setzero_si128(); WIDTH];
            for i in 0..WIDTH {
                tweaks[i] = next;
                next = double(next);
                // SAFETY: the caller gives SECTORS × 512 bytes per tweak; the two loops visit
                // each of their blocks once. All loads of a group come before its first store.
                let data = unsafe { _mm_loadu_si128(src.add(16 * i).cast()) };
                state[i] = _mm_xor_si128(_mm_xor_si128(data, tweaks[i]), load(&keys[0]));
            }
            rounds::<ENCRYPT>(keys, &mut state);
            for i in 0..WIDTH {
                // The last round ends in a xor: let it take the tweak along.
                let last = _mm_xor_si128(load(&keys[14]), tweaks[i]);
                let done = if ENCRYPT {
                    _mm_aesenclast_si128(state[i], last)
                } else {
                    _mm_aesdeclast_si128(state[i], last)
                };
                // SAFETY: as for the load.
                unsafe { _mm_storeu_si128(dst.add(16 * i).cast(), done) };
            }
            // SAFETY: at most one past the caller's last byte.
            unsafe {
                src = src.add(16 * WIDTH);
                dst = dst.add(16 * WIDTH);
            }
        }
    }
}

/// The thirteen full rounds.
#[inline]
#[target_feature(enable = "aes,sse2")]
fn rounds<const ENCRYPT: bool>(keys: &Schedule, state: &mut [__m128i; WIDTH]) {
    for key in &keys[1..14] {
        let key = load(key);
        for x in state.iter_mut() {
            *x = if ENCRYPT {
                _mm_aesenc_si128(*x, key)
            } else {
                _mm_aesdec_si128(*x, key)
            };
        }
        in_step(state);
    }
}

/// Makes the compiler finish a round of all eight blocks before the next round of any.
///
/// Left alone it saves registers by running them one after the other, each instruction waiting
/// for the one before.
#[inline]
#[target_feature(enable = "sse2")]
fn in_step(state: &mut [__m128i; WIDTH]) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: there is no instruction in it, only the claim that all eight are changed together.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} */",
            inout(xmm_reg) * a,
            inout(xmm_reg) * b,
            inout(xmm_reg) * c,
            inout(xmm_reg) * d,
            inout(xmm_reg) * e,
            inout(xmm_reg) * f,
            inout(xmm_reg) * g,
            inout(xmm_reg) * h,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Multiplies by x in GF(2¹²⁸), without a branch on the secret.
#[inline]
#[target_feature(enable = "sse2")]
fn double(tweak: __m128i) -> __m128i {
    // The top bit of each half, spread over 32 bits beside the half that receives it.
    let carries = _mm_srai_epi32::<31>(_mm_shuffle_epi32::<0x13>(tweak));
    let carries = _mm_and_si128(carries, _mm_set_epi32(0, 1, 0, 0x87));
    _mm_xor_si128(_mm_add_epi64(tweak, tweak), carries)
}
