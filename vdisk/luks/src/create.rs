//! A new header, as `cryptsetup luksFormat --header` makes them.

use serde_json::json;
use uuid::Uuid;

use crate::binary::{BINARY_LEN, Binary, COPY_SIZES};
use crate::digest::KeyDigest;
use crate::hash::Hash;
use crate::header::{Health, file_len};
use crate::metadata::{AREA_ALIGN, CIPHER, MAX_KEYSLOTS_SIZE, Metadata};
use crate::node::base64;
use crate::secret::VolumeKey;
use crate::{Error, Header, Kdf, Result};

/// What a new header shall be. The default suits a disk of ours: a 16 MiB file with 12 KiB for JSON.
#[derive(Debug, Clone)]
pub struct CreateParams {
    /// Label, up to 47 bytes; may be empty.
    pub label: String,
    /// UUID; random when `None`.
    pub uuid: Option<Uuid>,
    /// Key derivation of the first slot.
    pub kdf: Kdf,
    /// Length of each of the two header copies in bytes: a power of two, 16 KiB to 4 MiB. All of it but 4 KiB is
    /// room for JSON: slots take some 400 bytes each, tokens what they are.
    pub copy_size: u64,
    /// Room for key-slot areas in bytes (a slot takes 252 KiB): a multiple of 4096, at most 128 MiB.
    pub keyslots_size: u64,
}

impl Default for CreateParams {
    fn default() -> Self {
        let copy_size = COPY_SIZES[0];
        Self {
            label: String::new(),
            uuid: None,
            kdf: Kdf::default_for(u64::MAX),
            copy_size,
            keyslots_size: (16 << 20) - 2 * copy_size,
        }
    }
}

impl Header {
    /// Makes a header with one key slot for a disk of AES-256-XTS in 512-byte units, the whole data file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] for parameters out of range or an empty passphrase,
    /// [`crate::ErrorKind::System`] without random bytes or memory.
    pub fn create(params: &CreateParams, key: &VolumeKey, passphrase: &[u8]) -> Result<Self> {
        Binary::check_label(&params.label)?;
        if !COPY_SIZES.contains(&params.copy_size) {
            return Err(Error::input(
                "copy_size",
                format!(
                    "{} is no power of two from 16 KiB to 4 MiB",
                    params.copy_size
                ),
            ));
        }
        if params.keyslots_size > MAX_KEYSLOTS_SIZE
            || !params.keyslots_size.is_multiple_of(AREA_ALIGN)
        {
            let what = format!(
                "{} is above 128 MiB or no multiple of {AREA_ALIGN}",
                params.keyslots_size
            );
            return Err(Error::input("keyslots_size", what));
        }
        let hash = Hash::Sha256;
        let digest = KeyDigest::new(hash, hash.output_len(), key)?;
        let json = json!({
            "keyslots": {},
            "tokens": {},
            "segments": { "0": {
                "type": "crypt", "offset": "0", "size": "dynamic",
                "iv_tweak": "0", "encryption": CIPHER, "sector_size": 512,
            }},
            "digests": { "0": {
                "type": "pbkdf2", "keyslots": [], "segments": ["0"], "hash": hash.name(),
                "iterations": digest.iterations, "salt": base64(&digest.salt), "digest": base64(&digest.digest),
            }},
            "config": {
                "json_size": (params.copy_size - BINARY_LEN as u64).to_string(),
                "keyslots_size": params.keyslots_size.to_string(),
            },
        });
        let meta = Metadata::parse(&json, params.copy_size)?;
        let binary = Binary {
            copy_size: params.copy_size,
            seqid: 0,
            label: params.label.clone(),
            uuid: params.uuid.unwrap_or_else(Uuid::new_v4).to_string(),
            subsystem: String::new(),
            checksum: hash,
        };
        let image = vec![0; file_len(&binary, &meta) as usize];
        let mut header = Self::assemble(image, binary, json, meta, Health::Good);
        header.pending.new_file = true;
        header.add_key(key, passphrase, &params.kdf)?;
        Ok(header)
    }
}
