//! What can go wrong before a sector is touched: keys and kernels. Ciphering itself cannot fail.

use crate::{KEY_LEN, Kernel};

/// Why a key or a kernel was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key does not have [`KEY_LEN`] bytes.
    #[error("an AES-256-XTS key has {KEY_LEN} bytes, not {got}; give the whole volume key")]
    KeyLength {
        /// The number of bytes given.
        got: usize,
    },
    /// Both halves of the key are the same 32 bytes, which voids the proof of XTS (and FIPS
    /// 140 forbids it). A random key never looks like this; a broken generator does.
    #[error("both halves of the XTS key are equal; make a new key from a working random source")]
    EqualHalves,
    /// This processor or build lacks the kernel.
    #[error("kernel {} is not available on this processor; use Kernel::best()", .0.name())]
    KernelUnavailable(Kernel),
    /// A kernel gave a wrong answer to a published vector: do not write with it.
    #[error("kernel {} failed its self-test at {step}; do not use this machine for encrypted disks", .kernel.name())]
    SelfTest {
        /// The kernel that failed.
        kernel: Kernel,
        /// Which known answer it missed.
        step: &'static str,
    },
    /// A speed measurement was asked for requests that are not a whole number of data units.
    #[error(
        "a request of {len} bytes is not one or more data units of {unit} bytes, at most {max}"
    )]
    RequestLength {
        /// The length asked for, in bytes.
        len: usize,
        /// The length of one data unit, in bytes.
        unit: usize,
        /// The longest request that is measured, in bytes.
        max: usize,
    },
}
