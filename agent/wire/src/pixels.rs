//! Pixels on their way: patches in the stream, buffers in shared memory, small pictures. Nothing here
//! decompresses; it says beforehand, to the byte, how much room that takes.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::{Fault, FaultKind};
use crate::fuzz::Dice;
use crate::geometry::{GuestRect, Rect, Size};
use crate::limits::PIXEL_BYTES;
use crate::text::Bytes;
use crate::untrusted::Untrusted;

choice! {
    /// How four bytes make a pixel.
    pub enum Format {
        /// Blue, green, red, unused.
        Xrgb = 0,
        /// Blue, green, red, opacity; colours are multiplied with it already.
        Argb = 1,
    }
}

choice! {
    /// How a patch's pixels are packed.
    enum Codec { Raw = 0, Lz4 = 1, Zstd = 2, Solid = 3, Scroll = 4 }
}

/// The pixels of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Rows from top to bottom, exactly four bytes per pixel.
    Raw(Bytes<'a, PIXEL_BYTES>),
    /// One LZ4 block of the same, without a length in front; shorter than it.
    Lz4(Bytes<'a, PIXEL_BYTES>),
    /// One zstd frame of the same; shorter than it.
    Zstd(Bytes<'a, PIXEL_BYTES>),
    /// All pixels are this one.
    Solid([u8; 4]),
    /// The pixels lie in the window already, so far to the right and so far down.
    Scroll {
        /// Pixels to the right of the patch's place; negative is to the left.
        dx: i32,
        /// Pixels below the patch's place; negative is above.
        dy: i32,
    },
}

/// A rectangle of a window and what it shows now. Packed and unpacked, it has at most [`PIXEL_BYTES`];
/// a patch that is filled or scrolled may be as large as a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch<'a> {
    /// Where, seen from the window's corner.
    pub rect: Rect,
    /// How four bytes make a pixel.
    pub format: Format,
    /// What.
    pub payload: Payload<'a>,
}

impl<'a> Wire<'a> for Patch<'a> {
    const MIN: usize = Rect::MIN + 2 + 4;
    const MAX: usize = Rect::MAX + 2 + Bytes::<PIXEL_BYTES>::MAX;

    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let rect = Rect::take(reader).map_err(|f| f.in_field("rect"))?;
        let format = Format::take(reader).map_err(|f| f.in_field("format"))?;
        let codec = Codec::take(reader).map_err(|f| f.in_field("codec"))?;
        let whole = rect.size().bytes();
        let data = |reader: &mut Reader<'a>, fits: fn(usize, usize) -> bool| {
            let bytes = Bytes::<PIXEL_BYTES>::take(reader)?;
            let got = bytes.0.len();
            if whole > PIXEL_BYTES {
                return Err(Fault::new(FaultKind::TooMany {
                    got: whole,
                    max: PIXEL_BYTES,
                }));
            }
            if fits(got, whole) {
                Ok(bytes)
            } else {
                Err(Fault::value(got as u64))
            }
        };
        let packed = |got, whole| 0 < got && got < whole;
        let payload = match codec {
            Codec::Raw => data(reader, |got, whole| got == whole).map(Payload::Raw),
            Codec::Lz4 => data(reader, packed).map(Payload::Lz4),
            Codec::Zstd => data(reader, packed).map(Payload::Zstd),
            Codec::Solid => Wire::take(reader).map(Payload::Solid),
            Codec::Scroll => {
                let (dx, dy) = (i32::take(reader)?, i32::take(reader)?);
                match rect.x().checked_add(dx).zip(rect.y().checked_add(dy)) {
                    Some((x, y)) if Rect::new(x, y, rect.size()).is_some() => {
                        Ok(Payload::Scroll { dx, dy })
                    }
                    _ => Err(Fault::value(dx.cast_unsigned().into())),
                }
            }
        };
        payload
            .map(|payload| Self {
                rect,
                format,
                payload,
            })
            .map_err(|f| f.in_field("payload"))
    }

    fn put(&self, writer: &mut Writer<'_>) {
        self.rect.put(writer);
        self.format.put(writer);
        match &self.payload {
            Payload::Raw(bytes) => (Codec::Raw.put(writer), bytes.put(writer)).1,
            Payload::Lz4(bytes) => (Codec::Lz4.put(writer), bytes.put(writer)).1,
            Payload::Zstd(bytes) => (Codec::Zstd.put(writer), bytes.put(writer)).1,
            Payload::Solid(pixel) => (Codec::Solid.put(writer), pixel.put(writer)).1,
            Payload::Scroll { dx, dy } => {
                Codec::Scroll.put(writer);
                dx.put(writer);
                dy.put(writer);
            }
        }
    }

    fn len(&self) -> usize {
        Rect::MIN
            + 2
            + match &self.payload {
                Payload::Raw(bytes) | Payload::Lz4(bytes) | Payload::Zstd(bytes) => bytes.len(),
                Payload::Solid(_) => 4,
                Payload::Scroll { .. } => 8,
            }
    }

    fn invent(dice: &mut Dice<'a>) -> Self {
        let format = Format::invent(dice);
        let place = Rect::invent(dice);
        let (width, height) = (dice.below(6) + 1, dice.below(6) + 1);
        let small = Size::new(width, height)
            .and_then(|size| Rect::new(place.x() % 64, place.y() % 64, size))
            .unwrap_or(place);
        let whole = small.size().bytes();
        let (rect, payload) = match (Codec::invent(dice), dice.bytes(whole)) {
            (Codec::Raw, bytes) if bytes.len() == whole => (small, Payload::Raw(Bytes(bytes))),
            (Codec::Lz4, [_, bytes @ ..]) if !bytes.is_empty() => {
                (small, Payload::Lz4(Bytes(bytes)))
            }
            (Codec::Zstd, [_, bytes @ ..]) if !bytes.is_empty() => {
                (small, Payload::Zstd(Bytes(bytes)))
            }
            (Codec::Scroll, _) => {
                let mut step = || dice.below(129).cast_signed() - 64;
                (
                    small,
                    Payload::Scroll {
                        dx: step(),
                        dy: step(),
                    },
                )
            }
            _ => (place, Payload::Solid(dice.array())),
        };
        Self {
            rect,
            format,
            payload,
        }
    }
}

/// A patch that was clipped to its window.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Where it is painted.
    pub rect: GuestRect,
    /// Columns and rows of the payload that lie left of and above `rect` and are skipped.
    pub skip: (u32, u32),
    /// The payload's own size: its rows are this wide, and unpacked it has exactly [`Size::bytes`].
    pub size: Size,
    /// How four bytes make a pixel.
    pub format: Format,
    /// What is painted. Of a scroll, the source of `rect` lies inside the window too.
    pub payload: Payload<'a>,
}

impl<'a> Untrusted<Patch<'a>> {
    /// The patch within a window of that size; nothing, if no part of it lies there. A window may have
    /// become smaller since the guest painted, so a patch that sticks out is no fault.
    #[must_use]
    pub fn place(&self, window: Size) -> Option<Placed<'a>> {
        let Patch {
            rect,
            format,
            payload,
        } = *self.raw();
        let bounds = Rect::whole(window);
        let mut target = Untrusted::claim(rect).clip(bounds)?;
        if let Payload::Scroll { dx, dy } = payload {
            // What is painted is where both the target and its source lie inside.
            let shift = |r: Rect, dx: i32, dy: i32| Rect::new(r.x() + dx, r.y() + dy, r.size());
            let source = Untrusted::claim(shift(target.get(), dx, dy)?)
                .clip(bounds)?
                .get();
            target = Untrusted::claim(shift(source, -dx, -dy)?).clip(bounds)?;
        }
        let to = target.get();
        let skip = (to.x().abs_diff(rect.x()), to.y().abs_diff(rect.y()));
        Some(Placed {
            rect: target,
            skip,
            size: rect.size(),
            format,
            payload,
        })
    }
}

record! {
    /// Where a window's pixels lie in the memory that guest and host share.
    pub struct Buffer {
        /// Bytes from the pool's beginning to the first pixel.
        pub offset: u64,
        /// Bytes from a row to the next.
        pub stride: u32,
        /// The window's size.
        pub size: Size,
        /// How four bytes make a pixel.
        pub format: Format,
    }
}

/// A buffer that lies wholly inside the pool. The guest may write to it at any time: copy out, then look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBuffer {
    offset: usize,
    stride: usize,
    size: Size,
    format: Format,
}

impl Untrusted<Buffer> {
    /// The buffer, if every pixel of it lies inside a pool of `pool` bytes, at a multiple of four, and rows
    /// do not overlap.
    #[must_use]
    pub fn within(&self, pool: usize) -> Option<PoolBuffer> {
        let Buffer {
            offset,
            stride,
            size,
            format,
        } = self.raw().clone();
        let row = u64::from(size.width()) * 4;
        let last = u64::from(stride) * u64::from(size.height() - 1) + row;
        let good = u64::from(stride) >= row
            && offset % 4 == 0
            && stride % 4 == 0
            && offset.checked_add(last)? <= pool as u64;
        let offset = usize::try_from(offset).ok().filter(|_| good)?;
        Some(PoolBuffer {
            offset,
            stride: stride as usize,
            size,
            format,
        })
    }
}

impl PoolBuffer {
    /// The window's size.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// How four bytes make a pixel.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The bytes in the pool of each row of `rect`, as far as it lies inside the buffer.
    pub fn rows(&self, rect: GuestRect) -> impl Iterator<Item = core::ops::Range<usize>> + use<> {
        let Self {
            offset,
            stride,
            size,
            ..
        } = *self;
        let inside = Untrusted::claim(rect.get())
            .clip(Rect::whole(size))
            .map(GuestRect::get);
        inside.into_iter().flat_map(move |rect| {
            let (x, y) = (
                rect.x().unsigned_abs() as usize,
                rect.y().unsigned_abs() as usize,
            );
            (y..y + rect.size().height() as usize).map(move |row| {
                let start = offset + row * stride + x * 4;
                start..start + rect.size().width() as usize * 4
            })
        })
    }
}

/// A small picture with opacity, at most `SIDE` pixels wide and high: a cursor or an icon. Raw, so that no
/// parser of pictures ever sees a guest's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture<'a, const SIDE: usize> {
    size: Size,
    pixels: &'a [u8],
}

impl<'a, const SIDE: usize> Picture<'a, SIDE> {
    /// A picture, if it is not too large and has exactly four bytes for each pixel ([`Format::Argb`]).
    #[must_use]
    pub fn new(size: Size, pixels: &'a [u8]) -> Option<Self> {
        let fits = size.width().max(size.height()) as usize <= SIDE && pixels.len() == size.bytes();
        fits.then_some(Self { size, pixels })
    }

    /// Pixels across and down.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Rows from top to bottom, as in [`Format::Argb`].
    #[must_use]
    pub const fn pixels(&self) -> &'a [u8] {
        self.pixels
    }
}

impl<'a, const SIDE: usize> Wire<'a> for Picture<'a, SIDE> {
    const MIN: usize = Size::MIN + 4;
    const MAX: usize = Size::MAX + SIDE * SIDE * 4;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let size = Size::take(reader)?;
        let got = size.width().max(size.height()) as usize;
        if got > SIDE {
            return Err(Fault::new(FaultKind::TooMany { got, max: SIDE }));
        }
        Ok(Self {
            size,
            pixels: reader.bytes(size.bytes())?,
        })
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.size.put(writer);
        writer.bytes(self.pixels);
    }
    fn len(&self) -> usize {
        Size::MIN + self.pixels.len()
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        let (width, height) = (dice.below(4) + 1, dice.below(4) + 1);
        Size::new(width, height)
            .and_then(|size| Self::new(size, dice.bytes(size.bytes())))
            .unwrap_or_else(Self::dot)
    }
}

impl<const SIDE: usize> Picture<'_, SIDE> {
    /// One pixel that shows nothing.
    fn dot() -> Self {
        Self {
            size: Size::DOT,
            pixels: &[0; 4],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size::new(width, height).unwrap()
    }

    fn patch(x: i32, y: i32, of: Size, payload: Payload<'_>) -> Untrusted<Patch<'_>> {
        let rect = Rect::new(x, y, of).unwrap();
        Untrusted::claim(Patch {
            rect,
            format: Format::Xrgb,
            payload,
        })
    }

    #[test]
    fn a_patch_that_sticks_out_is_cut() {
        let placed = patch(-3, 8, size(10, 10), Payload::Solid([0; 4]))
            .place(size(20, 12))
            .unwrap();
        let rect = placed.rect.get();
        assert_eq!((rect.x(), rect.y(), rect.size()), (0, 8, size(7, 4)));
        assert_eq!(placed.skip, (3, 0));
        assert!(
            patch(20, 0, size(1, 1), Payload::Solid([0; 4]))
                .place(size(20, 12))
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn a_scroll_never_leaves_the_window(
            x in -40..40_i32, y in -40..40_i32, w in 1..40_u32, h in 1..40_u32,
            dx in -40..40_i32, dy in -40..40_i32, ww in 1..40_u32, wh in 1..40_u32,
        ) {
            let window = Rect::whole(size(ww, wh));
            if let Some(placed) = patch(x, y, size(w, h), Payload::Scroll { dx, dy }).place(size(ww, wh)) {
                let to = placed.rect.get();
                let from = Rect::new(to.x() + dx, to.y() + dy, to.size()).unwrap();
                prop_assert!(window.contains(to) && window.contains(from));
            }
        }

        #[test]
        fn rows_stay_inside_the_pool(
            offset in 0..4000_u64, stride in 0..300_u32, w in 1..60_u32, h in 1..60_u32, pool in 0..9000_usize,
            rect in (0..60_i32, 0..60_i32, 1..60_u32, 1..60_u32),
        ) {
            let claim = Untrusted::claim(Buffer { offset, stride, size: size(w, h), format: Format::Xrgb });
            if let Some(buffer) = claim.within(pool) {
                // A rectangle that was clipped to another size than the buffer's, as in a race.
                let rect = Rect::new(rect.0, rect.1, size(rect.2, rect.3)).unwrap();
                let rect = Untrusted::claim(rect).clip(Rect::whole(size(100, 100))).unwrap();
                let rows: Vec<_> = buffer.rows(rect).collect();
                prop_assert!(rows.iter().all(|row| row.end <= pool && row.start as u64 >= offset));
                prop_assert!(rows.is_sorted_by(|a, b| a.end <= b.start));
            }
        }
    }

    #[test]
    fn buffers_beyond_the_pool() {
        let buffer = |offset, stride| {
            Untrusted::claim(Buffer {
                offset,
                stride,
                size: size(10, 10),
                format: Format::Argb,
            })
        };
        assert!(buffer(0, 40).within(400).is_some());
        for (offset, stride, pool) in [
            (0, 40, 399),
            (4, 40, 400),
            (u64::MAX - 3, 40, 400),
            (0, 36, 400),
            (0, u32::MAX - 3, 400),
            (2, 40, 500),
        ] {
            assert_eq!(
                buffer(offset, stride).within(pool),
                None,
                "{offset} {stride} {pool}"
            );
        }
    }

    #[test]
    fn sizes_that_do_not_match_are_refused() {
        let encode = |patch: Patch<'_>| {
            let mut bytes = vec![0; patch.len()];
            patch.put(&mut Writer::new(&mut bytes));
            Patch::take(&mut Reader::new(&bytes))
                .map(|_| ())
                .map_err(|f| f.field)
        };
        let of = |size, payload| Patch {
            rect: Rect::whole(size),
            format: Format::Xrgb,
            payload,
        };
        assert_eq!(
            encode(of(size(2, 2), Payload::Raw(Bytes(&[0; 16])))),
            Ok(())
        );
        assert_eq!(
            encode(of(size(2, 2), Payload::Raw(Bytes(&[0; 15])))),
            Err("payload")
        );
        assert_eq!(
            encode(of(size(2, 2), Payload::Zstd(Bytes(&[0; 16])))),
            Err("payload")
        );
        assert_eq!(
            encode(of(size(2, 2), Payload::Lz4(Bytes(&[])))),
            Err("payload")
        );
        // A bomb: few bytes that claim to be a gigabyte of pixels.
        assert_eq!(
            encode(of(size(16384, 16384), Payload::Zstd(Bytes(&[0; 99])))),
            Err("payload")
        );
        assert_eq!(
            encode(of(size(16384, 16384), Payload::Solid([1; 4]))),
            Ok(())
        );
        assert_eq!(
            encode(of(
                size(9, 9),
                Payload::Scroll {
                    dx: i32::MAX,
                    dy: 0
                }
            )),
            Err("payload")
        );
    }
}
