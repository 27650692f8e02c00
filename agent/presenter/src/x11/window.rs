//! Host windows: made when a window is shown, destroyed when it is not, so that none changes its kind.
use super::Display;
use crate::emblem::badged;
use crate::error::Result;
use crate::model::Appearance;
use medley_wire::window::{Grip, Kind, Place, SizeHints, States};
use medley_wire::{AppId, Rect, Size, WindowId};
use x11rb::connection::Connection;
use x11rb::properties::{AspectRatio, WmHints, WmSizeHints, WmSizeHintsSpecification};
use x11rb::protocol::xproto::{
    Atom, AtomEnum, CONFIGURE_REQUEST_EVENT, ClientMessageEvent, ConfigWindow,
    ConfigureRequestEvent, ConfigureWindowAux, ConnectionExt, CreateWindowAux, EventMask, Gcontext,
    Gravity, PropMode, StackMode, Window, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

/// A window of the guest on the host.
#[derive(Debug)]
pub(super) struct HostWindow {
    pub id: Window,
    /// Draws inside of the ring and nowhere else.
    pub gc: Gcontext,
    /// The size inside of the ring, as the server has it.
    pub inner: Size,
    pub managed: bool,
}

/// All that a window of a guest tells us.
fn events() -> EventMask {
    EventMask::EXPOSURE
        | EventMask::STRUCTURE_NOTIFY
        | EventMask::PROPERTY_CHANGE
        | EventMask::FOCUS_CHANGE
        | EventMask::VISIBILITY_CHANGE
        | EventMask::KEY_PRESS
        | EventMask::KEY_RELEASE
        | EventMask::BUTTON_PRESS
        | EventMask::BUTTON_RELEASE
        | EventMask::POINTER_MOTION
        | EventMask::ENTER_WINDOW
        | EventMask::LEAVE_WINDOW
}

impl Display {
    /// The corner and size of the X window around a guest's rectangle.
    fn outer(&self, rect: Rect) -> (i32, i32, u16, u16) {
        let (left, top) = self.dress.frame.origin();
        let (width, height) = self.dress.frame.outer(rect.size());
        let (x, y) = (rect.x() - i32::from(left), rect.y() - i32::from(top));
        (x, y, width, height)
    }

    pub(super) fn show(&mut self, look: &Appearance) -> Result<()> {
        let id = self.conn.generate_id()?;
        let (x, y, width, height) = self.outer(look.rect);
        let aux = CreateWindowAux::new()
            .background_pixel(self.dress.look.colour().pixel())
            .bit_gravity(Gravity::NORTH_WEST)
            .override_redirect(u32::from(!look.managed))
            .event_mask(events())
            .cursor(self.cursors.current());
        self.conn.create_window(
            self.depth,
            id,
            self.root,
            x as i16,
            y as i16,
            width,
            height,
            0,
            WindowClass::INPUT_OUTPUT,
            x11rb::COPY_FROM_PARENT,
            &aux,
        )?;
        let inner = look.rect.size();
        let gc = self.painter.inside(&self.conn, id, inner)?;
        let host = HostWindow {
            id,
            gc,
            inner,
            managed: look.managed,
        };
        self.windows.insert(look.window, host);
        self.names.insert(id, look.window);
        self.describe(id, look)?;
        self.title(look.window, &look.title)?;
        self.class(look.window, look.app)?;
        self.set_hints(look.window, look.hints, look.placed.then_some(look.rect))?;
        self.conn.map_window(id)?;
        self.repaint(look.window);
        Ok(())
    }

    /// What is said once, before a window is mapped.
    fn describe(&self, id: Window, look: &Appearance) -> Result<()> {
        let (conn, atoms) = (&self.conn, &self.atoms);
        let pid = [std::process::id()];
        let replace = PropMode::REPLACE;
        conn.change_property32(replace, id, atoms._NET_WM_PID, AtomEnum::CARDINAL, &pid)?;
        let host = nix::unistd::gethostname().unwrap_or_default();
        let host = host.to_string_lossy();
        let machine = atoms.WM_CLIENT_MACHINE;
        conn.change_property8(replace, id, machine, AtomEnum::STRING, host.as_bytes())?;
        let protocols = [atoms.WM_DELETE_WINDOW, atoms._NET_WM_PING];
        conn.change_property32(replace, id, atoms.WM_PROTOCOLS, AtomEnum::ATOM, &protocols)?;
        let kind = [self.kind(look.kind, look.managed)];
        let property = atoms._NET_WM_WINDOW_TYPE;
        conn.change_property32(replace, id, property, AtomEnum::ATOM, &kind)?;
        let mut hints = WmHints::new();
        hints.input = Some(look.managed);
        hints.set(conn, id)?;
        if let Some(parent) = look.parent.and_then(|parent| self.windows.get(&parent)) {
            let property = AtomEnum::WM_TRANSIENT_FOR;
            conn.change_property32(replace, id, property, AtomEnum::WINDOW, &[parent.id])?;
        }
        if !look.by_user {
            // Nobody asked for it: it may not take the keyboard from what somebody does at present.
            let property = atoms._NET_WM_USER_TIME;
            conn.change_property32(replace, id, property, AtomEnum::CARDINAL, &[0])?;
        }
        let states = self.state_atoms(look.states);
        if !states.is_empty() {
            let property = atoms._NET_WM_STATE;
            conn.change_property32(replace, id, property, AtomEnum::ATOM, &states)?;
        }
        Ok(())
    }

    fn kind(&self, kind: Kind, managed: bool) -> Atom {
        let atoms = &self.atoms;
        match kind {
            Kind::Normal => atoms._NET_WM_WINDOW_TYPE_NORMAL,
            Kind::Dialog => atoms._NET_WM_WINDOW_TYPE_DIALOG,
            Kind::Utility => atoms._NET_WM_WINDOW_TYPE_UTILITY,
            Kind::Splash => atoms._NET_WM_WINDOW_TYPE_SPLASH,
            // What says that it is a menu and is managed all the same was too large to be one: it gets the
            // manager's decoration like any other.
            _ if managed => atoms._NET_WM_WINDOW_TYPE_NORMAL,
            Kind::DropdownMenu => atoms._NET_WM_WINDOW_TYPE_DROPDOWN_MENU,
            Kind::PopupMenu => atoms._NET_WM_WINDOW_TYPE_POPUP_MENU,
            Kind::Combo => atoms._NET_WM_WINDOW_TYPE_COMBO,
            Kind::Tooltip => atoms._NET_WM_WINDOW_TYPE_TOOLTIP,
            Kind::Drag => atoms._NET_WM_WINDOW_TYPE_DND,
            Kind::Note => atoms._NET_WM_WINDOW_TYPE_NOTIFICATION,
        }
    }

    /// Names of states, in the order that messages give them to the window manager.
    fn state_atoms(&self, states: States) -> Vec<Atom> {
        let atoms = &self.atoms;
        let all = [
            (States::MAXIMISED_ACROSS, atoms._NET_WM_STATE_MAXIMIZED_HORZ),
            (States::MAXIMISED_DOWN, atoms._NET_WM_STATE_MAXIMIZED_VERT),
            (States::FULLSCREEN, atoms._NET_WM_STATE_FULLSCREEN),
            (States::ATTENTION, atoms._NET_WM_STATE_DEMANDS_ATTENTION),
            (States::MODAL, atoms._NET_WM_STATE_MODAL),
            (States::NO_TASK_BAR, atoms._NET_WM_STATE_SKIP_TASKBAR),
        ];
        let set = all.into_iter().filter(|(state, _)| states.has(*state));
        set.map(|(_, atom)| atom).collect()
    }

    pub(super) fn hide(&mut self, window: WindowId) -> Result<()> {
        if let Some(host) = self.windows.remove(&window) {
            self.names.remove(&host.id);
            self.stale.remove(&window);
            self.conn.free_gc(host.gc)?;
            self.conn.destroy_window(host.id)?;
        }
        Ok(())
    }

    pub(super) fn place(&mut self, window: WindowId, rect: Rect) -> Result<()> {
        let (x, y, width, height) = self.outer(rect);
        let Some(host) = self.windows.get_mut(&window) else {
            return Ok(());
        };
        let aux = ConfigureWindowAux::new()
            .x(x)
            .y(y)
            .width(u32::from(width))
            .height(u32::from(height));
        self.conn.configure_window(host.id, &aux)?;
        if !host.managed && host.inner != rect.size() {
            host.inner = rect.size();
            self.painter.confine(&self.conn, host.gc, rect.size())?;
            self.repaint(window);
        }
        Ok(())
    }

    pub(super) fn title(&self, window: WindowId, title: &str) -> Result<()> {
        let Some(host) = self.windows.get(&window) else {
            return Ok(());
        };
        let (conn, atoms, replace) = (&self.conn, &self.atoms, PropMode::REPLACE);
        for property in [atoms._NET_WM_NAME, atoms._NET_WM_ICON_NAME] {
            let utf8 = atoms.UTF8_STRING;
            conn.change_property8(replace, host.id, property, utf8, title.as_bytes())?;
        }
        let plain: String = title
            .chars()
            .map(|letter| if letter.is_ascii() { letter } else { '?' })
            .collect();
        for property in [AtomEnum::WM_NAME, AtomEnum::WM_ICON_NAME] {
            conn.change_property8(
                replace,
                host.id,
                property,
                AtomEnum::STRING,
                plain.as_bytes(),
            )?;
        }
        Ok(())
    }

    /// The class: workspace and app, both in letters that cannot be anything else.
    pub(super) fn class(&self, window: WindowId, app: AppId) -> Result<()> {
        let Some(host) = self.windows.get(&window) else {
            return Ok(());
        };
        let name = app.class(&self.dress.workspace);
        let value = format!("{name}\0{name}\0");
        let (property, kind) = (AtomEnum::WM_CLASS, AtomEnum::STRING);
        self.conn
            .change_property8(PropMode::REPLACE, host.id, property, kind, value.as_bytes())?;
        if let Some(icon) = self.icons.get(&app) {
            self.conn.change_property32(
                PropMode::REPLACE,
                host.id,
                self.atoms._NET_WM_ICON,
                AtomEnum::CARDINAL,
                icon,
            )?;
        }
        Ok(())
    }

    pub(super) fn hints(&self, window: WindowId, hints: SizeHints) -> Result<()> {
        self.set_hints(window, hints, None)
    }

    /// Hints are the guest's; its window is larger by the frame.
    fn set_hints(&self, window: WindowId, hints: SizeHints, at: Option<Rect>) -> Result<()> {
        let Some(host) = self.windows.get(&window) else {
            return Ok(());
        };
        let (across, down) = self.dress.frame.adds();
        let add = |width: u32, height: u32| {
            let sum = |n: u32, more: u16| i32::try_from(n + u32::from(more)).unwrap_or(i32::MAX);
            (sum(width, across), sum(height, down))
        };
        let with = |size: Size| add(size.width(), size.height());
        let base = hints.base.unwrap_or((0, 0));
        let ratio =
            |size: Size| AspectRatio::new(size.width().cast_signed(), size.height().cast_signed());
        let wm = WmSizeHints {
            position: at.map(|rect| {
                let (x, y, ..) = self.outer(rect);
                (WmSizeHintsSpecification::UserSpecified, x, y)
            }),
            size: at.map(|rect| {
                let (width, height) = with(rect.size());
                (WmSizeHintsSpecification::UserSpecified, width, height)
            }),
            min_size: hints.smallest.map(with),
            max_size: hints.largest.map(with),
            size_increment: hints
                .step
                .map(|step| (step.width().cast_signed(), step.height().cast_signed())),
            aspect: hints.aspect.map(|(low, high)| (ratio(low), ratio(high))),
            base_size: Some(add(base.0.into(), base.1.into())),
            // Places are those of the window, not of the decoration around it.
            win_gravity: Some(Gravity::STATIC),
        };
        wm.set_normal_hints(&self.conn, host.id)?;
        Ok(())
    }

    pub(super) fn states(&self, window: WindowId, begin: States, end: States) -> Result<()> {
        let Some(host) = self.windows.get(&window).filter(|host| host.managed) else {
            return Ok(());
        };
        for (action, states) in [(1, begin), (0, end)] {
            for pair in self.state_atoms(states).chunks(2) {
                let second = pair.get(1).copied().unwrap_or(0);
                let data = [action, pair[0], second, 1, 0];
                self.ask_manager(host.id, self.atoms._NET_WM_STATE, data)?;
            }
        }
        if begin.has(States::MINIMISED) {
            const ICONIC: u32 = 3;
            let data = [ICONIC, 0, 0, 0, 0];
            self.ask_manager(host.id, self.atoms.WM_CHANGE_STATE, data)?;
        }
        Ok(())
    }

    pub(super) fn stack(&self, window: WindowId, sibling: WindowId, place: Place) -> Result<()> {
        let pair = self.windows.get(&window).zip(self.windows.get(&sibling));
        let Some((host, sibling)) = pair else {
            return Ok(());
        };
        let mode = match place {
            Place::Above => StackMode::ABOVE,
            Place::Below => StackMode::BELOW,
        };
        if !(host.managed && sibling.managed) {
            // Menus stand where they stand: above, in the order that they came.
            return Ok(());
        }
        // Each lies in a decoration of the manager's, so that the server does not take them for siblings. The
        // manager is asked in the way that was agreed upon for that.
        let event = ConfigureRequestEvent {
            response_type: CONFIGURE_REQUEST_EVENT,
            stack_mode: mode,
            sequence: 0,
            parent: self.root,
            window: host.id,
            sibling: sibling.id,
            x: 0,
            y: 0,
            width: 0,
            height: 0,
            border_width: 0,
            value_mask: ConfigWindow::SIBLING | ConfigWindow::STACK_MODE,
        };
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.conn.send_event(false, self.root, mask, event)?;
        Ok(())
    }

    pub(super) fn drag(&self, window: WindowId, grip: Grip, button: u16) -> Result<()> {
        let Some(host) = self.windows.get(&window).filter(|host| host.managed) else {
            return Ok(());
        };
        let direction = match grip {
            Grip::TopLeft => 0,
            Grip::Top => 1,
            Grip::TopRight => 2,
            Grip::Right => 3,
            Grip::BottomRight => 4,
            Grip::Bottom => 5,
            Grip::BottomLeft => 6,
            Grip::Left => 7,
            Grip::Move => 8,
        };
        let at = self.conn.query_pointer(self.root)?.reply()?;
        // The window manager takes the pointer, which the button gave to us.
        self.conn.ungrab_pointer(self.time)?;
        let at = [at.root_x, at.root_y].map(|n| i32::from(n).cast_unsigned());
        let button = u32::from(super::events::x_button(button));
        let data = [at[0], at[1], direction, button, 1];
        self.ask_manager(host.id, self.atoms._NET_WM_MOVERESIZE, data)
    }

    fn ask_manager(&self, window: Window, what: Atom, data: [u32; 5]) -> Result<()> {
        let event = ClientMessageEvent::new(32, window, what, data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.conn.send_event(false, self.root, mask, event)?;
        Ok(())
    }

    /// An app's icon: for its windows that are there, and for those that will be.
    ///
    /// # Errors
    /// The display is gone.
    pub fn icon(
        &mut self,
        app: AppId,
        windows: &[WindowId],
        size: Size,
        pixels: &[u8],
    ) -> Result<()> {
        /// Icons that are kept: apps that a guest may have on a desktop at once.
        const KEPT: usize = 64;
        let icon = icon(size, pixels, self.dress.look);
        for window in windows {
            if let Some(host) = self.windows.get(window) {
                let (property, kind) = (self.atoms._NET_WM_ICON, AtomEnum::CARDINAL);
                self.conn
                    .change_property32(PropMode::REPLACE, host.id, property, kind, &icon)?;
            }
        }
        if app != AppId::NONE && (self.icons.len() < KEPT || self.icons.contains_key(&app)) {
            self.icons.insert(app, icon);
        }
        Ok(())
    }

    /// A window's size changed on the server.
    pub(super) fn resized(&mut self, window: WindowId, width: u16, height: u16) -> Result<Size> {
        let inner = self.dress.frame.inner(width, height);
        if let Some(host) = self.windows.get_mut(&window)
            && host.inner != inner
        {
            host.inner = inner;
            self.painter.confine(&self.conn, host.gc, inner)?;
            self.stale.insert(window);
        }
        Ok(inner)
    }
}

/// An icon as `_NET_WM_ICON` has it.
fn icon(size: Size, pixels: &[u8], look: crate::frame::Look) -> Vec<u32> {
    let mut icon = vec![size.width(), size.height()];
    icon.extend(badged(size, pixels, look).into_iter().map(unmultiplied));
    icon
}

/// Colours that are not multiplied with opacity, as window managers want them.
fn unmultiplied([b, g, r, a]: [u8; 4]) -> u32 {
    let part = |n: u8| {
        let full = (u32::from(n) * 255).checked_div(a.into()).unwrap_or(0);
        full.min(255)
    };
    u32::from(a) << 24 | part(r) << 16 | part(g) << 8 | part(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colour, Look};

    #[test]
    fn a_class_is_made_of_the_workspace_and_digits() {
        let name = AppId::new([7; 16]).class("Büro XP/7\0");
        assert_eq!(name, format!("medley-B_ro_XP_7_.{}", "07".repeat(16)));
    }

    #[test]
    fn an_icon_has_a_badge() {
        let size = Size::new(10, 10).unwrap();
        let look = Look::plain(Colour(0, 0, 192));
        let icon = icon(size, &[0x80; 400], look);
        assert_eq!(icon[..2], [10, 10]);
        assert_eq!(icon[2], 0x80ff_ffff);
        assert_eq!(icon[101], 0xff00_00c0);
    }
}
