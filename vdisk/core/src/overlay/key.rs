//! The key of a durable overlay, as it lies in the superblock: wrapped (RFC 3394) under a key that HKDF
//! makes from the base's own and the overlay's UUID. Whoever may open the base may open its overlay;
//! nobody else can, and without its superblock nobody can at all.

use aes_kw::{KeyInit, KwAes256};
use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;
use vdisk_xts::{KEY_LEN, XtsKey};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a wrapped key: the key and a check of 8 bytes.
pub(super) const WRAPPED_LEN: usize = KEY_LEN + 8;

/// Keeps this derivation apart from any other that starts from the same key.
const PURPOSE: &[u8] = b"medley overlay key v1";

fn wrapping(base: &XtsKey, overlay: Uuid) -> Result<KwAes256> {
    let mut kek = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(overlay.as_bytes()), base.as_bytes())
        .expand(PURPOSE, &mut *kek)
        .map_err(|_| Error::new(ErrorKind::Key, "cannot derive the overlay's wrapping key"))?;
    KwAes256::new_from_slice(&*kek)
        .map_err(|_| Error::new(ErrorKind::Key, "cannot use the overlay's wrapping key"))
}

pub(super) fn wrap(key: &XtsKey, base: &XtsKey, overlay: Uuid) -> Result<[u8; WRAPPED_LEN]> {
    let mut wrapped = [0; WRAPPED_LEN];
    wrapping(base, overlay)?
        .wrap_key(key.as_bytes(), &mut wrapped)
        .map_err(|_| Error::new(ErrorKind::Key, "cannot wrap the overlay's key"))?;
    Ok(wrapped)
}

pub(super) fn unwrap(wrapped: &[u8; WRAPPED_LEN], base: &XtsKey, overlay: Uuid) -> Result<XtsKey> {
    let refused = || {
        Error::new(ErrorKind::Key, "the overlay was made under another key")
            .remedy("open it above the disk and header it was made with")
    };
    let mut key = Zeroizing::new([0; KEY_LEN]);
    wrapping(base, overlay)?
        .unwrap_key(wrapped, &mut *key)
        .map_err(|_| refused())?;
    XtsKey::try_from(&key[..]).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> XtsKey {
        XtsKey::new(std::array::from_fn(|i| i as u8 ^ seed)).unwrap()
    }

    #[test]
    fn a_wrapped_key_opens_with_the_same_base_and_overlay_alone() {
        let id = Uuid::from_u128(7);
        let wrapped = wrap(&key(1), &key(2), id).unwrap();
        assert_eq!(unwrap(&wrapped, &key(2), id).unwrap(), key(1));
        for (base, id) in [(key(3), id), (key(2), Uuid::from_u128(8))] {
            assert_eq!(
                unwrap(&wrapped, &base, id).unwrap_err().kind(),
                ErrorKind::Key
            );
        }
        for at in 0..WRAPPED_LEN {
            let mut wrong = wrapped;
            wrong[at] ^= 1;
            assert!(unwrap(&wrong, &key(2), id).is_err());
        }
        assert!(
            !wrapped
                .windows(8)
                .any(|w| key(1).as_bytes().windows(8).any(|k| k == w))
        );
    }
}
