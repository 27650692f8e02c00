//! The keyboard: evdev's codes as they come, modifiers and layout as the compositor counts them. The keymap is
//! kept as text for the guest. Held keys repeat by our own clock.
use super::repeat::Repeat;
use super::{Name, State};
use crate::model::HostEvent;
use crate::screen::Keymap;
use medley_wire::WindowId;
use medley_wire::limits::KEYMAP_BYTES;
use medley_wire::window::Modifiers;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use wayland_client::protocol::wl_keyboard::{self, KeyState, KeymapFormat, WlKeyboard};
use wayland_client::protocol::wl_seat::{self, Capability, WlSeat};
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, QueueHandle, WEnum};

/// Bytes of a keymap's text as compositors write it, indented and all.
const TEXT_MOST: usize = 512 << 10;

/// What is held and locked, and who has it.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    keyboard: Option<WlKeyboard>,
    held: Modifiers,
    locked: Modifiers,
    group: u8,
    /// Whose surface has the keyboard.
    focus: Option<Name>,
    /// It has it, but nobody was told: what is held comes right after.
    entering: bool,
    repeat: Repeat,
    keymap: Option<String>,
    /// The number of the last key or click, by which the compositor knows that somebody did something.
    pub serial: u32,
}

impl Keyboard {
    /// Modifiers that are held.
    pub const fn held(&self) -> Modifiers {
        self.held
    }

    /// Whose surface has the keyboard.
    pub const fn focus(&self) -> Option<Name> {
        self.focus
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.repeat.deadline()
    }

    /// What the guest's keyboard shall be.
    pub fn keymap(&self) -> Option<Keymap> {
        let compiled = self.keymap.clone()?;
        Some(Keymap {
            compiled,
            repeat: self.repeat.millis(),
            ..Keymap::default()
        })
    }

    /// A surface is gone, and the compositor does not say so.
    pub fn forget(&mut self, name: Name) {
        if self.focus == Some(name) {
            (self.focus, self.entering) = (None, false);
            self.repeat.stop();
        }
    }
}

/// A modifier's bit is X's: the first eight of every keymap are those. Others only say the same once more.
fn modifiers(mask: u32) -> Modifiers {
    Modifiers::known((mask & 0xff) as u8)
}

/// A keymap's text, without the white space that only people want: half of it is that.
fn read(fd: OwnedFd, size: u32) -> Option<String> {
    let mut bytes = vec![0; usize::try_from(size).ok().filter(|n| *n <= TEXT_MOST)?];
    // Read, not mapped, and from where it begins, wherever others left off.
    File::from(fd).read_exact_at(&mut bytes, 0).ok()?;
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    let text = squeezed(&String::from_utf8(bytes).ok()?);
    let fits = text.len() <= KEYMAP_BYTES && !text.is_empty();
    if !fits {
        tracing::warn!(
            bytes = text.len(),
            "the keyboard's layout does not fit into a message; the guest keeps its own"
        );
    }
    fits.then_some(text)
}

/// Each run of white space as one of it; between quotes everything stays.
fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut gap) = (false, None);
    for letter in text.chars() {
        if !quoted && letter.is_whitespace() {
            gap = match (gap, letter) {
                (Some('\n'), _) | (_, '\n') => Some('\n'),
                _ => Some(' '),
            };
            continue;
        }
        out.extend(gap.take().filter(|_| !out.is_empty()));
        quoted ^= letter == '"';
        out.push(letter);
    }
    out
}

impl State {
    /// The window that stands for a surface when it has the keyboard: a menu's is its owner.
    pub(super) fn window_of(&self, name: Name) -> Option<WindowId> {
        match self.root_of(name) {
            Name::Window(window) => Some(window),
            Name::Card => None,
        }
    }

    fn entered(&mut self, surface: &WlSurface) {
        let name = self.name_of(surface);
        self.keyboard.repeat.stop();
        (self.keyboard.focus, self.keyboard.entering) = (name, name.is_some());
    }

    /// What is held is known, or will not come: now the model hears of the keyboard.
    fn say_focus(&mut self) {
        if !std::mem::take(&mut self.keyboard.entering) {
            return;
        }
        let focus = self.keyboard.focus;
        if let Some(window) = focus.and_then(|name| self.window_of(name)) {
            let (held, locked) = (self.keyboard.held, self.keyboard.locked);
            self.touched(window);
            self.restored(window);
            self.heard.events.push(HostEvent::Focused {
                window,
                held,
                locked,
            });
        }
    }

    fn left(&mut self) {
        self.say_focus();
        self.keyboard.repeat.stop();
        let focus = self.keyboard.focus.take();
        if let Some(window) = focus.and_then(|name| self.window_of(name)) {
            self.heard.events.push(HostEvent::Unfocused(window));
        }
    }

    fn key(&mut self, code: u16, down: bool) {
        self.say_focus();
        let keyboard = &self.keyboard;
        match keyboard.focus {
            Some(Name::Card) => self.heard.unlock |= down,
            Some(Name::Window(_)) => self.heard.events.push(HostEvent::Key {
                code,
                down,
                group: keyboard.group,
                held: keyboard.held,
                locked: keyboard.locked,
            }),
            None => {}
        }
    }

    /// A key that is held comes again, if it is time.
    pub(super) fn repeat(&mut self, now: Instant) {
        if let Some(code) = self.keyboard.repeat.due(now) {
            self.key(code, true);
        }
    }
}

impl Dispatch<WlSeat, ()> for State {
    fn event(
        state: &mut Self,
        seat: &WlSeat,
        event: wl_seat::Event,
        (): &(),
        _: &Connection,
        qh: &QueueHandle<Self>,
    ) {
        let wl_seat::Event::Capabilities {
            capabilities: WEnum::Value(capabilities),
        } = event
        else {
            return;
        };
        let has = capabilities.contains(Capability::Keyboard);
        if has && state.keyboard.keyboard.is_none() {
            state.keyboard.keyboard = Some(seat.get_keyboard(qh, ()));
        } else if !has && let Some(keyboard) = state.keyboard.keyboard.take() {
            state.left();
            keyboard.release();
        }
        let has = capabilities.contains(Capability::Pointer);
        state.pointer_is(seat, has, qh);
    }
}

impl Dispatch<WlKeyboard, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlKeyboard,
        event: wl_keyboard::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wl_keyboard::Event;
        match event {
            Event::Keymap {
                format: WEnum::Value(KeymapFormat::XkbV1),
                fd,
                size,
            } => {
                let keymap = read(fd, size);
                state.heard.keymap |= keymap.is_some() && keymap != state.keyboard.keymap;
                if keymap.is_some() {
                    state.keyboard.keymap = keymap;
                }
            }
            Event::Enter { surface, .. } => state.entered(&surface),
            Event::Leave { .. } => state.left(),
            Event::Modifiers {
                mods_depressed,
                mods_latched,
                mods_locked,
                group,
                ..
            } => {
                state.keyboard.held = modifiers(mods_depressed | mods_latched);
                state.keyboard.locked = modifiers(mods_locked);
                state.keyboard.group = (group & 3) as u8;
                state.say_focus();
            }
            Event::Key {
                serial,
                key,
                state: WEnum::Value(how),
                ..
            } => {
                let Ok(code) = u16::try_from(key) else {
                    return;
                };
                match how {
                    KeyState::Released => state.keyboard.repeat.released(code),
                    KeyState::Pressed => {
                        state.keyboard.serial = serial;
                        state.keyboard.repeat.pressed(code, Instant::now());
                    }
                    _ => {}
                }
                state.key(code, how != KeyState::Released);
            }
            Event::RepeatInfo { rate, delay } => {
                state.keyboard.repeat.set(rate, delay);
                state.heard.keymap |= state.keyboard.keymap.is_some();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keymap_keeps_its_words() {
        let text = "xkb_keymap {\n\tname  =  \"a  b\";\n\n   };\n";
        assert_eq!(squeezed(text), "xkb_keymap {\nname = \"a  b\";\n};");
    }

    #[test]
    fn a_keymap_of_another_size_than_was_said_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"xkb_keymap { };\0", 0).unwrap();
        let again = || OwnedFd::from(file.try_clone().unwrap());
        assert_eq!(read(again(), 16).as_deref(), Some("xkb_keymap { };"));
        assert_eq!(read(again(), 17), None, "longer than the file");
        assert_eq!(read(again(), u32::MAX), None);
        assert_eq!(read(again(), 0), None);
    }
}
