//! How large apps draw, told in the two ways in which X apps ask: the resource `Xft.dpi`, and XSETTINGS, which
//! GTK follows at run time.
use crate::display::Display;
use anyhow::Result;
use x11rb::NONE;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt, EventMask, PropMode};
use x11rb::wrapper::ConnectionExt as _;

/// The resource.
const RESOURCE: &str = "Xft.dpi:";

/// Tells it.
#[derive(Debug, Default)]
pub struct Settings {
    owner: bool,
    serial: u32,
}

impl Settings {
    /// Apps should draw for so many dots on an inch.
    ///
    /// # Errors
    /// The display is gone.
    pub fn set_dpi(&mut self, display: &mut Display, dpi: u32) -> Result<()> {
        let old = display.x.get_property(
            false,
            display.root,
            AtomEnum::RESOURCE_MANAGER,
            AtomEnum::STRING,
            0,
            1 << 16,
        )?;
        let text = with_dpi(&String::from_utf8_lossy(&old.reply()?.value), dpi);
        display.x.change_property8(
            PropMode::REPLACE,
            display.root,
            AtomEnum::RESOURCE_MANAGER,
            AtomEnum::STRING,
            text.as_bytes(),
        )?;
        self.own(display)?;
        if self.owner {
            self.serial = self.serial.wrapping_add(1);
            let a = &display.atoms;
            display.x.change_property8(
                PropMode::REPLACE,
                display.own,
                a._XSETTINGS_SETTINGS,
                a._XSETTINGS_SETTINGS,
                &xsettings(self.serial, dpi),
            )?;
        }
        Ok(())
    }

    /// Becomes the one who says settings, unless a desktop's own program does.
    fn own(&mut self, display: &mut Display) -> Result<()> {
        let selection = display.atoms._XSETTINGS_S0;
        if self.owner || display.x.get_selection_owner(selection)?.reply()?.owner != NONE {
            return Ok(());
        }
        let now = display.now()?;
        display.x.set_selection_owner(display.own, selection, now)?;
        let data = [now, selection, display.own, 0, 0];
        let announce = ClientMessageEvent::new(32, display.root, display.atoms.MANAGER, data);
        display
            .x
            .send_event(false, display.root, EventMask::STRUCTURE_NOTIFY, announce)?;
        display.x.flush()?;
        self.owner = true;
        Ok(())
    }
}

/// Resources with another size of dots; all others stay.
fn with_dpi(resources: &str, dpi: u32) -> String {
    let others = resources.lines().filter(|line| !line.starts_with(RESOURCE));
    let mut text: String = others.flat_map(|line| [line, "\n"]).collect();
    text.push_str(&format!("{RESOURCE}\t{dpi}\n"));
    text
}

/// The property's bytes: a header, then each setting with its name padded to four bytes.
fn xsettings(serial: u32, dpi: u32) -> Vec<u8> {
    // Text is scaled exactly; GTK scales everything else by whole numbers.
    let whole = (dpi / 96).max(1);
    let settings = [
        ("Gdk/UnscaledDPI", dpi * 1024 / whole),
        ("Gdk/WindowScalingFactor", whole),
        ("Xft/DPI", dpi * 1024),
    ];
    let mut bytes = vec![0, 0, 0, 0];
    bytes.extend(serial.to_le_bytes());
    bytes.extend((settings.len() as u32).to_le_bytes());
    for (name, value) in settings {
        bytes.extend([0, 0]);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(serial.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_resources_stay() {
        assert_eq!(with_dpi("", 96), "Xft.dpi:\t96\n");
        let old = "XTerm*font:\tfixed\nXft.dpi:\t96\nXft.hinting:\t1\n";
        assert_eq!(
            with_dpi(old, 144),
            "XTerm*font:\tfixed\nXft.hinting:\t1\nXft.dpi:\t144\n"
        );
    }

    #[test]
    fn settings_are_padded_and_counted() {
        let bytes = xsettings(5, 192);
        assert_eq!(bytes[..12], [0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes[12..16], [0, 0, 15, 0]);
        assert_eq!(&bytes[16..31], b"Gdk/UnscaledDPI");
        assert_eq!(bytes[31], 0);
        assert_eq!(bytes[36..40], (96_u32 * 1024).to_le_bytes());
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes[bytes.len() - 4..], (192_u32 * 1024).to_le_bytes());
    }
}
