//! Patches of pixels painted into a window's canvas, beside a picture that is painted pixel by pixel. What is
//! packed is unpacked a second time by a decoder that has seen nothing else.

use std::io::Read;

use medley_presenter::canvas::Canvas;
use medley_presenter::unpack::Unpacker;
use medley_wire::pixels::{Format, Patch, Payload, Placed};
use medley_wire::{Bytes, Dice, Rect, Size, Untrusted};

use super::Target;

pub const TARGET: Target = Target {
    name: "presenter_pixels",
    about: "patches of all codecs, packed by us or by nobody: painted where they belong and nowhere else",
    max_len: 8192,
    run,
};

/// Patches of one run.
const PATCHES: u32 = 24;
/// Bytes of which a picture is made, again and again.
const SEED: usize = 64;

fn run(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let mut size = side(&mut dice);
    let mut canvas = Canvas::new(size);
    let mut unpacker = Unpacker::default();
    for _ in 0..PATCHES {
        if dice.is_empty() {
            return;
        }
        if dice.below(16) == 15 {
            size = side(&mut dice);
            canvas.resize(size);
        }
        let of = side(&mut dice);
        let (x, y) = (place(&mut dice), place(&mut dice));
        let Some(rect) = Rect::new(x, y, of) else {
            continue;
        };
        let mut packed = Vec::new();
        let Some(payload) = payload(&mut dice, of, &mut packed) else {
            continue;
        };
        let patch = Untrusted::claim(Patch {
            rect,
            format: Format::Xrgb,
            payload,
        });
        let Some(placed) = patch.place(size) else {
            continue;
        };
        let before = canvas.bytes().to_vec();
        let painted = canvas.paint(&placed, &mut unpacker);
        let expected = expected(&before, size, &placed);
        assert_eq!(painted.is_ok(), expected.is_some());
        match expected {
            Some(expected) => assert!(canvas.bytes() == expected, "painted otherwise"),
            // It may hold some of what failed, but only where that was to be.
            None => assert!(outside(canvas.bytes(), &before, size, placed.rect.get())),
        }
    }
}

fn side(dice: &mut Dice<'_>) -> Size {
    let (width, height) = (dice.below(40) + 1, dice.below(40) + 1);
    Size::new(width, height).unwrap_or(medley_presenter::frame::nearest(1, 1))
}

fn place(dice: &mut Dice<'_>) -> i32 {
    dice.below(64).cast_signed() - 24
}

/// What a patch of that size is made of: by a guest that packs well, or by one that does not.
fn payload<'p>(dice: &mut Dice<'_>, of: Size, packed: &'p mut Vec<u8>) -> Option<Payload<'p>> {
    let bytes = of.bytes();
    let kind = dice.below(8);
    match kind {
        0 => {
            let pixel = dice.bytes(4).first_chunk().copied();
            return Some(Payload::Solid(pixel.unwrap_or_default()));
        }
        1 => {
            let (dx, dy) = (place(dice), place(dice));
            return Some(Payload::Scroll { dx, dy });
        }
        2 | 3 => {
            // As it comes: hardly ever a block or a frame.
            let length = dice.below(512) as usize;
            packed.extend(dice.bytes(length.min(bytes - 1)));
        }
        _ => {
            let seed = dice.bytes(bytes.min(SEED));
            let rows: Vec<u8> = seed.iter().copied().cycle().take(bytes).collect();
            let rows = if rows.is_empty() {
                vec![0; bytes]
            } else {
                rows
            };
            match kind {
                4 => packed.extend(lz4_flex::block::compress(&rows)),
                5 => packed.extend(ruzstd::encoding::compress_to_vec(
                    &rows[..],
                    ruzstd::encoding::CompressionLevel::Fastest,
                )),
                _ => packed.extend(&rows),
            }
            // One byte of it becomes another one now and then.
            if dice.below(4) == 3 {
                let at = dice.below(1 << 16) as usize % packed.len();
                packed[at] = dice.below(256) as u8;
            }
        }
    }
    let data = Bytes(packed.as_slice());
    Some(match kind {
        2 | 4 => Payload::Lz4(data),
        3 | 5 => Payload::Zstd(data),
        _ => Payload::Raw(data),
    })
}

/// The canvas as it shall be; nothing, if the payload is not what it says.
fn expected(before: &[u8], size: Size, placed: &Placed<'_>) -> Option<Vec<u8>> {
    let mut after = before.to_vec();
    let rows = match placed.payload {
        Payload::Raw(bytes) => bytes.0.to_vec(),
        Payload::Lz4(bytes) => lz4(bytes.0, placed.size.bytes())?,
        Payload::Zstd(bytes) => zstd(bytes.0, placed.size.bytes())?,
        Payload::Solid(pixel) => pixel.repeat(placed.size.bytes() / 4),
        Payload::Scroll { .. } => Vec::new(),
    };
    let rect = placed.rect.get();
    let stride = size.width() as usize * 4;
    for row in 0..rect.size().height() as usize {
        for column in 0..rect.size().width() as usize {
            let (x, y) = (
                rect.x().unsigned_abs() as usize + column,
                rect.y().unsigned_abs() as usize + row,
            );
            let pixel = match placed.payload {
                Payload::Scroll { dx, dy } => {
                    let from = |n: usize, by: i32| usize::try_from(n as i64 + i64::from(by)).ok();
                    let at = from(y, dy)? * stride + from(x, dx)? * 4;
                    before.get(at..at + 4)?
                }
                _ => {
                    let (left, above) = placed.skip;
                    let width = placed.size.width() as usize;
                    let at = (row + above as usize) * width + column + left as usize;
                    &rows[at * 4..at * 4 + 4]
                }
            };
            after[y * stride + x * 4..][..4].copy_from_slice(pixel);
        }
    }
    Some(after)
}

/// A block that unpacks to exactly so many bytes, unpacked into more room than that.
fn lz4(from: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut room = vec![0; 2 * bytes + 64];
    let got = lz4_flex::block::decompress_into(from, &mut room).ok()?;
    room.truncate(got);
    (got == bytes).then_some(room)
}

/// Frames that unpack to exactly so many bytes, unpacked as a stream.
fn zstd(from: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(medley_wire::limits::PIXEL_BYTES as u64);
    let mut room = vec![0; bytes];
    let got = decoder.decode_all(from, &mut room).ok()?;
    if got != bytes {
        return None;
    }
    // The same by the other way, as far as that goes: of several frames it reads the first.
    let mut streamed = Vec::new();
    if let Ok(stream) = ruzstd::decoding::StreamingDecoder::new(from)
        && stream
            .take(2 * bytes as u64)
            .read_to_end(&mut streamed)
            .is_ok()
    {
        assert!(room.starts_with(&streamed), "two ways, two pictures");
    }
    Some(room)
}

/// Whether nothing but a rectangle changed.
fn outside(after: &[u8], before: &[u8], size: Size, rect: Rect) -> bool {
    let width = size.width() as usize;
    let pairs = after
        .as_chunks::<4>()
        .0
        .iter()
        .zip(before.as_chunks::<4>().0);
    pairs.enumerate().all(|(n, (new, old))| {
        let (x, y) = ((n % width) as i32, (n / width) as i32);
        let within = |n: i32, from: i32, len: u32| (from..from + len.cast_signed()).contains(&n);
        new == old
            || (within(x, rect.x(), rect.size().width())
                && within(y, rect.y(), rect.size().height()))
    })
}
