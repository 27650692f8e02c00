//! The host's keyboard layout: without it the guest would type other letters than the keys have.
use medley_wire::{Text, control};

/// A keyboard's rules by their names, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keymap {
    /// The keyboard's model.
    pub model: String,
    /// Its layouts.
    pub layout: String,
    /// Their variants.
    pub variant: String,
    /// Options.
    pub options: String,
    /// All of it in xkb's own words, where the display does not name it.
    pub compiled: String,
    /// Milliseconds before a held key repeats, and between repeats.
    pub repeat: [u32; 2],
}

impl Keymap {
    /// What the guest is told.
    #[must_use]
    pub fn message(&self) -> control::Keymap<'_> {
        control::Keymap {
            repeat: self.repeat,
            model: Text::cut(&self.model),
            layout: Text::cut(&self.layout),
            variant: Text::cut(&self.variant),
            options: Text::cut(&self.options),
            compiled: Text::cut(&self.compiled),
        }
    }
}
