//! Packed pixels become pixels: LZ4 and zstd, in safe Rust, into room of exactly the size that was announced
//! and judged before.
use medley_wire::limits::PIXEL_BYTES;
use std::fmt;

/// Room that is kept between patches; more is given back to the system.
const KEPT_BYTES: usize = 1 << 20;

/// A payload that is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPixels;

impl fmt::Display for BadPixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("packed pixels do not unpack to the size that they announced")
    }
}

impl std::error::Error for BadPixels {}

/// Unpacks, and keeps some room for the next time.
#[derive(Default)]
pub struct Unpacker {
    room: Vec<u8>,
    zstd: Option<Box<ruzstd::decoding::FrameDecoder>>,
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unpacker with {} bytes", self.room.capacity())
    }
}

impl Unpacker {
    /// Room of exactly so many bytes.
    pub(crate) fn room(&mut self, bytes: usize) -> Vec<u8> {
        let mut room = std::mem::take(&mut self.room);
        room.resize(bytes, 0);
        room
    }

    /// The room comes back.
    pub(crate) fn give_back(&mut self, room: Vec<u8>) {
        if room.capacity() <= KEPT_BYTES {
            self.room = room;
        }
    }

    /// One LZ4 block that fills `to` exactly.
    ///
    /// # Errors
    /// It is no such block.
    pub fn lz4(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), BadPixels> {
        let got = lz4_flex::block::decompress_into(from, to).map_err(|_| BadPixels)?;
        if got == to.len() {
            Ok(())
        } else {
            Err(BadPixels)
        }
    }

    /// One zstd frame that fills `to` exactly.
    ///
    /// # Errors
    /// It is no such frame.
    pub fn zstd(&mut self, from: &[u8], to: &mut [u8]) -> Result<(), BadPixels> {
        let decoder = self.zstd.get_or_insert_with(|| {
            let mut decoder = Box::new(ruzstd::decoding::FrameDecoder::new());
            // A frame may ask for a window of gigabytes; ours have at most a patch's bytes.
            decoder.set_max_window_size(PIXEL_BYTES as u64);
            decoder
        });
        let got = decoder.decode_all(from, to).map_err(|_| BadPixels)?;
        if got == to.len() {
            Ok(())
        } else {
            Err(BadPixels)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    #[test]
    fn what_unpacks_to_more_or_less_is_refused() {
        let bytes = vec![7; 1 << 20];
        let packed = compress_to_vec(&bytes[..], CompressionLevel::Fastest);
        assert!(packed.len() < 4096, "{}", packed.len());
        let mut unpacker = Unpacker::default();
        for room in [0, 1, 4096, (1 << 20) - 1, (1 << 20) + 1] {
            assert_eq!(unpacker.zstd(&packed, &mut vec![0; room]), Err(BadPixels));
        }
        // And the next one is none the worse for it.
        let mut out = vec![0; 1 << 20];
        assert_eq!(unpacker.zstd(&packed, &mut out), Ok(()));
        assert_eq!(out, bytes);
        for broken in [&packed[..packed.len() - 1], &packed[1..], b"", &[0xff; 9]] {
            assert_eq!(unpacker.zstd(broken, &mut out), Err(BadPixels));
        }
    }

    #[test]
    fn a_window_of_gigabytes_is_refused() {
        // A frame's header that asks for a window, and a last block that is empty.
        let frame = |window: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x01, 0x00, 0x00];
        assert_eq!(Unpacker::default().zstd(&frame(0), &mut []), Ok(()));
        let two_gigabytes = 21 << 3;
        let refused = Unpacker::default().zstd(&frame(two_gigabytes), &mut []);
        assert_eq!(refused, Err(BadPixels));
    }
}
