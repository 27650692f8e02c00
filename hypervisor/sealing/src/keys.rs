//! The two keys of a saved state: the workspace's, which only ever wraps, and the file's own, which
//! encrypts its chunks. Both ciphers are AES-256-GCM.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Bytes of a key.
pub(crate) const KEY_LEN: usize = 32;
/// Bytes of a salt.
pub(crate) const SALT_LEN: usize = 32;
/// Bytes that a tag adds.
pub(crate) const TAG_LEN: usize = 16;

/// Keeps this derivation apart from any other that starts from the same key.
const PURPOSE: &[u8] = b"medley saved state wrapping key v1";

/// The workspace's key: whoever has it can open and forge its saved states. Erased when dropped, never
/// printed.
pub struct WrappingKey(Box<Zeroizing<[u8; KEY_LEN]>>);

impl WrappingKey {
    /// The key with these bytes, which must be as good as random.
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Self {
        let mut key = Box::new(Zeroizing::new([0; KEY_LEN]));
        key.copy_from_slice(bytes);
        Self(key)
    }

    /// The key that wraps in one file only: its salt is random, so this key never meets a nonce twice.
    pub(crate) fn for_file(&self, salt: &[u8; SALT_LEN]) -> Result<FileWrap> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Salt::new(HKDF_SHA256, salt)
            .extract(&self.0[..])
            .expand(&[PURPOSE], KeyLen)
            .and_then(|okm| okm.fill(&mut key[..]))
            .map_err(|_| Error::internal("cannot derive the file's wrapping key"))?;
        Ok(FileWrap(gcm(&key)?))
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey(…)")
    }
}

struct KeyLen;

impl KeyType for KeyLen {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

/// Seals the one secret box in a file's header.
pub(crate) struct FileWrap(LessSafeKey);

impl FileWrap {
    /// Encrypts `content` and appends its tag.
    pub(crate) fn seal(&self, context: &[u8], content: &mut Vec<u8>) -> Result<()> {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(0, false), Aad::from(context), content)
            .map_err(|_| Error::internal("cannot wrap the file's key"))?;
        content.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The content of a box, or `None` when another key sealed it.
    pub(crate) fn open<'a>(&self, context: &[u8], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let opened = self
            .0
            .open_in_place(nonce(0, false), Aad::from(context), sealed);
        opened.ok().map(|content| &*content)
    }
}

/// The file's own key: encrypts its frames, each under its number.
pub(crate) struct DataKey(LessSafeKey);

impl DataKey {
    /// From the bytes in a header's box.
    pub(crate) fn new(bytes: &[u8; KEY_LEN]) -> Result<Self> {
        Ok(Self(gcm(bytes)?))
    }

    /// Encrypts frame `number` in place and returns its tag. No number may be sealed twice.
    pub(crate) fn seal(
        &self,
        number: u64,
        last: bool,
        context: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG_LEN]> {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(number, last), Aad::from(context), body)
            .map_err(|_| Error::internal("cannot encrypt a chunk"))?;
        <[u8; TAG_LEN]>::try_from(tag.as_ref())
            .map_err(|_| Error::internal("a tag of another size"))
    }

    /// Decrypts frame `number`, whose tag follows it, in place; `None` when anything about it is wrong.
    pub(crate) fn open<'a>(
        &self,
        number: u64,
        last: bool,
        context: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let opened = self
            .0
            .open_in_place(nonce(number, last), Aad::from(context), sealed);
        opened.ok().map(|body| &*body)
    }
}

/// The STREAM construction's nonce: where in the stream, and whether anything may follow.
fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

fn gcm(key: &[u8; KEY_LEN]) -> Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key)
        .map(LessSafeKey::new)
        .map_err(|_| Error::internal("cannot use a key"))
}

/// Fills `out` from the system's random source.
pub(crate) fn fill_random(out: &mut [u8]) -> Result<()> {
    rand::fill(out).map_err(|_| Error::internal("the system gives no random bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_never_printed() {
        assert_eq!(
            format!("{:?}", WrappingKey::from_bytes(&[7; 32])),
            "WrappingKey(…)"
        );
    }

    #[test]
    fn a_frame_opens_under_its_number_end_and_context_alone() {
        let key = DataKey::new(&[1; 32]).unwrap();
        let mut sealed = b"body".to_vec();
        let tag = key.seal(5, false, b"here", &mut sealed).unwrap();
        sealed.extend_from_slice(&tag);
        let open = |number, last, context: &[u8]| {
            let mut copy = sealed.clone();
            key.open(number, last, context, &mut copy)
                .map(<[u8]>::to_vec)
        };
        assert_eq!(open(5, false, b"here").unwrap(), b"body");
        assert_eq!(open(6, false, b"here"), None);
        assert_eq!(open(5, true, b"here"), None);
        assert_eq!(open(5, false, b"there"), None);
    }
}
