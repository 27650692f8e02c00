//! A window's pixels as they were last accepted from the guest: what is painted again whenever the host's
//! display asks, without the guest. Blue, green, red and an unused byte for each; a guest's colours are
//! multiplied with their opacity already, so that what is not opaque lies on black.
use crate::unpack::{BadPixels, Unpacker};
use medley_wire::pixels::{Payload, Placed};
use medley_wire::{GuestRect, PoolBuffer, Rect, Size, Untrusted};
use std::ops::Range;

/// Where shared pixels can be copied from: the pool that guest and host share, which the guest may write to
/// at any time. Nothing is ever looked at in place.
pub trait Pool {
    /// Bytes of it.
    fn bytes(&self) -> usize;
    /// Copies a rectangle's rows out, without gaps, and tells whether that was possible.
    fn copy(&self, buffer: &PoolBuffer, rect: GuestRect, to: &mut [u8]) -> bool;
}

/// No shared memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPool;

impl Pool for NoPool {
    fn bytes(&self) -> usize {
        0
    }
    fn copy(&self, _: &PoolBuffer, _: GuestRect, _: &mut [u8]) -> bool {
        false
    }
}

impl Pool for medley_link::Pool {
    fn bytes(&self) -> usize {
        self.len()
    }
    fn copy(&self, buffer: &PoolBuffer, rect: GuestRect, to: &mut [u8]) -> bool {
        self.copy_out(buffer, rect, to).is_ok()
    }
}

/// The pixels of one window.
#[derive(Clone, Debug)]
pub struct Canvas {
    size: Size,
    bytes: Vec<u8>,
}

impl Canvas {
    /// Black pixels; the system gives them memory as they are painted.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self {
            size,
            bytes: vec![0; size.bytes()],
        }
    }

    /// Pixels of the host's own, row by row; whatever is missing is black.
    #[must_use]
    pub fn filled(size: Size, mut bytes: Vec<u8>) -> Self {
        bytes.resize(size.bytes(), 0);
        Self { size, bytes }
    }

    /// Pixels across and down.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// All rows, top to bottom.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes another size. What lies within both stays, so that nothing flashes until the guest has painted.
    pub fn resize(&mut self, size: Size) {
        if size == self.size {
            return;
        }
        let mut next = Self::new(size);
        let width = size.width().min(self.size.width()) as usize * 4;
        let rows = size.height().min(self.size.height()) as usize;
        for row in 0..rows {
            let (to, from) = (row * next.stride(), row * self.stride());
            next.bytes[to..to + width].copy_from_slice(&self.bytes[from..from + width]);
        }
        *self = next;
    }

    fn stride(&self) -> usize {
        self.size.width() as usize * 4
    }

    /// The bytes of each row of a rectangle; of one that was clipped to another size, as far as there are any.
    pub fn rows(&self, rect: Rect) -> impl Iterator<Item = &[u8]> {
        self.ranges(rect).map(|range| &self.bytes[range])
    }

    /// Where the rows of a rectangle lie in [`bytes`](Self::bytes).
    fn ranges(&self, rect: Rect) -> impl Iterator<Item = Range<usize>> + use<> {
        let (x, y, width, height) = inside(rect, self.size);
        let stride = self.stride();
        (y..y + height).map(move |row| {
            let start = row * stride + x * 4;
            start..start + width * 4
        })
    }

    /// Whether a rectangle is one piece of [`bytes`](Self::bytes), and which.
    #[must_use]
    pub fn piece(&self, rect: Rect) -> Option<&[u8]> {
        let (x, y, width, height) = inside(rect, self.size);
        let whole = x == 0 && width == self.size.width() as usize;
        whole.then(|| &self.bytes[y * self.stride()..(y + height) * self.stride()])
    }

    /// Paints a patch that was placed within this canvas's size.
    ///
    /// # Errors
    /// The payload does not unpack to exactly what it announced; the canvas may then hold some of it.
    pub fn paint(&mut self, patch: &Placed<'_>, unpacker: &mut Unpacker) -> Result<(), BadPixels> {
        let rect = patch.rect.get();
        match patch.payload {
            Payload::Solid(pixel) => {
                for range in self.ranges(rect) {
                    self.bytes[range].as_chunks_mut::<4>().0.fill(pixel);
                }
            }
            Payload::Scroll { dx, dy } => self.scroll(rect, dx, dy),
            Payload::Raw(bytes) => self.copy(patch, bytes.0),
            Payload::Lz4(bytes) | Payload::Zstd(bytes) => {
                let zstd = matches!(patch.payload, Payload::Zstd(_));
                let unpack = if zstd { Unpacker::zstd } else { Unpacker::lz4 };
                // Not cut, and as wide as the window: it can be unpacked where it belongs.
                let whole = rect.size() == patch.size && rect.size().width() == self.size.width();
                if whole {
                    let start = rect.y().unsigned_abs() as usize * self.stride();
                    let range = start..start + patch.size.bytes();
                    return unpack(unpacker, bytes.0, &mut self.bytes[range]);
                }
                let mut room = unpacker.room(patch.size.bytes());
                let unpacked = unpack(unpacker, bytes.0, &mut room);
                if unpacked.is_ok() {
                    self.copy(patch, &room);
                }
                unpacker.give_back(room);
                unpacked?;
            }
        }
        Ok(())
    }

    /// Copies what of a payload's rows was not cut off. The payload has exactly its size's bytes.
    fn copy(&mut self, patch: &Placed<'_>, bytes: &[u8]) {
        let stride = patch.size.width() as usize * 4;
        let (left, above) = (patch.skip.0 as usize * 4, patch.skip.1 as usize);
        let rows = bytes.chunks_exact(stride).skip(above);
        for (range, row) in self.ranges(patch.rect.get()).zip(rows) {
            let width = range.len();
            self.bytes[range].copy_from_slice(&row[left..left + width]);
        }
    }

    /// Moves pixels. Rows are moved from the side that they move to, so that none is overwritten unread.
    fn scroll(&mut self, rect: Rect, dx: i32, dy: i32) {
        let Some(source) = Rect::new(rect.x() + dx, rect.y() + dy, rect.size()) else {
            return;
        };
        let pairs = self.ranges(source).zip(self.ranges(rect));
        let mut pairs: Vec<_> = pairs.collect();
        if dy < 0 {
            pairs.reverse();
        }
        for (from, to) in pairs {
            self.bytes.copy_within(from, to.start);
        }
    }

    /// Copies a rectangle out of shared memory. Tells whether the pool had it all.
    pub fn fetch(&mut self, rect: GuestRect, buffer: &PoolBuffer, pool: &dyn Pool) -> bool {
        // The buffer may be smaller than the window has become.
        let cut = |rect: Rect, size| Untrusted::claim(rect).clip(Rect::whole(size));
        let rect = cut(rect.get(), buffer.size()).and_then(|rect| cut(rect.get(), self.size));
        let Some(rect) = rect else {
            return true;
        };
        let at = rect.get();
        let mut ranges = self.ranges(at);
        if at.size().width() == self.size.width() {
            // Its rows lie one after the other here, too.
            let start = at.y().unsigned_abs() as usize * self.stride();
            let whole = start..start + at.size().bytes();
            return pool.copy(buffer, rect, &mut self.bytes[whole]);
        }
        (0..at.size().height().cast_signed()).all(|row| {
            let line = Rect::new(
                at.x(),
                at.y() + row,
                crate::frame::nearest(at.size().width(), 1),
            );
            let line = line.and_then(|line| cut(line, buffer.size()));
            match (line, ranges.next()) {
                (Some(line), Some(to)) => pool.copy(buffer, line, &mut self.bytes[to]),
                _ => true,
            }
        })
    }
}

/// A rectangle cut to a size: x, y, width, height.
fn inside(rect: Rect, size: Size) -> (usize, usize, usize, usize) {
    let cut = |at: i32, len: u32, most: u32| {
        let start = i64::from(at).clamp(0, i64::from(most));
        let end = (i64::from(at) + i64::from(len)).clamp(start, i64::from(most));
        (start as usize, (end - start) as usize)
    };
    let (x, width) = cut(rect.x(), rect.size().width(), size.width());
    let (y, height) = cut(rect.y(), rect.size().height(), size.height());
    (x, y, width, height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_wire::Bytes;
    use medley_wire::pixels::{Buffer, Format, Patch};
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size::new(width, height).unwrap()
    }

    fn patch(x: i32, y: i32, of: Size, payload: Payload<'_>) -> Untrusted<Patch<'_>> {
        let rect = Rect::new(x, y, of).unwrap();
        let format = Format::Xrgb;
        Untrusted::claim(Patch {
            rect,
            format,
            payload,
        })
    }

    /// Every pixel says where it is.
    fn numbered(size: Size) -> Canvas {
        let mut canvas = Canvas::new(size);
        for (n, pixel) in canvas.bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *pixel = (n as u32 + 1).to_le_bytes();
        }
        canvas
    }

    fn at(canvas: &Canvas, x: i32, y: i32) -> Option<[u8; 4]> {
        let (w, h) = (
            canvas.size.width().cast_signed(),
            canvas.size.height().cast_signed(),
        );
        ((0..w).contains(&x) && (0..h).contains(&y))
            .then(|| canvas.bytes.as_chunks::<4>().0[(y * w + x) as usize])
    }

    proptest! {
        /// Against the plainest model: pixel by pixel out of a copy.
        #[test]
        fn patches_do_what_they_say(
            w in 1..12_u32, h in 1..12_u32, x in -12..12_i32, y in -12..12_i32,
            pw in 1..14_u32, ph in 1..14_u32, dx in -12..12_i32, dy in -12..12_i32, which in 0..4,
        ) {
            let before = numbered(size(w, h));
            let data: Vec<u8> = (0..pw * ph).flat_map(|n| (n % 3 + 0x0100_0000).to_le_bytes()).collect();
            let packed = lz4_flex::block::compress(&data);
            let payload = match which {
                0 => Payload::Raw(Bytes(&data)),
                1 => Payload::Lz4(Bytes(&packed)),
                2 => Payload::Solid([1, 2, 3, 4]),
                _ => Payload::Scroll { dx, dy },
            };
            let mut after = before.clone();
            if let Some(placed) = patch(x, y, size(pw, ph), payload).place(before.size()) {
                after.paint(&placed, &mut Unpacker::default()).unwrap();
            }
            for py in 0..h.cast_signed() {
                for px in 0..w.cast_signed() {
                    let (ix, iy) = (px - x, py - y);
                    let hit = (0..pw.cast_signed()).contains(&ix) && (0..ph.cast_signed()).contains(&iy);
                    let old = at(&before, px, py);
                    let n = (iy * pw.cast_signed() + ix) as usize;
                    let expect = match which {
                        _ if !hit => old,
                        0 | 1 => Some(data.as_chunks::<4>().0[n]),
                        2 => Some([1, 2, 3, 4]),
                        _ => at(&before, px + dx, py + dy).or(old),
                    };
                    prop_assert_eq!(at(&after, px, py), expect, "at {},{}", px, py);
                }
            }
        }

        #[test]
        fn shared_pixels_are_copied_row_by_row(
            w in 1..12_u32, h in 1..12_u32, bw in 1..12_u32, bh in 1..12_u32, pad in 0..3_u32,
        ) {
            let memory: Vec<u8> = (0..4000_u32).map(|n| (n % 251) as u8).collect();
            struct Memory(Vec<u8>);
            impl Pool for Memory {
                fn bytes(&self) -> usize { self.0.len() }
                fn copy(&self, buffer: &PoolBuffer, rect: GuestRect, to: &mut [u8]) -> bool {
                    let rows: Vec<u8> = buffer.rows(rect).flat_map(|row| self.0[row].to_vec()).collect();
                    to.copy_from_slice(&rows);
                    true
                }
            }
            let stride = (bw + pad) * 4;
            let claim = Untrusted::claim(Buffer { offset: 8, stride, size: size(bw, bh), format: Format::Xrgb });
            let buffer = claim.within(memory.len()).unwrap();
            let mut canvas = Canvas::new(size(w, h));
            let all = Untrusted::claim(Rect::whole(size(w, h))).clip(Rect::whole(size(w, h))).unwrap();
            prop_assert!(canvas.fetch(all, &buffer, &Memory(memory.clone())));
            for y in 0..h {
                for x in 0..w {
                    let start = (8 + y * stride + x * 4) as usize;
                    let expect = if x < bw && y < bh { &memory[start..start + 4] } else { &[0; 4] };
                    prop_assert_eq!(&at(&canvas, x.cast_signed(), y.cast_signed()).unwrap(), expect);
                }
            }
        }
    }

    #[test]
    fn another_size_keeps_what_was_there() {
        let mut canvas = numbered(size(3, 2));
        canvas.resize(size(2, 3));
        let pixels: Vec<u8> = canvas.bytes.iter().copied().step_by(4).collect();
        assert_eq!(pixels, [1, 2, 4, 5, 0, 0]);
    }

    #[test]
    fn a_payload_of_the_wrong_length_is_refused() {
        let data = lz4_flex::block::compress(&[0; 64]);
        let mut canvas = Canvas::new(size(8, 8));
        for of in [size(8, 1), size(8, 3), size(3, 3)] {
            let claim = patch(0, 0, of, Payload::Lz4(Bytes(&data)));
            let placed = claim.place(canvas.size()).unwrap();
            assert!(canvas.paint(&placed, &mut Unpacker::default()).is_err());
        }
    }
}
