//! Words that are written faintly over a guest's pixels, again and again: whoever photographs a window
//! photographs them, too.
use medley_wire::Rect;

/// What is written: which pixels of a rectangle the words cover.
#[derive(Debug)]
pub struct Watermark {
    width: usize,
    height: usize,
    bits: Vec<bool>,
}

/// Pixels between two watermarks, across and down.
const APART: (usize, usize) = (90, 70);

impl Watermark {
    /// Words as the pixels that they cover, row by row; whatever is missing is not covered.
    #[must_use]
    pub fn new(width: usize, height: usize, mut bits: Vec<bool>) -> Self {
        bits.resize(width * height, false);
        Self {
            width,
            height,
            bits,
        }
    }

    /// Writes itself over rows of a guest's pixels: a quarter of grey, visible on black and white.
    pub fn over(&self, bytes: &mut [u8], part: Rect) {
        let (across, down) = (self.width + APART.0, self.height + APART.1);
        let width = part.size().width() as usize;
        let (left, top) = (
            part.x().unsigned_abs() as usize,
            part.y().unsigned_abs() as usize,
        );
        for (row, line) in bytes.chunks_exact_mut(width * 4).enumerate() {
            let y = top + row;
            let inner = y % down;
            if inner >= self.height {
                continue;
            }
            // Every other line of them is shifted, so that no strip of a window is free of them.
            let shift = (y / down % 2) * (across / 2);
            for (column, pixel) in line.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let x = (left + column + shift) % across;
                if x < self.width && self.bits[inner * self.width + x] {
                    for part in &mut pixel[..3] {
                        *part = ((u16::from(*part) * 3 + 128) / 4) as u8;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_wire::Size;

    #[test]
    fn a_watermark_is_where_it_is_however_it_is_painted() {
        let mark = Watermark::new(3, 2, vec![true, false, true, false, true]);
        let size = Size::new(200, 160).unwrap();
        let mut all = vec![200; size.bytes()];
        mark.over(&mut all, Rect::whole(size));
        let part = Rect::new(90, 70, Size::new(100, 60).unwrap()).unwrap();
        let mut some = vec![200; part.size().bytes()];
        mark.over(&mut some, part);
        for row in 0..60 {
            let from = ((70 + row) * 200 + 90) * 4;
            assert_eq!(some[row * 400..row * 400 + 400], all[from..from + 400]);
        }
        assert!(all.iter().any(|byte| *byte != 200));
    }
}
