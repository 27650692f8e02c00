//! The implementations to choose from, and which of them this processor runs.

use std::fmt;
use std::sync::OnceLock;

use crate::{Error, self_test, simd};

/// One implementation of the cipher. All give the same bytes; they differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// AVX-512 with VAES and VPCLMULQDQ: 32 blocks in flight, one 512-byte unit at a time.
    Vaes512,
    /// AVX2 with VAES and VPCLMULQDQ: sixteen blocks in flight, for processors with wide AES but
    /// without AVX-512 (AMD since Zen 3, Intel's since Alder Lake).
    Vaes256,
    /// AES-NI: eight blocks in flight, for every x86-64 processor since about 2010.
    AesNi,
    /// The AES instructions of 64-bit ARM: eight blocks in flight.
    Armv8,
    /// The `aes` crate in batches: constant time everywhere, and with the processor's AES
    /// instructions where that crate knows them.
    Portable,
}

impl Kernel {
    /// Fastest first.
    const ALL: [Self; 5] = [
        Self::Vaes512,
        Self::Vaes256,
        Self::AesNi,
        Self::Armv8,
        Self::Portable,
    ];

    /// A short lower-case name, stable for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vaes512 => "vaes512",
            Self::Vaes256 => "vaes256",
            Self::AesNi => "aesni",
            Self::Armv8 => "armv8",
            Self::Portable => "portable",
        }
    }

    /// Whether this build on this processor (and operating system) can run the kernel.
    pub fn available(self) -> bool {
        self == Self::Portable || simd::available(self)
    }

    /// The fastest available kernel that passes its [`self_test`]. The first call in a process
    /// tests and chooses, in well under a millisecond; a kernel that fails is passed over with a
    /// warning to the log.
    ///
    /// # Errors
    /// [`Error::SelfTest`] of the last kernel if none passes: nothing on this machine enciphers
    /// right. [`crate::XtsKey`] asks here first, so that no key can be made there.
    pub fn detect() -> Result<Self, Error> {
        static CHOSEN: OnceLock<Result<Kernel, Error>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| choose(Self::all_available(), self_test))
            .clone()
    }

    /// What [`Kernel::detect`] chose; [`Kernel::Portable`], with which nothing can be enciphered,
    /// if it failed.
    pub fn best() -> Self {
        Self::detect().unwrap_or(Self::Portable)
    }

    /// Every available kernel, fastest first; [`Kernel::Portable`] is always among them.
    pub fn all_available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.available())
    }
}

/// The first of `kernels` that passes `test`.
fn choose(
    kernels: impl IntoIterator<Item = Kernel>,
    test: impl Fn(Kernel) -> Result<(), Error>,
) -> Result<Kernel, Error> {
    let mut verdict = Err(Error::KernelUnavailable(Kernel::Portable));
    for kernel in kernels {
        match test(kernel) {
            Ok(()) => return Ok(kernel),
            Err(error) => {
                tracing::warn!(%error, "the AES-XTS kernel {kernel} is not used");
                verdict = Err(error);
            }
        }
    }
    verdict
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_there_and_best_is_first() {
        let all: Vec<_> = Kernel::all_available().collect();
        assert_eq!(all.last(), Some(&Kernel::Portable));
        assert_eq!(Ok(all[0]), Kernel::detect());
        assert_eq!(all[0], Kernel::best());
    }

    #[test]
    fn a_kernel_that_fails_is_passed_over() {
        let broken = |broken: &'static [Kernel]| {
            choose(Kernel::ALL, move |kernel| {
                let step = "a test";
                let failed = Error::SelfTest { kernel, step };
                if broken.contains(&kernel) {
                    Err(failed)
                } else {
                    Ok(())
                }
            })
        };
        assert_eq!(broken(&[]), Ok(Kernel::Vaes512));
        assert_eq!(broken(&[Kernel::Vaes512]), Ok(Kernel::Vaes256));
        assert_eq!(broken(&Kernel::ALL[..4]), Ok(Kernel::Portable));
        let none = Err(Error::SelfTest {
            kernel: Kernel::Portable,
            step: "a test",
        });
        assert_eq!(broken(&Kernel::ALL), none);
    }
}
