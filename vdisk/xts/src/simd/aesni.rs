//! AES-NI: eight blocks in flight hide the latency of the AES unit; needs nothing beyond SSE2
//! besides, so it runs on every x86-64 processor that has AES at all.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ptr;

use super::batches::{Lanes, Tweaks};
use super::expand_x86::load;
use super::round_keys::{RoundKeys, Schedule, read_again};

/// Blocks in flight. Eight states, two round keys and a few tweaks fill the 16 registers.
const WIDTH: usize = 8;
/// Bytes in flight.
const RUN: usize = 16 * WIDTH;

pub(super) struct AesNi;

impl Lanes for AesNi {
    fn available() -> bool {
        is_x86_feature_detected!("aes") && is_x86_feature_detected!("sse2")
    }

    unsafe fn tweaks<const SECTORS: usize>(
        keys: &RoundKeys,
        first: u64,
        used: usize,
        out: &mut Tweaks,
    ) {
        // SAFETY: the caller saw `available`, which lists the features.
        unsafe { tweaks::<SECTORS>(&keys.tweak, first, used, out) }
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
fn tweaks<const SECTORS: usize>(keys: &Schedule, first: u64, used: usize, out: &mut Tweaks) {
    let mut number = first;
    let (groups, _) = out.0.as_chunks_mut::<WIDTH>();
    for group in &mut groups[..used.div_ceil(WIDTH)] {
        let keys = read_again(keys);
        let key = load(&keys[0]);
        let mut state = [_mm_setzero_si128(); WIDTH];
        for x in &mut state {
            *x = _mm_xor_si128(_mm_set_epi64x(0, number.cast_signed()), key);
            number = number.wrapping_add(SECTORS as u64);
        }
        for key in &keys[1..14] {
            let key = load(key);
            for x in &mut state {
                *x = _mm_aesenc_si128(*x, key);
            }
        }
        let key = load(&keys[14]);
        for (x, out) in state.iter().zip(group) {
            let done = _mm_aesenclast_si128(*x, key);
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
    schedule: &Schedule,
    tweaks: &[[u64; 2]],
    mut src: *const u8,
    mut dst: *mut u8,
) {
    let mut units = tweaks.iter();
    let Some(first) = units.next() else { return };
    let mut tweaks = [read(first); WIDTH];
    for i in 1..WIDTH {
        tweaks[i] = double(tweaks[i - 1]);
    }
    loop {
        // SAFETY: the caller gives SECTORS × 512 bytes per tweak at both pointers, and this goes
        // through as many runs.
        unsafe {
            for _ in 1..SECTORS * 512 / RUN {
                let next = double(tweaks[WIDTH - 1]);
                run::<ENCRYPT>(schedule, &mut tweaks, next, src, dst);
                src = src.add(RUN);
                dst = dst.add(RUN);
            }
            let next = units.next();
            run::<ENCRYPT>(schedule, &mut tweaks, read(next.unwrap_or(first)), src, dst);
            if next.is_none() {
                break;
            }
            src = src.add(RUN);
            dst = dst.add(RUN);
        }
    }
    for tweak in &mut tweaks {
        // SAFETY: an ordinary store to a local, only that the compiler may not leave it out.
        unsafe { ptr::write_volatile(tweak, _mm_setzero_si128()) };
    }
}

/// Enciphers `WIDTH` blocks and meanwhile replaces their `tweaks` by those that begin with `next`.
///
/// # Safety
/// `RUN` bytes are readable at `src` and writable at `dst`.
#[inline]
#[target_feature(enable = "aes,sse2")]
unsafe fn run<const ENCRYPT: bool>(
    schedule: &Schedule,
    tweaks: &mut [__m128i; WIDTH],
    mut next: __m128i,
    src: *const u8,
    dst: *mut u8,
) {
    let schedule = read_again(schedule);
    let key = load(&schedule[0]);
    let mut state = [_mm_setzero_si128(); WIDTH];
    for i in 0..WIDTH {
        // SAFETY: i < WIDTH, so this stays within the RUN bytes; no alignment is needed.
        let data = unsafe { _mm_loadu_si128(src.add(16 * i).cast()) };
        state[i] = _mm_xor_si128(_mm_xor_si128(data, tweaks[i]), key);
    }
    let last = load(&schedule[14]);
    // The last round ends in a xor: let it take the tweak along.
    let mut ends = *tweaks;
    macro_rules! round {
        ($n:literal) => {
            let key = load(&schedule[$n]);
            for x in &mut state {
                *x = if ENCRYPT {
                    _mm_aesenc_si128(*x, key)
                } else {
                    _mm_aesdec_si128(*x, key)
                };
            }
            in_step(&mut state, &mut next);
        };
        // While the AES unit is busy, other ports make one of the next tweaks.
        ($n:literal, $i:literal) => {
            ends[$i] = _mm_xor_si128(ends[$i], last);
            tweaks[$i] = next;
            next = double(next);
            round!($n);
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
    round!(10);
    round!(11);
    round!(12);
    round!(13);
    for i in 0..WIDTH {
        let done = if ENCRYPT {
            _mm_aesenclast_si128(state[i], ends[i])
        } else {
            _mm_aesdeclast_si128(state[i], ends[i])
        };
        // SAFETY: as for the load; all loads of the run came before.
        unsafe { _mm_storeu_si128(dst.add(16 * i).cast(), done) };
    }
}

/// Makes the compiler finish a round of all eight blocks, and the tweak made beside it, before
/// the next round of any.
///
/// Left alone it saves registers by running the eight one after the other, each instruction
/// waiting for the one before.
#[inline]
#[target_feature(enable = "sse2")]
fn in_step(state: &mut [__m128i; WIDTH], beside: &mut __m128i) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: there is no instruction in it, only the claim that all nine are changed together.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} {8} */",
            inout(xmm_reg) * a,
            inout(xmm_reg) * b,
            inout(xmm_reg) * c,
            inout(xmm_reg) * d,
            inout(xmm_reg) * e,
            inout(xmm_reg) * f,
            inout(xmm_reg) * g,
            inout(xmm_reg) * h,
            inout(xmm_reg) * beside,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

#[inline]
#[target_feature(enable = "sse2")]
fn read(tweak: &[u64; 2]) -> __m128i {
    // SAFETY: 16 readable bytes; no alignment is needed.
    unsafe { _mm_loadu_si128(tweak.as_ptr().cast()) }
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
