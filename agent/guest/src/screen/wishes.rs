//! What apps ask of their window manager. A window that is not shown yet gets what it asks for; of one that is
//! shown, the host decides, and the app hears what was decided.
use super::capture::PAINTING;
use super::client::Area;
use super::manage::ICONIC;
use super::{Gui, Screen};
use crate::traits::state_of;
use anyhow::Result;
use medley_wire::gui;
use medley_wire::window::{Change, Grip, Place, States};
use std::time::{Duration, Instant};
use x11rb::NONE;
use x11rb::protocol::xproto::{
    AtomEnum, CirculateRequestEvent, ClientMessageEvent, ConfigWindow, ConfigureNotifyEvent,
    ConfigureRequestEvent, ConfigureWindowAux, ConnectionExt, EventMask, StackMode, Window,
};

impl Screen {
    pub(super) fn configure_requested(
        &mut self,
        event: &ConfigureRequestEvent,
        say: &mut Gui<'_>,
    ) -> Result<()> {
        let mask = event.value_mask;
        let Some(client) = self
            .clients
            .get(&event.window)
            .filter(|c| c.mapped && c.managed)
        else {
            let all = ConfigureWindowAux::from_configure_request(event);
            let all = ConfigureWindowAux {
                // A sibling that is gone would make the whole request void.
                sibling: None,
                stack_mode: all
                    .stack_mode
                    .filter(|_| !mask.contains(ConfigWindow::SIBLING)),
                ..all
            };
            self.display.x.configure_window(event.window, &all)?;
            return Ok(());
        };
        let mut wish = client.area;
        if mask.contains(ConfigWindow::X) {
            wish.x = event.x.into();
        }
        if mask.contains(ConfigWindow::Y) {
            wish.y = event.y.into();
        }
        if mask.contains(ConfigWindow::WIDTH) {
            wish.width = event.width.into();
        }
        if mask.contains(ConfigWindow::HEIGHT) {
            wish.height = event.height.into();
        }
        if mask.contains(ConfigWindow::STACK_MODE) {
            let place = match event.stack_mode {
                StackMode::BELOW | StackMode::BOTTOM_IF => Place::Below,
                _ => Place::Above,
            };
            let sibling = mask
                .contains(ConfigWindow::SIBLING)
                .then_some(event.sibling);
            self.wish_stack(event.window, sibling, place, say);
        }
        self.wish_area(event.window, wish, say)
    }

    /// An app would like its window elsewhere. The host answers; without a host, it gets what it wants.
    fn wish_area(&mut self, window: Window, wish: Area, say: &mut Gui<'_>) -> Result<()> {
        let Some(client) = self.clients.get(&window) else {
            return Ok(());
        };
        if wish == client.area {
            return self.remind(window);
        }
        if client.told && self.live {
            say.say(gui::Ask {
                window: client.id,
                rect: wish.claim(),
                answers: 0,
            });
            return Ok(());
        }
        self.place(window, wish)
    }

    fn wish_stack(
        &mut self,
        window: Window,
        sibling: Option<Window>,
        place: Place,
        say: &mut Gui<'_>,
    ) {
        let id = |window| Some(self.clients.get(&window).filter(|c| c.told)?.id);
        if let Some(window) = id(window).filter(|_| self.live) {
            say.say(gui::Stack {
                window,
                sibling: sibling.and_then(id),
                place,
            });
        }
    }

    /// Puts a window somewhere.
    pub(super) fn place(&mut self, window: Window, area: Area) -> Result<()> {
        let Some(client) = self.clients.get_mut(&window) else {
            return Ok(());
        };
        let same = client.area == area;
        let resized = (client.area.width, client.area.height) != (area.width, area.height);
        let border = client.border;
        let inner = |length: u32| length.saturating_sub(2 * border).max(1);
        client.area = area;
        if resized {
            client.resized(Instant::now() + PAINTING);
            client.forget_pixmap(&self.display)?;
        }
        let managed = client.managed;
        let mut values = ConfigureWindowAux::new()
            .x(area.x)
            .y(area.y)
            .width(inner(area.width))
            .height(inner(area.height));
        if managed {
            values = values.border_width(0);
        }
        self.display.x.configure_window(window, &values)?;
        // An app waits for an answer to its wish, and the server says nothing where nothing changes.
        if same { self.remind(window) } else { Ok(()) }
    }

    /// Tells an app where its window is.
    fn remind(&self, window: Window) -> Result<()> {
        let Some(client) = self.clients.get(&window).filter(|c| c.managed) else {
            return Ok(());
        };
        let short = |n: i32| n.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let length = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let event = ConfigureNotifyEvent {
            response_type: x11rb::protocol::xproto::CONFIGURE_NOTIFY_EVENT,
            sequence: 0,
            event: window,
            window,
            above_sibling: NONE,
            x: short(client.area.x),
            y: short(client.area.y),
            width: length(client.area.width),
            height: length(client.area.height),
            border_width: 0,
            override_redirect: false,
        };
        self.display
            .x
            .send_event(false, window, EventMask::STRUCTURE_NOTIFY, event)?;
        Ok(())
    }

    pub(super) fn configured(
        &mut self,
        event: &ConfigureNotifyEvent,
        say: &mut Gui<'_>,
    ) -> Result<()> {
        if event.window == self.display.root {
            return self.geometry_changed();
        }
        let Some(client) = self.clients.get_mut(&event.window) else {
            return Ok(());
        };
        self.stacking_changed |= client.mapped;
        // What the agent placed is where it was placed; what is reported of it may be older.
        if client.managed {
            return Ok(());
        }
        let border = u32::from(event.border_width);
        let area = Area {
            x: event.x.into(),
            y: event.y.into(),
            width: u32::from(event.width) + 2 * border,
            height: u32::from(event.height) + 2 * border,
        };
        if area == client.area && border == client.border {
            return Ok(());
        }
        let resized = (area.width, area.height) != (client.area.width, client.area.height);
        client.border = border;
        client.area = area;
        if resized {
            client.resized(Instant::now());
            client.forget_pixmap(&self.display)?;
        }
        if client.told && client.mapped && self.live {
            say.say(gui::Ask {
                window: client.id,
                rect: area.claim(),
                answers: 0,
            });
        }
        Ok(())
    }

    pub(super) fn circulate_requested(&mut self, event: &CirculateRequestEvent, say: &mut Gui<'_>) {
        use x11rb::protocol::xproto::Place as Xplace;
        let place = if event.place == Xplace::ON_TOP {
            Place::Above
        } else {
            Place::Below
        };
        self.wish_stack(event.window, None, place, say);
    }

    pub(super) fn message(&mut self, event: &ClientMessageEvent, say: &mut Gui<'_>) -> Result<()> {
        let a = self.display.atoms;
        let data = event.data.as_data32();
        let window = event.window;
        if event.type_ == a.WM_PROTOCOLS && data[0] == a._NET_WM_PING {
            if let Some(client) = self.clients.get_mut(&data[2]) {
                client.asked = None;
            }
            return Ok(());
        }
        if event.type_ == a._NET_REQUEST_FRAME_EXTENTS {
            let none = [0; 4];
            self.display
                .words(window, a._NET_FRAME_EXTENTS, AtomEnum::CARDINAL, &none)?;
            return Ok(());
        }
        let Some(client) = self.clients.get(&window) else {
            return Ok(());
        };
        let (id, live) = (client.id, client.told && self.live);
        match event.type_ {
            kind if kind == a._NET_WM_STATE => self.wish_states(window, data, say)?,
            kind if kind == a.WM_CHANGE_STATE && data[0] == ICONIC => {
                self.wish(window, States::MINIMISED, States::NONE, say)?;
            }
            kind if kind == a._NET_ACTIVE_WINDOW => {
                self.wish(window, States::ATTENTION, States::NONE, say)?;
            }
            kind if kind == a._NET_CLOSE_WINDOW => self.close(window)?,
            kind if kind == a._NET_WM_MOVERESIZE && live => {
                if let Some(grip) = grip(data[2]) {
                    say.say(gui::Drag { window: id, grip });
                }
            }
            kind if kind == a._NET_MOVERESIZE_WINDOW => {
                let mut wish = client.area;
                let flags = data[0] >> 8;
                let signed = |n: u32| n.cast_signed();
                if flags & 1 != 0 {
                    wish.x = signed(data[1]);
                }
                if flags & 2 != 0 {
                    wish.y = signed(data[2]);
                }
                if flags & 4 != 0 {
                    wish.width = data[3];
                }
                if flags & 8 != 0 {
                    wish.height = data[4];
                }
                self.wish_area(window, wish, say)?;
            }
            kind if kind == a._NET_RESTACK_WINDOW => {
                let sibling = Some(data[1]).filter(|sibling| *sibling != NONE);
                let place = if data[2] == u32::from(StackMode::BELOW) {
                    Place::Below
                } else {
                    Place::Above
                };
                self.wish_stack(window, sibling, place, say);
            }
            _ => {}
        }
        Ok(())
    }

    fn wish_states(&mut self, window: Window, data: [u32; 5], say: &mut Gui<'_>) -> Result<()> {
        let a = &self.display.atoms;
        let named = state_of(a, data[1]).with(state_of(a, data[2]));
        let Some(client) = self.clients.get(&window) else {
            return Ok(());
        };
        let (begin, end) = match data[0] {
            0 => (States::NONE, named),
            1 => (named, States::NONE),
            _ => (
                named.without(client.states),
                States::known(named.bits() & client.states.bits()),
            ),
        };
        self.wish(window, begin, end, say)
    }

    /// An app would like states to begin and end. What concerns only itself holds at once; the rest when the
    /// host says so.
    pub(super) fn wish(
        &mut self,
        window: Window,
        begin: States,
        end: States,
        say: &mut Gui<'_>,
    ) -> Result<()> {
        let own = States::MODAL
            .with(States::NO_TASK_BAR)
            .with(States::ATTENTION);
        let Some(client) = self.clients.get_mut(&window) else {
            return Ok(());
        };
        let Some(change) = Change::new(begin, end) else {
            return Ok(());
        };
        let only_own = |states: States| States::known(states.bits() & own.bits());
        if let Some(at_once) = Change::new(only_own(begin), only_own(end)) {
            client.states = at_once.apply(client.states);
        }
        if client.told && self.live {
            say.say(gui::State {
                window: client.id,
                change,
            });
        }
        self.write_states(window)
    }

    /// Asks an app to close a window. One that cannot be asked, or that did not answer the last time, is
    /// ended.
    pub(super) fn close(&mut self, window: Window) -> Result<()> {
        /// How long an app may take to answer before it counts as hung.
        const PATIENCE: Duration = Duration::from_secs(5);
        let time = self.display.now()?;
        let Some(client) = self.clients.get_mut(&window) else {
            return Ok(());
        };
        let hung = client.asked.is_some_and(|at| at.elapsed() >= PATIENCE);
        if hung || !client.traits.deletes {
            self.display.x.kill_client(window)?;
            return Ok(());
        }
        let a = &self.display.atoms;
        self.display.tell(window, a.WM_DELETE_WINDOW, time, 0)?;
        if client.traits.answers {
            self.display.tell(window, a._NET_WM_PING, time, window)?;
            client.asked.get_or_insert_with(Instant::now);
        }
        Ok(())
    }
}

fn grip(direction: u32) -> Option<Grip> {
    let all = [
        Grip::TopLeft,
        Grip::Top,
        Grip::TopRight,
        Grip::Right,
        Grip::BottomRight,
        Grip::Bottom,
        Grip::BottomLeft,
        Grip::Left,
        Grip::Move,
    ];
    all.get(direction as usize).copied()
}
