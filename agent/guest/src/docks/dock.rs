//! One icon of the old kind, and the socket that the agent gave it: a window beside the guest's others that the host
//! never hears of, with the icon in it. It lies below them, and comes up for the moment of a click.
use super::{SETTLING, screen_size};
use crate::apps::icon::{self, Icon};
use crate::bus::Item;
use crate::display::{Display, gone};
use crate::pointer::Pointer;
use crate::traits::{Traits, process_of};
use anyhow::Result;
use medley_wire::control::TrayState;
use std::time::Instant;
use x11rb::NONE;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    CONFIGURE_NOTIFY_EVENT, ChangeWindowAttributesAux, ClientMessageEvent, ColormapAlloc,
    ConfigureNotifyEvent, ConfigureWindowAux, ConnectionExt, CreateWindowAux, EventMask,
    ImageFormat, StackMode, Window, WindowClass,
};
use x11rb::protocol::{composite, damage, xfixes};

/// Width and height that an icon is given: what panels show, or a little more.
const SIDE: u16 = 32;

/// XEmbed's message to a window that was taken in, and its version that is spoken here.
const EMBEDDED_NOTIFY: u32 = 0;
const VERSION: u32 = 0;

/// An icon wants to be seen.
const WANTS_TO_BE_MAPPED: u32 = 1;

/// An icon in its socket.
#[derive(Debug)]
pub struct Dock {
    /// The app's window.
    pub icon: Window,
    /// The agent's, around it.
    pub socket: Window,
    colormap: u32,
    damage: u32,
    deep: bool,
    mapped: bool,
    /// Its app's process.
    process: Option<u32>,
    /// When to look at it.
    pub due: Option<Instant>,
    /// What the host was told of it.
    pub told: Option<Item>,
}

impl Dock {
    /// Takes a window in; nothing, if it is gone or has pixels that cannot be sent.
    pub fn embed(icon: Window, display: &mut Display) -> Result<Option<Self>> {
        let x = &display.x;
        let attributes = x.get_window_attributes(icon)?;
        let geometry = x.get_geometry(icon)?;
        let (attributes, geometry) = (gone(attributes.reply())?, gone(geometry.reply())?);
        let (Some(attributes), Some(geometry)) = (attributes, geometry) else {
            return Ok(None);
        };
        let ours = [display.root, display.own, display.veil].contains(&icon)
            || display.sockets.contains(&icon);
        let paints = attributes.class == WindowClass::INPUT_OUTPUT;
        if ours || !paints || ![24, 32].contains(&geometry.depth) {
            return Ok(None);
        }
        let process = process_of(display, icon)?;
        let x = &display.x;
        let (socket, colormap, damage) = (x.generate_id()?, x.generate_id()?, x.generate_id()?);
        x.create_colormap(
            ColormapAlloc::NONE,
            colormap,
            display.root,
            attributes.visual,
        )?;
        // Of the icon's own kind, so that both are one picture to the server, opacity included.
        let looks = CreateWindowAux::new()
            .override_redirect(1)
            .background_pixel(0)
            .border_pixel(0)
            .event_mask(EventMask::SUBSTRUCTURE_REDIRECT)
            .colormap(colormap);
        display.sockets.insert(socket);
        let x = &display.x;
        x.create_window(
            geometry.depth,
            socket,
            display.root,
            0,
            0,
            SIDE,
            SIDE,
            0,
            WindowClass::INPUT_OUTPUT,
            attributes.visual,
            &looks,
        )?;
        let lowest = ConfigureWindowAux::new().stack_mode(StackMode::BELOW);
        x.configure_window(socket, &lowest)?;
        damage::create(x, damage, socket, damage::ReportLevel::NON_EMPTY)?;
        let events = EventMask::STRUCTURE_NOTIFY | EventMask::PROPERTY_CHANGE;
        let events = ChangeWindowAttributesAux::new().event_mask(events);
        x.change_window_attributes(icon, &events)?;
        // Should the agent end, the icon lies on the screen again, unmapped, and its app looks for the next tray.
        let (root, unmap) = (xfixes::SaveSetTarget::ROOT, xfixes::SaveSetMapping::UNMAP);
        let insert = xfixes::SaveSetMode::INSERT;
        xfixes::change_save_set(x, insert, root, unmap, icon)?;
        x.unmap_window(icon)?;
        x.reparent_window(icon, socket, 0, 0)?;
        fill(icon, display)?;
        let x = &display.x;
        x.map_window(socket)?;
        let words = [x11rb::CURRENT_TIME, EMBEDDED_NOTIFY, 0, socket, VERSION];
        let welcome = ClientMessageEvent::new(32, icon, display.atoms._XEMBED, words);
        x.send_event(false, icon, EventMask::NO_EVENT, welcome)?;
        let mut dock = Self {
            icon,
            socket,
            colormap,
            damage,
            deep: geometry.depth == 32,
            mapped: false,
            process,
            due: None,
            told: None,
        };
        dock.follow_wish(display)?;
        dock.changed();
        Ok(Some(dock))
    }

    /// Shows the icon if it wants to be shown; one that does not say wants to.
    pub fn follow_wish(&mut self, display: &Display) -> Result<()> {
        let info = display.atoms._XEMBED_INFO;
        let kind = x11rb::protocol::xproto::AtomEnum::ANY;
        let words = display.read_words(self.icon, info, kind)?;
        let flags = words.get(1).copied().unwrap_or(WANTS_TO_BE_MAPPED);
        self.mapped = flags & WANTS_TO_BE_MAPPED != 0;
        if self.mapped {
            display.x.map_window(self.icon)?;
        } else {
            display.x.unmap_window(self.icon)?;
        }
        Ok(())
    }

    /// Its app would like another size, or is about to begin with one: it has the socket's.
    pub fn keep_size(&self, display: &Display) -> Result<()> {
        fill(self.icon, display)?;
        // The server says nothing where nothing changes, and the app waits for an answer.
        let event = ConfigureNotifyEvent {
            response_type: CONFIGURE_NOTIFY_EVENT,
            sequence: 0,
            event: self.icon,
            window: self.icon,
            above_sibling: NONE,
            x: 0,
            y: 0,
            width: SIDE,
            height: SIDE,
            border_width: 0,
            override_redirect: false,
        };
        let mask = EventMask::STRUCTURE_NOTIFY;
        display.x.send_event(false, self.icon, mask, event)?;
        Ok(())
    }

    /// Something about it changed: it is looked at once it has been still, or at least soon.
    pub fn changed(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + SETTLING);
    }

    /// What it looks like now; nothing, if it does not want to be seen or has painted nothing yet.
    pub fn look(&self, id: u32, display: &Display) -> Result<Option<Item>> {
        let x = &display.x;
        damage::subtract(x, self.damage, NONE, NONE)?;
        if !self.mapped {
            return Ok(None);
        }
        let Some(picture) = self.picture(display)? else {
            return Ok(None);
        };
        let Traits { title, class, .. } = Traits::read(display, self.icon)?;
        let title = if title.trim().is_empty() {
            class.1.clone()
        } else {
            title
        };
        Ok(Some(Item {
            id,
            name: class.0,
            title,
            state: TrayState::Active,
            process: self.process,
            icon: Some(picture),
        }))
    }

    fn picture(&self, display: &Display) -> Result<Option<Icon>> {
        let x = &display.x;
        let pixmap = x.generate_id()?;
        composite::name_window_pixmap(x, self.socket, pixmap)?;
        let image = x.get_image(ImageFormat::Z_PIXMAP, pixmap, 0, 0, SIDE, SIDE, !0)?;
        x.free_pixmap(pixmap)?;
        let Some(image) = gone(image.reply())? else {
            return Ok(None);
        };
        let (pixels, _) = image.data.as_chunks::<4>();
        let solid = if self.deep { 0 } else { 255 };
        let pixels = pixels.iter().map(|[b, g, r, a]| [*b, *g, *r, *a | solid]);
        if pixels.clone().all(|pixel| pixel == [0, 0, 0, solid]) {
            return Ok(None);
        }
        let side = u32::from(SIDE);
        Ok(icon::of_pixels(pixels, (side, side), side))
    }

    /// Clicks on it: in the screen's lower right corner, where trays are, and where its app may look up where to
    /// open a menu.
    pub fn click(&self, button: u16, display: &Display, pointer: &mut Pointer) -> Result<()> {
        let Some((width, height)) = screen_size(display)? else {
            return Ok(());
        };
        let side = i32::from(SIDE);
        let (left, top) = ((width - side).max(0), (height - side).max(0));
        let up = ConfigureWindowAux::new()
            .x(left)
            .y(top)
            .stack_mode(StackMode::ABOVE);
        display.x.configure_window(self.socket, &up)?;
        let middle = (left + side / 2, top + side / 2);
        pointer.click_aside(display, middle, button)?;
        let down = ConfigureWindowAux::new().stack_mode(StackMode::BELOW);
        display.x.configure_window(self.socket, &down)?;
        display.x.flush()?;
        Ok(())
    }

    /// It is no icon of the tray any more. `give_back`: its window is there, and its app's again.
    pub fn end(self, give_back: bool, display: &mut Display) -> Result<()> {
        let x = &display.x;
        if give_back {
            x.unmap_window(self.icon)?;
            x.reparent_window(self.icon, display.root, 0, 0)?;
        }
        damage::destroy(x, self.damage)?;
        x.destroy_window(self.socket)?;
        x.free_colormap(self.colormap)?;
        x.flush()?;
        display.sockets.remove(&self.socket);
        Ok(())
    }
}

/// Makes an icon fill its socket.
fn fill(icon: Window, display: &Display) -> Result<()> {
    let whole = ConfigureWindowAux::new()
        .x(0)
        .y(0)
        .width(u32::from(SIDE))
        .height(u32::from(SIDE))
        .border_width(0);
    display.x.configure_window(icon, &whole)?;
    Ok(())
}
