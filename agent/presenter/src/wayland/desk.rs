//! The guest's desk. Where a window is on the screen nobody tells: the guest's own wish stays its place on a desk that
//! only the guest sees, moved to the monitor on which the window is, so that menus and points can be told by it. What
//! somebody touches lies on top there: the guest's pointer must not meet a window that is elsewhere on the host.
use super::window::{MAXIMISED, Role};
use super::{Name, State};
use crate::frame::{Frame, nearest};
use crate::model::{HostEvent, Layout};
use medley_wire::limits::SIDE;
use medley_wire::window::States;
use medley_wire::{Rect, WindowId};
use wayland_client::protocol::wl_output::WlOutput;

impl State {
    /// Somebody does something in a window: on the guest's desk it lies above the others.
    pub(super) fn touched(&mut self, window: WindowId) {
        let managed = self.hosts.get(&Name::Window(window));
        if managed.is_none_or(|host| !host.is_managed()) || self.order.last() == Some(&window) {
            return;
        }
        self.order.retain(|other| *other != window);
        self.order.push(window);
        self.heard
            .events
            .push(HostEvent::Stacked(self.order.clone()));
    }

    /// A window came to a monitor: there it is on the guest's desk, too.
    pub(super) fn came_to(&mut self, name: Name, output: WlOutput) {
        let home = self.outputs.rect(&output);
        let frame = self.dress.frame;
        let Some(host) = self.hosts.get_mut(&name) else {
            return;
        };
        host.output = Some(output);
        if let (Role::Toplevel(role), Some(home)) = (&host.role, home) {
            let rect = homed(host.rect, home, fills(role.states), frame);
            if rect != host.rect {
                host.rect = rect;
                self.heard.events.extend(moved(name, rect));
            }
        }
    }

    /// The compositor has said all that it had to say of a window.
    pub(super) fn configured(&mut self, name: Name) {
        let frame = self.dress.frame;
        let Some(host) = self.hosts.get_mut(&name) else {
            return;
        };
        let first = !std::mem::replace(&mut host.configured, true);
        host.must = true;
        let Role::Toplevel(role) = &mut host.role else {
            if first {
                host.renew();
            }
            return;
        };
        let next = role.next;
        role.bound = next.bound;
        let mut size = host.rect.size();
        if let (Ok(width @ 1..), Ok(height @ 1..)) =
            (u16::try_from(next.size.0), u16::try_from(next.size.1))
        {
            size = frame.inner(width, height);
        }
        let kept = if next.active {
            States::NONE
        } else {
            States::known(role.states.bits() & States::MINIMISED.bits())
        };
        let states = next.states.with(kept);
        let changed = states != std::mem::replace(&mut role.states, states);
        let mut rect = Layout::reported(host.rect.x(), host.rect.y(), size);
        if let Some(home) = host
            .output
            .as_ref()
            .and_then(|output| self.outputs.rect(output))
        {
            rect = homed(rect, home, fills(states), frame);
        }
        let grown = rect.size() != host.rect.size();
        let moves = first || rect != host.rect;
        host.rect = rect;
        if grown || first {
            host.renew();
        }
        if let Name::Window(window) = name {
            let events = &mut self.heard.events;
            events.extend(moves.then_some(HostEvent::Moved { window, rect }));
            events.extend(changed.then_some(HostEvent::States { window, states }));
        }
    }
}

/// Whether a window begins in its monitor's corner.
const fn fills(states: States) -> bool {
    states.has(MAXIMISED) || states.has(States::FULLSCREEN)
}

fn moved(name: Name, rect: Rect) -> Option<HostEvent> {
    match name {
        Name::Window(window) => Some(HostEvent::Moved { window, rect }),
        Name::Card => None,
    }
}

/// Where a window is on a monitor: as near as possible to where it was, frame and all.
fn homed(rect: Rect, home: Rect, corner: bool, frame: Frame) -> Rect {
    let (left, top) = frame.origin();
    let (across, down) = frame.outer(rect.size());
    let along = |at: i32, before: u16, length: u16, start: i32, room: u32| {
        let least = i64::from(start) + i64::from(before);
        let most = i64::from(start) + i64::from(room) - i64::from(length) + i64::from(before);
        let at = if corner { least } else { i64::from(at) };
        i32::try_from(at.clamp(least, most.max(least))).unwrap_or(start)
    };
    let size = home.size();
    let x = along(rect.x(), left, across, home.x(), size.width());
    let y = along(rect.y(), top, down, home.y(), size.height());
    Layout::reported(
        x,
        y,
        nearest(rect.size().width().min(SIDE), rect.size().height()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_wire::Size;

    fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
        Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
    }

    #[test]
    fn a_window_is_on_its_monitor() {
        let (frame, home) = (Frame::new(3, 0), rect(1000, 0, 800, 600));
        let at = |window, corner| homed(window, home, corner, frame);
        assert_eq!(
            at(rect(1100, 50, 200, 100), false),
            rect(1100, 50, 200, 100)
        );
        assert_eq!(at(rect(50, 50, 200, 100), false), rect(1003, 50, 200, 100));
        assert_eq!(
            at(rect(1700, 590, 200, 100), false),
            rect(1597, 497, 200, 100)
        );
        assert_eq!(at(rect(1100, 50, 794, 594), true), rect(1003, 3, 794, 594));
        // Larger than the monitor: its corner is seen.
        assert_eq!(at(rect(0, 0, 2000, 2000), false), rect(1003, 3, 2000, 2000));
    }
}
