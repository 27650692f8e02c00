//! What is seen of the presenter on a desktop, and how it shall look.
use medley_desktop::{Area, Desktop, Shot, Window};
use medley_presenter::frame::{Colour, Look};

/// The ring of the workspace that tests have.
pub fn look() -> Look {
    Look::new(Colour(0xc0, 0x20, 0x40), "test")
}

/// Pixels of the ring.
pub const BORDER: u32 = 3;

/// The colour of windows that have the keyboard.
pub const GREEN: u32 = 0x0020_8040;

/// All windows of the presenter's that are shown: those with its class.
pub fn windows(desk: &Desktop) -> Vec<Window> {
    let mut shown = desk.shown().unwrap();
    shown.retain(|window| {
        let class = desk.text(*window, "WM_CLASS").unwrap();
        class.starts_with("medley-")
    });
    shown
}

/// A window of the host's own.
pub fn own_window(desk: &Desktop, title: &str) -> Window {
    desk.own_window(title, (0, 0, 500, 400)).unwrap()
}

/// What differs between a place of the screen and the workspace's ring around these pixels, or around any.
pub fn fault(shot: &Shot, place: Area, inner: Option<&[u32]>) -> Option<String> {
    let [left, top, width, height] = <[i32; 4]>::from(place).map(|n| n as u32);
    if let Some(inner) = inner {
        let inside = (width - 2 * BORDER) * (height - 2 * BORDER);
        assert_eq!(inner.len() as u32, inside);
    }
    let mut pixels = inner.into_iter().flatten();
    for y in 0..height {
        for x in 0..width {
            let inside =
                (BORDER..width - BORDER).contains(&x) && (BORDER..height - BORDER).contains(&y);
            let expect = match inner {
                Some(_) if inside => *pixels.next().unwrap(),
                None if inside => continue,
                _ => look().at(x as u16, y as u16).pixel(),
            };
            let got = shot.at(left + x, top + y);
            if got != expect {
                return Some(format!(
                    "{got:06x} instead of {expect:06x} at {x},{y} of {width}x{height}, inside: {inside}"
                ));
            }
        }
    }
    None
}

/// What is wrong about a window's ring, if anything is.
pub fn ring_fault(desk: &Desktop, window: Window) -> Option<String> {
    let (_, _, width, height) = desk.place(window).unwrap();
    let shot = desk.shot_of(window).unwrap();
    fault(&shot, (0, 0, width, height), None)
}

/// A picture of which every pixel is another, as bytes.
pub fn picture(width: u32, height: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) & 0x00ff_ffff).to_le_bytes())
        .collect()
}

/// Bytes as a screen shows them.
pub fn as_pixels(bytes: &[u8]) -> Vec<u32> {
    let pixels = bytes.as_chunks::<4>().0.iter();
    pixels
        .map(|p| u32::from_le_bytes(*p) & 0x00ff_ffff)
        .collect()
}
