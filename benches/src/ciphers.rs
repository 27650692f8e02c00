//! Other people's AES-256-XTS, called the way a disk would: one context, a new tweak for every unit.

use aes::cipher::KeyInit;
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use xts_mode::Xts128;

/// A cipher under test: encrypts a buffer of units in place, the first being sector `first`.
pub trait SectorCipher {
    /// Who made it.
    fn name(&self) -> String;
    /// Encrypts `buf` in units of `unit` bytes; tweaks count 512-byte sectors.
    fn encrypt(&mut self, unit: usize, first: u64, buf: &mut [u8]);
}

fn tweak(first: u64, index: usize, unit: usize) -> [u8; 16] {
    let sector = first.wrapping_add((index * unit / 512) as u64);
    u128::from(sector).to_le_bytes()
}

/// RustCrypto's `xts-mode` over its `aes`.
pub struct RustCrypto(Xts128<aes::Aes256>);

impl RustCrypto {
    /// Under `key`.
    pub fn new(key: &[u8; 64]) -> Option<Self> {
        let half = |bytes: &[u8]| aes::Aes256::new_from_slice(bytes).ok();
        Some(Self(Xts128::new(half(&key[..32])?, half(&key[32..])?)))
    }
}

impl SectorCipher for RustCrypto {
    fn name(&self) -> String {
        "RustCrypto xts-mode".into()
    }

    fn encrypt(&mut self, unit: usize, first: u64, buf: &mut [u8]) {
        for (i, sector) in buf.chunks_exact_mut(unit).enumerate() {
            self.0.encrypt_sector(sector, tweak(first, i, unit).into());
        }
    }
}

/// The system's OpenSSL through its EVP interface.
pub struct OpenSsl(CipherCtx);

impl OpenSsl {
    /// Under `key`.
    pub fn new(key: &[u8; 64]) -> Option<Self> {
        let mut ctx = CipherCtx::new().ok()?;
        ctx.encrypt_init(Some(Cipher::aes_256_xts()), Some(key), None)
            .ok()?;
        Some(Self(ctx))
    }
}

impl SectorCipher for OpenSsl {
    fn name(&self) -> String {
        openssl::version::version()
            .split(' ')
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn encrypt(&mut self, unit: usize, first: u64, buf: &mut [u8]) {
        for (i, sector) in buf.chunks_exact_mut(unit).enumerate() {
            let iv = tweak(first, i, unit);
            let done = self
                .0
                .encrypt_init(None, None, Some(&iv))
                .and_then(|()| self.0.cipher_update_inplace(sector, unit));
            assert!(done.is_ok(), "OpenSSL failed");
        }
    }
}

pub use aws::AwsLc;

/// The only `unsafe` of the benches: AWS-LC has no safe interface for XTS.
#[allow(unsafe_code)]
mod aws {
    use std::ptr;

    use aws_lc_sys::{
        EVP_CIPHER_CTX, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_EncryptInit_ex,
        EVP_EncryptUpdate, EVP_aes_256_xts,
    };

    use super::{SectorCipher, tweak};

    /// AWS-LC through its EVP interface.
    pub struct AwsLc(*mut EVP_CIPHER_CTX);

    impl AwsLc {
        /// Under `key`.
        pub fn new(key: &[u8; 64]) -> Option<Self> {
            // SAFETY: a context is made, checked, and initialised with a key of the cipher's length.
            unsafe {
                let ctx = EVP_CIPHER_CTX_new();
                if ctx.is_null() {
                    return None;
                }
                let this = Self(ctx);
                let ok = EVP_EncryptInit_ex(
                    ctx,
                    EVP_aes_256_xts(),
                    ptr::null_mut(),
                    key.as_ptr(),
                    ptr::null(),
                );
                (ok == 1).then_some(this)
            }
        }
    }

    impl SectorCipher for AwsLc {
        fn name(&self) -> String {
            "AWS-LC".into()
        }

        fn encrypt(&mut self, unit: usize, first: u64, buf: &mut [u8]) {
            for (i, sector) in buf.chunks_exact_mut(unit).enumerate() {
                let iv = tweak(first, i, unit);
                let mut written = 0;
                // SAFETY: the context is live and keyed; input and output are the same `unit` bytes,
                // which EVP allows; the tweak has 16 bytes.
                let ok = unsafe {
                    let p = sector.as_mut_ptr();
                    EVP_EncryptInit_ex(
                        self.0,
                        ptr::null(),
                        ptr::null_mut(),
                        ptr::null(),
                        iv.as_ptr(),
                    ) == 1
                        && EVP_EncryptUpdate(self.0, p, &mut written, p, unit as i32) == 1
                };
                assert!(ok, "AWS-LC failed");
            }
        }
    }

    impl Drop for AwsLc {
        fn drop(&mut self) {
            // SAFETY: made by EVP_CIPHER_CTX_new and freed once.
            unsafe { EVP_CIPHER_CTX_free(self.0) }
        }
    }
}

/// Every peer, under `key`.
pub fn all(key: &[u8; 64]) -> Vec<Box<dyn SectorCipher>> {
    let boxed: [Option<Box<dyn SectorCipher>>; 3] = [
        AwsLc::new(key).map(|c| Box::new(c) as _),
        OpenSsl::new(key).map(|c| Box::new(c) as _),
        RustCrypto::new(key).map(|c| Box::new(c) as _),
    ];
    boxed.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vdisk_xts::{DataUnit, Xts, XtsKey};

    #[test]
    fn all_peers_and_we_agree() {
        let key: [u8; 64] = std::array::from_fn(|i| i as u8);
        let plain: Vec<u8> = (0..65536).map(|i| (i % 251) as u8).collect();
        for (unit, bytes) in [(DataUnit::B512, 512), (DataUnit::B4096, 4096)] {
            let mut ours = plain.clone();
            Xts::new(&XtsKey::new(key).unwrap()).encrypt(unit, 1000, &mut ours);
            let peers = all(&key);
            assert_eq!(peers.len(), 3);
            for mut peer in peers {
                let mut theirs = plain.clone();
                peer.encrypt(bytes, 1000, &mut theirs);
                assert!(theirs == ours, "{} in units of {bytes}", peer.name());
            }
        }
    }
}
