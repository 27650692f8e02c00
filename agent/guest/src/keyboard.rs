//! The guest's keyboard, pressed by XTEST. Keys that are down are known; modifiers and locks follow the host's
//! before each key; the guest repeats nothing by itself.
use crate::display::Display;
use anyhow::Result;
use medley_wire::gui;
use medley_wire::window::Modifiers;
use std::collections::HashMap;
use x11rb::CURRENT_TIME;
use x11rb::connection::Connection;
use x11rb::protocol::xkb::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{
    AutoRepeatMode, ChangeKeyboardControlAux, ConnectionExt, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    Keycode, Keysym, ModMask,
};
use x11rb::protocol::xtest;

/// X counts evdev's keys from here.
const FIRST: u16 = 8;

/// The core keyboard, as XKB calls it.
const CORE: u16 = 0x100;

/// Locks that follow the host: caps lock and, on every common keymap, num lock.
const LOCKS: Modifiers = Modifiers::LOCK.with(Modifiers::MOD2);

/// Modifiers that are held: all that are no locks.
const HELD: Modifiers = Modifiers::ALL.without(LOCKS);

/// The keyboard.
#[derive(Debug)]
pub struct Keyboard {
    down: Vec<Keycode>,
    /// Keys of each of the eight modifiers.
    modifiers: Vec<Vec<Keycode>>,
    /// Keys of the keymap that mean nothing, for text that no key gives.
    spare: Vec<Keycode>,
    /// What spare keys mean at present, and which of them is taken next.
    lent: HashMap<Keysym, Keycode>,
    turn: usize,
    per_key: usize,
    /// Locks and group as they were last set.
    locked: Option<(Modifiers, u8)>,
}

impl Keyboard {
    /// Learns the keymap and ends auto-repeat.
    ///
    /// # Errors
    /// The display is gone.
    pub fn new(display: &Display) -> Result<Self> {
        use xkb::{EventType, StatePart};
        let repeat = xkb::Control::CONTROLS_ENABLED | xkb::Control::PER_KEY_REPEAT;
        let locks = StatePart::MODIFIER_LOCK | StatePart::GROUP_LOCK;
        let details = xkb::SelectEventsAux::new()
            .state_notify(xkb::SelectEventsAuxStateNotify {
                affect_state: StatePart::from(0x3fff_u16),
                state_details: locks,
            })
            .controls_notify(xkb::SelectEventsAuxControlsNotify {
                affect_ctrls: repeat,
                ctrl_details: repeat,
            })
            .bell_notify(xkb::SelectEventsAuxBellNotify {
                affect_bell: 1,
                bell_details: 1,
            })
            .new_keyboard_notify(xkb::SelectEventsAuxNewKeyboardNotify {
                affect_new_keyboard: xkb::NKNDetail::KEYCODES,
                new_keyboard_details: xkb::NKNDetail::KEYCODES,
            });
        display.x.xkb_select_events(
            CORE,
            EventType::from(0_u16),
            EventType::from(0_u16),
            xkb::MapPart::from(0_u16),
            xkb::MapPart::from(0_u16),
            &details,
        )?;
        let mut keyboard = Self {
            down: Vec::new(),
            modifiers: Vec::new(),
            spare: Vec::new(),
            lent: HashMap::new(),
            turn: 0,
            per_key: 0,
            locked: None,
        };
        keyboard.map_changed(display)?;
        keyboard.keep_quiet(display)?;
        Ok(keyboard)
    }

    /// Ends auto-repeat, again if some app began it: a key that repeats in the guest after the host has taken
    /// the keyboard away types into the wrong window.
    ///
    /// # Errors
    /// The display is gone.
    pub fn keep_quiet(&self, display: &Display) -> Result<()> {
        let reply = display.x.get_keyboard_control()?.reply()?;
        if reply.global_auto_repeat != AutoRepeatMode::OFF {
            let off = ChangeKeyboardControlAux::new().auto_repeat_mode(AutoRepeatMode::OFF);
            display.x.change_keyboard_control(&off)?;
        }
        Ok(())
    }

    /// Learns the keymap again.
    ///
    /// # Errors
    /// The display is gone.
    pub fn map_changed(&mut self, display: &Display) -> Result<()> {
        let modifiers = display.x.get_modifier_mapping()?;
        let (first, last) = (display.x.setup().min_keycode, display.x.setup().max_keycode);
        let keys = display
            .x
            .get_keyboard_mapping(first, last - first + 1)?
            .reply()?;
        let modifiers = modifiers.reply()?;
        let each = usize::from(modifiers.keycodes_per_modifier()).max(1);
        self.modifiers = modifiers
            .keycodes
            .chunks(each)
            .map(|keys| keys.iter().copied().filter(|key| *key != 0).collect())
            .collect();
        self.per_key = usize::from(keys.keysyms_per_keycode).max(1);
        let map: HashMap<Keycode, &[Keysym]> = (first..=last)
            .zip(keys.keysyms.chunks(self.per_key))
            .collect();
        // What was lent and is still so stays lent; a new keymap has taken the rest back.
        self.lent
            .retain(|symbol, key| map.get(key).and_then(|symbols| symbols.first()) == Some(symbol));
        let lent: Vec<Keycode> = self.lent.values().copied().collect();
        self.spare = map
            .iter()
            .filter(|(key, symbols)| {
                lent.contains(key) || symbols.iter().all(|symbol| *symbol == 0)
            })
            .map(|(key, _)| *key)
            .collect();
        self.spare.sort_unstable();
        Ok(())
    }

    /// Locks or group were changed, by a key or an app: they are set again before the next key if need be.
    pub fn state_changed(&mut self, event: &xkb::StateNotifyEvent) {
        let locks = Modifiers::known((u16::from(event.locked_mods) & 0xff) as u8);
        let locks = Modifiers::known(locks.bits() & LOCKS.bits());
        self.locked = Some((locks, u8::from(event.locked_group)));
    }

    /// Presses or releases a key.
    ///
    /// # Errors
    /// The display is gone.
    pub fn key(&mut self, display: &Display, key: &gui::Key) -> Result<()> {
        let (first, last) = (display.x.setup().min_keycode, display.x.setup().max_keycode);
        let code = key
            .code
            .0
            .checked_add(FIRST)
            .and_then(|code| u8::try_from(code).ok());
        let Some(code) = code.filter(|code| (first..=last).contains(code)) else {
            return Ok(());
        };
        self.sync(display, key.held, key.locked, Some(code))?;
        self.group(display, key.locked, key.group)?;
        if key.down {
            // The host repeats a held key by pressing it again. X wants it up in between.
            if self.down.contains(&code) {
                self.press(display, code, false)?;
            }
            self.press(display, code, true)
        } else if self.down.contains(&code) {
            self.press(display, code, false)
        } else {
            Ok(())
        }
    }

    /// Types text that no key gives, by lending it keys that mean nothing. Apps read the keymap when they hear
    /// that it changed, which may be late: so a key keeps its meaning until all others had their turn.
    ///
    /// # Errors
    /// The display is gone.
    pub fn text(&mut self, display: &Display, text: &str) -> Result<()> {
        let held = std::mem::take(&mut self.down);
        for key in held {
            fake(display, key, false)?;
        }
        for letter in text.chars() {
            let symbol = symbol_of(letter);
            let key = match self.lent.get(&symbol) {
                Some(key) => *key,
                None => match self.lend(display, symbol)? {
                    Some(key) => key,
                    None => return Ok(()),
                },
            };
            fake(display, key, true)?;
            fake(display, key, false)?;
        }
        Ok(())
    }

    fn lend(&mut self, display: &Display, symbol: Keysym) -> Result<Option<Keycode>> {
        if self.spare.is_empty() {
            tracing::warn!("the keymap has no key to spare; text is lost");
            return Ok(None);
        }
        let key = self.spare[self.turn % self.spare.len()];
        self.turn = self.turn.wrapping_add(1);
        self.lent.retain(|_, other| *other != key);
        // The same with and without shift, so that whatever is held changes nothing.
        let symbols = vec![symbol; self.per_key];
        let per_key = u8::try_from(self.per_key).unwrap_or(u8::MAX);
        display
            .x
            .change_keyboard_mapping(1, key, per_key, &symbols)?;
        self.lent.insert(symbol, key);
        Ok(Some(key))
    }

    /// Sets modifiers and locks as the host has them. `key` is about to be pressed or released, and is not
    /// counted among what is held.
    ///
    /// # Errors
    /// The display is gone.
    pub fn sync(
        &mut self,
        display: &Display,
        held: Modifiers,
        locked: Modifiers,
        key: Option<Keycode>,
    ) -> Result<()> {
        self.hold(display, held, key)?;
        let group = self.locked.map_or(0, |(_, group)| group);
        self.group(display, locked, group)
    }

    /// Sets modifiers as the host has them: by their keys, for that is what apps expect.
    ///
    /// # Errors
    /// The display is gone.
    pub fn hold(&mut self, display: &Display, held: Modifiers, key: Option<Keycode>) -> Result<()> {
        for bit in 0..8_u8 {
            let modifier = Modifiers::known(1 << bit);
            if !HELD.has(modifier) {
                continue;
            }
            let keys = self
                .modifiers
                .get(usize::from(bit))
                .cloned()
                .unwrap_or_default();
            if keys.iter().any(|one| Some(*one) == key) {
                continue;
            }
            let pressed: Vec<Keycode> = keys
                .iter()
                .copied()
                .filter(|one| self.down.contains(one))
                .collect();
            match (held.has(modifier), pressed.is_empty(), keys.first()) {
                (true, true, Some(first)) => self.press(display, *first, true)?,
                (false, false, _) => {
                    for one in pressed {
                        self.press(display, one, false)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn group(&mut self, display: &Display, locked: Modifiers, group: u8) -> Result<()> {
        let locked = Modifiers::known(locked.bits() & LOCKS.bits());
        let group = group.min(3);
        if self.locked == Some((locked, group)) {
            return Ok(());
        }
        display.x.xkb_latch_lock_state(
            CORE,
            ModMask::from(LOCKS.bits()),
            ModMask::from(locked.bits()),
            true,
            xkb::Group::from(group),
            ModMask::from(0_u16),
            false,
            0,
        )?;
        self.locked = Some((locked, group));
        Ok(())
    }

    /// Releases every key that is down.
    ///
    /// # Errors
    /// The display is gone.
    pub fn release(&mut self, display: &Display) -> Result<()> {
        for key in std::mem::take(&mut self.down) {
            fake(display, key, false)?;
        }
        display.x.flush()?;
        Ok(())
    }

    fn press(&mut self, display: &Display, key: Keycode, down: bool) -> Result<()> {
        self.down.retain(|other| *other != key);
        if down {
            self.down.push(key);
        }
        fake(display, key, down)
    }
}

fn fake(display: &Display, key: Keycode, down: bool) -> Result<()> {
    let kind = if down {
        KEY_PRESS_EVENT
    } else {
        KEY_RELEASE_EVENT
    };
    xtest::fake_input(&display.x, kind, key, CURRENT_TIME, display.root, 0, 0, 0)?;
    Ok(())
}

/// X's number for a letter: Latin-1 as it is, controls by their keys, everything else by its Unicode number.
const fn symbol_of(letter: char) -> Keysym {
    match letter {
        '\n' | '\r' => 0xff0d,
        '\t' => 0xff09,
        '\u{8}' => 0xff08,
        '\u{1b}' => 0xff1b,
        '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{ff}' => letter as u32,
        _ => 0x0100_0000 | letter as u32,
    }
}
