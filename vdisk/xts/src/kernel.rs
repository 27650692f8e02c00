//! The implementations to choose from, and which of them this processor runs.

use std::fmt;
use std::sync::OnceLock;

use crate::simd;

/// One implementation of the cipher. All give the same bytes; they differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// AVX-512 with VAES and VPCLMULQDQ: 32 blocks in flight, one 512-byte unit at a time.
    Vaes512,
    /// AES-NI: eight blocks in flight, for every x86-64 processor since about 2010.
    AesNi,
    /// The `aes` crate in batches: constant time everywhere, and with the processor's AES
    /// instructions where that crate knows them.
    Portable,
}

impl Kernel {
    /// Fastest first.
    const ALL: [Self; 3] = [Self::Vaes512, Self::AesNi, Self::Portable];

    /// A short lower-case name, stable for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vaes512 => "vaes512",
            Self::AesNi => "aesni",
            Self::Portable => "portable",
        }
    }

    /// Whether this build on this processor (and operating system) can run the kernel.
    pub fn available(self) -> bool {
        match self {
            Self::Vaes512 => simd::vaes512_available(),
            Self::AesNi => simd::aesni_available(),
            Self::Portable => true,
        }
    }

    /// The fastest available kernel; looked up once per process.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::all_available().next().unwrap_or(Self::Portable))
    }

    /// Every available kernel, fastest first; [`Kernel::Portable`] is always among them.
    pub fn all_available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.available())
    }
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
        assert_eq!(all[0], Kernel::best());
    }
}
