//! A guest's picture as a panel takes it: square, small, opacity first.
use crate::event::TRAY_SIDE;
use medley_wire::Size;

/// Pixels across and down, and the pixels: opacity, red, green, blue, colours not multiplied with opacity.
/// Nothing, if there are not exactly four bytes for each pixel.
pub fn square(size: Size, pixels: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (width, height) = (size.width() as usize, size.height() as usize);
    let (from, rest) = pixels.as_chunks::<4>();
    if from.len() != width * height || !rest.is_empty() {
        return None;
    }
    let long = width.max(height);
    let side = long.min(TRAY_SIDE.into());
    let shrunk = |length: usize| (length * side / long).max(1);
    let (across, down) = (shrunk(width), shrunk(height));
    let (left, top) = ((side - across) / 2, (side - down) / 2);
    let mut square = vec![0; side * side * 4];
    for y in 0..down {
        for x in 0..across {
            let (columns, rows) = (source(x, across, width), source(y, down, height));
            let count = (columns.len() * rows.len()) as u32;
            let mut sum = [0_u32; 4];
            for row in rows {
                for pixel in &from[row * width..][columns.clone()] {
                    for (sum, part) in sum.iter_mut().zip(pixel) {
                        *sum += u32::from(*part);
                    }
                }
            }
            let at = ((top + y) * side + left + x) * 4;
            square[at..at + 4].copy_from_slice(&plain(sum.map(|sum| sum / count)));
        }
    }
    Some((side as u16, square))
}

/// The pixels that become the one at `at`, out of `count`; at least one.
fn source(at: usize, count: usize, length: usize) -> std::ops::Range<usize> {
    at * length / count..((at + 1) * length).div_ceil(count)
}

/// From blue, green, red, opacity. A guest's colours may be brighter than its opacity allows.
fn plain([blue, green, red, alpha]: [u32; 4]) -> [u8; 4] {
    let part = |colour: u32| {
        let whole = (colour * 255 + alpha / 2).checked_div(alpha);
        whole.unwrap_or(0).min(255) as u8
    };
    [alpha as u8, part(red), part(green), part(blue)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size::new(width, height).unwrap()
    }

    #[test]
    fn small_pictures_stay() {
        let pixels = [1, 2, 3, 255, 0, 0, 0, 0, 40, 20, 10, 128, 9, 9, 9, 9];
        let (side, square) = square(size(2, 2), &pixels).unwrap();
        assert_eq!(side, 2);
        assert_eq!(square[..8], [255, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(square[8..], [128, 20, 40, 80, 9, 255, 255, 255]);
    }

    #[test]
    fn large_ones_are_averaged() {
        // Columns of black and white: grey, whatever the scale.
        let pixels: Vec<u8> = (0..256 * 256)
            .flat_map(|n| if n % 2 == 0 { [255; 4] } else { [0, 0, 0, 255] })
            .collect();
        let (side, square) = square(size(256, 256), &pixels).unwrap();
        assert_eq!(side, TRAY_SIDE);
        for [alpha, red, green, blue] in square.as_chunks::<4>().0 {
            assert_eq!(*alpha, 255);
            assert!(
                (85..=170).contains(red) && red == green && green == blue,
                "{red}"
            );
        }
    }

    #[test]
    fn oblong_ones_lie_in_the_middle() {
        let (side, square) = square(size(96, 2), &[255; 96 * 2 * 4]).unwrap();
        assert_eq!(side, 48);
        let full: Vec<_> = (0..48)
            .filter(|y| square[y * 48 * 4..(y + 1) * 48 * 4] == [255; 48 * 4])
            .collect();
        let empty = square
            .chunks(48 * 4)
            .filter(|row| row.iter().all(|b| *b == 0))
            .count();
        assert_eq!((full, empty), (vec![23], 47));
    }

    #[test]
    fn bytes_that_are_no_picture() {
        for bytes in [0, 15, 17, 20] {
            assert_eq!(square(size(2, 2), &vec![0; bytes]), None);
        }
    }

    proptest! {
        #[test]
        fn any_size(width in 1..257_u32, height in 1..257_u32, byte: u8) {
            let size = size(width, height);
            let (side, square) = square(size, &vec![byte; size.bytes()]).unwrap();
            prop_assert_eq!(usize::from(side).pow(2) * 4, square.len());
            prop_assert!(side <= TRAY_SIDE && u32::from(side) <= width.max(height));
            prop_assert!(square.as_chunks::<4>().0.iter().any(|pixel| pixel[0] == byte));
        }
    }
}
