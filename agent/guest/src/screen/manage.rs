//! The life of a window: known, managed, shown, hidden, gone; and the marks and lists by which apps see that
//! they are managed.
use super::capture::PAINTING;
use super::client::{Area, Client, Frames, guess_kind};
use super::{Gui, Screen};
use crate::display::gone;
use crate::traits::{Traits, state_names};
use anyhow::Result;
use medley_wire::pixels::Format;
use medley_wire::window::{Place, Seen, States};
use medley_wire::{AppId, WindowId, gui};
use std::time::Instant;
use x11rb::NONE;
use x11rb::connection::Connection;
use x11rb::protocol::shape;
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ConfigureWindowAux, ConnectionExt, EventMask,
    GetWindowAttributesReply, MapState, Rectangle, StackMode, Window, WindowClass,
};

/// ICCCM's states of a window.
const WITHDRAWN: u32 = 0;
const NORMAL: u32 = 1;
pub(super) const ICONIC: u32 = 3;

impl Screen {
    /// Takes over the windows that are there already: the agent was started again, its apps were not.
    pub(super) fn adopt(&mut self) -> Result<()> {
        let tree = self.display.x.query_tree(self.display.root)?.reply()?;
        for window in tree.children {
            if let Some(attributes) = self.attributes(window)?
                && attributes.map_state != MapState::UNMAPPED
            {
                let managed = !attributes.override_redirect;
                self.know(window, managed, &attributes)?;
                let Some(client) = self.clients.get_mut(&window) else {
                    continue;
                };
                client.mapped = true;
                client.frames.whole = true;
                client.frames.changed = Some(Instant::now());
                client.watch(&self.display)?;
                if managed {
                    self.order.push(window);
                    self.fit(window)?;
                    self.take_charge(window)?;
                }
            }
        }
        // Some were known before the window that they stand before.
        let windows: Vec<Window> = self.clients.keys().copied().collect();
        for window in windows {
            let parent = self
                .clients
                .get(&window)
                .and_then(|client| self.parent(window, client.managed, &client.traits));
            if let Some(client) = self.clients.get_mut(&window) {
                client.parent = parent;
            }
        }
        self.stacking_changed = true;
        tracing::info!(windows = self.clients.len(), "adopted");
        Ok(())
    }

    fn attributes(&self, window: Window) -> Result<Option<GetWindowAttributesReply>> {
        let d = &self.display;
        if [d.own, d.veil].contains(&window) || d.sockets.contains(&window) {
            return Ok(None);
        }
        let attributes = gone(self.display.x.get_window_attributes(window)?.reply())?;
        Ok(attributes.filter(|a| a.class == WindowClass::INPUT_OUTPUT))
    }

    /// Makes a record of a window, unless it is gone or is none of the host's business.
    fn know(
        &mut self,
        window: Window,
        managed: bool,
        attributes: &GetWindowAttributesReply,
    ) -> Result<()> {
        let display = &self.display;
        let events = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        display.x.change_window_attributes(window, &events)?;
        shape::select_input(&display.x, window, true)?;
        let Some(geometry) = gone(display.x.get_geometry(window)?.reply())? else {
            return Ok(());
        };
        let traits = Traits::read(display, window)?;
        if traits.furniture {
            return Ok(());
        }
        let (app, launch) = self.whose(window, &traits)?;
        let kept = self.kept_states(window)?;
        let id = self.number();
        let border = u32::from(geometry.border_width);
        let parent = self.parent(window, managed, &traits);
        let client = Client {
            xid: window,
            id,
            area: Area {
                x: geometry.x.into(),
                y: geometry.y.into(),
                width: u32::from(geometry.width) + 2 * border,
                height: u32::from(geometry.height) + 2 * border,
            },
            border,
            format: self.format(attributes, geometry.depth),
            managed,
            mapped: false,
            told: false,
            kind: guess_kind(&traits, managed),
            parent,
            states: traits.states.with(kept),
            app,
            launch,
            damage: None,
            pixmap: None,
            frames: Frames {
                next: 0,
                changed: None,
                near: None,
                whole: false,
                not_before: None,
                schedule: None,
                refused: 0,
                seen: Seen::Visible,
                rate: u16::MAX,
            },
            shaped: [true; 2],
            asked: None,
            traits,
        };
        self.by_id.insert(id, window);
        self.clients.insert(window, client);
        Ok(())
    }

    /// States that an agent before this one left on a window, so that a maximised one stays so.
    fn kept_states(&self, window: Window) -> Result<States> {
        let a = &self.display.atoms;
        let kept = self
            .display
            .read_words(window, a._MEDLEY_STATES, AtomEnum::CARDINAL)?;
        Ok(States::known(
            kept.first().map_or(0, |bits| (bits & 0xffff) as u16),
        ))
    }

    /// A number that no window has, known to the host or not.
    fn number(&mut self) -> WindowId {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if let Some(id) = WindowId::new(self.next_id)
                && !self.by_id.contains_key(&id)
                && !self.leaving.contains(&id)
            {
                return id;
            }
        }
    }

    /// Pixels as apps on today's servers have them; others cannot be sent.
    fn format(&self, attributes: &GetWindowAttributesReply, depth: u8) -> Option<Format> {
        let screen = self.display.x.setup().roots.first()?;
        let visual = screen
            .allowed_depths
            .iter()
            .flat_map(|depth| &depth.visuals)
            .find(|visual| visual.visual_id == attributes.visual)?;
        let usual =
            (visual.red_mask, visual.green_mask, visual.blue_mask) == (0xff_0000, 0xff00, 0xff);
        match depth {
            24 if usual => Some(Format::Xrgb),
            32 if usual => Some(Format::Argb),
            _ => None,
        }
    }

    /// The window that this one stands before: as it says or, of a menu that says nothing, the one of the same
    /// app that was used last.
    fn parent(&self, window: Window, managed: bool, traits: &Traits) -> Option<WindowId> {
        let named = traits.transient_for.and_then(|w| self.clients.get(&w));
        let used = || {
            let last = self.last_input.filter(|_| !managed)?;
            self.clients
                .get(&last)
                .filter(|last| self.display.same_client(last.xid, window) && last.mapped)
        };
        named
            .or_else(used)
            .filter(|parent| parent.xid != window)
            .map(|parent| parent.id)
    }

    pub(super) fn whose(&self, window: Window, traits: &Traits) -> Result<(AppId, u32)> {
        let process = crate::traits::process_of(&self.display, window)?;
        let (app, launch) = self.apps.whose(process, &traits.class);
        let launch = self.apps.launch_of(&traits.startup).unwrap_or(launch);
        let known = Some(app).filter(|app| *app != AppId::NONE);
        let app = known.or_else(|| self.apps.app_of(launch));
        Ok((app.unwrap_or(AppId::NONE), launch))
    }

    pub(super) fn map_requested(&mut self, window: Window) -> Result<()> {
        if let Some(attributes) = self.attributes(window)? {
            if self.clients.contains_key(&window) {
                self.refresh(window, true)?;
            } else {
                self.know(window, true, &attributes)?;
            }
            self.fit(window)?;
            self.take_charge(window)?;
        }
        self.display.x.map_window(window)?;
        Ok(())
    }

    /// A managed window has no border of its own and is not larger than the host lets it be.
    fn fit(&mut self, window: Window) -> Result<()> {
        let most = self.limit_size();
        let Some(client) = self.clients.get_mut(&window) else {
            return Ok(());
        };
        client.area.width = (client.area.width - 2 * client.border).min(most.width());
        client.area.height = (client.area.height - 2 * client.border).min(most.height());
        client.border = 0;
        let Client { area, .. } = *client;
        self.place(window, area)
    }

    /// The marks by which an app sees that it is managed.
    fn take_charge(&mut self, window: Window) -> Result<()> {
        let a = &self.display.atoms;
        let d = &self.display;
        d.words(window, a._NET_FRAME_EXTENTS, AtomEnum::CARDINAL, &[0; 4])?;
        d.words(window, a._NET_WM_DESKTOP, AtomEnum::CARDINAL, &[0])?;
        let actions = [
            a._NET_WM_ACTION_MOVE,
            a._NET_WM_ACTION_RESIZE,
            a._NET_WM_ACTION_MINIMIZE,
            a._NET_WM_ACTION_MAXIMIZE_HORZ,
            a._NET_WM_ACTION_MAXIMIZE_VERT,
            a._NET_WM_ACTION_FULLSCREEN,
            a._NET_WM_ACTION_CLOSE,
        ];
        d.words(window, a._NET_WM_ALLOWED_ACTIONS, AtomEnum::ATOM, &actions)?;
        self.write_states(window)
    }

    /// The property in which an app reads its states.
    pub(super) fn write_states(&self, window: Window) -> Result<()> {
        let Some(client) = self.clients.get(&window) else {
            return Ok(());
        };
        let a = &self.display.atoms;
        let mut names: Vec<u32> = state_names(a)
            .iter()
            .filter(|(_, state)| client.states.has(*state))
            .map(|(name, _)| *name)
            .collect();
        if self.focus == Some(window) {
            names.push(a._NET_WM_STATE_FOCUSED);
        }
        self.display
            .words(window, a._NET_WM_STATE, AtomEnum::ATOM, &names)?;
        let kept = [u32::from(client.states.bits())];
        self.display
            .words(window, a._MEDLEY_STATES, AtomEnum::CARDINAL, &kept)?;
        let icccm = if client.states.has(States::MINIMISED) {
            ICONIC
        } else {
            NORMAL
        };
        self.display
            .words(window, a.WM_STATE, a.WM_STATE, &[icccm, NONE])?;
        Ok(())
    }

    pub(super) fn mapped(
        &mut self,
        window: Window,
        own_way: bool,
        say: &mut Gui<'_>,
    ) -> Result<()> {
        match self.clients.get(&window) {
            Some(client) if client.mapped => return Ok(()),
            // What overrides the window manager and is shown again may be another menu now.
            Some(_) if own_way => self.refresh(window, false)?,
            Some(_) => {}
            None if own_way => {
                if let Some(attributes) = self.attributes(window)? {
                    self.know(window, false, &attributes)?;
                }
            }
            None => {}
        }
        let Some(client) = self.clients.get_mut(&window) else {
            return Ok(());
        };
        let now = Instant::now();
        client.mapped = true;
        client.frames.changed = Some(now);
        client.resized(now + PAINTING);
        client.watch(&self.display)?;
        self.stacking_changed = true;
        if client.managed {
            self.order.retain(|other| *other != window);
            self.order.push(window);
        }
        self.introduce(window, say)
    }

    /// Reads again what an app says about a window that is about to be shown again.
    fn refresh(&mut self, window: Window, managed: bool) -> Result<()> {
        let traits = Traits::read(&self.display, window)?;
        let geometry = gone(self.display.x.get_geometry(window)?.reply())?;
        let parent = self.parent(window, managed, &traits);
        if let Some(client) = self.clients.get_mut(&window) {
            client.managed = managed;
            client.kind = guess_kind(&traits, managed);
            client.parent = parent;
            client.states = traits.states;
            client.traits = traits;
            if let Some(g) = geometry {
                client.border = g.border_width.into();
                client.area = Area {
                    x: g.x.into(),
                    y: g.y.into(),
                    width: u32::from(g.width) + 2 * client.border,
                    height: u32::from(g.height) + 2 * client.border,
                };
            }
        }
        Ok(())
    }

    pub(super) fn unmapped(&mut self, window: Window, say: &mut Gui<'_>) -> Result<()> {
        let Some(client) = self.clients.get_mut(&window).filter(|c| c.mapped) else {
            return Ok(());
        };
        client.mapped = false;
        client.frames.changed = None;
        client.unwatch(&self.display)?;
        let (id, managed, told) = (client.id, client.managed, client.told);
        self.capture.release(id, false);
        if managed {
            let a = &self.display.atoms;
            self.display
                .words(window, a.WM_STATE, a.WM_STATE, &[WITHDRAWN, NONE])?;
            self.display.x.delete_property(window, a._NET_WM_STATE)?;
            self.display.x.delete_property(window, a._MEDLEY_STATES)?;
        }
        self.leave_lists(window)?;
        if told && self.live {
            say.say(gui::Unmap { window: id });
        }
        Ok(())
    }

    fn leave_lists(&mut self, window: Window) -> Result<()> {
        self.order.retain(|other| *other != window);
        self.stacking.retain(|other| *other != window);
        if self.last_input == Some(window) {
            self.last_input = None;
        }
        if self.focus == Some(window) {
            self.focus = None;
            self.display.unfocus()?;
        }
        Ok(())
    }

    pub(super) fn destroyed(&mut self, window: Window, say: &mut Gui<'_>) -> Result<()> {
        let Some(mut client) = self.clients.remove(&window) else {
            return Ok(());
        };
        // The server destroyed the damage with the window, unless the window only moved elsewhere.
        client.unwatch(&self.display)?;
        self.by_id.remove(&client.id);
        self.capture.release(client.id, true);
        self.leave_lists(window)?;
        self.pointer.window_gone(client.id);
        if client.told && self.live {
            self.leaving.insert(client.id);
            say.say(gui::Destroy { window: client.id });
        } else {
            self.introduce_waiting(say)?;
        }
        Ok(())
    }

    /// The box around what has changed in a window has grown.
    pub(super) fn damaged(&mut self, window: Window, near: Rectangle) {
        if let Some(client) = self.clients.get_mut(&window) {
            client.frames.changed.get_or_insert_with(Instant::now);
            client.frames.near = Some(near);
        }
    }

    /// The screen has another size.
    pub(super) fn geometry_changed(&mut self) -> Result<()> {
        let d = &self.display;
        let Some(root) = gone(d.x.get_geometry(d.root)?.reply())? else {
            return Ok(());
        };
        let size = [u32::from(root.width), u32::from(root.height)];
        let veil = ConfigureWindowAux::new().width(size[0]).height(size[1]);
        d.x.configure_window(d.veil, &veil)?;
        d.words(
            d.root,
            d.atoms._NET_DESKTOP_GEOMETRY,
            AtomEnum::CARDINAL,
            &size,
        )?;
        let work = match self.work {
            Some(work) => [
                work.x.max(0).cast_unsigned(),
                work.y.max(0).cast_unsigned(),
                work.width,
                work.height,
            ],
            None => [0, 0, size[0], size[1]],
        };
        d.words(d.root, d.atoms._NET_WORKAREA, AtomEnum::CARDINAL, &work)?;
        Ok(())
    }

    /// The lists of windows that apps read, where they changed.
    pub(super) fn write_lists(&mut self) -> Result<()> {
        self.look_at_stacking()?;
        let managed = |window: &&Window| self.clients.get(window).is_some_and(|c| c.managed);
        let stacking: Vec<u32> = self.stacking.iter().filter(managed).copied().collect();
        let lists = (self.order.clone(), stacking);
        if self.written.as_ref() != Some(&lists) {
            let (d, a) = (&self.display, &self.display.atoms);
            d.words(d.root, a._NET_CLIENT_LIST, AtomEnum::WINDOW, &lists.0)?;
            d.words(
                d.root,
                a._NET_CLIENT_LIST_STACKING,
                AtomEnum::WINDOW,
                &lists.1,
            )?;
            self.written = Some(lists);
        }
        Ok(())
    }

    /// Learns the order of windows from the server, if it may have changed.
    pub(super) fn look_at_stacking(&mut self) -> Result<()> {
        if std::mem::take(&mut self.stacking_changed) {
            let tree = self.display.x.query_tree(self.display.root)?.reply()?;
            let mapped = |window: &Window| self.clients.get(window).is_some_and(|c| c.mapped);
            self.stacking = tree.children.into_iter().filter(mapped).collect();
        }
        Ok(())
    }

    /// No app has the keyboard, and no key is down.
    pub(super) fn leave_keyboard(&mut self) -> Result<()> {
        self.keyboard.release(&self.display)?;
        if let Some(old) = self.focus.take() {
            self.display.unfocus()?;
            self.write_states(old)?;
        }
        Ok(())
    }

    /// Puts a window above or below others on the guest's own screen.
    pub(super) fn restack(
        &mut self,
        window: Window,
        sibling: Option<Window>,
        place: Place,
    ) -> Result<()> {
        let mode = match place {
            Place::Above => StackMode::ABOVE,
            Place::Below => StackMode::BELOW,
        };
        let mut values = ConfigureWindowAux::new().stack_mode(mode);
        if let Some(sibling) = sibling {
            values = values.sibling(sibling);
        }
        self.display.x.configure_window(window, &values)?;
        self.stacking_changed = true;
        Ok(())
    }
}
