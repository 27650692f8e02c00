//! The host's keyboard layout, as the X server names it.
use super::Display;
use crate::error::Result;
use crate::screen::Keymap;
use x11rb::protocol::xkb::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt};

impl Display {
    /// Reads the names off the root window, where every setting of a layout leaves them.
    ///
    /// # Errors
    /// The display is gone.
    pub fn keymap(&self) -> Result<Option<Keymap>> {
        let (conn, name) = (&self.conn, self.atoms._XKB_RULES_NAMES);
        let reply = conn
            .get_property(false, self.root, name, AtomEnum::STRING, 0, 1024)?
            .reply()?;
        let controls = conn
            .xkb_get_controls(xkb::ID::USE_CORE_KBD.into())?
            .reply()?;
        let repeat = [controls.repeat_delay, controls.repeat_interval].map(u32::from);
        Ok(parse(&reply.value, repeat))
    }
}

/// Rules, model, layout, variant and options, each with a zero behind it.
fn parse(bytes: &[u8], repeat: [u32; 2]) -> Option<Keymap> {
    let mut parts = bytes
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned());
    let _rules = parts.next()?;
    let mut part = || parts.next().unwrap_or_default();
    let names = Keymap {
        model: part(),
        layout: part(),
        variant: part(),
        options: part(),
        compiled: String::new(),
        repeat,
    };
    (!names.layout.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let names = parse(b"evdev\0pc105\0de,us\0nodeadkeys,\0\0", [660, 40]).unwrap();
        assert_eq!((&*names.layout, &*names.variant), ("de,us", "nodeadkeys,"));
        assert_eq!((&*names.model, &*names.options), ("pc105", ""));
        assert_eq!(parse(b"", [0, 0]), None);
        assert_eq!(parse(b"evdev\0pc105\0", [0, 0]), None);
    }
}
