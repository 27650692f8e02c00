//! Kernels in the processor's own instructions, and the only `unsafe` code of this crate.
//!
//! A target without them answers "not available" to everything. A new kernel for x86-64 is one
//! more implementation of `x86::Lanes`; another architecture brings a module beside `x86`.

#[cfg(target_arch = "x86_64")]
mod aesni;
#[cfg(target_arch = "x86_64")]
mod round_keys;
#[cfg(target_arch = "x86_64")]
mod vaes512;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub(crate) use on_x86::*;

#[cfg(target_arch = "x86_64")]
mod on_x86 {
    use super::aesni::AesNi;
    use super::vaes512::Vaes512;
    use super::x86::{Lanes, OnX86};
    use crate::XtsKey;
    use crate::xts::SectorCipher;

    pub(crate) fn vaes512_available() -> bool {
        Vaes512::available()
    }

    pub(crate) fn vaes512(key: &XtsKey) -> Option<Box<dyn SectorCipher>> {
        Some(Box::new(OnX86::<Vaes512>::new(key)?))
    }

    pub(crate) fn aesni_available() -> bool {
        AesNi::available()
    }

    pub(crate) fn aesni(key: &XtsKey) -> Option<Box<dyn SectorCipher>> {
        Some(Box::new(OnX86::<AesNi>::new(key)?))
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::*;

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use crate::XtsKey;
    use crate::xts::SectorCipher;

    pub(crate) fn vaes512_available() -> bool {
        false
    }

    pub(crate) fn vaes512(_key: &XtsKey) -> Option<Box<dyn SectorCipher>> {
        None
    }

    pub(crate) fn aesni_available() -> bool {
        false
    }

    pub(crate) fn aesni(_key: &XtsKey) -> Option<Box<dyn SectorCipher>> {
        None
    }
}
