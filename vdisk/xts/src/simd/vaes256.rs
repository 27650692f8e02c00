//! AVX2 with VAES, for processors that widened AES but have no AVX-512: eight 32-byte registers
//! hold half a sector.
//!
//! Such processors run AES on two ports and everything else on three, so whatever is done beside
//! AES counts: the tweaks of the next half are made with one multiplication per register, and
//! wait in memory, where the xors take them from. Sixteen registers hold no more than the eight
//! states, a round key and one tweak in the making.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ptr;

use super::batches::{BATCH, Lanes, Tweaks};
use super::expand_x86::load;
use super::round_keys::{RoundKeys, Schedule, read_again};

/// Registers in flight, each of two blocks.
const WIDTH: usize = 8;
/// Bytes in flight.
const RUN: usize = 32 * WIDTH;

pub(super) struct Vaes256;

impl Lanes for Vaes256 {
    fn available() -> bool {
        is_x86_feature_detected!("avx2")
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
                0..=8 => tweaks::<SECTORS, 4>(&keys.tweak, first, out),
                _ => tweaks::<SECTORS, { BATCH / 2 }>(&keys.tweak, first, out),
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

/// Enciphers `2 * GROUPS` sector numbers, two per register.
#[inline(never)]
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
fn tweaks<const SECTORS: usize, const GROUPS: usize>(
    keys: &Schedule,
    first: u64,
    out: &mut Tweaks,
) {
    let whiten = broadcast(&keys[0]);
    let step = SECTORS as i64;
    // Only the low half of each lane counts: that is where the carry would go.
    let first = first.cast_signed();
    let mut numbers = _mm256_set_epi64x(0, first.wrapping_add(step), 0, first);
    let mut state = [_mm256_setzero_si256(); GROUPS];
    for x in &mut state {
        *x = _mm256_xor_si256(numbers, whiten);
        numbers = _mm256_add_epi64(numbers, _mm256_set_epi64x(0, 2 * step, 0, 2 * step));
    }
    for key in &keys[1..14] {
        let key = broadcast(key);
        for x in &mut state {
            *x = _mm256_aesenc_epi128(*x, key);
        }
    }
    let key = broadcast(&keys[14]);
    for (x, out) in state.iter().zip(out.0.as_chunks_mut::<2>().0) {
        let done = _mm256_aesenclast_epi128(*x, key);
        // SAFETY: `out` is two tweaks of 16 bytes; the instruction needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), done) };
    }
}

/// # Safety
/// As [`Lanes::units`].
#[inline(never)]
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
unsafe fn units<const ENCRYPT: bool, const SECTORS: usize>(
    schedule: &Schedule,
    tweaks: &[[u64; 2]],
    mut src: *const u8,
    mut dst: *mut u8,
) {
    let mut units = tweaks.iter();
    let Some(first) = units.next() else { return };
    let mut tweaks = first_tweaks(first);
    loop {
        // SAFETY: the caller gives SECTORS × 512 bytes per tweak at both pointers, and this goes
        // through as many runs.
        unsafe {
            for _ in 1..SECTORS * 512 / RUN {
                run::<ENCRYPT, false>(schedule, &mut tweaks, first, src, dst);
                src = src.add(RUN);
                dst = dst.add(RUN);
            }
            let next = units.next();
            run::<ENCRYPT, true>(schedule, &mut tweaks, next.unwrap_or(first), src, dst);
            if next.is_none() {
                break;
            }
            src = src.add(RUN);
            dst = dst.add(RUN);
        }
    }
    for tweak in &mut tweaks {
        // SAFETY: an ordinary store to a local, only that the compiler may not leave it out.
        unsafe { ptr::write_volatile(tweak, _mm256_setzero_si256()) };
    }
}

/// Enciphers half a sector and meanwhile replaces its `tweaks` by the next: those that begin the
/// unit of tweak `unit` if `NEW_UNIT`, else those that continue the same unit.
///
/// # Safety
/// `RUN` bytes are readable at `src` and writable at `dst`.
#[inline]
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
unsafe fn run<const ENCRYPT: bool, const NEW_UNIT: bool>(
    schedule: &Schedule,
    tweaks: &mut [__m256i; WIDTH],
    unit: &[u64; 2],
    src: *const u8,
    dst: *mut u8,
) {
    let schedule = read_again(schedule);
    let key = broadcast(&schedule[0]);
    let mut state = [_mm256_setzero_si256(); WIDTH];
    for i in 0..WIDTH {
        // SAFETY: i < WIDTH, so this stays within the RUN bytes; no alignment is needed.
        let data = unsafe { _mm256_loadu_si256(src.add(32 * i).cast()) };
        state[i] = _mm256_xor_si256(_mm256_xor_si256(data, tweaks[i]), key);
    }
    let last = broadcast(&schedule[14]);
    // The last round ends in a xor: let it take the tweak along.
    let mut ends = *tweaks;
    macro_rules! round {
        ($n:literal) => {
            let key = broadcast(&schedule[$n]);
            for x in &mut state {
                *x = if ENCRYPT {
                    _mm256_aesenc_epi128(*x, key)
                } else {
                    _mm256_aesdec_epi128(*x, key)
                };
            }
        };
        // While the AES unit is busy, other ports make one register of the next tweaks.
        ($n:literal, $i:literal) => {
            round!($n);
            ends[$i] = _mm256_xor_si256(ends[$i], last);
            tweaks[$i] = if NEW_UNIT {
                unit_tweak::<$i>(unit, tweaks)
            } else {
                times_x_to_the::<2, 14>(tweaks[$i])
            };
            in_step(&mut state, &mut tweaks[$i]);
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
    in_step(&mut state, &mut ends[0]);
    round!(10);
    in_step(&mut state, &mut ends[0]);
    round!(11);
    in_step(&mut state, &mut ends[0]);
    round!(12);
    in_step(&mut state, &mut ends[0]);
    round!(13);
    for i in 0..WIDTH {
        let done = if ENCRYPT {
            _mm256_aesenclast_epi128(state[i], ends[i])
        } else {
            _mm256_aesdeclast_epi128(state[i], ends[i])
        };
        // SAFETY: as for the load; all loads of the run came before.
        unsafe { _mm256_storeu_si256(dst.add(32 * i).cast(), done) };
    }
}

/// Makes the compiler finish a round of all eight registers, and what was made beside it, before
/// the next round of any.
///
/// Left alone it saves registers by running the eight one after the other, each instruction
/// waiting for the one before.
#[inline]
#[target_feature(enable = "avx2")]
fn in_step(state: &mut [__m256i; WIDTH], beside: &mut __m256i) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: there is no instruction in it, only the claim that all nine are changed together.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} {8} */",
            inout(ymm_reg) * a,
            inout(ymm_reg) * b,
            inout(ymm_reg) * c,
            inout(ymm_reg) * d,
            inout(ymm_reg) * e,
            inout(ymm_reg) * f,
            inout(ymm_reg) * g,
            inout(ymm_reg) * h,
            inout(ymm_reg) * beside,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// The tweaks of a unit's first 16 blocks: `first` times x⁰ to x¹⁵.
#[inline]
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
fn first_tweaks(first: &[u64; 2]) -> [__m256i; WIDTH] {
    let mut tweaks = [_mm256_setzero_si256(); WIDTH];
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

/// Register `I` of those tweaks: blocks 2 × `I` and 2 × `I` + 1. From 4 on it comes from the first
/// four `made`: by a whole byte is a shuffle, only the first eight powers need bit shifts.
#[inline]
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
fn unit_tweak<const I: usize>(first: &[u64; 2], made: &[__m256i; WIDTH]) -> __m256i {
    if I >= 4 {
        return times_x_to_the::<1, 15>(made[I - 4]);
    }
    let (even, odd) = (2 * I as i64, 2 * I as i64 + 1);
    times_x_to_each(read(first), _mm256_set_epi64x(odd, odd, even, even))
}

/// One tweak in both lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn read(tweak: &[u64; 2]) -> __m256i {
    // SAFETY: 16 readable bytes; no alignment is needed.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(tweak.as_ptr().cast()) })
}

/// Multiplies each 128-bit lane by xⁿ in GF(2¹²⁸), n < 64 given in both halves of the lane.
#[inline]
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
fn times_x_to_each(value: __m256i, n: __m256i) -> __m256i {
    let kept = _mm256_sllv_epi64(value, n);
    // A shift by 64 (n = 0) gives zero, as it should.
    let carried = _mm256_srlv_epi64(value, _mm256_sub_epi64(_mm256_set1_epi64x(64), n));
    let into_high = _mm256_bslli_epi128::<8>(carried);
    let wrapped = _mm256_clmulepi64_epi128::<0x01>(carried, polynomial());
    _mm256_xor_si256(_mm256_xor_si256(kept, into_high), wrapped)
}

/// Multiplies each 128-bit lane by x to the power of 8 × `BYTES`; `REST` is 16 − `BYTES`.
#[inline]
#[target_feature(enable = "avx2,vaes,vpclmulqdq")]
fn times_x_to_the<const BYTES: i32, const REST: i32>(value: __m256i) -> __m256i {
    let kept = _mm256_bslli_epi128::<BYTES>(value);
    let overflow = _mm256_bsrli_epi128::<REST>(value);
    _mm256_xor_si256(
        kept,
        _mm256_clmulepi64_epi128::<0x00>(overflow, polynomial()),
    )
}

/// x⁷ + x² + x + 1 in the low half of each lane: what x¹²⁸ is in this field.
#[inline]
#[target_feature(enable = "avx2")]
fn polynomial() -> __m256i {
    _mm256_set_epi64x(0, 0x87, 0, 0x87)
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(key: &[u8; 16]) -> __m256i {
    _mm256_broadcastsi128_si256(load(key))
}
