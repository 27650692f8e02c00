//! The hash functions that headers name, and PBKDF2 over them.

use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::digest::Update;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroize;

/// A hash function as named in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// `sha1`: read in old LUKS1 headers, never written.
    Sha1,
    /// `sha256`: what we write.
    Sha256,
    /// `sha384`
    Sha384,
    /// `sha512`
    Sha512,
}

impl Hash {
    /// The hash that a header calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "sha1" => Self::Sha1,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    /// Its name in a header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of its output in bytes.
    pub fn output_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Hashes `parts` one after the other; `out` takes the first `out.len()` bytes, at most the output length.
    pub(crate) fn digest_into(self, parts: &[&[u8]], out: &mut [u8]) {
        fn run<D: Digest + Update>(parts: &[&[u8]], out: &mut [u8]) {
            let mut hasher = D::new();
            for part in parts {
                Update::update(&mut hasher, part);
            }
            let mut digest = hasher.finalize();
            let n = out.len().min(digest.len());
            out[..n].copy_from_slice(&digest[..n]);
            digest.as_mut_slice().zeroize();
        }
        match self {
            Self::Sha1 => run::<Sha1>(parts, out),
            Self::Sha256 => run::<Sha256>(parts, out),
            Self::Sha384 => run::<Sha384>(parts, out),
            Self::Sha512 => run::<Sha512>(parts, out),
        }
    }

    /// PBKDF2-HMAC with this hash fills `out`.
    pub(crate) fn pbkdf2(self, secret: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        match self {
            Self::Sha1 => pbkdf2_hmac::<Sha1>(secret, salt, iterations, out),
            Self::Sha256 => pbkdf2_hmac::<Sha256>(secret, salt, iterations, out),
            Self::Sha384 => pbkdf2_hmac::<Sha384>(secret, salt, iterations, out),
            Self::Sha512 => pbkdf2_hmac::<Sha512>(secret, salt, iterations, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            assert_eq!(Hash::from_name(hash.name()), Some(hash));
            let mut whole = [0; 64];
            hash.digest_into(&[b"ab", b"c"], &mut whole);
            let mut again = [0; 64];
            hash.digest_into(&[b"abc"], &mut again);
            assert_eq!(whole, again);
            assert!(whole[hash.output_len()..].iter().all(|&b| b == 0));
        }
        assert_eq!(Hash::from_name("whirlpool"), None);
    }

    #[test]
    fn pbkdf2_matches_rfc_6070_and_7914() {
        let mut out = [0; 20];
        Hash::Sha1.pbkdf2(b"password", b"salt", 2, &mut out);
        assert_eq!(out[..4], [0xea, 0x6c, 0x01, 0x4d]);
        let mut out = [0; 64];
        Hash::Sha256.pbkdf2(b"passwd", b"salt", 1, &mut out);
        assert_eq!(out[..4], [0x55, 0xac, 0x04, 0x6e]);
        assert_eq!(out[60..], [0xd3, 0xa1, 0x97, 0x83]);
    }

    #[test]
    fn pbkdf2_gives_wycheproofs_answers() {
        let unhex = |text: &str| -> Vec<u8> {
            let digits = text.trim_start_matches('-').as_bytes();
            let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(byte).collect()
        };
        let mut count = 0;
        for line in include_str!("../tests/data/wycheproof-pbkdf2.txt").lines() {
            if line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split(' ').collect();
            let [hash, number, password, salt, rounds, expected] = fields[..] else {
                panic!("{line}");
            };
            let expected = unhex(expected);
            let mut out = vec![0; expected.len()];
            Hash::from_name(hash).unwrap().pbkdf2(
                &unhex(password),
                &unhex(salt),
                rounds.parse().unwrap(),
                &mut out,
            );
            assert_eq!(out, expected, "{hash} {number}");
            count += 1;
        }
        assert!(count > 40, "{count}");
    }
}
