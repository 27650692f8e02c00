//! What the host's window system and its user do, in words that every back end has.
use super::Layout;
use medley_wire::window::{Modifiers, Seen, States};
use medley_wire::{Rect, WindowId};

/// What happened on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum HostEvent {
    /// A window is there now, whoever moved it.
    Moved {
        /// Which.
        window: WindowId,
        /// Where its guest's pixels are on the screen.
        rect: Rect,
    },
    /// A window has exactly these of the states that a window manager gives.
    States {
        /// Which.
        window: WindowId,
        /// Maximised, fullscreen, minimised.
        states: States,
    },
    /// How much of a window can be seen.
    Seen {
        /// Which.
        window: WindowId,
        /// How much.
        seen: Seen,
    },
    /// The desktop stacks the guest's managed windows in this order, the lowest first.
    Stacked(Vec<WindowId>),
    /// A window got the keyboard.
    Focused {
        /// Which.
        window: WindowId,
        /// Modifiers that are held.
        held: Modifiers,
        /// Locks that are on.
        locked: Modifiers,
    },
    /// A window lost the keyboard.
    Unfocused(WindowId),
    /// Somebody closes a window.
    Close(WindowId),
    /// A key, while one of the windows has the keyboard.
    Key {
        /// evdev's code.
        code: u16,
        /// Down (or still down), or up.
        down: bool,
        /// Which layout.
        group: u8,
        /// Modifiers that are held.
        held: Modifiers,
        /// Locks that are on.
        locked: Modifiers,
    },
    /// The pointer moved in a window, or holds it.
    Motion {
        /// Which.
        window: WindowId,
        /// Pixels from the guest's first.
        x: i32,
        /// Pixels from the guest's first.
        y: i32,
    },
    /// A button.
    Button {
        /// The window under the pointer, or that holds it.
        window: WindowId,
        /// Pixels from the guest's first.
        x: i32,
        /// Pixels from the guest's first.
        y: i32,
        /// evdev's code.
        code: u16,
        /// Down or up.
        down: bool,
        /// Modifiers that are held.
        held: Modifiers,
    },
    /// The wheel.
    Scroll {
        /// The window under the pointer.
        window: WindowId,
        /// To the right, in 120ths of a notch.
        across: i32,
        /// Down, in 120ths of a notch.
        down: i32,
        /// Modifiers that are held.
        held: Modifiers,
    },
    /// The pointer came into a window, or left it.
    Crossing {
        /// Which.
        window: WindowId,
        /// It came.
        inside: bool,
        /// Pixels from the guest's first.
        x: i32,
        /// Pixels from the guest's first.
        y: i32,
    },
    /// Monitors or work areas changed.
    Layout(Layout),
    /// Lock the workspace: of its windows nothing is seen, of its user nothing is sent.
    Lock,
    /// Its user was recognised again. Whoever says this has asked the host.
    Unlock,
    /// A launch with this number was asked for by the user: its first window may take the keyboard.
    Launch(u32),
    /// Somebody did something with one of the guest's tray items: a menu that opens now may be shown, and a window may
    /// take the keyboard.
    Tray,
    /// The guest slept, or was begun anew under a living connection: it shall say everything again.
    Resync,
    /// What was painted is on the screen.
    Painted,
    /// All that was there to be read was read: what depends on more than one event is decided now.
    Settled,
}
