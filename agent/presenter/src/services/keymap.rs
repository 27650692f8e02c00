//! The host's keyboard layout, as the X server names it: without it the guest would type other letters than
//! the keys have.
use crate::error::Result;
use crate::x11::Display;
use medley_wire::Text;
use medley_wire::control::Keymap;
use x11rb::protocol::xkb::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt};

/// Names of a keyboard's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    model: String,
    layout: String,
    variant: String,
    options: String,
    /// Milliseconds before a held key repeats, and between repeats.
    repeat: [u32; 2],
}

/// Reads the names off the root window, where every setting of a layout leaves them.
pub(super) fn read(display: &Display) -> Result<Option<Names>> {
    let conn = display.connection();
    let name = display.atoms()._XKB_RULES_NAMES;
    let reply = conn
        .get_property(false, display.root(), name, AtomEnum::STRING, 0, 1024)?
        .reply()?;
    let controls = conn
        .xkb_get_controls(xkb::ID::USE_CORE_KBD.into())?
        .reply()?;
    let repeat = [controls.repeat_delay, controls.repeat_interval].map(u32::from);
    Ok(parse(&reply.value, repeat))
}

/// Rules, model, layout, variant and options, each with a zero behind it.
fn parse(bytes: &[u8], repeat: [u32; 2]) -> Option<Names> {
    let mut parts = bytes
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned());
    let _rules = parts.next()?;
    let mut part = || parts.next().unwrap_or_default();
    let names = Names {
        model: part(),
        layout: part(),
        variant: part(),
        options: part(),
        repeat,
    };
    (!names.layout.is_empty()).then_some(names)
}

impl Names {
    /// What the guest is told.
    pub fn message(&self) -> Keymap<'_> {
        Keymap {
            repeat: self.repeat,
            model: Text::cut(&self.model),
            layout: Text::cut(&self.layout),
            variant: Text::cut(&self.variant),
            options: Text::cut(&self.options),
            compiled: Text::default(),
        }
    }
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
