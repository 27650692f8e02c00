//! The guest's windows: a window manager and compositor whose screen is elsewhere. It reports what the windows
//! are and asks; what the host says, it does.
//!
//! - `manage` is the life of windows, `wishes` what their apps ask for.
//! - `tell` puts windows into messages, one by one or all of them.
//! - `host` does what the host says.
//! - `capture` sends pixels, as many as the host asks for.
mod capture;
mod client;
mod grabber;
mod host;
mod icons;
mod manage;
mod packing;
mod pieces;
mod slots;
mod tell;
mod wishes;

use crate::apps::Index;
use crate::channel::Say;
use crate::cursor::Cursor;
use crate::display::Display;
use crate::keyboard::Keyboard;
use crate::pointer::Pointer;
use anyhow::Result;
use capture::Capture;
use client::Client;
use medley_link::Pool;
use medley_wire::limits::{FRAMES_PER_GUEST, SIDE, WINDOWS};
use medley_wire::{Size, WindowId, gui};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::Window;

pub use client::Area;

/// What is said on the gui channel.
pub type Gui<'o> = Say<'o, gui::FromGuest<'static>>;

/// What the host will take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    windows: usize,
    side: (u32, u32),
    rate: u16,
}

/// The screen.
#[derive(Debug)]
pub struct Screen {
    /// The X display.
    pub display: Display,
    clients: BTreeMap<Window, Client>,
    by_id: HashMap<WindowId, Window>,
    /// Numbers of windows that are gone, and that the host has not let go of.
    leaving: HashSet<WindowId>,
    next_id: u32,
    /// Managed windows in the order in which they were mapped.
    order: Vec<Window>,
    /// All mapped windows, the lowest first.
    stacking: Vec<Window>,
    stacking_changed: bool,
    /// The lists of windows as apps can read them.
    written: Option<(Vec<Window>, Vec<Window>)>,
    /// The part of the screen that maximised windows may cover, if the host said so.
    work: Option<Area>,
    /// Windows whose properties changed since the last look.
    changed: HashSet<Window>,
    /// Windows whose icons the host has not.
    icons: BTreeSet<Window>,
    /// The host has asked for everything, so it is told what changes.
    live: bool,
    limits: Limits,
    focus: Option<Window>,
    /// The window that had the last click or key: what a menu that names no owner belongs to.
    last_input: Option<Window>,
    capture: Capture,
    keyboard: Keyboard,
    pointer: Pointer,
    cursor: Cursor,
    apps: Rc<Index>,
    bells: Vec<Instant>,
}

impl Screen {
    /// Takes over a display and whatever windows are on it.
    ///
    /// # Errors
    /// The display is gone, or lacks something.
    pub fn new(display: Display, pool: Option<Pool>) -> Result<Self> {
        let capture = Capture::new(&display, pool)?;
        let keyboard = Keyboard::new(&display)?;
        let mut screen = Self {
            display,
            clients: BTreeMap::new(),
            by_id: HashMap::new(),
            leaving: HashSet::new(),
            next_id: 0,
            order: Vec::new(),
            stacking: Vec::new(),
            stacking_changed: true,
            written: None,
            work: None,
            changed: HashSet::new(),
            icons: BTreeSet::new(),
            live: false,
            limits: Limits {
                windows: WINDOWS.into(),
                side: (SIDE, SIDE),
                rate: 60,
            },
            focus: None,
            last_input: None,
            capture,
            keyboard,
            pointer: Pointer::default(),
            cursor: Cursor::default(),
            apps: Rc::default(),
            bells: Vec::new(),
        };
        screen.adopt()?;
        screen.geometry_changed()?;
        Ok(screen)
    }

    /// By what windows are recognised as belonging to an app, from now on.
    pub fn set_apps(&mut self, apps: Rc<Index>) {
        self.apps = apps;
    }

    /// The keyboard, for the control channel to give it a keymap.
    pub const fn keyboard(&mut self) -> (&mut Keyboard, &Display) {
        (&mut self.keyboard, &self.display)
    }

    /// The pointer, for the tray to click with.
    pub const fn pointer(&mut self) -> (&mut Pointer, &mut Display) {
        (&mut self.pointer, &mut self.display)
    }

    /// Whether pixels can go through shared memory.
    #[must_use]
    pub const fn has_pool(&self) -> bool {
        self.capture.has_pool()
    }

    /// The gui channel is gone: no key stays down, and nothing is said until the host asks for everything.
    ///
    /// # Errors
    /// The display is gone.
    pub fn lost(&mut self) -> Result<()> {
        self.live = false;
        self.capture.forget();
        self.leave_keyboard()?;
        self.pointer.release(&self.display)?;
        Ok(())
    }

    /// Deals with one event of the display. Those that are not the screen's come back.
    ///
    /// # Errors
    /// The display is gone.
    pub fn event(&mut self, event: Event, say: &mut Gui<'_>) -> Result<Option<Event>> {
        match event {
            Event::MapRequest(e) => self.map_requested(e.window)?,
            Event::MapNotify(e) => self.mapped(e.window, e.override_redirect, say)?,
            Event::UnmapNotify(e) => self.unmapped(e.window, say)?,
            Event::DestroyNotify(e) => self.destroyed(e.window, say)?,
            Event::ReparentNotify(e) if e.parent != self.display.root => {
                self.destroyed(e.window, say)?;
            }
            Event::ConfigureRequest(e) => self.configure_requested(&e, say)?,
            Event::ConfigureNotify(e) => self.configured(&e, say)?,
            Event::CirculateRequest(e) => self.circulate_requested(&e, say),
            Event::ClientMessage(e) => self.message(&e, say)?,
            Event::PropertyNotify(e) if self.clients.contains_key(&e.window) => {
                if e.atom == self.display.atoms._NET_WM_ICON {
                    self.icons.insert(e.window);
                } else {
                    self.changed.insert(e.window);
                }
            }
            Event::DamageNotify(e) => self.damaged(e.drawable, e.area),
            Event::ShapeNotify(e) => self.shape_changed(e.affected_window, say)?,
            Event::XfixesCursorNotify(e) => {
                let live = self.live;
                self.cursor.changed(&self.display, &e, live, say)?;
            }
            Event::XkbBellNotify(e) => self.bell(e.window, say),
            Event::XkbStateNotify(e) => self.keyboard.state_changed(&e),
            Event::XkbControlsNotify(_) => self.keyboard.keep_quiet(&self.display)?,
            Event::XkbMapNotify(_) | Event::XkbNewKeyboardNotify(_) | Event::MappingNotify(_) => {
                self.keyboard.map_changed(&self.display)?;
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// What is better done once after many events: properties, and the lists that apps read.
    ///
    /// # Errors
    /// The display is gone.
    pub fn settle(&mut self, say: &mut Gui<'_>) -> Result<()> {
        for window in std::mem::take(&mut self.changed) {
            self.properties_changed(window, say)?;
        }
        self.write_lists()
    }

    /// Sends what changed, as far as the host lets us; tells when there will be more to send.
    ///
    /// # Errors
    /// The display is gone.
    pub fn frames(&mut self, say: &mut Gui<'_>) -> Result<Option<Instant>> {
        if !self.live || !say.is_open() {
            return Ok(None);
        }
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        // The lowest first would starve the others behind the limit of the guest: the one that has waited
        // longest comes first.
        let mut waiting: Vec<(Instant, Window)> = self
            .clients
            .values()
            .filter_map(|client| Some((client.frames.changed?, client.xid)))
            .collect();
        waiting.sort_unstable();
        for (_, window) in waiting {
            let Some(client) = self.clients.get_mut(&window) else {
                continue;
            };
            match self.capture.due(client, self.limits.rate, now) {
                capture::Due::Now => {
                    if self.capture.in_flight() >= FRAMES_PER_GUEST as usize
                        || capture::is_full(say)
                    {
                        break;
                    }
                    let rate = self.limits.rate;
                    self.capture.send(&self.display, client, rate, say)?;
                }
                capture::Due::At(at) => next = Some(next.map_or(at, |other| other.min(at))),
                capture::Due::Later => {}
            }
        }
        Ok(next)
    }

    fn limit_size(&self) -> Size {
        let (width, height) = self.limits.side;
        Area {
            x: 0,
            y: 0,
            width,
            height,
        }
        .size()
    }
}
