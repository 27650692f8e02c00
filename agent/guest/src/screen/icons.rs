//! Icons of windows: sent over the bulk channel, after the windows themselves were told, so that none delays a
//! key.
use super::Screen;
use crate::apps::icon;
use crate::display::gone;
use crate::transfers::Bulk;
use anyhow::Result;
use medley_wire::bulk;
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt};

/// Width and height that are wanted: what task bars show, and a little more.
const SIDE: u32 = 64;

/// Words of the property that are read: a picture of 512 by 512 and smaller ones before it.
const MOST: u32 = 1 << 19;

/// Bytes that may wait in the bulk channel while icons are added.
const WAITING: usize = 1 << 20;

impl Screen {
    /// Sends icons of windows that have new ones, as many as the channel takes at once.
    ///
    /// # Errors
    /// The display is gone.
    pub fn send_icons(&mut self, say: &mut Bulk<'_>) -> Result<()> {
        while self.live && say.is_open() && say.queued() < WAITING {
            let Some(window) = self.icons.pop_first() else {
                break;
            };
            let Some(client) = self.clients.get(&window).filter(|c| c.told && c.managed) else {
                continue;
            };
            let property = self.display.atoms._NET_WM_ICON;
            let kind = AtomEnum::CARDINAL;
            let x = &self.display.x;
            let reply = x
                .get_property(false, window, property, kind, 0, MOST)?
                .reply();
            let words: Vec<u32> = gone(reply)?
                .and_then(|reply| reply.value32().map(Iterator::collect))
                .unwrap_or_default();
            let icon = icon::of_window(&words, SIDE);
            if let Some(picture) = icon.as_ref().and_then(icon::Icon::picture) {
                say.say(bulk::Icon {
                    owner: bulk::Owner::Window(client.id),
                    picture,
                });
            }
        }
        Ok(())
    }
}
