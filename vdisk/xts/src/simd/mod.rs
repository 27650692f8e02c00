//! Kernels in the processor's own instructions, and the only `unsafe` code of this crate.
//!
//! Without such a kernel for the target, everything here answers "not available".

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
