//! AVX-512 with VAES: eight 64-byte registers hold exactly one 512-byte sector, eight more its 32
//! tweaks, and eight more those of the next sector.
//!
//! AES of whole registers is the bottleneck (one instruction per cycle on one port), so the next
//! tweaks are made meanwhile, with shuffles and carry-less multiplications that other ports do.
//! Round keys are read from the wiped schedule whenever they are needed, one load for 32 blocks.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ptr;

use super::batches::{BATCH, Lanes, Tweaks};
use super::expand_x86::load;
use super::round_keys::{RoundKeys, Schedule, read_again};

pub(super) struct Vaes512;

impl Lanes for Vaes512 {
    fn available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
    }

    unsafe fn tweaks<const SECTORS: usize>(
        keys: &RoundKeys,
        first: u64,
        used: usize,
        out: &mut Tweaks,
    ) {
        // SAFETY: the caller saw `available`, which lists the features of these functions.
        unsafe {
            match used {
                0..=4 => tweaks::<SECTORS, 1>(&keys.tweak, first, out),
                5..=8 => tweaks::<SECTORS, 2>(&keys.tweak, first, out),
                _ => tweaks::<SECTORS, { BATCH / 4 }>(&keys.tweak, first, out),
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
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
fn tweaks<const SECTORS: usize, const GROUPS: usize>(
    keys: &Schedule,
    first: u64,
    out: &mut Tweaks,
) {
    let whiten = broadcast(&keys[0]);
    let step = SECTORS as i64;
    let steps = _mm512_set_epi64(0, 3 * step, 0, 2 * step, 0, step, 0, 0);
    // Only the low half of each lane counts: that is where the carry would go.
    let mut numbers = _mm512_maskz_set1_epi64(0x55, first.cast_signed());
    numbers = _mm512_add_epi64(numbers, steps);
    let mut state = [_mm512_setzero_si512(); GROUPS];
    for x in &mut state {
        *x = _mm512_xor_si512(numbers, whiten);
        numbers = _mm512_add_epi64(numbers, _mm512_maskz_set1_epi64(0x55, 4 * step));
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
    let mut units = tweaks.iter();
    let Some(first) = units.next() else { return };
    let mut tweaks = sector_tweaks(first);
    loop {
        // SAFETY: the caller gives SECTORS × 512 bytes per tweak at both pointers, and this goes
        // through as many sectors.
        unsafe {
            for _ in 1..SECTORS {
                sector::<ENCRYPT, false>(schedule, &mut tweaks, first, src, dst);
                src = src.add(512);
                dst = dst.add(512);
            }
            let next = units.next();
            sector::<ENCRYPT, true>(schedule, &mut tweaks, next.unwrap_or(first), src, dst);
            if next.is_none() {
                break;
            }
            src = src.add(512);
            dst = dst.add(512);
        }
    }
    for tweak in &mut tweaks {
        // SAFETY: an ordinary store to a local, only that the compiler may not leave it out.
        unsafe { ptr::write_volatile(tweak, _mm512_setzero_si512()) };
    }
}

/// Enciphers one sector and meanwhile replaces its `tweaks` by those of the next: which begins the
/// unit of tweak `unit` if `NEW_UNIT`, else continues the same unit.
///
/// # Safety
/// 512 bytes are readable at `src` and writable at `dst`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
unsafe fn sector<const ENCRYPT: bool, const NEW_UNIT: bool>(
    schedule: &Schedule,
    tweaks: &mut [__m512i; 8],
    unit: &[u64; 2],
    src: *const u8,
    dst: *mut u8,
) {
    let schedule = read_again(schedule);
    let key = broadcast(&schedule[0]);
    let mut state = [_mm512_setzero_si512(); 8];
    for i in 0..8 {
        // SAFETY: i < 8, so this stays within the 512 bytes; no alignment is needed.
        let data = unsafe { _mm512_loadu_si512(src.add(64 * i).cast()) };
        state[i] = xor3(data, tweaks[i], key);
    }
    let mut next = *tweaks;
    macro_rules! round {
        ($n:literal) => {
            let key = broadcast(&schedule[$n]);
            for i in 0..8 {
                state[i] = if ENCRYPT {
                    _mm512_aesenc_epi128(state[i], key)
                } else {
                    _mm512_aesdec_epi128(state[i], key)
                };
            }
        };
        // While the AES unit is busy, other ports make one register of the next tweaks.
        ($n:literal, $i:literal) => {
            round!($n);
            next[$i] = if NEW_UNIT {
                unit_tweak::<$i>(unit, &next)
            } else {
                times_x_to_the::<4, 12>(tweaks[$i])
            };
            in_step(&mut state, &mut next[$i]);
        };
    }
    round!(1, 0);
    round!(2, 1);
    round!(3, 2);
    round!(4, 3);
    round!(5, 4);
    round!(6, 5);
    round!(7, 6);
    round!(8, 7);
    round!(9);
    in_step(&mut state, &mut next[0]);
    round!(10);
    in_step(&mut state, &mut next[0]);
    round!(11);
    in_step(&mut state, &mut next[0]);
    round!(12);
    in_step(&mut state, &mut next[0]);
    round!(13);
    in_step(&mut state, &mut next[0]);
    let key = broadcast(&schedule[14]);
    for i in 0..8 {
        // The last round ends in a xor: let it take the tweak along.
        let last = _mm512_xor_si512(key, tweaks[i]);
        let done = if ENCRYPT {
            _mm512_aesenclast_epi128(state[i], last)
        } else {
            _mm512_aesdeclast_epi128(state[i], last)
        };
        // SAFETY: as for the load; all loads of the sector came before.
        unsafe { _mm512_storeu_si512(dst.add(64 * i).cast(), done) };
    }
    *tweaks = next;
}

/// Makes the compiler finish a round of all eight registers, and the register of tweaks made
/// beside it, before the next round of any.
///
/// Left alone it saves registers by running the eight one after the other, each instruction
/// waiting for the one before.
#[inline]
#[target_feature(enable = "avx512f")]
fn in_step(state: &mut [__m512i; 8], beside: &mut __m512i) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: there is no instruction in it, only the claim that all nine are changed together.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} {8} */",
            inout(zmm_reg) * a,
            inout(zmm_reg) * b,
            inout(zmm_reg) * c,
            inout(zmm_reg) * d,
            inout(zmm_reg) * e,
            inout(zmm_reg) * f,
            inout(zmm_reg) * g,
            inout(zmm_reg) * h,
            inout(zmm_reg) * beside,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// The tweaks of the 32 blocks of a unit's first sector: `first` times x⁰ to x³¹.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
fn sector_tweaks(first: &[u64; 2]) -> [__m512i; 8] {
    let mut tweaks = [_mm512_setzero_si512(); 8];
    tweaks[0] = unit_tweak::<0>(first, &tweaks);
    tweaks[1] = unit_tweak::<1>(first, &tweaks);
    tweaks[2] = unit_tweak::<2>(first, &tweaks);
    tweaks[3] = unit_tweak::<3>(first, &tweaks);
    tweaks[4] = unit_tweak::<4>(first, &tweaks);
    tweaks[5] = unit_tweak::<5>(first, &tweaks);
    tweaks[6] = unit_tweak::<6>(first, &tweaks);
    tweaks[7] = unit_tweak::<7>(first, &tweaks);
    tweaks
}

/// Register `I` of those tweaks: blocks 4 × `I` to 4 × `I` + 3. From 2 on it comes from the first
/// two `made`: by whole bytes is a shuffle, only the first eight powers need bit shifts.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes,vpclmulqdq")]
fn unit_tweak<const I: usize>(first: &[u64; 2], made: &[__m512i; 8]) -> __m512i {
    match I {
        0 => times_x_to_each(read(first), _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0)),
        1 => times_x_to_each(read(first), _mm512_set_epi64(7, 7, 6, 6, 5, 5, 4, 4)),
        2 | 3 => times_x_to_the::<1, 15>(made[I - 2]),
        4 | 5 => times_x_to_the::<2, 14>(made[I - 4]),
        _ => times_x_to_the::<3, 13>(made[I - 6]),
    }
}

/// One tweak in all four lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn read(tweak: &[u64; 2]) -> __m512i {
    // SAFETY: 16 readable bytes; no alignment is needed.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(tweak.as_ptr().cast()) })
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
