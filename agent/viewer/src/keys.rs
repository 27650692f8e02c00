//! The keyboard: keys by their place, so that the guest's own layout says what they mean, and the host's chords,
//! which no guest hears.
use std::collections::BTreeSet;

/// What a chord does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chord {
    /// The window covers a whole monitor, or no longer.
    Fullscreen,
    /// One pixel of the guest's is one of the host's, or fits the window again.
    Original,
    /// A pointer that was caught is given back.
    Release,
    /// Control, Alt and Delete are pressed in the guest: here they may be the host's.
    Attention,
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Keys for the guest, one after the other: XT's code, and whether it goes down.
    Keys(Vec<(u8, bool)>),
    /// It is the host's.
    Chord(Chord),
}

// evdev's codes.
const CONTROL: [u32; 2] = [29, 97];
const SHIFT: [u32; 2] = [42, 54];
const ALT: [u32; 2] = [56, 100];
const SUPER: [u32; 2] = [125, 126];
const DELETE: u32 = 111;
const CHORDS: [(u32, Chord); 4] = [
    (33, Chord::Fullscreen),
    (24, Chord::Original),
    (34, Chord::Release),
    (32, Chord::Attention),
];

/// The keys that are down.
#[derive(Debug, Default)]
pub struct Keyboard {
    /// In the guest, in order of their codes.
    held: BTreeSet<u32>,
    /// Here: those of the host's chords, whose release is the host's, too.
    kept: BTreeSet<u32>,
}

impl Keyboard {
    /// A key of evdev's went down, again if it repeats, or up.
    pub fn press(&mut self, key: u32, down: bool) -> Act {
        let nothing = Act::Keys(Vec::new());
        if !down && self.kept.remove(&key) {
            return nothing;
        }
        if down && let Some(chord) = self.chord(key) {
            // A key that repeats is one chord.
            return match self.kept.insert(key) {
                true => Act::Chord(chord),
                false => nothing,
            };
        }
        let Some(code) = xt(key).filter(|_| !self.kept.contains(&key)) else {
            return nothing;
        };
        // What was let go for the guest already is not let go twice.
        if !down && !self.held.remove(&key) {
            return nothing;
        }
        if down {
            self.held.insert(key);
        }
        Act::Keys(vec![(code, down)])
    }

    /// Lets go of everything in the guest: nobody hears here how it ends.
    pub fn release(&mut self) -> Vec<(u8, bool)> {
        self.kept.clear();
        let held = std::mem::take(&mut self.held);
        held.into_iter()
            .filter_map(|key| Some((xt(key)?, false)))
            .collect()
    }

    /// Control, Alt and Delete, with nothing else held.
    pub fn attention(&mut self) -> Vec<(u8, bool)> {
        let kept = std::mem::take(&mut self.kept);
        let mut keys = self.release();
        self.kept = kept;
        let three = [CONTROL[0], ALT[0], DELETE].map(xt);
        let three = || three.into_iter().flatten();
        keys.extend(three().map(|code| (code, true)));
        keys.extend(three().rev().map(|code| (code, false)));
        keys
    }

    fn chord(&self, key: u32) -> Option<Chord> {
        let held = |either: [u32; 2]| either.iter().any(|key| self.held.contains(key));
        let asked = held(SUPER) && held(SHIFT) && !held(CONTROL) && !held(ALT);
        let found = CHORDS.iter().find(|(code, _)| asked && *code == key);
        found.map(|(_, chord)| *chord)
    }
}

/// The code that PCs' keyboards have for a key of evdev's, as QEMU numbers them: those behind the byte 0xe0 have
/// the highest bit. `None` if no PC's keyboard ever had such a key.
#[must_use]
pub fn xt(key: u32) -> Option<u8> {
    // The oldest keyboard's keys have its codes still.
    if let 1..=83 | 86..=88 = key {
        return u8::try_from(key).ok();
    }
    let found = OTHERS.binary_search_by_key(&key, |(key, _)| u32::from(*key));
    found.ok().map(|at| OTHERS[at].1)
}

/// Keys that later keyboards brought.
const OTHERS: &[(u16, u8)] = &[
    (85, 0x76),  // Zenkaku, Hankaku
    (89, 0x73),  // Ro
    (90, 0x78),  // Katakana
    (91, 0x77),  // Hiragana
    (92, 0x79),  // Henkan
    (93, 0x70),  // Katakana, Hiragana
    (94, 0x7b),  // Muhenkan
    (95, 0x5c),  // the keypad's comma in Japan
    (96, 0x9c),  // the keypad's Enter
    (97, 0x9d),  // right Control
    (98, 0xb5),  // the keypad's slash
    (99, 0x54),  // Print, SysRq
    (100, 0xb8), // right Alt
    (101, 0x5b), // Line feed
    (102, 0xc7), // Home
    (103, 0xc8), // Up
    (104, 0xc9), // Page up
    (105, 0xcb), // Left
    (106, 0xcd), // Right
    (107, 0xcf), // End
    (108, 0xd0), // Down
    (109, 0xd1), // Page down
    (110, 0xd2), // Insert
    (111, 0xd3), // Delete
    (113, 0xa0), // Mute
    (114, 0xae), // Quieter
    (115, 0xb0), // Louder
    (116, 0xde), // Power
    (117, 0x59), // the keypad's equals
    (118, 0xce), // the keypad's plus and minus
    (119, 0xc6), // Pause
    (121, 0x7e), // the keypad's comma
    (122, 0x72), // Hangul
    (123, 0x71), // Hanja
    (124, 0x7d), // Yen
    (125, 0xdb), // left Super
    (126, 0xdc), // right Super
    (127, 0xdd), // Menu
    (140, 0xa1), // Calculator
    (142, 0xdf), // Sleep
    (143, 0xe3), // Wake
    (155, 0xec), // Mail
    (156, 0xe6), // Bookmarks
    (158, 0xea), // Back
    (159, 0xe9), // Forward
    (163, 0x99), // Next song
    (164, 0xa2), // Play, pause
    (165, 0x90), // Song before
    (166, 0xa4), // Stop
    (172, 0xb2), // Home page
    (173, 0xe7), // Refresh
    (183, 0x5d), // F13
    (184, 0x5e), // F14
    (185, 0x5f), // F15
    (217, 0xe5), // Search
];

#[cfg(test)]
mod tests {
    use super::*;

    const F: u32 = 33;

    fn keys(act: Act) -> Vec<(u8, bool)> {
        match act {
            Act::Keys(keys) => keys,
            Act::Chord(chord) => panic!("{chord:?}"),
        }
    }

    #[test]
    fn the_table_can_be_searched_and_names_no_code_twice() {
        assert!(OTHERS.is_sorted_by_key(|(key, _)| *key));
        let codes: Vec<u8> = (0..0x300).filter_map(xt).collect();
        let distinct: BTreeSet<u8> = codes.iter().copied().collect();
        assert_eq!(codes.len(), distinct.len());
        assert_eq!((xt(0), xt(84), xt(u32::MAX)), (None, None, None));
        // Escape, A, F12, right Control, Delete.
        assert_eq!(
            [1, 30, 88, 97, 111].map(xt),
            [0x01, 0x1e, 0x58, 0x9d, 0xd3].map(Some)
        );
    }

    #[test]
    fn a_key_goes_down_repeats_and_goes_up_once() {
        let mut board = Keyboard::default();
        assert_eq!(keys(board.press(30, true)), [(0x1e, true)]);
        assert_eq!(keys(board.press(30, true)), [(0x1e, true)]);
        assert_eq!(keys(board.press(30, false)), [(0x1e, false)]);
        assert!(keys(board.press(30, false)).is_empty());
    }

    #[test]
    fn the_hosts_chords_are_the_hosts() {
        let mut board = Keyboard::default();
        keys(board.press(SUPER[0], true));
        assert_eq!(keys(board.press(F, true)), [(0x21, true)]);
        keys(board.press(F, false));
        keys(board.press(SHIFT[1], true));
        assert_eq!(board.press(F, true), Act::Chord(Chord::Fullscreen));
        // It repeats, the others are let go first: nothing of it reaches the guest.
        assert!(keys(board.press(F, true)).is_empty());
        assert_eq!(keys(board.press(SHIFT[1], false)), [(0x36, false)]);
        assert!(keys(board.press(F, true)).is_empty());
        assert!(keys(board.press(F, false)).is_empty());
        assert_eq!(keys(board.press(F, true)), [(0x21, true)]);
        // With another modifier it is the guest's.
        keys(board.press(SHIFT[0], true));
        keys(board.press(CONTROL[0], true));
        assert_eq!(keys(board.press(24, true)), [(24, true)]);
    }

    #[test]
    fn nothing_stays_held() {
        let mut board = Keyboard::default();
        keys(board.press(SUPER[0], true));
        keys(board.press(SHIFT[0], true));
        assert_eq!(board.press(32, true), Act::Chord(Chord::Attention));
        let said = board.attention();
        assert_eq!(said[..2], [(0x2a, false), (0xdb, false)]);
        assert_eq!(said[2..5], [(0x1d, true), (0x38, true), (0xd3, true)]);
        assert_eq!(said[5..], [(0xd3, false), (0x38, false), (0x1d, false)]);
        assert!(keys(board.press(32, false)).is_empty());
        assert!(keys(board.press(SHIFT[0], false)).is_empty());
        keys(board.press(30, true));
        assert_eq!(board.release(), [(0x1e, false)]);
        assert!(board.release().is_empty());
    }
}
