//! The card that stands for all windows of a workspace while it is locked. Only the host draws on it.
use super::Display;
use crate::error::Result;
use x11rb::connection::Connection;
use x11rb::properties::WmSizeHints;
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt, CreateWindowAux, EventMask, PropMode, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

/// Its size.
const WIDTH: u16 = 420;
const HEIGHT: u16 = 120;

impl Display {
    pub(super) fn card(&mut self, shown: bool) -> Result<()> {
        if let Some(card) = self.card.take() {
            self.conn.destroy_window(card)?;
        }
        if !shown {
            return Ok(());
        }
        let (conn, atoms, replace) = (&self.conn, &self.atoms, PropMode::REPLACE);
        let id = conn.generate_id()?;
        let aux = CreateWindowAux::new()
            .background_pixel(self.dress.look.colour().pixel())
            .event_mask(EventMask::EXPOSURE | EventMask::BUTTON_PRESS | EventMask::KEY_PRESS);
        conn.create_window(
            self.depth,
            id,
            self.root,
            0,
            0,
            WIDTH,
            HEIGHT,
            0,
            WindowClass::INPUT_OUTPUT,
            x11rb::COPY_FROM_PARENT,
            &aux,
        )?;
        let title = self.card_words();
        let utf8 = atoms.UTF8_STRING;
        conn.change_property8(replace, id, atoms._NET_WM_NAME, utf8, title.as_bytes())?;
        let class = b"medley-card\0medley-card\0";
        conn.change_property8(replace, id, AtomEnum::WM_CLASS, AtomEnum::STRING, class)?;
        let size = Some((i32::from(WIDTH), i32::from(HEIGHT)));
        let mut hints = WmSizeHints::new();
        (hints.min_size, hints.max_size) = (size, size);
        hints.set_normal_hints(conn, id)?;
        conn.map_window(id)?;
        self.card = Some(id);
        Ok(())
    }

    fn card_words(&self) -> String {
        format!("[{}] locked", self.dress.workspace)
    }

    pub(super) fn paint_card(&self) -> Result<()> {
        if let (Some(card), Some(writer)) = (self.card, &self.writer) {
            let colour = self.dress.look.colour();
            let ink = if colour.is_light() { 0 } else { 0x00ff_ffff };
            let inks = (ink, colour.pixel());
            let lines = [
                self.card_words(),
                "Press a key or click to unlock".to_owned(),
            ];
            for (n, line) in (1_i16..).zip(&lines) {
                writer.write(&self.conn, card, (24, 16 + n * 32), inks, line)?;
            }
        }
        Ok(())
    }
}
