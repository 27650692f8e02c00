//! Menus, tooltips, what is dragged: surfaces that stand on another and that no window manager manages. The guest
//! says where they are on its desk; what of that counts is where they are beside their parent, and the compositor
//! pushes them onto the screen if they are not.
//!
//! None grabs anything: the guest's own grabs are its apps' affair, and the host's clicks elsewhere are heard as the
//! keyboard's loss, upon which the model takes menus away.
use super::window::Role;
use super::{Name, State};
use crate::model::Appearance;
use medley_wire::{Rect, WindowId};
use wayland_client::{Proxy, QueueHandle};
use wayland_protocols::xdg::shell::client::xdg_popup::XdgPopup;
use wayland_protocols::xdg::shell::client::xdg_positioner::{
    Anchor, ConstraintAdjustment, Gravity, XdgPositioner,
};
use wayland_protocols::xdg::shell::client::xdg_wm_base::XdgWmBase;

/// A menu or the like.
pub(super) struct Popup {
    pub popup: XdgPopup,
    pub parent: Name,
    /// Counts how often it was moved.
    token: u32,
}

/// Those that have nothing to stand on yet, in the order that they came.
#[derive(Debug, Default)]
pub(super) struct Parked {
    all: Vec<Appearance>,
}

impl Parked {
    pub fn forget(&mut self, window: WindowId) {
        self.all.retain(|look| look.window != window);
    }

    pub fn place(&mut self, window: WindowId, rect: Rect) {
        for look in self.all.iter_mut().filter(|look| look.window == window) {
            look.rect = rect;
        }
    }
}

/// How a compositor is asked to put a popup, in lengths of its parent's outer size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placement {
    /// The rectangle of the parent that it stands beside: x, y, width, height.
    anchor: (i32, i32, i32, i32),
    /// It stands at the right edge of that, and may go to its left.
    beside: bool,
    offset: (i32, i32),
}

/// Where a popup of one outer size stands whose corner lies at `(x, y)` from its parent's.
fn placement((x, y): (i32, i32), own: (u16, u16), parent: (u16, u16), submenu: bool) -> Placement {
    let [width, height] = [own.0, own.1].map(i32::from);
    let [across, down] = [parent.0, parent.1].map(i32::from);
    // It must touch its parent, wherever the guest believes it to be.
    let (x, y) = (x.clamp(-width, across), y.clamp(-height, down));
    let row = y.clamp(0, down - 1);
    // A submenu begins about where its menu ends. Where there is no room for it, it goes to the other side.
    if submenu && x > across / 2 {
        return Placement {
            anchor: (0, row, across, 1),
            beside: true,
            offset: (x - across, y - row),
        };
    }
    let column = x.clamp(0, across - 1);
    Placement {
        anchor: (column, row, 1, 1),
        beside: false,
        offset: (x - column, y - row),
    }
}

impl Placement {
    fn positioner(
        self,
        shell: &XdgWmBase,
        qh: &QueueHandle<State>,
        (width, height): (u16, u16),
    ) -> XdgPositioner {
        let positioner = shell.create_positioner(qh, ());
        let (x, y, across, down) = self.anchor;
        positioner.set_size(width.into(), height.into());
        positioner.set_anchor_rect(x, y, across, down);
        positioner.set_gravity(Gravity::BottomRight);
        positioner.set_offset(self.offset.0, self.offset.1);
        let slide = ConstraintAdjustment::SlideX | ConstraintAdjustment::SlideY;
        if self.beside {
            positioner.set_anchor(Anchor::TopRight);
            positioner.set_constraint_adjustment(slide | ConstraintAdjustment::FlipX);
        } else {
            positioner.set_anchor(Anchor::TopLeft);
            positioner.set_constraint_adjustment(slide);
        }
        positioner
    }
}

impl State {
    /// The surface below all others that one stands on.
    pub(super) fn root_of(&self, name: Name) -> Name {
        let (mut root, mut steps) = (name, 0);
        while let Some(Role::Popup(popup)) = self.hosts.get(&root).map(|host| &host.role) {
            root = popup.parent;
            steps += 1;
            if steps > self.hosts.len() {
                break;
            }
        }
        root
    }

    /// Surfaces that stand on one.
    pub(super) fn children(&self, name: Name) -> Vec<Name> {
        let on = |role: &Role| matches!(role, Role::Popup(popup) if popup.parent == name);
        let all = self.hosts.iter().filter(|(_, host)| on(&host.role));
        all.map(|(child, _)| *child).collect()
    }

    /// A popup is shown as soon as it has something to stand on.
    pub(super) fn park(&mut self, look: Appearance) {
        self.parked.forget(look.window);
        self.parked.all.push(look);
        self.unpark();
    }

    /// Shows what has something to stand on now.
    pub(super) fn unpark(&mut self) {
        if self.parked.all.is_empty() {
            return;
        }
        for look in std::mem::take(&mut self.parked.all) {
            match self.parent_for(&look) {
                Some(parent) => self.pop_up(parent, look),
                None => self.parked.all.push(look),
            }
        }
    }

    /// What a popup stands on: what it says, else what has the keyboard or the pointer, else what was touched
    /// last. Only what is on the screen can be stood on.
    fn parent_for(&self, look: &Appearance) -> Option<Name> {
        let own = Name::Window(look.window);
        let named = look.parent.map(Name::Window);
        if let Some(named) = named.filter(|named| *named != own)
            && let Some(host) = self.hosts.get(&named)
        {
            return host.mapped.then_some(named);
        }
        let focus = self.keyboard.focus().map(|name| self.root_of(name));
        let last = self.order.last().map(|window| Name::Window(*window));
        let there = |name: &Name| {
            let host = self.hosts.get(name);
            *name != Name::Card && host.is_some_and(|host| host.mapped)
        };
        focus.filter(there).or(last.filter(there))
    }

    /// The popup's place beside its parent.
    fn beside(&self, parent: Name, rect: Rect) -> Option<(Placement, (u16, u16))> {
        let host = self.hosts.get(&parent)?;
        let frame = self.dress.frame;
        let (own, outer) = (frame.outer(rect.size()), frame.outer(host.inner()));
        let (x, y) = (rect.x() - host.rect.x(), rect.y() - host.rect.y());
        let placement = placement((x, y), own, outer, !host.is_managed());
        Some((placement, own))
    }

    fn pop_up(&mut self, parent: Name, look: Appearance) {
        let name = Name::Window(look.window);
        let Some((placement, own)) = self.beside(parent, look.rect) else {
            return;
        };
        let (globals, qh) = (&self.globals, &self.qh);
        let Some(host) = self.hosts.get(&parent) else {
            return;
        };
        let positioner = placement.positioner(&globals.shell, qh, own);
        let surface = globals.compositor.create_surface(qh, name);
        let xdg = globals.shell.get_xdg_surface(&surface, qh, name);
        let popup = xdg.get_popup(Some(&host.xdg), &positioner, qh, name);
        positioner.destroy();
        surface.commit();
        let role = Role::Popup(Popup {
            popup,
            parent,
            token: 0,
        });
        self.insert(name, surface, xdg, role, look.rect, Some(look));
    }

    /// A popup goes elsewhere.
    pub(super) fn reposition(&mut self, name: Name, rect: Rect) {
        let Some(host) = self.hosts.get(&name) else {
            return;
        };
        let Role::Popup(role) = &host.role else {
            return;
        };
        let parent = role.parent;
        if role.popup.version() < 3 {
            // Nothing says that to an older compositor: it is another one.
            let look = host.look.clone();
            let orphans = self.remove(name);
            for look in look.into_iter().chain(orphans) {
                self.park(look);
            }
            return;
        }
        let Some((placement, own)) = self.beside(parent, rect) else {
            return;
        };
        let positioner = placement.positioner(&self.globals.shell, &self.qh, own);
        if let Some(host) = self.hosts.get_mut(&name)
            && let Role::Popup(role) = &mut host.role
        {
            role.token = role.token.wrapping_add(1);
            role.popup.reposition(&positioner, role.token);
            let grown = host.rect.size() != rect.size();
            host.rect = rect;
            if grown {
                host.renew();
            }
        }
        positioner.destroy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popups_stand_where_the_guest_has_them_beside_their_parents() {
        let parent = (306, 206);
        // A menu inside of its window, one below it, one to the left of it.
        let point = |x, y, offset| Placement {
            anchor: (x, y, 1, 1),
            beside: false,
            offset,
        };
        let at = |x, y| placement((x, y), (86, 66), parent, false);
        assert_eq!(at(20, 30), point(20, 30, (0, 0)));
        assert_eq!(at(20, 206), point(20, 205, (0, 1)));
        assert_eq!(at(-40, 10), point(0, 10, (-40, 0)));
        // One that the guest has far away touches its window all the same.
        assert_eq!(at(5000, -5000), point(305, 0, (1, -66)));
    }

    #[test]
    fn a_submenu_may_go_to_the_other_side_of_its_menu() {
        let at = |x, y| placement((x, y), (86, 66), (100, 200), true);
        let beside = |row, offset| Placement {
            anchor: (0, row, 100, 1),
            beside: true,
            offset,
        };
        assert_eq!(at(96, 40), beside(40, (-4, 0)));
        assert_eq!(at(100, 230), beside(199, (0, 1)));
        assert!(!at(-80, 40).beside, "the guest has it on the left already");
    }
}
