//! What lies where on the screen: which pixels are the guest's, and whether every window of it has its frame.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use medley_desktop::{Area, Shot, Window};
use medley_presenter::frame::{Colour, Look};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::ConnectionExt;

use super::desktop::{Desktop, SCREEN};
use crate::MARK;

/// Pixels of the ring around a guest's window.
pub const BORDER: i32 = 3;

/// How often a screen on which something moves is looked at again before it is judged.
const LOOKS: u32 = 4;

/// A guest's window on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// It.
    pub window: Window,
    /// With its ring.
    pub place: Area,
    /// No window manager manages it.
    pub unmanaged: bool,
}

/// A child of the root window: the lowest first.
struct Layer {
    place: Area,
    guest: Option<Shown>,
}

fn contains((x, y, width, height): Area, at: (i32, i32)) -> bool {
    (x..x + width).contains(&at.0) && (y..y + height).contains(&at.1)
}

/// A ring's inside.
fn inside((x, y, width, height): Area) -> Area {
    (
        x + BORDER,
        y + BORDER,
        width - 2 * BORDER,
        height - 2 * BORDER,
    )
}

impl Desktop {
    fn layers(&self) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for child in self.children(self.root)? {
            if !self.is_viewable(child) {
                continue;
            }
            let Some(place) = self.place(child) else {
                continue;
            };
            let guest = self.guest_in(child)?.and_then(|window| {
                Some(Shown {
                    window,
                    place: self.place(window)?,
                    unmanaged: window == child,
                })
            });
            layers.push(Layer { place, guest });
        }
        Ok(layers)
    }

    /// The guest's window that a manager put into this one, or that it is itself.
    fn guest_in(&self, window: Window) -> Result<Option<Window>> {
        let mut next = vec![window];
        while let Some(window) = next.pop() {
            let class = self.text(window, "WM_CLASS")?;
            if class.starts_with("medley-card") {
                // What a lock leaves is the host's own.
                return Ok(None);
            }
            if class.starts_with("medley-") && self.is_viewable(window) {
                return Ok(Some(window));
            }
            next.extend(self.children(window)?);
        }
        Ok(None)
    }

    /// The guest's windows that can be seen, the lowest first.
    ///
    /// # Errors
    /// The display is gone.
    pub fn guests(&self) -> Result<Vec<Shown>> {
        Ok(self.layers()?.into_iter().filter_map(|l| l.guest).collect())
    }

    /// The guest's window that is called so; waits for it.
    ///
    /// # Errors
    /// There is none.
    pub fn guest(&self, title: &str, limit: Duration) -> Result<Shown> {
        let mut found = None;
        self.until(&format!("a window called {title:?}"), limit, || {
            for shown in self.guests()? {
                if self.text(shown.window, "_NET_WM_NAME")? == title {
                    found = Some(shown);
                }
            }
            Ok(found.is_some())
        })?;
        found.ok_or_else(|| anyhow::anyhow!("no window called {title:?}"))
    }

    /// What lies where, and the pixels of the same moment: nobody else changes anything meanwhile.
    fn moment(&self) -> Result<(Vec<Layer>, Shot)> {
        self.conn.grab_server()?;
        let moment = self.layers().and_then(|layers| Ok((layers, self.shot()?)));
        self.conn.ungrab_server()?;
        self.conn.flush()?;
        moment
    }

    /// Judges what can be seen: no pixel of the guest is outside of a ring, and every ring is whole wherever
    /// nothing lies above it. Tells how many windows were looked at.
    ///
    /// A fault is one if it is still there after several looks: a window that goes bares what lies below, and
    /// that is painted a moment later. While windows come and go, the screen is never `still`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(&self, look: &Look, still: bool) -> Result<usize> {
        let (mut looks, mut faults) = (0, 0);
        loop {
            looks += 1;
            let (layers, shot) = self.moment()?;
            let seen: Vec<_> = layers.iter().filter_map(|layer| layer.guest).collect();
            let found = fault(&layers, &shot, look);
            faults = if found.is_some() { faults + 1 } else { 0 };
            let came_to_rest = !still || self.guests()? == seen;
            match found {
                None if came_to_rest => return Ok(seen.len()),
                Some(fault) if faults >= LOOKS => bail!("{fault}"),
                _ => {}
            }
            ensure!(looks < 100, "the screen does not come to rest");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many pixels of the guest can be seen at all.
    ///
    /// # Errors
    /// The display is gone.
    pub fn marked(&self) -> Result<usize> {
        let shot = self.shot()?;
        Ok(shot.pixels.iter().filter(|pixel| **pixel == MARK).count())
    }
}

/// What is wrong, if anything is.
fn fault(layers: &[Layer], shot: &Shot, look: &Look) -> Option<String> {
    let topmost = |at| layers.iter().rposition(|layer| contains(layer.place, at));
    let (width, height) = (i32::from(SCREEN.0), i32::from(SCREEN.1));
    for (y, row) in (0..height).zip(shot.pixels.chunks_exact(shot.width)) {
        for (x, pixel) in (0..width).zip(row) {
            if *pixel != MARK {
                continue;
            }
            let guest = topmost((x, y)).and_then(|layer| layers[layer].guest);
            if !guest.is_some_and(|guest| contains(inside(guest.place), (x, y))) {
                return Some(format!(
                    "a pixel of the guest at {x},{y}, outside of {guest:?}"
                ));
            }
        }
    }
    for (n, layer) in layers.iter().enumerate() {
        let Some(guest) = layer.guest else { continue };
        let (left, top, across, down) = guest.place;
        for (x, y) in ring(guest.place) {
            let visible = (0..width).contains(&x) && (0..height).contains(&y);
            if !visible || topmost((x, y)) != Some(n) {
                continue;
            }
            let is = shot.pixels[y as usize * shot.width + x as usize];
            let shall = look.at((x - left) as u16, (y - top) as u16).pixel();
            if is != shall {
                return Some(format!(
                    "{is:06x} at {},{} of a window of {across}x{down} at {left},{top}, where its ring is",
                    x - left,
                    y - top
                ));
            }
        }
    }
    None
}

/// The points of a window's ring.
fn ring((x, y, width, height): Area) -> impl Iterator<Item = (i32, i32)> {
    let all = (y..y + height).flat_map(move |row| (x..x + width).map(move |column| (column, row)));
    all.filter(move |at| !contains(inside((x, y, width, height)), *at))
}

/// The ring of a workspace of that name, in the colour that `medley boot` gives it.
///
/// # Panics
/// The colour is none.
#[must_use]
pub fn ring_of(workspace: &str) -> Look {
    Look::new(Colour::parse("0000c0").expect("a colour"), workspace)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLACE: Area = (100, 50, 60, 40);

    fn screen(look: &Look) -> (Vec<Layer>, Shot) {
        let shown = Shown {
            window: 7,
            place: PLACE,
            unmanaged: false,
        };
        let (width, height) = (i32::from(SCREEN.0), i32::from(SCREEN.1));
        let layers = vec![
            Layer {
                place: (0, 0, 300, 300),
                guest: None,
            },
            Layer {
                place: (PLACE.0 - 1, PLACE.1 - 20, PLACE.2 + 2, PLACE.3 + 21),
                guest: Some(shown),
            },
        ];
        let mut pixels = vec![0; (width * height) as usize];
        for y in 0..PLACE.3 {
            for x in 0..PLACE.2 {
                let at = (y + PLACE.1) * width + x + PLACE.0;
                let inside = contains(inside((0, 0, PLACE.2, PLACE.3)), (x, y));
                let ring = look.at(x as u16, y as u16).pixel();
                pixels[at as usize] = if inside { MARK } else { ring };
            }
        }
        let shot = Shot {
            width: width as usize,
            pixels,
        };
        (layers, shot)
    }

    fn set(shot: &mut Shot, x: i32, y: i32, pixel: u32) {
        let at = y as usize * shot.width + x as usize;
        shot.pixels[at] = pixel;
    }

    #[test]
    fn what_is_right_has_no_fault() {
        let look = ring_of("office");
        let (layers, shot) = screen(&look);
        assert_eq!(fault(&layers, &shot, &look), None);
        // Another workspace's ring is none.
        assert!(fault(&layers, &shot, &ring_of("home")).is_some());
    }

    #[test]
    fn one_pixel_is_enough() {
        let look = ring_of("office");
        for (x, y, pixel) in [
            (0, 0, MARK),
            (1279, 799, MARK),
            // On the ring, outermost and innermost.
            (100, 50, MARK),
            (102, 60, MARK),
            (159, 89, MARK),
            // A ring that has lost a pixel to anything.
            (130, 51, 0),
            // The manager's title bar.
            (130, 40, MARK),
        ] {
            let (layers, mut shot) = screen(&look);
            set(&mut shot, x, y, pixel);
            assert!(fault(&layers, &shot, &look).is_some(), "{x},{y}");
        }
    }

    #[test]
    fn what_lies_above_covers() {
        let look = ring_of("office");
        let (mut layers, mut shot) = screen(&look);
        layers.push(Layer {
            place: (90, 40, 30, 30),
            guest: None,
        });
        for y in 40..70 {
            for x in 90..120 {
                set(&mut shot, x, y, 5);
            }
        }
        assert_eq!(fault(&layers, &shot, &look), None);
        set(&mut shot, 110, 60, MARK);
        let fault = fault(&layers, &shot, &look);
        assert!(fault.unwrap().contains("outside"));
    }
}
