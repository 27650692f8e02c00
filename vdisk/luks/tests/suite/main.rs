//! The crate as its users see it: edits, hostile headers, power cuts, and the peers it must agree with.

// All of this is tests, though clippy sees that of functions marked so only.
#![allow(clippy::unwrap_used)]

mod cryptsetup;
mod edits;
mod hostile;
mod luks1;
mod peers;
mod power_cut;

use vdisk_luks::{CreateParams, Header, Kdf, VolumeKey};

/// A derivation that costs nothing: these tests are not about strength.
pub const CHEAP: Kdf = Kdf::Argon2id {
    time: 1,
    memory_kib: 32,
    lanes: 1,
};

/// A small header with one slot, and its key.
pub fn header(passphrase: &[u8]) -> (Header, VolumeKey) {
    let key = VolumeKey::random().unwrap();
    let params = CreateParams {
        label: "tests".into(),
        kdf: CHEAP,
        keyslots_size: 4 * 258_048,
        ..CreateParams::default()
    };
    let mut header = Header::create(&params, &key, passphrase).unwrap();
    header.persisted();
    (header, key)
}
