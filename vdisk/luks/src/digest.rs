//! The digest by which a header knows its volume key without telling it.

use subtle::ConstantTimeEq;

use crate::hash::Hash;
use crate::secret::{VolumeKey, random};
use crate::{Error, Result};

/// A PBKDF2 digest of the volume key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyDigest {
    pub hash: Hash,
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub digest: Vec<u8>,
}

impl KeyDigest {
    /// Rounds for new digests, the least that the format allows: nobody guesses 512 random bits, however fast
    /// each guess is, and every unlock pays them.
    const ITERATIONS: u32 = 1000;

    /// Digests shorter than LUKS1's would let wrong keys pass.
    const LENGTHS: std::ops::RangeInclusive<usize> = 20..=64;

    pub(crate) fn new(hash: Hash, len: usize, key: &VolumeKey) -> Result<Self> {
        let salt = random::<32>()?.to_vec();
        let mut digest = vec![0; len];
        hash.pbkdf2(key.as_bytes(), &salt, Self::ITERATIONS, &mut digest);
        Ok(Self {
            hash,
            iterations: Self::ITERATIONS,
            salt,
            digest,
        })
    }

    /// Refuses digests that would prove nothing.
    pub(crate) fn check(&self, at: &str) -> Result<()> {
        if self.iterations == 0 {
            return Err(Error::corrupt(format!("{at}.iterations"), "0 iterations"));
        }
        if !Self::LENGTHS.contains(&self.digest.len()) {
            let what = format!(
                "{} bytes long, not {} to {}",
                self.digest.len(),
                Self::LENGTHS.start(),
                Self::LENGTHS.end()
            );
            return Err(Error::corrupt(format!("{at}.digest"), what));
        }
        Ok(())
    }

    /// Is this the digest of `key`?
    pub(crate) fn verify(&self, key: &[u8]) -> bool {
        let mut digest = vec![0; self.digest.len()];
        self.hash
            .pbkdf2(key, &self.salt, self.iterations, &mut digest);
        digest.ct_eq(&self.digest).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_key_and_no_other() {
        let key = VolumeKey::random().unwrap();
        let mut digest = KeyDigest::new(Hash::Sha256, 32, &key).unwrap();
        digest.check("digests.0").unwrap();
        assert!(digest.verify(key.as_bytes()));
        assert!(!digest.verify(VolumeKey::random().unwrap().as_bytes()));
        digest.digest.clear();
        assert_eq!(
            digest.check("digests.0").unwrap_err().field(),
            "digests.0.digest"
        );
    }
}
