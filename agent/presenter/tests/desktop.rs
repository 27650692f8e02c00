//! The presenter on a real X server with a real window manager, and a guest that says what the test wants.
mod support;

use medley_presenter::frame::{Colour, Frame, Look};
use medley_wire::gui::FromHost;
use medley_wire::window::Kind;
use support::*;

const BORDER: u32 = 3;

fn look() -> Look {
    Look::new(Colour(0xc0, 0x20, 0x40), "test")
}

/// Asserts that a host window is a ring of the workspace's around exactly these pixels.
fn assert_framed(desk: &Desk, window: u32, inner: &[u32]) {
    let (_, _, width, height) = desk.place(window);
    let size = medley_wire::Size::new(width - 2 * BORDER, height - 2 * BORDER).unwrap();
    assert_eq!(Frame::new(3, 0).outer(size), (width as u16, height as u16));
    let shot = desk.shot_of(window);
    let mut pixels = inner.iter();
    for y in 0..height {
        for x in 0..width {
            let inside =
                (BORDER..width - BORDER).contains(&x) && (BORDER..height - BORDER).contains(&y);
            let expect = if inside {
                *pixels.next().unwrap()
            } else {
                look().at(x as u16, y as u16).pixel()
            };
            assert_eq!(
                shot.at(x, y),
                expect,
                "at {x},{y} of {width}x{height}, inside: {inside}"
            );
        }
    }
}

fn as_pixels(bytes: &[u8]) -> Vec<u32> {
    let pixels = bytes.as_chunks::<4>().0;
    pixels
        .iter()
        .map(|p| u32::from_le_bytes(*p) & 0x00ff_ffff)
        .collect()
}

#[test]
fn a_window_has_its_pixels_and_its_frame() {
    let (desk, sockets) = (Desk::new(800, 600), Sockets::new());
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    guest.window(1, "hello", rect(50, 60, 200, 120));
    let window = desk.window("[test] hello");
    let placed = guest.placed(1, rect(50, 60, 200, 120));
    assert_eq!(placed.size(), rect(0, 0, 200, 120).size());
    let (x, y, ..) = desk.place(window);
    assert_eq!(
        (placed.x(), placed.y()),
        (x + 3, y + 3),
        "the guest knows where it is"
    );
    let bytes = picture(200, 120);
    let frame = guest.patch(1, rect(0, 0, 200, 120), raw(&bytes));
    guest.shown(1, frame);
    assert_framed(&desk, window, &as_pixels(&bytes));
    let app = "01".repeat(16);
    let class = format!("medley-test.{app}\0medley-test.{app}\0");
    assert_eq!(desk.text(window, "WM_CLASS"), class);
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
}
