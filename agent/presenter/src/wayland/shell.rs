//! What the compositor says of surfaces: how large they may be, which states they have, when it wants more of them.
use super::window::{MAXIMISED, Next, Role};
use super::{Name, State};
use crate::model::HostEvent;
use medley_wire::window::{Seen, States};
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_surface::{self, WlSurface};
use wayland_client::{Connection, Dispatch, QueueHandle, delegate_noop};
use wayland_protocols::xdg::decoration::zv1::client::zxdg_toplevel_decoration_v1::ZxdgToplevelDecorationV1;
use wayland_protocols::xdg::shell::client::xdg_popup::{self, XdgPopup};
use wayland_protocols::xdg::shell::client::xdg_positioner::XdgPositioner;
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::{
    self, State as Shell, WmCapabilities, XdgToplevel,
};

/// Numbers that come as an array of bytes.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let words = bytes.as_chunks::<4>().0;
    words.iter().map(|word| u32::from_ne_bytes(*word))
}

fn next(size: (i32, i32), states: &[u8]) -> Next {
    let mut next = Next {
        size,
        ..Next::default()
    };
    for state in numbers(states).filter_map(|n| Shell::try_from(n).ok()) {
        match state {
            Shell::Maximized => next.states = next.states.with(MAXIMISED),
            Shell::Fullscreen => next.states = next.states.with(States::FULLSCREEN),
            Shell::Activated => next.active = true,
            Shell::TiledLeft | Shell::TiledRight | Shell::TiledTop | Shell::TiledBottom => {
                next.bound = true;
            }
            _ => {}
        }
    }
    next.bound |= next.states != States::NONE;
    next
}

impl State {
    /// The compositor wants more of a surface, or wants no more.
    fn wanted(&mut self, name: Name, callback: &WlCallback) {
        let Some(host) = self.hosts.get_mut(&name) else {
            return;
        };
        let ours = |(waits, _): &(WlCallback, _)| waits == callback;
        if !host.awaits.as_ref().is_some_and(ours) {
            return;
        }
        host.awaits = None;
        if std::mem::take(&mut host.covered) {
            self.seen(name, Seen::Visible);
        }
    }

    pub(super) fn seen(&mut self, name: Name, seen: Seen) {
        if let Name::Window(window) = name {
            self.heard.events.push(HostEvent::Seen { window, seen });
        }
    }

    /// The compositor took a popup away.
    fn dismissed(&mut self, name: Name) {
        let orphans = self.remove(name);
        let gone = orphans.iter().map(|look| Name::Window(look.window));
        for name in gone.chain([name]) {
            self.seen(name, Seen::Hidden);
        }
    }
}

impl Dispatch<XdgSurface, Name> for State {
    fn event(
        state: &mut Self,
        _: &XdgSurface,
        event: xdg_surface::Event,
        name: &Name,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            // It is answered with the next commit, when all that came with it was heard: a menu may be taken away in the
            // same breath, and some compositors end the connection of whoever then answers.
            if let Some(host) = state.hosts.get_mut(name) {
                host.acknowledges = Some(serial);
            }
            state.configured(*name);
        }
    }
}

impl Dispatch<XdgToplevel, Name> for State {
    fn event(
        state: &mut Self,
        _: &XdgToplevel,
        event: xdg_toplevel::Event,
        name: &Name,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let host = state.hosts.get_mut(name);
        let Some(Role::Toplevel(role)) = host.map(|host| &mut host.role) else {
            return;
        };
        match event {
            xdg_toplevel::Event::Configure {
                width,
                height,
                states,
            } => role.next = next((width, height), &states),
            xdg_toplevel::Event::WmCapabilities { capabilities } => {
                let minimise = WmCapabilities::Minimize as u32;
                role.can_minimise = numbers(&capabilities).any(|n| n == minimise);
            }
            xdg_toplevel::Event::Close => {
                if let Name::Window(window) = *name {
                    state.heard.events.push(HostEvent::Close(window));
                }
            }
            _ => {}
        }
    }
}

impl Dispatch<XdgPopup, Name> for State {
    fn event(
        state: &mut Self,
        _: &XdgPopup,
        event: xdg_popup::Event,
        name: &Name,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        // Where it stands and how large it is we know: it is asked for in one size, and pushed at most.
        if let xdg_popup::Event::PopupDone = event {
            state.dismissed(*name);
        }
    }
}

impl Dispatch<WlSurface, Name> for State {
    fn event(
        state: &mut Self,
        surface: &WlSurface,
        event: wl_surface::Event,
        name: &Name,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_surface::Event::Enter { output } = event
            && state.name_of(surface).is_some()
        {
            state.came_to(*name, output);
        }
    }
}

impl Dispatch<WlCallback, Name> for State {
    fn event(
        state: &mut Self,
        callback: &WlCallback,
        event: wl_callback::Event,
        name: &Name,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            state.wanted(*name, callback);
        }
    }
}

delegate_noop!(State: ignore WlSurface);
delegate_noop!(State: ignore XdgPositioner);
delegate_noop!(State: ignore ZxdgToplevelDecorationV1);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(states: &[u32]) -> Vec<u8> {
        states
            .iter()
            .flat_map(|state| state.to_ne_bytes())
            .collect()
    }

    #[test]
    fn states_are_read_whatever_comes() {
        let all = [Shell::Maximized as u32, 99, Shell::Activated as u32];
        let read = next((300, 200), &bytes(&all));
        assert_eq!(
            (read.states, read.bound, read.active),
            (MAXIMISED, true, true)
        );
        let tiled = next((0, 0), &bytes(&[Shell::TiledLeft as u32]));
        assert_eq!((tiled.states, tiled.bound), (States::NONE, true));
        assert!(!next((0, 0), &[1, 0, 0]).bound, "half a number");
    }
}
