//! The anti-forensic splitter: a key is blown up to thousands of stripes that all must survive for the key to
//! be read, so that wiping any part of an old key-slot area destroys the key.

use zeroize::Zeroizing;

use crate::Result;
use crate::hash::Hash;
use crate::secret::fill_random;

/// Stripes in everything we write, as in everything `cryptsetup` writes.
pub(crate) const STRIPES: u32 = 4000;

/// Spreads `key` over `stripes` (at least one) stripes of its own length.
pub(crate) fn split(hash: Hash, stripes: u32, key: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let stripes = stripes.max(1) as usize;
    let mut material = Zeroizing::new(vec![0; key.len() * stripes]);
    let (noise, last) = material.split_at_mut(key.len() * (stripes - 1));
    fill_random(noise)?;
    let folded = fold(hash, key.len(), noise);
    for ((out, d), k) in last.iter_mut().zip(folded.iter()).zip(key) {
        *out = d ^ k;
    }
    Ok(material)
}

/// The key of `key_len` bytes that `material`, whole stripes, hides.
pub(crate) fn merge(hash: Hash, key_len: usize, material: &[u8]) -> Zeroizing<Vec<u8>> {
    let (noise, last) = material.split_at(material.len().saturating_sub(key_len));
    let mut key = fold(hash, key_len, noise);
    for (k, m) in key.iter_mut().zip(last) {
        *k ^= m;
    }
    key
}

/// Folds all stripes but the last into one.
fn fold(hash: Hash, len: usize, stripes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut folded = Zeroizing::new(vec![0; len]);
    let mut mixed = Zeroizing::new(vec![0; len]);
    for stripe in stripes.chunks_exact(len.max(1)) {
        for (d, s) in folded.iter_mut().zip(stripe) {
            *d ^= s;
        }
        for (i, (out, part)) in mixed
            .chunks_mut(hash.output_len())
            .zip(folded.chunks(hash.output_len()))
            .enumerate()
        {
            hash.digest_into(&[&(i as u32).to_be_bytes(), part], out);
        }
        std::mem::swap(&mut folded, &mut mixed);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_split_merges_and_one_lost_bit_kills_it() {
        let key: Vec<u8> = (0..64).collect();
        for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha512] {
            for stripes in [1, 2, 7, 400] {
                let mut material = split(hash, stripes, &key).unwrap();
                assert_eq!(material.len(), 64 * stripes as usize);
                assert_eq!(*merge(hash, 64, &material), key);
                let middle = material.len() / 2;
                material[middle] ^= 1;
                assert_ne!(*merge(hash, 64, &material), key);
            }
        }
    }
}
