//! What an administrator decides about windows, and what the host keeps for itself.
use medley_wire::limits::{SIDE, WINDOWS};
use medley_wire::window::Modifiers;
use medley_wire::{DisplayText, Features, Text, Untrusted};

/// Modifiers that make a chord; locks do not.
const CHORD_MODIFIERS: Modifiers = Modifiers::SHIFT
    .with(Modifiers::CONTROL)
    .with(Modifiers::MOD1)
    .with(Modifiers::MOD4);

/// What a chord does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chord {
    /// What the guest copied becomes the host's.
    Copy,
    /// What the host copied may be pasted in the guest.
    Paste,
    /// The workspace is locked.
    Lock,
}

/// Keys that are the host's while a guest's window has the keyboard. They are never sent to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostKeys {
    /// Modifiers that are held; all others of Shift, Control, Alt and Super are not.
    pub held: Modifiers,
    /// evdev's code.
    pub code: u16,
    /// What it does.
    pub chord: Chord,
}

/// What holds for one workspace's windows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The workspace's name, as it stands in titles.
    pub workspace: String,
    /// Windows at once.
    pub windows: u16,
    /// Bytes of pixels of all shown windows; nothing: it follows the monitors.
    pub pixels: Option<u64>,
    /// Whether a window may cover a whole monitor.
    pub fullscreen: bool,
    /// Whether cursors may be the guest's pictures.
    pub cursor_pictures: bool,
    /// Frames of a window in a second that are worth sending.
    pub frames: u16,
    /// Chords of the host.
    pub keys: Vec<HostKeys>,
    /// What both sides can: of the wire's features, those that the presenter has.
    pub features: Features,
}

impl Policy {
    /// The default: no fullscreen, cursors by name, and three chords with Super and Shift (C, V and L).
    #[must_use]
    pub fn new(workspace: &str) -> Self {
        let held = Modifiers::MOD4.with(Modifiers::SHIFT);
        let keys = [(46, Chord::Copy), (47, Chord::Paste), (38, Chord::Lock)];
        Self {
            workspace: clean(workspace),
            windows: WINDOWS,
            pixels: None,
            fullscreen: false,
            cursor_pictures: false,
            frames: 60,
            keys: keys
                .map(|(code, chord)| HostKeys { held, code, chord })
                .to_vec(),
            features: Features::LZ4.with(Features::ZSTD),
        }
    }

    /// What a key with these modifiers is to the host, if it is the host's.
    #[must_use]
    pub fn chord(&self, code: u16, held: Modifiers) -> Option<Chord> {
        let held = held.bits() & CHORD_MODIFIERS.bits();
        self.keys
            .iter()
            .find(|key| key.code == code && key.held.bits() & CHORD_MODIFIERS.bits() == held)
            .map(|key| key.chord)
    }

    /// The title of a host's window: whose it is comes first, always.
    #[must_use]
    pub fn title(&self, guest: &DisplayText) -> String {
        format!("[{}] {guest}", self.workspace)
    }

    /// The longest side of a window.
    #[must_use]
    pub const fn side(&self) -> u32 {
        SIDE
    }
}

/// A workspace's name as one line that cannot end its own bracket.
fn clean(name: &str) -> String {
    let line = Untrusted::claim(Text::<64>::cut(name)).display();
    line.as_str().replace(['[', ']'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chords_do_not_ask_for_locks() {
        let policy = Policy::new("work");
        let chord = Modifiers::MOD4.with(Modifiers::SHIFT);
        assert_eq!(policy.chord(46, chord), Some(Chord::Copy));
        assert_eq!(
            policy.chord(46, chord.with(Modifiers::LOCK).with(Modifiers::MOD2)),
            Some(Chord::Copy)
        );
        assert_eq!(policy.chord(46, chord.with(Modifiers::CONTROL)), None);
        assert_eq!(policy.chord(46, Modifiers::SHIFT), None);
    }

    #[test]
    fn a_name_cannot_forge_a_title() {
        let policy = Policy::new("a] \u{202e}[host");
        assert!(!policy.workspace.contains(['[', ']', '\u{202e}']));
    }
}
