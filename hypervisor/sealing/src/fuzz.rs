//! Entries for a fuzzer: arbitrary bytes where files come from others, and where only a fault of ours
//! could have put them. None may panic, hang, or allocate more than a few chunks.

use crate::cancel::Cancel;
use crate::frame::{HEAD_LEN, Head};
use crate::keys::WrappingKey;
use crate::seal::{MAX_CHUNK, MIN_CHUNK, Options, seal};
use crate::unseal::SealedFile;

fn key() -> WrappingKey {
    WrappingKey::from_bytes(&[0x5a; 32])
}

/// `file` as a saved state.
#[doc(hidden)]
pub fn fuzz_opening(file: &[u8]) {
    if let Ok(state) = SealedFile::from_bytes(file, &key()) {
        let checked = state.verify(&Cancel::default()).is_ok();
        let unsealed = state.unseal(std::io::sink(), &Cancel::default()).is_ok();
        assert_eq!(checked, unsealed);
    }
}

/// `frame` as a head and a body that was authentic: what decompression makes of anything.
#[doc(hidden)]
pub fn fuzz_decoding(frame: &[u8]) {
    if let Some((head, body)) = frame.split_first_chunk::<HEAD_LEN>()
        && let Some(head) = Head::parse(*head, MAX_CHUNK)
    {
        let mut room = vec![0; head.chunk_len()];
        if let Some(chunk) = head.decode(body, &mut room) {
            assert!(chunk.len() <= MAX_CHUNK.max(body.len()));
        }
    }
}

/// `stream` there and back through a file in `folder`; its first byte chooses the size of chunks.
#[doc(hidden)]
pub fn fuzz_sealing(stream: &[u8], folder: &std::path::Path) {
    let path = folder.join("state");
    let options = Options {
        chunk_bytes: MIN_CHUNK + 64 * usize::from(stream.first().copied().unwrap_or(0)),
        ..Options::default()
    };
    let sealed = seal(stream, &path, &key(), b"fuzz", &options).and_then(|s| s.publish());
    assert!(sealed.is_ok(), "{sealed:?}");
    let mut back = Vec::new();
    let unsealed =
        SealedFile::open(&path, &key()).and_then(|file| file.unseal(&mut back, &Cancel::default()));
    assert!(unsealed.is_ok(), "{unsealed:?}");
    assert_eq!(back, stream);
}
