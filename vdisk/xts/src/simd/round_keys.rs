//! AES-256 key schedules made by the processor's own key instructions: no table look-up, so no
//! timing that depends on the key.

use std::arch::asm;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::XtsKey;
use crate::locked::Locked;

#[cfg(target_arch = "aarch64")]
use super::expand_armv8 as instructions;
#[cfg(target_arch = "x86_64")]
use super::expand_x86 as instructions;

/// The 15 round keys of AES-256 in the order in which they are used.
pub(super) type Schedule = [[u8; 16]; 15];

/// The three schedules of one XTS key, made in the place where they stay.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
pub(super) struct RoundKeys {
    pub(super) encrypt: Schedule,
    /// For the equivalent inverse cipher.
    pub(super) decrypt: Schedule,
    pub(super) tweak: Schedule,
}

impl RoundKeys {
    /// Expands both halves of `key` in their final place; `None` if the processor has no AES.
    pub(super) fn new(key: &XtsKey) -> Option<Locked<Self>> {
        if !instructions::available() {
            return None;
        }
        let none = [[0; 16]; 15];
        let mut keys = Locked::new(Self {
            encrypt: none,
            decrypt: none,
            tweak: none,
        });
        // SAFETY: the features of both functions were detected above.
        unsafe {
            instructions::expand(key.data(), &mut keys.encrypt);
            instructions::expand(key.tweak(), &mut keys.tweak);
            let Self {
                encrypt, decrypt, ..
            } = &mut *keys;
            instructions::invert(encrypt, decrypt);
        }
        Some(keys)
    }
}

/// The same keys, but the compiler must read them anew from here on.
///
/// Otherwise it would read all of them before a loop over data, run out of registers and keep
/// copies on the stack, where nobody wipes them.
#[inline]
pub(super) fn read_again(keys: &Schedule) -> &Schedule {
    let mut at: *const Schedule = keys;
    // SAFETY: there is no instruction in it; `at` is still the address of `keys`.
    unsafe {
        asm!("/* {0} */", inout(reg) at, options(readonly, nostack, preserves_flags));
        &*at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix A.3: the expansion of a 256-bit key.
    #[test]
    fn expansion_matches_fips_197() {
        let published = crate::vectors::from_hex::<32>(
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        );
        let mut both = [0; 64];
        both[..32].copy_from_slice(&published);
        let Some(keys) = RoundKeys::new(&XtsKey::new(both).unwrap()) else {
            return;
        };
        assert_eq!(keys.encrypt.as_flattened()[..32], published);
        // w8 and w56..w59.
        assert_eq!(keys.encrypt[2][..4], [0x9b, 0xa3, 0x54, 0x11]);
        assert_eq!(
            u128::from_be_bytes(keys.encrypt[14]),
            0xfe4890d1_e6188d0b_046df344_706c631e,
        );
    }
}
