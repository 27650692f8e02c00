//! Icons of windows, where the compositor takes pixels for them. Elsewhere a window has the icon of the desktop entry
//! that its app's id names, if there is one.
use super::Name;
use super::State;
use super::buffer::Buffer;
use super::window::Role;
use crate::emblem::badged;
use crate::error::Result;
use medley_wire::{AppId, Size, WindowId};
use std::collections::BTreeMap;
use wayland_client::delegate_noop;
use wayland_client::protocol::wl_shm::Format;
use wayland_protocols::xdg::toplevel_icon::v1::client::xdg_toplevel_icon_v1::XdgToplevelIconV1;

/// Icons that are kept: apps that a guest may have on a desktop at once.
const KEPT: usize = 64;

/// A square of pixels.
#[derive(Clone, Debug)]
struct Square {
    side: u16,
    bytes: Vec<u8>,
}

/// Icons of apps, for windows that will be.
#[derive(Debug, Default)]
pub(super) struct Icons {
    apps: BTreeMap<AppId, Square>,
}

/// An icon in the middle of the smallest square that holds it: the protocol knows no others.
fn square(size: Size, pixels: &[[u8; 4]]) -> Option<Square> {
    let (width, height) = (size.width() as usize, size.height() as usize);
    let side = width.max(height);
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let mut bytes = vec![0; side * side * 4];
    for (n, row) in pixels.chunks_exact(width).enumerate() {
        let start = ((top + n) * side + left) * 4;
        // Colours are not brighter than their opacity.
        let row = row
            .iter()
            .flat_map(|[b, g, r, a]| [*b.min(a), *g.min(a), *r.min(a), *a]);
        bytes[start..start + width * 4]
            .iter_mut()
            .zip(row)
            .for_each(|(to, from)| *to = from);
    }
    let side = u16::try_from(side).ok()?;
    Some(Square { side, bytes })
}

impl super::Display {
    /// An app's icon: for its windows that are there, and for those that will be.
    ///
    /// # Errors
    /// None.
    pub fn icon(
        &mut self,
        app: AppId,
        windows: &[WindowId],
        size: Size,
        pixels: &[u8],
    ) -> Result<()> {
        let state = &mut self.state;
        if state.globals.icons.is_none() {
            return Ok(());
        }
        let pixels = badged(size, pixels, state.dress.look);
        let Some(square) = square(size, &pixels) else {
            return Ok(());
        };
        for window in windows {
            state.set_icon(*window, &square);
        }
        let apps = &mut state.icons.apps;
        if app != AppId::NONE && (apps.len() < KEPT || apps.contains_key(&app)) {
            apps.insert(app, square);
        }
        Ok(())
    }
}

impl State {
    /// A window gets its app's icon, if that is known.
    pub(super) fn dress_icon(&mut self, window: WindowId, app: AppId) {
        if let Some(square) = self.icons.apps.get(&app).cloned() {
            self.set_icon(window, &square);
        }
    }

    fn set_icon(&mut self, window: WindowId, square: &Square) {
        let (globals, qh) = (&self.globals, &self.qh);
        let host = self.hosts.get_mut(&Name::Window(window));
        let (Some(Role::Toplevel(role)), Some(icons)) =
            (host.map(|host| &mut host.role), &globals.icons)
        else {
            return;
        };
        let size = (square.side, square.side);
        let Ok(buffer) = Buffer::filled(globals, qh, size, Format::Argb8888, &square.bytes) else {
            return;
        };
        let icon = icons.create_icon(qh, ());
        icon.add_buffer(buffer.get(), 1);
        icons.set_icon(&role.toplevel, Some(&icon));
        icon.destroy();
        // As long as the window has it, its pixels stay.
        role.icon = Some(buffer);
    }
}

delegate_noop!(State: ignore XdgToplevelIconV1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_icon_becomes_a_square() {
        let size = Size::new(2, 4).unwrap();
        let square = square(size, &[[9, 200, 9, 100]; 8]).unwrap();
        assert_eq!((square.side, square.bytes.len()), (4, 64));
        let pixels = square.bytes.as_chunks::<4>().0;
        assert_eq!(
            pixels[..4],
            [[0; 4], [9, 100, 9, 100], [9, 100, 9, 100], [0; 4]]
        );
    }
}
