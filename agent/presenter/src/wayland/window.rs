//! Host windows: made when a window is shown, destroyed when it is not, so that none changes its kind.
use super::buffer::Buffer;
use super::damage::Damage;
use super::paint::COVERED;
use super::popup::Popup;
use super::{Name, State};
use crate::model::{Appearance, HostEvent};
use medley_wire::window::{Grip, SizeHints, States};
use medley_wire::{AppId, Rect, Size, WindowId};
use std::time::Instant;
use wayland_client::Proxy;
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::xdg::decoration::zv1::client::zxdg_toplevel_decoration_v1::{
    Mode, ZxdgToplevelDecorationV1,
};
use wayland_protocols::xdg::shell::client::xdg_surface::XdgSurface;
use wayland_protocols::xdg::shell::client::xdg_toplevel::{ResizeEdge, XdgToplevel};

/// Maximised both ways: Wayland knows no other.
pub(super) const MAXIMISED: States = States::MAXIMISED_ACROSS.with(States::MAXIMISED_DOWN);

/// A window of the guest on the host, or the card.
pub(super) struct Host {
    pub surface: WlSurface,
    pub xdg: XdgSurface,
    pub role: Role,
    /// How it was shown; the card was not.
    pub look: Option<Appearance>,
    /// Where its guest's pixels are on the guest's desk, and how large it is: the compositor's word.
    pub rect: Rect,
    /// The monitor that it came to last.
    pub output: Option<WlOutput>,
    pub damage: Damage,
    pub buffers: Vec<Buffer>,
    /// The compositor has said how large it may be: it may have pixels now.
    pub configured: bool,
    /// What it said last, and was not answered yet.
    pub acknowledges: Option<u32>,
    /// It has pixels.
    pub mapped: bool,
    /// Its size or state is another: the next buffer must not wait.
    pub must: bool,
    /// The compositor says when it wants more, and since when it has been asked.
    pub awaits: Option<(WlCallback, Instant)>,
    /// It does not want more of what nobody sees.
    pub covered: bool,
    /// By this it may take the keyboard, once it is there.
    pub token: Option<String>,
}

/// What a surface is to the desktop.
pub(super) enum Role {
    /// A window that the desktop manages.
    Toplevel(Toplevel),
    /// A menu or the like.
    Popup(Popup),
}

/// A window that the desktop manages.
pub(super) struct Toplevel {
    pub toplevel: XdgToplevel,
    decoration: Option<ZxdgToplevelDecorationV1>,
    /// What the compositor says of it, until it says that this was all.
    pub next: Next,
    /// Maximised, fullscreen, minimised.
    pub states: States,
    /// Its size is the compositor's: it fills something.
    pub bound: bool,
    /// The desktop has something like minimised windows.
    pub can_minimise: bool,
    /// What its icon is made of.
    pub icon: Option<Buffer>,
}

/// What a configure says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Next {
    pub size: (i32, i32),
    pub states: States,
    pub bound: bool,
    pub active: bool,
}

impl Host {
    /// The size inside of the ring.
    pub const fn inner(&self) -> Size {
        self.rect.size()
    }

    pub const fn is_managed(&self) -> bool {
        matches!(self.role, Role::Toplevel(_))
    }

    /// When the compositor has gone so long without wanting more that the window counts as covered.
    pub fn patience(&self) -> Option<Instant> {
        let waits = !self.damage.is_empty() && !self.covered;
        let (_, since) = self.awaits.as_ref().filter(|_| waits)?;
        Some(*since + COVERED)
    }

    /// It has another size, or is to be painted for another reason.
    pub fn renew(&mut self) {
        self.must = true;
        self.damage.all(self.rect.size());
    }

    /// Takes it from the screen; its buffers are still the compositor's.
    fn destroy(self) -> Vec<Buffer> {
        match self.role {
            Role::Toplevel(role) => {
                if let Some(decoration) = role.decoration {
                    decoration.destroy();
                }
                role.toplevel.destroy();
            }
            Role::Popup(role) => role.popup.destroy(),
        }
        self.xdg.destroy();
        self.surface.destroy();
        self.buffers
    }
}

/// How a window that the desktop manages begins.
pub(super) struct Beginning<'a> {
    pub rect: Rect,
    pub title: &'a str,
    pub app_id: &'a str,
    pub look: Option<Appearance>,
}

impl State {
    /// Whose a surface is, if it is still there.
    pub(super) fn name_of(&self, surface: &WlSurface) -> Option<Name> {
        let name = *surface.data::<Name>()?;
        let host = self.hosts.get(&name)?;
        (host.surface == *surface).then_some(name)
    }

    pub(super) fn show(&mut self, look: Appearance) {
        if !look.managed {
            self.park(look);
            return;
        }
        let window = look.window;
        let app_id = look.app.class(&self.dress.workspace);
        let (title, by_user) = (look.title.clone(), look.by_user);
        let (parent, hints, states, app) = (look.parent, look.hints, look.states, look.app);
        let beginning = Beginning {
            rect: look.rect,
            title: &title,
            app_id: &app_id,
            look: Some(look),
        };
        let toplevel = self.toplevel(Name::Window(window), beginning);
        let parent = parent.and_then(|parent| self.hosts.get(&Name::Window(parent)));
        if let Some(Role::Toplevel(parent)) = parent.map(|parent| &parent.role) {
            toplevel.set_parent(Some(&parent.toplevel));
        }
        self.hints(window, hints);
        if states.has(States::FULLSCREEN) {
            toplevel.set_fullscreen(None);
        } else if states.has(MAXIMISED) {
            toplevel.set_maximized();
        }
        if let Some(host) = self.hosts.get(&Name::Window(window)) {
            // Without a buffer: the compositor says how large it may be.
            host.surface.commit();
        }
        self.dress_icon(window, app);
        self.touched(window);
        if by_user {
            self.ask_token(Name::Window(window), true);
        }
    }

    /// Makes a window that the desktop manages. It is committed by the caller.
    pub(super) fn toplevel(&mut self, name: Name, beginning: Beginning<'_>) -> XdgToplevel {
        let (globals, qh) = (&self.globals, &self.qh);
        let surface = globals.compositor.create_surface(qh, name);
        let xdg = globals.shell.get_xdg_surface(&surface, qh, name);
        let toplevel = xdg.get_toplevel(qh, name);
        toplevel.set_title(beginning.title.to_owned());
        toplevel.set_app_id(beginning.app_id.to_owned());
        // Title bars and buttons are the desktop's, as around every other window; ours is the ring.
        let decoration = globals.decorations.as_ref().map(|all| {
            let decoration = all.get_toplevel_decoration(&toplevel, qh, ());
            decoration.set_mode(Mode::ServerSide);
            decoration
        });
        let role = Role::Toplevel(Toplevel {
            toplevel: toplevel.clone(),
            decoration,
            next: Next::default(),
            states: States::NONE,
            bound: false,
            can_minimise: false,
            icon: None,
        });
        self.insert(name, surface, xdg, role, beginning.rect, beginning.look);
        toplevel
    }

    pub(super) fn insert(
        &mut self,
        name: Name,
        surface: WlSurface,
        xdg: XdgSurface,
        role: Role,
        rect: Rect,
        look: Option<Appearance>,
    ) {
        let host = Host {
            surface,
            xdg,
            role,
            look,
            rect,
            output: None,
            damage: Damage::default(),
            buffers: Vec::new(),
            configured: false,
            acknowledges: None,
            mapped: false,
            must: false,
            awaits: None,
            covered: false,
            token: None,
        };
        self.hosts.insert(name, host);
    }

    pub(super) fn hide(&mut self, window: WindowId) {
        self.parked.forget(window);
        self.order.retain(|other| *other != window);
        // What stood on it goes elsewhere.
        for look in self.remove(Name::Window(window)) {
            self.park(look);
        }
    }

    /// Takes a surface away, and those that stand on it before it. Gives what stood on it, lower ones first.
    pub(super) fn remove(&mut self, name: Name) -> Vec<Appearance> {
        let mut orphans = Vec::new();
        for child in self.children(name) {
            let look = self.hosts.get(&child).and_then(|host| host.look.clone());
            orphans.extend(look);
            let more = self.remove(child);
            orphans.extend(more);
        }
        self.keyboard.forget(name);
        self.pointer.forget(name);
        if let Some(host) = self.hosts.remove(&name) {
            let buffers = host.destroy();
            self.retired
                .extend(buffers.into_iter().filter(Buffer::is_held));
        }
        orphans
    }

    /// The guest wishes another place. Its place on the desk is its own affair; its size is, unless the window
    /// fills something.
    pub(super) fn place(&mut self, window: WindowId, rect: Rect) {
        let name = Name::Window(window);
        let Some(host) = self.hosts.get_mut(&name) else {
            self.parked.place(window, rect);
            return;
        };
        if let Some(look) = &mut host.look {
            look.rect = rect;
        }
        let Role::Toplevel(role) = &host.role else {
            self.reposition(name, rect);
            return;
        };
        if !role.bound {
            let grown = host.rect.size() != rect.size();
            host.rect = rect;
            if grown {
                host.renew();
            }
        }
        let rect = host.rect;
        self.heard.events.push(HostEvent::Moved { window, rect });
    }

    pub(super) fn title(&mut self, window: WindowId, title: String) {
        let host = self.hosts.get_mut(&Name::Window(window));
        if let Some(Role::Toplevel(role)) = host.map(|host| &host.role) {
            role.toplevel.set_title(title);
        }
    }

    /// The class: workspace and app, both in letters that cannot be anything else.
    pub(super) fn app(&mut self, window: WindowId, app: AppId) {
        let host = self.hosts.get(&Name::Window(window));
        if let Some(Role::Toplevel(role)) = host.map(|host| &host.role) {
            let class = app.class(&self.dress.workspace);
            role.toplevel.set_app_id(class);
            self.dress_icon(window, app);
        }
    }

    /// Hints are the guest's; its window is larger by the frame. Of steps and proportions Wayland knows nothing.
    pub(super) fn hints(&mut self, window: WindowId, hints: SizeHints) {
        let frame = self.dress.frame;
        let host = self.hosts.get_mut(&Name::Window(window));
        let Some(host) = host else { return };
        if let Some(look) = &mut host.look {
            look.hints = hints;
        }
        if let Role::Toplevel(role) = &host.role {
            let outer = |size: Option<Size>| {
                let (width, height) = size.map_or((0, 0), |size| frame.outer(size));
                (i32::from(width), i32::from(height))
            };
            let (least, most) = (outer(hints.smallest), outer(hints.largest));
            // Zero is no limit; anything else below the least breaks the protocol.
            let fits = |most: i32, least: i32| if most == 0 { 0 } else { most.max(least) };
            role.toplevel.set_min_size(least.0, least.1);
            role.toplevel
                .set_max_size(fits(most.0, least.0), fits(most.1, least.1));
        }
    }

    pub(super) fn states(&mut self, window: WindowId, begin: States, end: States) {
        let name = Name::Window(window);
        let Some(host) = self.hosts.get_mut(&name) else {
            return;
        };
        let Role::Toplevel(role) = &mut host.role else {
            return;
        };
        if begin.has(MAXIMISED) {
            role.toplevel.set_maximized();
        } else if end.has(States::MAXIMISED_ACROSS) || end.has(States::MAXIMISED_DOWN) {
            role.toplevel.unset_maximized();
        }
        if begin.has(States::FULLSCREEN) {
            role.toplevel.set_fullscreen(None);
        } else if end.has(States::FULLSCREEN) {
            role.toplevel.unset_fullscreen();
        }
        if begin.has(States::MINIMISED) {
            role.toplevel.set_minimized();
            if role.can_minimise {
                // Nobody says that it is, and it is no longer when somebody works in it.
                role.states = role.states.with(States::MINIMISED);
                let states = role.states;
                self.heard.events.push(HostEvent::States { window, states });
            }
        }
        if begin.has(States::ATTENTION) {
            self.ask_token(name, false);
        }
    }

    /// Somebody works in a window: it is not minimised.
    pub(super) fn restored(&mut self, window: WindowId) {
        let host = self.hosts.get_mut(&Name::Window(window));
        if let Some(Role::Toplevel(role)) = host.map(|host| &mut host.role)
            && role.states.has(States::MINIMISED)
        {
            role.states = role.states.without(States::MINIMISED);
            let states = role.states;
            self.heard.events.push(HostEvent::States { window, states });
        }
    }

    pub(super) fn drag(&mut self, window: WindowId, grip: Grip) {
        let host = self.hosts.get(&Name::Window(window));
        let role = host.map(|host| &host.role);
        let (Some(Role::Toplevel(role)), Some(seat)) = (role, &self.globals.seat) else {
            return;
        };
        let serial = self.keyboard.serial;
        let edge = match grip {
            Grip::TopLeft => ResizeEdge::TopLeft,
            Grip::Top => ResizeEdge::Top,
            Grip::TopRight => ResizeEdge::TopRight,
            Grip::Right => ResizeEdge::Right,
            Grip::BottomRight => ResizeEdge::BottomRight,
            Grip::Bottom => ResizeEdge::Bottom,
            Grip::BottomLeft => ResizeEdge::BottomLeft,
            Grip::Left => ResizeEdge::Left,
            Grip::Move => return role.toplevel._move(seat, serial),
        };
        role.toplevel.resize(seat, serial, edge);
    }
}
