//! What the kernels here share: batches of sector numbers in, checked slices turned into
//! pointers once, temporary tweaks wiped.

use std::marker::PhantomData;

use zeroize::Zeroize;

use super::round_keys::RoundKeys;
use crate::locked::Locked;
use crate::unit::SECTOR;
use crate::xts::SectorCipher;
use crate::{DataUnit, XtsKey};

/// Units whose tweaks are enciphered together.
pub(super) const BATCH: usize = 16;

/// Enciphered sector numbers: the tweak of the first block of each unit of a batch.
#[repr(C, align(64))]
pub(super) struct Tweaks(pub(super) [[u64; 2]; BATCH]);

/// The two inner loops of a kernel, over one batch.
pub(super) trait Lanes: Send + Sync + 'static {
    /// Whether processor and operating system support every instruction below.
    fn available() -> bool;

    /// Enciphers the sector numbers `first`, `first + SECTORS`, … into at least `used` tweaks.
    ///
    /// # Safety
    /// [`Lanes::available`] is true.
    unsafe fn tweaks<const SECTORS: usize>(
        keys: &RoundKeys,
        first: u64,
        used: usize,
        out: &mut Tweaks,
    );

    /// Enciphers (or deciphers) as many units of `SECTORS` × 512 bytes as there are `tweaks`.
    ///
    /// # Safety
    /// [`Lanes::available`] is true. For `tweaks.len() * SECTORS * 512` bytes, `src` is valid for
    /// reads and `dst` for writes, and the two are either equal or do not overlap.
    unsafe fn units<const ENCRYPT: bool, const SECTORS: usize>(
        keys: &RoundKeys,
        tweaks: &[[u64; 2]],
        src: *const u8,
        dst: *mut u8,
    );
}

/// A kernel with its keys. That a value exists proves that the kernel is available.
pub(super) struct Batched<L> {
    keys: Locked<RoundKeys>,
    lanes: PhantomData<L>,
}

impl<L: Lanes> Batched<L> {
    /// `None` if this processor cannot run the kernel.
    pub(super) fn new(key: &XtsKey) -> Option<Self> {
        let keys = RoundKeys::new(key)?;
        L::available().then_some(Self {
            keys,
            lanes: PhantomData,
        })
    }

    /// # Safety
    /// `src` is valid for reads and `dst` for writes of `len` bytes, `len` is a whole number of
    /// units, and the two are either equal or do not overlap.
    unsafe fn run<const ENCRYPT: bool, const SECTORS: usize>(
        &self,
        first_sector: u64,
        mut src: *const u8,
        mut dst: *mut u8,
        len: usize,
    ) {
        let mut sector = first_sector;
        let mut left = len / (SECTORS * SECTOR);
        let mut tweaks = Tweaks([[0; 2]; BATCH]);
        while left > 0 {
            let used = left.min(BATCH);
            // SAFETY: `self` exists, so the kernel is available; `used` units are at most the
            // units that are left, all within the caller's `len` bytes.
            unsafe {
                L::tweaks::<SECTORS>(&self.keys, sector, used, &mut tweaks);
                L::units::<ENCRYPT, SECTORS>(&self.keys, &tweaks.0[..used], src, dst);
                src = src.add(used * SECTORS * SECTOR);
                dst = dst.add(used * SECTORS * SECTOR);
            }
            sector = sector.wrapping_add((used * SECTORS) as u64);
            left -= used;
        }
        tweaks.0.zeroize();
    }

    /// # Safety
    /// As [`Batched::run`].
    unsafe fn run_unit<const ENCRYPT: bool>(
        &self,
        unit: DataUnit,
        first_sector: u64,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) {
        // SAFETY: the caller keeps the same contract.
        unsafe {
            match unit {
                DataUnit::B512 => self.run::<ENCRYPT, 1>(first_sector, src, dst, len),
                DataUnit::B4096 => self.run::<ENCRYPT, 8>(first_sector, src, dst, len),
            }
        }
    }
}

impl<L: Lanes> SectorCipher for Batched<L> {
    fn encrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]) {
        let at = buf.as_mut_ptr();
        // SAFETY: one exclusive slice is both source and destination; `Xts` checked its length.
        unsafe { self.run_unit::<true>(unit, first_sector, at, at, buf.len()) }
    }

    fn decrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]) {
        let at = buf.as_mut_ptr();
        // SAFETY: as in `encrypt`.
        unsafe { self.run_unit::<false>(unit, first_sector, at, at, buf.len()) }
    }

    fn encrypt_into(&self, unit: DataUnit, first_sector: u64, src: &[u8], dst: &mut [u8]) {
        let len = src.len().min(dst.len());
        // SAFETY: a shared and an exclusive slice never overlap; `len` is within both.
        unsafe {
            self.run_unit::<true>(unit, first_sector, src.as_ptr(), dst.as_mut_ptr(), len);
        }
    }
}
