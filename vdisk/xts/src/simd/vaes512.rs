//! AVX-512 with VAES: eight 64-byte registers hold exactly one 512-byte sector, eight more its 32
//! tweaks, and the 15 round keys stay in registers as well.
//!
//! AES of whole registers is the bottleneck (one instruction per cycle on one port), so the tweaks
//! are derived with shuffles and carry-less multiplications, which other ports execute.

use std::arch::x86_64::*;

use super::round_keys::{RoundKeys, Schedule, load};
use super::x86::{BATCH, Lanes, Tweaks};

pub(super) struct Vaes512;

impl Lanes for Vaes512 {
    fn available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
    }

    unsafe fn tweaks(keys: &RoundKeys, first: u64, step: u64, used: usize, out: &mut Tweaks) {
        // SAFETY: the caller saw `available`, which lists the features of both functions.
        unsafe {
            if used <= 4 {
                tweaks::<1>(&keys.tweak, first, step, out);
            } else {
                tweaks::<{ BATCH / 4 }>(&keys.tweak, first, step, out);
            }
        }
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

/// Enciphers `4 * GROUPS` sector numbers, four per register.
///
/// Not inlined: its round keys must not compete for registers with those of the data, or the
/// compiler would keep copies of key material on the stack.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
fn tweaks<const GROUPS: usize>(keys: &Schedule, first: u64, step: u64, out: &mut Tweaks) {
    let whiten = broadcast(&keys[0]);
    let mut state = [_mm512_setzero_si512(); GROUPS];
    for (group, x) in state.iter_mut().enumerate() {
        let number = |lane: u64| {
            first
                .wrapping_add(step.wrapping_mul(4 * group as u64 + lane))
                .cast_signed()
        };
        let numbers = _mm512_set_epi64(0, number(3), 0, number(2), 0, number(1), 0, number(0));
        *x = _mm512_xor_si512(numbers, whiten);
    }
    for key in &keys[1..14] {
        let key = broadcast(key);
        for x in &mut state {
            *x = _mm512_aesenc_epi128(*x, key);
        }
    }
    let key = broadcast(&keys[14]);
    for (x, out) in state.iter().zip(out.0.as_chunks_mut::<4>().0) {
        let done = _mm512_aesenclast_epi128(*x, key);
        // SAFETY: `out` is four tweaks of 16 bytes; the instruction needs no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), done) };
    }
}

/// # Safety
/// As [`Lanes::units`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
unsafe fn units<const ENCRYPT: bool, const SECTORS: usize>(
    schedule: &Schedule,
    tweaks: &[[u64; 2]],
    mut src: *const u8,
    mut dst: *mut u8,
) {
    let mut keys = [_mm512_setzero_si512(); 15];
    for (key, bytes) in keys.iter_mut().zip(schedule) {
        *key = broadcast(bytes);
    }
    for first in tweaks {
        let mut tweaks = sector_tweaks(first);
        for sector in 0..SECTORS {
            if sector > 0 {
                for tweak in &mut tweaks {
                    *tweak = times_x_to_the::<4, 12>(*tweak);
                }
            }
            // SAFETY: the caller gives SECTORS × 512 bytes per tweak at both pointers; all loads
            // of a sector come before its first store.
            unsafe {
                cipher_sector::<ENCRYPT>(&keys, &tweaks, src, dst);
                src = src.add(512);
                dst = dst.add(512);
            }
        }
    }
}

/// # Safety
/// 512 bytes are readable at `src` and writable at `dst`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
unsafe fn cipher_sector<const ENCRYPT: bool>(
    keys: &[__m512i; 15],
    tweaks: &[__m512i; 8],
    src: *const u8,
    dst: *mut u8,
) {
    let mut state = [_mm512_setzero_si512(); 8];
    for (i, x) in state.iter_mut().enumerate() {
        // SAFETY: i < 8, so this stays within the 512 bytes; no alignment is needed.
        let data = unsafe { _mm512_loadu_si512(src.add(64 * i).cast()) };
        *x = xor3(data, tweaks[i], keys[0]);
    }
    for key in &keys[1..14] {
        for x in &mut state {
            *x = if ENCRYPT {
                _mm512_aesenc_epi128(*x, *key)
            } else {
                _mm512_aesdec_epi128(*x, *key)
            };
        }
    }
    for (i, x) in state.iter().enumerate() {
        // The last round ends in a xor: let it take the tweak along.
        let last = _mm512_xor_si512(keys[14], tweaks[i]);
        let done = if ENCRYPT {
            _mm512_aesenclast_epi128(*x, last)
        } else {
            _mm512_aesdeclast_epi128(*x, last)
        };
        // SAFETY: as for the load.
        unsafe { _mm512_storeu_si512(dst.add(64 * i).cast(), done) };
    }
}

/// The tweaks of a sector's 32 blocks: the first, times x⁰ to x³¹.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
fn sector_tweaks(first: &[u64; 2]) -> [__m512i; 8] {
    // SAFETY: 16 readable bytes; no alignment is needed.
    let first = unsafe { _mm_loadu_si128(first.as_ptr().cast()) };
    let first = _mm512_broadcast_i32x4(first);
    let mut tweaks = [_mm512_setzero_si512(); 8];
    // By whole bytes is a shuffle; only the first eight powers need bit shifts.
    tweaks[0] = times_x_to_each(first, _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0));
    tweaks[1] = times_x_to_each(first, _mm512_set_epi64(7, 7, 6, 6, 5, 5, 4, 4));
    for i in 0..2 {
        tweaks[i + 2] = times_x_to_the::<1, 15>(tweaks[i]);
        tweaks[i + 4] = times_x_to_the::<2, 14>(tweaks[i]);
        tweaks[i + 6] = times_x_to_the::<3, 13>(tweaks[i]);
    }
    tweaks
}

/// Multiplies each 128-bit lane by xⁿ in GF(2¹²⁸), n < 64 given in both halves of the lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
fn times_x_to_each(value: __m512i, n: __m512i) -> __m512i {
    let kept = _mm512_sllv_epi64(value, n);
    // A shift by 64 (n = 0) gives zero, as it should.
    let carried = _mm512_srlv_epi64(value, _mm512_sub_epi64(_mm512_set1_epi64(64), n));
    let into_high = _mm512_bslli_epi128::<8>(carried);
    xor3(
        kept,
        into_high,
        _mm512_clmulepi64_epi128::<0x01>(carried, polynomial()),
    )
}

/// Multiplies each 128-bit lane by x to the power of 8 × `BYTES`; `REST` is 16 − `BYTES`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
fn times_x_to_the<const BYTES: i32, const REST: i32>(value: __m512i) -> __m512i {
    let kept = _mm512_bslli_epi128::<BYTES>(value);
    let overflow = _mm512_bsrli_epi128::<REST>(value);
    _mm512_xor_si512(
        kept,
        _mm512_clmulepi64_epi128::<0x00>(overflow, polynomial()),
    )
}

/// x⁷ + x² + x + 1 in the low half of each lane: what x¹²⁸ is in this field.
#[inline]
#[target_feature(enable = "avx512f")]
fn polynomial() -> __m512i {
    _mm512_set_epi64(0, 0x87, 0, 0x87, 0, 0x87, 0, 0x87)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(key: &[u8; 16]) -> __m512i {
    _mm512_broadcast_i32x4(load(key))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}
