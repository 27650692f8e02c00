//! Menus of tray items. Somebody clicks on the host's panel, where no window of the guest has the keyboard; the menu that
//! the guest's app opens then is shown all the same, for as long as somebody points at it, and a little longer.
use super::Model;
use super::window::Mapped;
use medley_wire::WindowId;
use medley_wire::gui;
use medley_wire::window::{KeyCode, Kind, Modifiers};
use std::time::Duration;

/// How long such a menu stays without anybody pointing at it.
const STAYS: Duration = Duration::from_secs(6);

/// evdev's code of the key that closes menus.
const ESCAPE: u16 = 1;

impl Model {
    /// Until when a window that is mapped now stays as a menu of a tray item's, if it is one: it came with a click on
    /// one, or out of another such menu.
    pub(super) fn is_by_tray(&self, mapped: Mapped, now: Duration) -> Option<Duration> {
        let menu = matches!(mapped.kind, Kind::PopupMenu | Kind::DropdownMenu);
        let clicked = self.tray.is_some_and(|until| now <= until);
        let until = |parent: WindowId| self.windows.get(&parent)?.by_tray;
        // A menu out of another stays no longer than that one would: only pointing prolongs it.
        let more = self.pointer.and_then(until).map(|_| now + STAYS);
        let more = more.or_else(|| mapped.parent.and_then(until));
        let stays = if clicked { Some(now + STAYS) } else { more };
        stays.filter(|_| menu && !mapped.managed)
    }

    /// Takes menus away at which nobody has pointed for a while. Their apps hold the guest's keyboard and pointer, and
    /// let go of them at the key that closes menus.
    pub(super) fn end_tray_menus(&mut self, now: Duration) {
        let all =
            |(window, w): (&WindowId, &super::Window)| w.by_tray.map(|until| (*window, until));
        let menus: Vec<_> = self.windows.iter().filter_map(all).collect();
        if menus.iter().all(|(_, until)| *until > now) {
            return;
        }
        let pointed = menus
            .iter()
            .any(|(window, _)| self.pointer == Some(*window));
        for (window, _) in &menus {
            if let Some(w) = self.windows.get_mut(window) {
                w.by_tray = pointed.then(|| now + STAYS);
            }
        }
        if pointed {
            return;
        }
        for (window, _) in menus {
            if self.focus.is_none() && self.is_on_host(window) {
                for down in [true, false] {
                    self.say(gui::Key {
                        window,
                        code: KeyCode(ESCAPE),
                        down,
                        group: 0,
                        held: Modifiers::NONE,
                        locked: Modifiers::NONE,
                    });
                }
            }
            self.refresh(window, now);
        }
    }
}
