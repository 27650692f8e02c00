//! The expanded key and the three things it does to sectors; checks arguments once, for every
//! kernel.

use std::fmt;

use crate::portable::Portable;
use crate::{DataUnit, Error, Kernel, XtsKey, simd};

/// What a kernel does. The caller, [`Xts`], has checked that every length is a whole number of
/// units and that `src` and `dst` are equally long. Implementations wipe their schedules on drop.
pub(crate) trait SectorCipher: Send + Sync {
    fn encrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]);
    fn decrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]);
    fn encrypt_into(&self, unit: DataUnit, first_sector: u64, src: &[u8], dst: &mut [u8]);
}

/// AES-256-XTS with the key expanded for one [`Kernel`].
///
/// Make it once per key and share it: all methods take `&self`, allocate nothing and cannot fail.
/// The schedules lie on the heap and are wiped on drop.
///
/// # Contract of the methods
/// - A buffer is a whole number of data units (none is fine) and may lie at any address.
/// - `first_sector` is the number of the buffer's first byte in **512-byte sectors**, whatever
///   the unit. It need not be a multiple of eight for 4096-byte units.
/// - Sector numbers are counted modulo 2⁶⁴: sector 0 follows `u64::MAX`. No real disk gets there.
///
/// # Panics
/// Every method panics, before touching any byte, if a length is not a whole number of units.
/// That is a mistake of the calling code, never of a disk's content: validate requests first.
///
/// XTS hides data; it does not notice tampering.
pub struct Xts {
    kernel: Kernel,
    cipher: Box<dyn SectorCipher>,
}

impl Xts {
    /// Expands `key` for the fastest kernel that passed its self-test, [`Kernel::best`].
    pub fn new(key: &XtsKey) -> Self {
        Self::with_kernel(key, Kernel::best()).unwrap_or_else(|_| Self::portable(key))
    }

    /// Expands `key` for one kernel, for tests, measurements and doubts about hardware: a kernel
    /// other than [`Kernel::best`] has not been tested by anybody (see [`crate::self_test`]).
    ///
    /// # Errors
    /// [`Error::KernelUnavailable`] if this machine cannot run it.
    pub fn with_kernel(key: &XtsKey, kernel: Kernel) -> Result<Self, Error> {
        if kernel == Kernel::Portable {
            return Ok(Self::portable(key));
        }
        let cipher = simd::cipher(kernel, key).ok_or(Error::KernelUnavailable(kernel))?;
        Ok(Self { kernel, cipher })
    }

    fn portable(key: &XtsKey) -> Self {
        Self {
            kernel: Kernel::Portable,
            cipher: Box::new(Portable::new(key)),
        }
    }

    /// The kernel that does the work.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Enciphers whole units in place.
    pub fn encrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]) {
        assert_whole(unit, buf.len());
        self.cipher.encrypt(unit, first_sector, buf);
    }

    /// Deciphers whole units in place.
    pub fn decrypt(&self, unit: DataUnit, first_sector: u64, buf: &mut [u8]) {
        assert_whole(unit, buf.len());
        self.cipher.decrypt(unit, first_sector, buf);
    }

    /// Enciphers `src` into `dst` in one pass, for writers that must keep the caller's buffer:
    /// cheaper than a copy followed by [`Xts::encrypt`].
    ///
    /// # Panics
    /// As all methods, and if the lengths of `src` and `dst` differ.
    pub fn encrypt_into(&self, unit: DataUnit, first_sector: u64, src: &[u8], dst: &mut [u8]) {
        assert_whole(unit, src.len());
        assert_eq!(
            src.len(),
            dst.len(),
            "encrypt_into needs a destination as long as its source"
        );
        self.cipher.encrypt_into(unit, first_sector, src, dst);
    }
}

fn assert_whole(unit: DataUnit, len: usize) {
    assert!(
        len.is_multiple_of(unit.bytes()),
        "{len} bytes are not a whole number of {}-byte data units",
        unit.bytes()
    );
}

impl fmt::Debug for Xts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xts")
            .field("kernel", &self.kernel)
            .finish_non_exhaustive()
    }
}
