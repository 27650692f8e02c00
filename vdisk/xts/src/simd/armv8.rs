//! The AES instructions of ARMv8: eight blocks in flight, each round two instructions that many
//! cores run as one if they stand together.
//!
//! `cargo xtask test` runs what the host's processor has: elsewhere than on ARM these instructions are only
//! tested by whoever runs this crate's tests under `qemu-aarch64`.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ptr;

use super::batches::{Lanes, Tweaks};
use super::expand_armv8::{available, load};
use super::round_keys::{RoundKeys, Schedule, read_again};

/// Blocks in flight. Eight states, their tweaks and the next ones leave a quarter of the 32
/// registers to round keys.
const WIDTH: usize = 8;
/// Bytes in flight.
const RUN: usize = 16 * WIDTH;

pub(super) struct Armv8;

impl Lanes for Armv8 {
    fn available() -> bool {
        available()
    }

    unsafe fn tweaks<const SECTORS: usize>(
        keys: &RoundKeys,
        first: u64,
        used: usize,
        out: &mut Tweaks,
    ) {
        // SAFETY: the caller saw `available`, which looks for the features.
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
#[target_feature(enable = "neon,aes")]
fn tweaks<const SECTORS: usize>(keys: &Schedule, first: u64, used: usize, out: &mut Tweaks) {
    let mut number = first;
    let (groups, _) = out.0.as_chunks_mut::<WIDTH>();
    for group in &mut groups[..used.div_ceil(WIDTH)] {
        let keys = read_again(keys);
        let mut state = [vdupq_n_u8(0); WIDTH];
        for x in &mut state {
            *x = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(number), vcreate_u64(0)));
            number = number.wrapping_add(SECTORS as u64);
        }
        for key in &keys[..13] {
            let key = load(key);
            for x in &mut state {
                *x = vaesmcq_u8(vaeseq_u8(*x, key));
            }
        }
        let (last, end) = (load(&keys[13]), load(&keys[14]));
        for (x, out) in state.iter().zip(group) {
            let done = veorq_u8(vaeseq_u8(*x, last), end);
            // SAFETY: `out` is 16 writable bytes; the instruction needs no alignment.
            unsafe { vst1q_u8(out.as_mut_ptr().cast(), done) };
        }
    }
}

/// # Safety
/// As [`Lanes::units`].
#[inline(never)]
#[target_feature(enable = "neon,aes")]
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
        unsafe { ptr::write_volatile(tweak, vdupq_n_u8(0)) };
    }
}

/// Enciphers `WIDTH` blocks and meanwhile replaces their `tweaks` by those that begin with `next`.
///
/// # Safety
/// `RUN` bytes are readable at `src` and writable at `dst`.
#[inline]
#[target_feature(enable = "neon,aes")]
unsafe fn run<const ENCRYPT: bool>(
    schedule: &Schedule,
    tweaks: &mut [uint8x16_t; WIDTH],
    mut next: uint8x16_t,
    src: *const u8,
    dst: *mut u8,
) {
    let schedule = read_again(schedule);
    let mut state = [vdupq_n_u8(0); WIDTH];
    for i in 0..WIDTH {
        // SAFETY: i < WIDTH, so this stays within the RUN bytes; no alignment is needed.
        let data = unsafe { vld1q_u8(src.add(16 * i)) };
        state[i] = veorq_u8(data, tweaks[i]);
    }
    let end = load(&schedule[14]);
    let mut ends = *tweaks;
    macro_rules! round {
        ($n:literal) => {
            let key = load(&schedule[$n]);
            for x in &mut state {
                *x = if ENCRYPT {
                    vaesmcq_u8(vaeseq_u8(*x, key))
                } else {
                    vaesimcq_u8(vaesdq_u8(*x, key))
                };
            }
            in_step(&mut state, &mut next);
        };
        // While the AES unit is busy, other pipes make one of the next tweaks.
        ($n:literal, $i:literal) => {
            ends[$i] = veorq_u8(ends[$i], end);
            tweaks[$i] = next;
            next = double(next);
            round!($n);
        };
    }
    round!(0, 0);
    round!(1, 1);
    round!(2, 2);
    round!(3, 3);
    round!(4, 4);
    round!(5, 5);
    round!(6, 6);
    round!(7, 7);
    round!(8);
    round!(9);
    round!(10);
    round!(11);
    round!(12);
    let last = load(&schedule[13]);
    for i in 0..WIDTH {
        let done = if ENCRYPT {
            vaeseq_u8(state[i], last)
        } else {
            vaesdq_u8(state[i], last)
        };
        // SAFETY: as for the load; all loads of the run came before.
        unsafe { vst1q_u8(dst.add(16 * i), veorq_u8(done, ends[i])) };
    }
}

/// Makes the compiler finish a round of all eight blocks, and the tweak made beside it, before
/// the next round of any: in order cores wait for what they are given in a row.
#[inline]
#[target_feature(enable = "neon")]
fn in_step(state: &mut [uint8x16_t; WIDTH], beside: &mut uint8x16_t) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: there is no instruction in it, only the claim that all nine are changed together.
    unsafe {
        asm!(
            "/* {0:v} {1:v} {2:v} {3:v} {4:v} {5:v} {6:v} {7:v} {8:v} */",
            inout(vreg) * a,
            inout(vreg) * b,
            inout(vreg) * c,
            inout(vreg) * d,
            inout(vreg) * e,
            inout(vreg) * f,
            inout(vreg) * g,
            inout(vreg) * h,
            inout(vreg) * beside,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn read(tweak: &[u64; 2]) -> uint8x16_t {
    // SAFETY: 16 readable bytes; no alignment is needed.
    unsafe { vld1q_u8(tweak.as_ptr().cast()) }
}

/// Multiplies by x in GF(2¹²⁸), without a branch on the secret.
#[inline]
#[target_feature(enable = "neon")]
fn double(tweak: uint8x16_t) -> uint8x16_t {
    let halves = vreinterpretq_u64_u8(tweak);
    // The top bit of each half, spread over the half that receives it.
    let carries = vshrq_n_s64::<63>(vreinterpretq_s64_u64(halves));
    let carries = vreinterpretq_u8_s64(vextq_s64::<1>(carries, carries));
    let into = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(0x87), vcreate_u64(1)));
    let doubled = vreinterpretq_u8_u64(vaddq_u64(halves, halves));
    veorq_u8(doubled, vandq_u8(carries, into))
}
