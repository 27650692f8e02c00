//! Icons of apps: found by name in the usual folders, decoded here, raw on the wire, so that no parser of
//! pictures on the host ever sees a guest's bytes. Only PNG is read; an app with none has no icon.
use medley_wire::limits::ICON_SIDE;
use medley_wire::{Size, pixels::Picture};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The largest side of a file that is decoded.
const LARGEST: u32 = 1024;

/// Sizes in which themes keep icons.
const SIZES: [u32; 12] = [16, 22, 24, 32, 36, 48, 64, 72, 96, 128, 192, 256];

/// Folders of a theme in which apps' icons are, and those that they show while they run.
const KINDS: [&str; 4] = ["apps", "status", "devices", "actions"];

/// A picture with four bytes for each pixel, colours multiplied with opacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icon {
    size: Size,
    pixels: Vec<u8>,
}

impl Icon {
    /// The picture for the wire.
    #[must_use]
    pub fn picture(&self) -> Option<Picture<'_, { ICON_SIDE as usize }>> {
        Picture::new(self.size, &self.pixels)
    }
}

/// The picture of `_NET_WM_ICON` that suits a side best: pictures in a row, each its width, height and pixels,
/// opacity in the uppermost byte and colours not multiplied with it. What makes no sense ends the row.
#[must_use]
pub fn of_window(words: &[u32], side: u32) -> Option<Icon> {
    let mut rest = words;
    let mut best: Option<(u32, u32, &[u32])> = None;
    while let [width, height, pixels @ ..] = rest {
        let fits = (1..=LARGEST).contains(width) && (1..=LARGEST).contains(height);
        let count = if fits { width * height } else { break };
        let Some((this, others)) = pixels.split_at_checked(count as usize) else {
            break;
        };
        // The smallest that is large enough, else the largest.
        let better = best.is_none_or(|(old, ..)| {
            if old < side {
                *width > old
            } else {
                (side..old).contains(width)
            }
        });
        if better {
            best = Some((*width, *height, this));
        }
        rest = others;
    }
    let (width, height, pixels) = best?;
    let colours: Vec<[u32; 4]> = pixels
        .iter()
        .map(|pixel| {
            let [blue, green, red, alpha] = pixel.to_le_bytes();
            multiplied([red, green, blue, alpha])
        })
        .collect();
    scale(&colours, (width, height), side.clamp(1, ICON_SIDE))
}

/// A picture from its colours (red, green, blue, opacity; not multiplied), made at most `side` wide and high.
#[must_use]
pub fn of_colours(
    colours: impl Iterator<Item = [u8; 4]>,
    size: (u32, u32),
    side: u32,
) -> Option<Icon> {
    let colours: Vec<[u32; 4]> = colours.map(multiplied).collect();
    scale(&colours, size, side.clamp(1, ICON_SIDE))
}

/// The same of pixels as they are on a screen: blue, green, red and opacity, with which they are multiplied.
#[must_use]
pub fn of_pixels(
    pixels: impl Iterator<Item = [u8; 4]>,
    size: (u32, u32),
    side: u32,
) -> Option<Icon> {
    let pixels: Vec<[u32; 4]> = pixels.map(|pixel| pixel.map(u32::from)).collect();
    scale(&pixels, size, side.clamp(1, ICON_SIDE))
}

fn multiplied([red, green, blue, alpha]: [u8; 4]) -> [u32; 4] {
    let times = |colour: u8| (u32::from(colour) * u32::from(alpha) + 127) / 255;
    [times(blue), times(green), times(red), u32::from(alpha)]
}

/// The file of an icon, the closest to the side that is wanted: the next larger, else the largest.
#[must_use]
pub fn find(folders: &[PathBuf], name: &str, side: u32) -> Option<PathBuf> {
    if name.starts_with('/') {
        let path = PathBuf::from(name);
        return (path.extension()? == "png").then_some(path);
    }
    let file = file_of(name)?;
    for size in sizes(side) {
        for (folder, kind) in folders.iter().flat_map(|f| KINDS.map(|kind| (f, kind))) {
            let path = folder.join(format!("icons/hicolor/{size}x{size}/{kind}/{file}"));
            if path.is_file() {
                return Some(path);
            }
        }
    }
    folders
        .iter()
        .map(|folder| folder.join("pixmaps").join(&file))
        .find(|path| path.is_file())
}

/// The same in a folder of an app's own: a theme's, or one in which the icons themselves lie.
#[must_use]
pub fn find_in(folder: &Path, name: &str, side: u32) -> Option<PathBuf> {
    let file = file_of(name)?;
    let themed = sizes(side).flat_map(|size| {
        KINDS.map(|kind| folder.join(format!("hicolor/{size}x{size}/{kind}/{file}")))
    });
    std::iter::once(folder.join(&file))
        .chain(themed)
        .find(|path| path.is_file())
}

/// A name is no path: it comes from a file or an app that anybody may have written.
fn file_of(name: &str) -> Option<String> {
    let bad = name.contains('/') || name.starts_with('.');
    (!bad).then(|| format!("{}.png", name.strip_suffix(".png").unwrap_or(name)))
}

/// Sizes in the order in which they suit.
fn sizes(side: u32) -> impl Iterator<Item = &'static u32> {
    let larger = SIZES.iter().filter(move |size| **size >= side);
    let smaller = SIZES.iter().rev().filter(move |size| **size < side);
    larger.chain(smaller)
}

/// Decodes a file and makes it at most `side` pixels wide and high.
#[must_use]
pub fn load(path: &Path, side: u32) -> Option<Icon> {
    let limits = png::Limits {
        bytes: (LARGEST * LARGEST * 8) as usize,
    };
    let mut decoder = png::Decoder::new_with_limits(BufReader::new(File::open(path).ok()?), limits);
    decoder.set_transformations(
        png::Transformations::normalize_to_color8() | png::Transformations::ALPHA,
    );
    let mut reader = decoder.read_info().ok()?;
    let (width, height) = reader.info().size();
    if width.max(height) > LARGEST {
        return None;
    }
    let mut bytes = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut bytes).ok()?;
    let channels = frame.color_type.samples();
    let colours: Vec<[u32; 4]> = bytes
        .get(..frame.buffer_size())?
        .chunks_exact(channels)
        .map(|pixel| match *pixel {
            [grey, alpha] => [grey, grey, grey, alpha],
            [red, green, blue, alpha] => [red, green, blue, alpha],
            _ => [0; 4],
        })
        .map(multiplied)
        .collect();
    scale(&colours, (width, height), side.clamp(1, ICON_SIDE))
}

/// Makes a picture smaller by averaging: each new pixel is the mean of those that it covers.
fn scale(pixels: &[[u32; 4]], (width, height): (u32, u32), side: u32) -> Option<Icon> {
    let longest = width.max(height).max(1);
    let fit = |length: u32| {
        if longest <= side {
            length
        } else {
            (length * side / longest).max(1)
        }
    };
    let size = Size::new(fit(width), fit(height))?;
    let mut out = Vec::with_capacity(size.bytes());
    let range = |at: u32, new: u32, old: u32| {
        at * old / new..((at + 1) * old / new).max(at * old / new + 1)
    };
    for y in 0..size.height() {
        for x in 0..size.width() {
            let (mut sum, mut count) = ([0_u32; 4], 0);
            for row in range(y, size.height(), height) {
                for column in range(x, size.width(), width) {
                    let pixel = pixels.get((row * width + column) as usize)?;
                    sum.iter_mut()
                        .zip(pixel)
                        .for_each(|(sum, value)| *sum += value);
                    count += 1;
                }
            }
            out.extend(sum.map(|sum| (sum / count) as u8));
        }
    }
    Some(Icon { size, pixels: out })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, side: u32, pixel: [u8; 4]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), side, side);
        encoder.set_color(png::ColorType::Rgba);
        let mut writer = encoder.write_header().unwrap();
        let all = pixel.repeat((side * side) as usize);
        writer.write_image_data(&all).unwrap();
    }

    #[test]
    fn the_next_larger_icon_is_found_and_made_to_fit() {
        let data = tempfile::tempdir().unwrap();
        for side in [16, 48, 128] {
            let folder = data
                .path()
                .join(format!("icons/hicolor/{side}x{side}/apps"));
            std::fs::create_dir_all(&folder).unwrap();
            write(&folder.join("ed.png"), side, [200, 100, 0, 128]);
        }
        let folders = [data.path().to_path_buf()];
        let path = find(&folders, "ed", 32).unwrap();
        assert!(path.to_string_lossy().contains("48x48"));
        let icon = load(&path, 32).unwrap();
        assert_eq!((icon.size.width(), icon.size.height()), (32, 32));
        assert_eq!(
            icon.pixels[..4],
            [0, 50, 100, 128],
            "blue, green, red, opacity"
        );
        assert!(icon.picture().is_some());
        assert!(
            find(&folders, "ed", 256)
                .unwrap()
                .to_string_lossy()
                .contains("128x128")
        );
        assert_eq!(
            load(&path, 64).unwrap().size.width(),
            48,
            "never made larger"
        );
    }

    #[test]
    fn a_windows_icon_is_the_one_that_suits() {
        let picture = |side: u32, pixel: u32| {
            let pixels = std::iter::repeat_n(pixel, (side * side) as usize);
            [side, side].into_iter().chain(pixels).collect::<Vec<u32>>()
        };
        let row = [picture(16, 1), picture(64, 0x80ff_0000), picture(128, 3)].concat();
        let icon = of_window(&row, 48).unwrap();
        assert_eq!(
            (icon.size.width(), &icon.pixels[..4]),
            (48, &[0, 0, 128, 128][..])
        );
        assert_eq!(of_window(&row, 256).unwrap().size.width(), 128);
        assert_eq!(of_window(&row, 8).unwrap().size.width(), 8);
        let cut = &row[..row.len() - 1];
        assert_eq!(of_window(cut, 256).unwrap().size.width(), 64);
        for bad in [
            &[][..],
            &[1],
            &[1, 1],
            &[0, 5, 1],
            &[u32::MAX, u32::MAX, 1],
            &[2, 2, 1, 1, 1],
        ] {
            assert_eq!(of_window(bad, 48), None, "{bad:?}");
        }
    }

    #[test]
    fn no_icon_is_no_failure() {
        let data = tempfile::tempdir().unwrap();
        let folders = [data.path().to_path_buf()];
        for name in [
            "ed",
            "",
            "../../etc/passwd",
            ".hidden",
            "/nowhere/x.svg",
            "a/b",
        ] {
            assert_eq!(find(&folders, name, 32), None, "{name}");
        }
        let broken = data.path().join("x.png");
        std::fs::write(&broken, b"\x89PNG\r\n\x1a\nnonsense").unwrap();
        assert_eq!(load(&broken, 32), None);
        write(&broken, 1025, [0; 4]);
        assert_eq!(load(&broken, 32), None, "too large to be decoded");
    }
}
