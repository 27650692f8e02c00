//! A key-slot area: the split key under AES-256-XTS, in 512-byte units counted from the start of the area.

use vdisk_xts::{DataUnit, Xts, XtsKey};
use zeroize::Zeroizing;

use crate::hash::Hash;
use crate::secret::KEY_LEN;
use crate::{Error, Result, af};

const SECTOR: usize = 512;

/// Bytes that a key of `key_len` takes in `stripes` stripes: whole sectors.
pub(crate) fn sealed_len(key_len: u32, stripes: u32) -> u64 {
    (u64::from(key_len) * u64::from(stripes)).next_multiple_of(SECTOR as u64)
}

/// Splits and encrypts `key`: what goes to the start of a key-slot area.
pub(crate) fn seal(area_key: &[u8; KEY_LEN], hash: Hash, key: &[u8; KEY_LEN]) -> Result<Vec<u8>> {
    let mut material = af::split(hash, af::STRIPES, key)?;
    cipher(area_key)?.encrypt(DataUnit::B512, 0, &mut material);
    // Now ciphertext: it may leave the buffer that is erased on drop.
    Ok(std::mem::take(&mut *material))
}

/// Decrypts the start of `area` and merges what was split there. A wrong `area_key` gives a wrong key.
///
/// The caller has checked that `area` holds [`sealed_len`] bytes.
pub(crate) fn open(
    area_key: &[u8; KEY_LEN],
    hash: Hash,
    stripes: u32,
    area: &[u8],
) -> Result<Zeroizing<Vec<u8>>> {
    let sealed = usize::try_from(sealed_len(KEY_LEN as u32, stripes))
        .ok()
        .and_then(|len| area.get(..len))
        .ok_or_else(|| {
            Error::corrupt("key-slot area", format!("too small for {stripes} stripes"))
        })?;
    let mut material = Zeroizing::new(sealed.to_vec());
    cipher(area_key)?.decrypt(DataUnit::B512, 0, &mut material);
    Ok(af::merge(
        hash,
        KEY_LEN,
        &material[..KEY_LEN * stripes as usize],
    ))
}

fn cipher(key: &[u8; KEY_LEN]) -> Result<Xts> {
    let key = XtsKey::new(*key).map_err(|e| Error::input("key-slot area", e.to_string()))?;
    Ok(Xts::new(&key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::random;

    #[test]
    fn what_is_sealed_opens_with_its_key_only() {
        let (area_key, key): ([u8; KEY_LEN], [u8; KEY_LEN]) =
            (random().unwrap(), random().unwrap());
        let area = seal(&area_key, Hash::Sha256, &key).unwrap();
        assert_eq!(area.len() as u64, sealed_len(64, af::STRIPES));
        assert_eq!(
            open(&area_key, Hash::Sha256, af::STRIPES, &area).unwrap()[..],
            key
        );
        assert_ne!(
            open(&key, Hash::Sha256, af::STRIPES, &area).unwrap()[..],
            key
        );
        assert!(open(&area_key, Hash::Sha256, af::STRIPES + 8, &area).is_err());
        assert!(open(&area_key, Hash::Sha256, u32::MAX, &area).is_err());
    }
}
