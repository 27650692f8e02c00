//! How a patch's pixels travel in the stream: one colour if they all are, raw if they are few, else LZ4 where
//! that is shorter.
use medley_wire::Bytes;
use medley_wire::pixels::Payload;

/// Below this many bytes, packing costs more than it saves: less than a letter of a terminal.
const FEW: usize = 256;

/// Bytes that are kept between frames.
const KEPT: usize = 4 << 20;

/// Packs, in room that it keeps.
#[derive(Debug, Default)]
pub struct Packer {
    room: Vec<u8>,
}

impl Packer {
    /// The pixels in the form that suits them.
    pub fn pack<'a>(&'a mut self, pixels: &'a [u8], lz4: bool) -> Payload<'a> {
        if let Some(colour) = only_colour(pixels) {
            return Payload::Solid(colour);
        }
        if lz4 && pixels.len() >= FEW {
            let most = lz4_flex::block::get_maximum_output_size(pixels.len());
            if self.room.len() < most {
                self.room.resize(most, 0);
            }
            match lz4_flex::block::compress_into(pixels, &mut self.room) {
                Ok(length) if length < pixels.len() => {
                    return Payload::Lz4(Bytes(&self.room[..length]));
                }
                _ => {}
            }
        }
        Payload::Raw(Bytes(pixels))
    }

    /// Gives back what a large window needed.
    pub fn rest(&mut self) {
        self.room.truncate(KEPT);
        self.room.shrink_to(KEPT);
    }
}

fn only_colour(pixels: &[u8]) -> Option<[u8; 4]> {
    let colour: [u8; 4] = *pixels.first_chunk()?;
    // Comparing the pixels with themselves, one further, is one comparison of memory.
    (pixels.len() > 4 && pixels[4..] == pixels[..pixels.len() - 4]).then_some(colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_picture_finds_its_form() {
        let mut packer = Packer::default();
        assert_eq!(
            packer.pack(&[7, 8, 9, 0].repeat(5000), true),
            Payload::Solid([7, 8, 9, 0])
        );
        let mut few = vec![1; 200];
        few[199] = 2;
        assert!(matches!(packer.pack(&few, true), Payload::Raw(_)));
        let mut many = vec![1; 40_000];
        many[39_999] = 2;
        let Payload::Lz4(packed) = packer.pack(&many, true) else {
            panic!("not packed")
        };
        assert_eq!(
            lz4_flex::block::decompress(packed.0, many.len()).unwrap(),
            many
        );
        assert!(matches!(packer.pack(&many, false), Payload::Raw(_)));
        // What nothing makes shorter goes as it is.
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(8192)
        .collect();
        assert!(matches!(packer.pack(&noise, true), Payload::Raw(_)));
    }
}
