//! The beginning of a file: the box with its key and binding, which only the workspace's key opens, and
//! the digest by which everything after it is bound to it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::{DataKey, KEY_LEN, SALT_LEN, TAG_LEN, WrappingKey, fill_random};
use crate::seal::check_chunk_bytes;

/// The longest binding, in bytes.
pub const MAX_BINDING: usize = 4096;

const MAGIC: [u8; 8] = *b"MEDLEYSM";
const VERSION: u32 = 1;
/// Bytes before the box.
pub(crate) const FIXED_LEN: usize = 56;
const DIGEST_LEN: usize = 32;
/// The longest header there can be.
pub(crate) const MAX_LEN: usize = FIXED_LEN + KEY_LEN + MAX_BINDING + TAG_LEN + DIGEST_LEN;

/// Names one saved state: no other sealing, not even of the same stream, has the same.
///
/// With the key, it stands for every byte of the file, so whoever keeps it elsewhere (in the overlay
/// that belongs to the machine) knows this state from any older one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; DIGEST_LEN]);

impl Identity {
    /// Its bytes: the SHA-256 of the file's header.
    pub fn as_bytes(&self) -> &[u8; DIGEST_LEN] {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// What a header says, once it is believed.
pub(crate) struct Header {
    pub(crate) key: DataKey,
    pub(crate) binding: Vec<u8>,
    pub(crate) chunk_bytes: usize,
    pub(crate) identity: Identity,
    /// Bytes of the header: where the first frame begins.
    pub(crate) len: usize,
}

impl Header {
    /// A header with a new random key, and its bytes.
    pub(crate) fn new(
        wrapping: &WrappingKey,
        binding: &[u8],
        chunk_bytes: usize,
    ) -> Result<(Self, Vec<u8>)> {
        if binding.len() > MAX_BINDING {
            let what = format!(
                "a binding of {} bytes, at most {MAX_BINDING} fit",
                binding.len()
            );
            return Err(Error::new(ErrorKind::Input, what));
        }
        check_chunk_bytes(chunk_bytes)?;
        let mut salt = [0; SALT_LEN];
        fill_random(&mut salt)?;
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        fill_random(&mut data_key[..])?;

        let box_len = KEY_LEN + binding.len() + TAG_LEN;
        let mut bytes = Vec::with_capacity(MAX_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(chunk_bytes as u32).to_le_bytes());
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&(box_len as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);

        // With room for its tag, so that it never moves and leaves a copy behind.
        let mut content = Zeroizing::new(Vec::with_capacity(box_len));
        content.extend_from_slice(&data_key[..]);
        content.extend_from_slice(binding);
        wrapping.for_file(&salt)?.seal(&bytes, &mut content)?;
        bytes.extend_from_slice(&content);

        let identity = sum(&bytes)?;
        bytes.extend_from_slice(&identity.0);
        let header = Self {
            key: DataKey::new(&data_key)?,
            binding: binding.to_vec(),
            chunk_bytes,
            identity,
            len: bytes.len(),
        };
        Ok((header, bytes))
    }

    /// The header that `file` begins with: all of the file, or its first [`MAX_LEN`] bytes.
    pub(crate) fn parse(file: &[u8], wrapping: &WrappingKey) -> Result<Self> {
        let magic = &file[..file.len().min(MAGIC.len())];
        if magic.is_empty() || magic != &MAGIC[..magic.len()] {
            return Err(Error::new(
                ErrorKind::Foreign,
                "not the saved state of a machine",
            ));
        }
        let truncated = || Error::new(ErrorKind::Truncated, "the file ends within its header");
        let number = |at: usize| -> Result<u32> {
            let bytes = file.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or_else(truncated)
        };
        let version = number(8)?;
        if version > VERSION {
            let what = format!("a saved state of format {version}, of which we know {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let box_len = number(48)? as usize;
        if !(KEY_LEN + TAG_LEN..=KEY_LEN + MAX_BINDING + TAG_LEN).contains(&box_len) {
            return Err(Error::corrupt("the header gives an impossible length").at_offset(48));
        }
        let sealed_end = FIXED_LEN + box_len;
        let len = sealed_end + DIGEST_LEN;
        let header = file.get(..len).ok_or_else(truncated)?;

        // Anybody can compute this: it tells damage from a wrong key, and forgery is the box's to refuse.
        let identity = sum(&header[..sealed_end])?;
        if identity.0 != header[sealed_end..] {
            return Err(Error::corrupt("the header is damaged").at_offset(0));
        }
        let (fixed, sealed) = header[..sealed_end].split_at(FIXED_LEN);
        let salt = fixed[16..16 + SALT_LEN]
            .try_into()
            .map_err(|_| truncated())?;
        let mut content = Zeroizing::new(sealed.to_vec());
        let content = wrapping
            .for_file(salt)?
            .open(fixed, &mut content)
            .ok_or_else(|| Error::new(ErrorKind::Key, "sealed under another key"))?;
        let (key, binding) = content.split_at(KEY_LEN);

        let chunk_bytes = number(12)? as usize;
        if version != VERSION || number(52)? != 0 || check_chunk_bytes(chunk_bytes).is_err() {
            return Err(Error::corrupt("the header says what no version writes").at_offset(8));
        }
        Ok(Self {
            key: DataKey::new(key.try_into().map_err(|_| truncated())?)?,
            binding: binding.to_vec(),
            chunk_bytes,
            identity,
            len,
        })
    }
}

fn sum(bytes: &[u8]) -> Result<Identity> {
    let bytes = digest(&SHA256, bytes).as_ref().try_into();
    bytes
        .map(Identity)
        .map_err(|_| Error::internal("a digest of another size"))
}
