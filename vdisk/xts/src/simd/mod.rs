//! Kernels in the processor's own instructions, and the only `unsafe` code of this crate.
//!
//! A kernel is an implementation of `batches::Lanes`; how keys are expanded is a matter of the
//! architecture. Where none is known, none is available.

#[cfg(target_arch = "x86_64")]
mod aesni;
#[cfg(target_arch = "aarch64")]
mod armv8;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod batches;
#[cfg(target_arch = "aarch64")]
mod expand_armv8;
#[cfg(target_arch = "x86_64")]
mod expand_x86;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod round_keys;
#[cfg(target_arch = "x86_64")]
mod vaes256;
#[cfg(target_arch = "x86_64")]
mod vaes512;

use crate::xts::SectorCipher;
use crate::{Kernel, XtsKey};

/// Whether `kernel` is one of these and runs on this processor and operating system.
pub(crate) fn available(kernel: Kernel) -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    use batches::Lanes;
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Vaes512 => vaes512::Vaes512::available(),
        #[cfg(target_arch = "x86_64")]
        Kernel::Vaes256 => vaes256::Vaes256::available(),
        #[cfg(target_arch = "x86_64")]
        Kernel::AesNi => aesni::AesNi::available(),
        #[cfg(target_arch = "aarch64")]
        Kernel::Armv8 => armv8::Armv8::available(),
        _ => false,
    }
}

/// `key` expanded for `kernel`, or `None` if that is not [`available`].
pub(crate) fn cipher(kernel: Kernel, key: &XtsKey) -> Option<Box<dyn SectorCipher>> {
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Vaes512 => boxed::<vaes512::Vaes512>(key),
        #[cfg(target_arch = "x86_64")]
        Kernel::Vaes256 => boxed::<vaes256::Vaes256>(key),
        #[cfg(target_arch = "x86_64")]
        Kernel::AesNi => boxed::<aesni::AesNi>(key),
        #[cfg(target_arch = "aarch64")]
        Kernel::Armv8 => boxed::<armv8::Armv8>(key),
        _ => {
            let _ = key;
            None
        }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn boxed<L: batches::Lanes>(key: &XtsKey) -> Option<Box<dyn SectorCipher>> {
    Some(Box::new(batches::Batched::<L>::new(key)?))
}
