//! Keys that come from the disk's own.

use crate::{Error, ErrorKind, Result};
use hkdf::Hkdf;
use medley_sealing::WrappingKey;
use sha2::Sha256;
use vdisk_xts::XtsKey;
use zeroize::Zeroizing;

/// Keeps this derivation apart from any other that starts from the same key.
const STATE: &[u8] = b"medley machine state v1";

/// What saved states of machines on this disk are sealed under: whoever may open the disk may wake what
/// slept on it.
pub fn of_state(disk: &XtsKey) -> Result<WrappingKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, disk.as_bytes())
        .expand(STATE, &mut *bytes)
        .map_err(|_| Error::new(ErrorKind::State, "cannot derive the key of saved states"))?;
    Ok(WrappingKey::from_bytes(&bytes))
}
