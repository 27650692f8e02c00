//! The volume key, and where random bytes come from.

use std::fmt;

use subtle::ConstantTimeEq;
use vdisk_xts::XtsKey;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

/// Length of every volume key here, in bytes: two AES-256 keys.
pub(crate) const KEY_LEN: usize = 64;

/// Secret bytes in one place: boxed, because moving them about would leave copies on the stack.
pub(crate) type SecretBox = Box<Zeroizing<[u8; KEY_LEN]>>;

/// A box of zeros to be filled with a secret.
pub(crate) fn secret_box() -> SecretBox {
    Box::new(Zeroizing::new([0; KEY_LEN]))
}

/// The key that encrypts a disk: 64 bytes for AES-256-XTS. Erased when dropped, never printed, compared in
/// constant time.
#[derive(Clone)]
pub struct VolumeKey(SecretBox);

impl VolumeKey {
    /// A new key from the system's random source.
    ///
    /// # Errors
    /// [`ErrorKind::System`] when the system gives no random bytes.
    pub fn random() -> Result<Self> {
        let mut key = secret_box();
        // XTS with equal halves is no XTS at all; two random halves never are, and this costs nothing.
        while halves_equal(&key) {
            fill_random(&mut key[..])?;
        }
        Ok(Self(key))
    }

    /// A key from elsewhere, for example from another header.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when it is not 64 bytes long, or its halves are equal.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != KEY_LEN {
            let what = format!(
                "{} bytes long, but AES-256-XTS takes {KEY_LEN}",
                bytes.len()
            );
            return Err(Error::input("volume key", what));
        }
        let mut key = secret_box();
        key.copy_from_slice(bytes);
        if halves_equal(&key) {
            return Err(Error::input(
                "volume key",
                "its two halves are equal, which XTS forbids",
            ));
        }
        Ok(Self(key))
    }

    /// The bytes. Keep copies in zeroizing buffers only.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The key as the cipher takes it.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the cipher refuses the key.
    pub fn to_xts(&self) -> Result<XtsKey> {
        XtsKey::new(**self.0).map_err(|e| Error::input("volume key", e.to_string()))
    }
}

impl PartialEq for VolumeKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for VolumeKey {}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VolumeKey(…)")
    }
}

fn halves_equal(key: &[u8; KEY_LEN]) -> bool {
    let (data, tweak) = key.split_at(KEY_LEN / 2);
    data.ct_eq(tweak).into()
}

/// Fills `out` from the system's random source.
pub(crate) fn fill_random(out: &mut [u8]) -> Result<()> {
    getrandom::fill(out).map_err(|e| {
        Error::new(
            ErrorKind::System,
            "random source",
            format!("no random bytes: {e}"),
        )
    })
}

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0; N];
    fill_random(&mut out)?;
    Ok(out)
}

/// Refuses an empty passphrase, which would lock nothing.
pub(crate) fn check_new_passphrase(passphrase: &[u8]) -> Result<()> {
    if passphrase.is_empty() {
        return Err(Error::input(
            "passphrase",
            "it is empty, which would lock nothing",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_never_printed_and_differ() {
        let (a, b) = (VolumeKey::random().unwrap(), VolumeKey::random().unwrap());
        assert!(a != b && a == a.clone());
        assert_eq!(format!("{a:?}"), "VolumeKey(…)");
        assert!(VolumeKey::from_bytes(a.as_bytes()).unwrap() == a);
    }

    #[test]
    fn unusable_keys_are_refused() {
        for bad in [&[0u8; 64][..], &[7; 32], &[1; 65], &[]] {
            assert_eq!(
                VolumeKey::from_bytes(bad).unwrap_err().kind(),
                ErrorKind::Input
            );
        }
    }
}
