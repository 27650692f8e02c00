//! The 64 secret bytes of a disk: two independent AES-256 keys, one for data and one for tweaks.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{Error, Kernel};

/// Length of an AES-256-XTS key in bytes.
pub const KEY_LEN: usize = 64;

/// An AES-256-XTS key whose two halves are known to differ.
///
/// That one exists also says that this machine enciphers right: the first key of a process waits
/// for [`Kernel::detect`], which tests itself.
///
/// The bytes lie on the heap, so that moving the value leaves no copy behind, and are wiped on
/// drop. Comparison takes the same time whatever the bytes are; `Debug` shows none of them.
pub struct XtsKey(Box<Zeroizing<[u8; KEY_LEN]>>);

impl XtsKey {
    /// Takes the data key (first 32 bytes) and the tweak key (last 32), as cryptsetup orders them.
    ///
    /// The caller's own copy of `bytes` stays the caller's to wipe; [`XtsKey::try_from`] on a
    /// slice makes no other copy.
    ///
    /// # Errors
    /// [`Error::EqualHalves`] if both keys are the same; [`Error::SelfTest`] if no kernel of this
    /// machine gives the published answers.
    pub fn new(bytes: [u8; KEY_LEN]) -> Result<Self, Error> {
        let bytes = Zeroizing::new(bytes);
        Self::try_from(bytes.as_slice())
    }

    /// A key for the self-test itself, before which there is no other.
    pub(crate) fn of_self_test(bytes: &[u8; KEY_LEN]) -> Self {
        let mut own = Box::new(Zeroizing::new([0; KEY_LEN]));
        own.copy_from_slice(bytes);
        Self(own)
    }

    /// All 64 bytes, data key first.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The key that enciphers data.
    pub(crate) fn data(&self) -> &[u8; 32] {
        &self.0.as_chunks().0[0]
    }

    /// The key that enciphers sector numbers.
    pub(crate) fn tweak(&self) -> &[u8; 32] {
        &self.0.as_chunks().0[1]
    }
}

impl TryFrom<&[u8]> for XtsKey {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != KEY_LEN {
            return Err(Error::KeyLength { got: bytes.len() });
        }
        let (data, tweak) = bytes.split_at(KEY_LEN / 2);
        if data.ct_eq(tweak).into() {
            return Err(Error::EqualHalves);
        }
        Kernel::detect()?;
        let mut own = Box::new(Zeroizing::new([0; KEY_LEN]));
        own.copy_from_slice(bytes);
        Ok(Self(own))
    }
}

impl ConstantTimeEq for XtsKey {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

impl PartialEq for XtsKey {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for XtsKey {}

impl fmt::Debug for XtsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XtsKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; KEY_LEN] {
        core::array::from_fn(|i| i as u8)
    }

    #[test]
    fn halves_keep_their_order() {
        let key = XtsKey::new(sample()).unwrap();
        assert_eq!(key.as_bytes(), &sample());
        assert_eq!(key.data()[..], sample()[..32]);
        assert_eq!(key.tweak()[..], sample()[32..]);
    }

    #[test]
    fn equal_halves_and_wrong_lengths_are_refused() {
        assert_eq!(XtsKey::new([7; KEY_LEN]), Err(Error::EqualHalves));
        for got in [0, 32, 63, 65, 128] {
            let bytes: Vec<u8> = (0..got).map(|i| i as u8).collect();
            assert_eq!(
                XtsKey::try_from(bytes.as_slice()),
                Err(Error::KeyLength { got })
            );
        }
    }

    #[test]
    fn equality_looks_at_every_byte() {
        let key = XtsKey::new(sample()).unwrap();
        assert_eq!(key, XtsKey::new(sample()).unwrap());
        for i in 0..KEY_LEN {
            let mut other = sample();
            other[i] ^= 0x80;
            assert_ne!(key, XtsKey::new(other).unwrap());
        }
    }

    #[test]
    fn debug_shows_no_byte() {
        let key = XtsKey::new(sample()).unwrap();
        assert_eq!(format!("{key:?}"), "XtsKey(..)");
    }
}
