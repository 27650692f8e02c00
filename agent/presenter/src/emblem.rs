//! Pictures of a guest's that the desktop shows elsewhere than in a framed window (icons in a task bar, pointers):
//! they can look like anything, but each carries the workspace's colour, so that none looks like the host's.
use crate::frame::{Colour, Look};
use medley_wire::Size;

/// An icon with a corner in the workspace's colour. Its pixels are blue, green, red and opacity, colours
/// multiplied with it.
#[must_use]
pub fn badged(size: Size, pixels: &[u8], look: Look) -> Vec<[u8; 4]> {
    let (width, height) = (size.width(), size.height());
    let corner = (width.min(height) * 2 / 5).max(1);
    let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let numbered = (0_u32..).zip(pixels.as_chunks::<4>().0);
    numbered
        .map(|(n, pixel)| {
            let (x, y) = (n % width, n / width);
            let marked = x + corner >= width && y + corner >= height;
            if marked {
                (0xff00_0000 | look.at(side(x), side(y)).pixel()).to_le_bytes()
            } else {
                *pixel
            }
        })
        .collect()
}

/// A picture one pixel larger on each side, with every clear pixel beside one that is not in the colour. A
/// picture in which nothing is seen becomes a dot.
#[must_use]
pub fn outlined(size: Size, pixels: &[u8], colour: Colour) -> (u16, u16, Vec<u8>) {
    let (width, height) = (size.width() as usize, size.height() as usize);
    let (wide, high) = (width + 2, height + 2);
    let ink = (colour.pixel() | 0xff00_0000).to_le_bytes();
    let source = pixels.as_chunks::<4>().0;
    let seen = |x: usize, y: usize| {
        let inside = (1..=width).contains(&x) && (1..=height).contains(&y);
        inside
            .then(|| source[(y - 1) * width + x - 1])
            .filter(|p| p[3] >= 0x40)
    };
    let mut out = Vec::with_capacity(wide * high * 4);
    for y in 0..high {
        for x in 0..wide {
            let near = || {
                let around = [(-1, 0), (1, 0), (0, -1_isize), (0, 1)];
                around.iter().any(|(dx, dy)| {
                    let at = x.checked_add_signed(*dx).zip(y.checked_add_signed(*dy));
                    at.is_some_and(|(x, y)| seen(x, y).is_some())
                })
            };
            out.extend_from_slice(&match seen(x, y) {
                // Colours are not brighter than their opacity, or the display would draw something else.
                Some([b, g, r, a]) => [b.min(a), g.min(a), r.min(a), a],
                None if near() => ink,
                None => [0; 4],
            });
        }
    }
    if out.iter().all(|byte| *byte == 0) {
        out[..4].copy_from_slice(&ink);
    }
    let side = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    (side(wide), side(high), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_a_pointer_has_the_workspaces_outline() {
        let red = Colour(255, 0, 0);
        let dot = Size::new(1, 1).unwrap();
        let (width, height, bytes) = outlined(dot, &[9, 9, 9, 255], red);
        assert_eq!((width, height), (3, 3));
        let pixels = bytes.as_chunks::<4>().0;
        let ink = [0, 0, 255, 255];
        assert_eq!(pixels[4], [9, 9, 9, 255]);
        assert!([1, 3, 5, 7].iter().all(|n| pixels[*n] == ink));
        assert!([0, 2, 6, 8].iter().all(|n| pixels[*n] == [0; 4]));
        let (_, _, nothing) = outlined(dot, &[0; 4], red);
        assert_eq!(nothing[..4], ink, "a pointer cannot vanish");
    }

    #[test]
    fn an_icon_has_a_badge() {
        let size = Size::new(10, 10).unwrap();
        let icon = badged(size, &[0x80; 400], Look::plain(Colour(0, 0, 192)));
        assert_eq!(icon.len(), 100);
        assert_eq!((icon[0], icon[99]), ([0x80; 4], [192, 0, 0, 255]));
    }
}
