//! A guest's picture, made anew: decoded here, where nothing can be opened and nothing started, and written again from
//! its pixels alone. What a host's app gets is a PNG of ours, without whatever else the guest's had in it.
use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Limits, Transformations};
use std::io::Cursor;

/// Pixels of the largest picture: a screen of 4K, with room to spare. It is decoded where chords are heard, too.
const PIXELS: u64 = 9 << 20;

/// Bytes that the decoder may take besides the pixels.
const WORK: usize = 16 << 20;

/// The same picture in a new file of at most that many bytes; nothing, if it is none, or is too large.
#[must_use]
pub fn remade(bytes: &[u8], most: u64) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: WORK });
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().ok()?;
    let (width, height) = reader.info().size();
    if u64::from(width) * u64::from(height) > PIXELS {
        return None;
    }
    let mut pixels = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut pixels).ok()?;
    if frame.bit_depth != BitDepth::Eight || frame.color_type == ColorType::Indexed {
        return None;
    }
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, width, height);
    encoder.set_color(frame.color_type);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().ok()?;
    writer
        .write_image_data(pixels.get(..frame.buffer_size())?)
        .ok()?;
    writer.finish().ok()?;
    (out.len() as u64 <= most).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(side: u32, more: impl FnOnce(&mut Encoder<'_, &mut Vec<u8>>)) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, side, side);
        encoder.set_color(ColorType::Rgba);
        more(&mut encoder);
        let mut writer = encoder.write_header().unwrap();
        let pixels: Vec<u8> = (0..side * side * 4).map(|n| (n / 3) as u8).collect();
        writer.write_image_data(&pixels).unwrap();
        writer.finish().unwrap();
        out
    }

    fn pixels(bytes: &[u8]) -> Vec<u8> {
        let mut reader = Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        pixels.truncate(frame.buffer_size());
        pixels
    }

    #[test]
    fn pixels_stay_and_all_else_goes() {
        let guests = picture(40, |encoder| {
            encoder
                .add_text_chunk("Comment".into(), "from the guest".into())
                .unwrap();
        });
        let mut long = guests.clone();
        long.extend(b"a tail that no decoder reads");
        let ours = remade(&long, 1 << 20).unwrap();
        assert_eq!(pixels(&ours), pixels(&guests));
        let has = |what: &[u8]| ours.windows(what.len()).any(|part| part == what);
        assert!(!has(b"from the guest") && !has(b"tEXt") && !has(b"a tail"));
    }

    #[test]
    fn what_is_no_picture_or_too_large_is_nothing() {
        let whole = picture(40, |_| {});
        assert_eq!(remade(&whole, 20), None, "more bytes than are allowed");
        for cut in [0, 7, 8, 20, 33, 40, whole.len() / 2] {
            assert_eq!(remade(&whole[..cut], 1 << 20), None, "cut at {cut}");
        }
        assert_eq!(remade(b"GIF89a", 1 << 20), None);
        // Dimensions that its bytes do not bear out: nothing is taken for them.
        let mut huge = whole.clone();
        huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(remade(&huge, 1 << 20), None);
    }
}
