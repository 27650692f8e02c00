//! Pictures as they come over the bus: bytes of notifications and tray items, names of icons, paths.
use super::hints::Raw;
use crate::apps::icon::{self, Icon};
use std::path::{Path, PathBuf};

/// Width and height that are wanted of a notification's picture and of a tray item's.
pub const SIDE: u32 = 48;

/// The largest side that is read.
const LARGEST: i32 = 4096;

/// A notification's picture.
#[must_use]
pub fn of_bytes((width, height, stride, _, bits, channels, rows): &Raw) -> Option<Icon> {
    let side = |side: &i32| {
        u32::try_from(*side)
            .ok()
            .filter(|_| (1..=LARGEST).contains(side))
    };
    let (width, height) = (side(width)?, side(height)?);
    let channels = usize::try_from(*channels)
        .ok()
        .filter(|c| [3, 4].contains(c))?;
    let stride = usize::try_from(*stride).ok()?;
    let row = width as usize * channels;
    if *bits != 8 || stride < row || rows.len() < (height as usize - 1) * stride + row {
        return None;
    }
    let pixel = |bytes: &[u8]| match *bytes {
        [red, green, blue, alpha] => [red, green, blue, alpha],
        [red, green, blue] => [red, green, blue, 255],
        _ => [0; 4],
    };
    let pixels = (0..height as usize).flat_map(|at| {
        rows[at * stride..at * stride + row]
            .chunks_exact(channels)
            .map(pixel)
    });
    icon::of_colours(pixels, (width, height), SIDE)
}

/// A tray item's picture: of several sizes the one that suits, four bytes for each pixel, opacity first.
#[must_use]
pub fn of_pixmaps(maps: &[(i32, i32, Vec<u8>)]) -> Option<Icon> {
    let fits = |(width, height, bytes): &&(i32, i32, Vec<u8>)| {
        let sides = (1..=LARGEST).contains(width) && (1..=LARGEST).contains(height);
        sides && bytes.len() == *width as usize * *height as usize * 4
    };
    let side = SIDE as i32;
    // The smallest that is large enough, else the largest.
    let rank = |(width, ..): &&(i32, i32, Vec<u8>)| {
        if *width >= side {
            (0, *width)
        } else {
            (1, -*width)
        }
    };
    let (width, height, bytes) = maps.iter().filter(fits).min_by_key(rank)?;
    let pixels = bytes.chunks_exact(4).map(|pixel| match *pixel {
        [alpha, red, green, blue] => [red, green, blue, alpha],
        _ => [0; 4],
    });
    icon::of_colours(pixels, (*width as u32, *height as u32), SIDE)
}

/// An icon by name, or by path or `file:` address. An app may say a folder of its own besides.
#[must_use]
pub fn of_name(name: &str, own: Option<&str>, folders: &[PathBuf]) -> Option<Icon> {
    if name.is_empty() {
        return None;
    }
    let path = name.strip_prefix("file://").unwrap_or(name);
    if path.starts_with('/') {
        return icon::load(Path::new(path), SIDE);
    }
    let own = own.filter(|own| own.starts_with('/')).map(PathBuf::from);
    let path = own
        .and_then(|own| icon::find_in(&own, name, SIDE))
        .or_else(|| icon::find(folders, name, SIDE))?;
    icon::load(&path, SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notifications_picture_is_cut_from_its_rows() {
        // Two pixels a row, three bytes each, two bytes between rows.
        let rows = [1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12].to_vec();
        let icon = of_bytes(&(2, 2, 8, false, 8, 3, rows.clone())).unwrap();
        let picture = icon.picture().unwrap();
        assert_eq!(picture.pixels()[..8], [3, 2, 1, 255, 6, 5, 4, 255]);
        assert_eq!(picture.pixels()[8..12], [9, 8, 7, 255]);
        for wrong in [
            (2, 2, 8, false, 8, 3, rows[1..].to_vec()),
            (2, 2, 5, false, 8, 3, rows.clone()),
            (2, 2, 8, false, 16, 3, rows.clone()),
            (2, 2, 8, false, 8, 5, rows.clone()),
            (-2, 2, 8, false, 8, 3, rows.clone()),
            (2, 0, 8, false, 8, 3, rows.clone()),
            (i32::MAX, i32::MAX, i32::MAX, true, 8, 4, rows.clone()),
            (2, 2, -1, false, 8, 3, rows),
        ] {
            assert_eq!(of_bytes(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_pixmap_that_suits_is_taken() {
        let map = |side: i32, pixel: [u8; 4]| (side, side, pixel.repeat((side * side) as usize));
        let maps = [
            map(16, [255, 1, 1, 1]),
            map(64, [128, 200, 100, 0]),
            map(256, [255, 2, 2, 2]),
            (48, 48, vec![0; 5]),
        ];
        let icon = of_pixmaps(&maps).unwrap();
        let picture = icon.picture().unwrap();
        assert_eq!(picture.size().width(), SIDE);
        assert_eq!(picture.pixels()[..4], [0, 50, 100, 128]);
        assert_eq!(
            of_pixmaps(&maps[..1])
                .unwrap()
                .picture()
                .unwrap()
                .size()
                .width(),
            16
        );
        assert_eq!(of_pixmaps(&[]), None);
    }
}
