//! Tray icons of the old kind: windows that apps ask the owner of a selection to take in (the freedesktop system
//! tray with XEmbed). The agent is that owner where a policy allows tray items, and tells of each icon as of any other
//! item: its picture is what its window shows, and a click on the host is a click into that window.
//!
//! Another tray of the guest's keeps the selection as long as it runs.
mod dock;

use crate::bus::{Event as News, MenuEntry};
use crate::display::{Display, gone};
use crate::pointer::Pointer;
use anyhow::Result;
use dock::Dock;
use medley_wire::control::{Allowed, Click, EntryLook, FromHost};
use medley_wire::limits::TRAY_ITEMS;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xfixes::{self, SelectionEventMask};
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConnectionExt, CreateWindowAux, EventMask, VisualClass, Window,
    WindowClass,
};
use x11rb::{COPY_DEPTH_FROM_PARENT, NONE};

/// Numbers of items from here on are these icons'; those of the session bus are counted from one.
const FIRST: u32 = 1 << 31;

/// What an icon's window asks the tray for: to be taken in. The others are about messages in balloons.
const REQUEST_DOCK: u32 = 0;

/// The only entry of an icon's menu on the host.
const OWN_MENU: u16 = 1;

/// Buttons, by evdev's numbers.
const LEFT: u16 = 0x110;
const RIGHT: u16 = 0x111;
const MIDDLE: u16 = 0x112;

/// How long a picture is waited for once it began to change: also the shortest time between two of them.
const SETTLING: Duration = Duration::from_millis(100);

/// All icons, and the office.
#[derive(Debug, Default)]
pub struct Docks {
    allowed: bool,
    listens: bool,
    /// The window that owns the selection, while the agent is the tray.
    manager: Option<Window>,
    icons: BTreeMap<u32, Dock>,
    last: u32,
    news: VecDeque<News>,
}

impl Docks {
    /// What is to be told of them, one after the other.
    pub fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// When a picture is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.icons.values().filter_map(|dock| dock.due).min()
    }

    /// What a policy allows: what is not allowed is not offered.
    ///
    /// # Errors
    /// The display is gone.
    pub fn set_allowed(&mut self, allowed: bool, display: &mut Display) -> Result<()> {
        self.allowed = allowed;
        if !allowed {
            return self.resign(display);
        }
        if !self.listens {
            let mask = SelectionEventMask::SET_SELECTION_OWNER
                | SelectionEventMask::SELECTION_WINDOW_DESTROY
                | SelectionEventMask::SELECTION_CLIENT_CLOSE;
            let tray = display.atoms._NET_SYSTEM_TRAY_S0;
            xfixes::select_selection_input(&display.x, display.own, tray, mask)?;
            self.listens = true;
        }
        self.take_office(display)
    }

    /// Becomes the tray, unless another program of the guest is.
    fn take_office(&mut self, display: &mut Display) -> Result<()> {
        let a = display.atoms;
        let tray = a._NET_SYSTEM_TRAY_S0;
        if self.manager.is_some() || !self.allowed {
            return Ok(());
        }
        if display.x.get_selection_owner(tray)?.reply()?.owner != NONE {
            tracing::warn!(
                "another program of the guest is its tray; its host sees no icons of the old kind"
            );
            return Ok(());
        }
        let manager = display.x.generate_id()?;
        let hidden = CreateWindowAux::new().override_redirect(1);
        display.x.create_window(
            COPY_DEPTH_FROM_PARENT,
            manager,
            display.root,
            -10,
            -10,
            1,
            1,
            0,
            WindowClass::INPUT_ONLY,
            0,
            &hidden,
        )?;
        let (cardinal, visual) = (AtomEnum::CARDINAL, AtomEnum::VISUALID);
        display.words(manager, a._NET_SYSTEM_TRAY_ORIENTATION, cardinal, &[0])?;
        if let Some(see_through) = see_through(display) {
            display.words(manager, a._NET_SYSTEM_TRAY_VISUAL, visual, &[see_through])?;
        }
        let now = display.now()?;
        display.x.set_selection_owner(manager, tray, now)?;
        let announce =
            ClientMessageEvent::new(32, display.root, a.MANAGER, [now, tray, manager, 0, 0]);
        let mask = EventMask::STRUCTURE_NOTIFY;
        display.x.send_event(false, display.root, mask, announce)?;
        display.x.flush()?;
        self.manager = Some(manager);
        Ok(())
    }

    /// Is the tray no longer: gives all icons back to their apps.
    fn resign(&mut self, display: &mut Display) -> Result<()> {
        for id in self.icons.keys().copied().collect::<Vec<_>>() {
            self.remove(id, true, display)?;
        }
        if let Some(manager) = self.manager.take() {
            // Apps watch this window: with it, the tray is gone.
            display.x.destroy_window(manager)?;
            display.x.flush()?;
        }
        Ok(())
    }

    /// Looks at an event of the display. Tells whether it was about an icon, and is nobody else's.
    ///
    /// # Errors
    /// The display is gone.
    pub fn event(&mut self, event: &Event, display: &mut Display) -> Result<bool> {
        let a = display.atoms;
        match event {
            // Asked anew: events tell of owners that were, ourselves among them, and following those the agent
            // would take and leave the office without end.
            Event::XfixesSelectionNotify(e) if e.selection == a._NET_SYSTEM_TRAY_S0 => {
                let owner = display.x.get_selection_owner(e.selection)?.reply()?.owner;
                if owner == NONE {
                    self.take_office(display)?;
                } else if self.manager.is_some_and(|manager| manager != owner) {
                    self.resign(display)?;
                }
            }
            Event::ClientMessage(e) if e.type_ == a._NET_SYSTEM_TRAY_OPCODE => {
                let [_, asked, window, ..] = e.data.as_data32();
                if asked == REQUEST_DOCK && self.manager.is_some() {
                    self.dock(window, display)?;
                }
            }
            // The screen hears of these, too: a window of its own may have become an icon.
            Event::DestroyNotify(e) => {
                self.left(e.window, NONE, display)?;
                return Ok(false);
            }
            Event::ReparentNotify(e) => {
                self.left(e.window, e.parent, display)?;
                return Ok(false);
            }
            Event::PropertyNotify(e) => {
                let Some(dock) = self.of_icon(e.window) else {
                    return Ok(false);
                };
                if e.atom == a._XEMBED_INFO {
                    dock.follow_wish(display)?;
                }
                dock.changed();
            }
            Event::ConfigureRequest(e) => {
                let Some(dock) = self.of_icon(e.window) else {
                    return Ok(false);
                };
                dock.keep_size(display)?;
            }
            Event::MapRequest(e) => {
                let Some(dock) = self.of_icon(e.window) else {
                    return Ok(false);
                };
                dock.follow_wish(display)?;
                dock.changed();
            }
            Event::DamageNotify(e) => {
                let socket = |dock: &&mut Dock| dock.socket == e.drawable;
                let Some(dock) = self.icons.values_mut().find(socket) else {
                    return Ok(false);
                };
                dock.changed();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn of_icon(&mut self, window: Window) -> Option<&mut Dock> {
        let mut all = self.icons.values_mut();
        all.find(|dock| dock.icon == window)
    }

    /// An app has an icon.
    fn dock(&mut self, window: Window, display: &mut Display) -> Result<()> {
        if self.icons.values().any(|dock| dock.icon == window) {
            return Ok(());
        }
        if self.icons.len() >= TRAY_ITEMS as usize {
            tracing::warn!("there are too many tray icons; one stays invisible");
            return Ok(());
        }
        if let Some(dock) = Dock::embed(window, display)? {
            self.last = self.last.wrapping_add(1) & (FIRST - 1);
            self.icons.insert(FIRST | self.last, dock);
        }
        Ok(())
    }

    /// A window has another parent now. An icon that is in no socket of ours any more is none of ours.
    fn left(&mut self, window: Window, parent: Window, display: &mut Display) -> Result<()> {
        let left = |(_, dock): &(&u32, &Dock)| dock.icon == window && dock.socket != parent;
        match self.icons.iter().find(left).map(|(id, _)| *id) {
            Some(id) => self.remove(id, false, display),
            None => Ok(()),
        }
    }

    fn remove(&mut self, id: u32, give_back: bool, display: &mut Display) -> Result<()> {
        if let Some(dock) = self.icons.remove(&id) {
            if dock.told.is_some() {
                self.news.push_back(News::ItemGone(id));
            }
            dock.end(give_back, display)?;
        }
        Ok(())
    }

    /// Looks at what is due.
    ///
    /// # Errors
    /// The display is gone.
    pub fn work(&mut self, now: Instant, display: &Display) -> Result<()> {
        for (id, dock) in &mut self.icons {
            if dock.due.is_none_or(|due| due > now) {
                continue;
            }
            dock.due = None;
            let item = dock.look(*id, display)?;
            if item == dock.told {
                continue;
            }
            let appears = dock.told.is_none();
            self.news.push_back(match &item {
                Some(item) => News::Item(Box::new(item.clone())),
                None => News::ItemGone(*id),
            });
            if item.is_some() && appears {
                self.news.push_back(News::Menu(*id, menu()));
            }
            dock.told = item;
        }
        Ok(())
    }

    /// Does what the host says about these icons; other messages come back.
    ///
    /// # Errors
    /// The display is gone.
    pub fn host_says<'m>(
        &mut self,
        message: FromHost<'m>,
        display: &mut Display,
        pointer: &mut Pointer,
    ) -> Result<Option<FromHost<'m>>> {
        match message {
            FromHost::Settings(settings) => {
                self.set_allowed(settings.allowed.has(Allowed::TRAY), display)?;
                // Others listen to the rest of them.
                Ok(Some(FromHost::Settings(settings)))
            }
            FromHost::TrayClick(click) if click.id >= FIRST => {
                match click.click {
                    Click::Main => self.click(click.id, LEFT, display, pointer)?,
                    Click::Middle => self.click(click.id, MIDDLE, display, pointer)?,
                    // The host shows the menu that it was told.
                    Click::Menu => {}
                }
                Ok(None)
            }
            FromHost::TrayChoice(choice) if choice.id >= FIRST => {
                if choice.entry == OWN_MENU {
                    self.click(choice.id, RIGHT, display, pointer)?;
                }
                Ok(None)
            }
            other => Ok(Some(other)),
        }
    }

    fn click(&self, id: u32, button: u16, display: &Display, pointer: &mut Pointer) -> Result<()> {
        match self.icons.get(&id).filter(|dock| dock.told.is_some()) {
            Some(dock) => dock.click(button, display, pointer),
            None => Ok(()),
        }
    }
}

/// The menu that the host's panel shows: the app's own is a window of its own, and cannot be read. Its only entry
/// opens that.
fn menu() -> Vec<MenuEntry> {
    vec![MenuEntry {
        id: OWN_MENU,
        parent: 0,
        look: EntryLook::ENABLED,
        label: "Menu…".to_owned(),
    }]
}

/// The visual of icons with opacity, if the server has one.
fn see_through(display: &Display) -> Option<u32> {
    let screen = display.x.setup().roots.first()?;
    let deep = screen.allowed_depths.iter().find(|d| d.depth == 32)?;
    let usual = deep.visuals.iter().find(|visual| {
        visual.class == VisualClass::TRUE_COLOR
            && (visual.red_mask, visual.green_mask, visual.blue_mask) == (0xff_0000, 0xff00, 0xff)
    });
    usual.map(|visual| visual.visual_id)
}

/// The size of the screen.
fn screen_size(display: &Display) -> Result<Option<(i32, i32)>> {
    let root = gone(display.x.get_geometry(display.root)?.reply())?;
    Ok(root.map(|root| (root.width.into(), root.height.into())))
}
