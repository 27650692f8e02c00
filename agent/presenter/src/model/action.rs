//! What the model wants: from a back end that draws windows, and from whoever supervises the presenter.
use super::{Chord, Violation};
use medley_wire::window::{Grip, Kind, Place, Shape, SizeHints, States};
use medley_wire::{AppId, GuestRect, Rect, Size, WindowId};

/// All that a back end needs to show a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Appearance {
    /// Which.
    pub window: WindowId,
    /// Where its guest's pixels go on the screen; the frame lies around.
    pub rect: Rect,
    /// Whether the place was the host's own before, or one that the model chose: the window manager keeps
    /// it. Else it places the window.
    pub placed: bool,
    /// Whether the host's window manager manages it. Menus and tooltips are not managed.
    pub managed: bool,
    /// What it is for.
    pub kind: Kind,
    /// The window that it stands before.
    pub parent: Option<WindowId>,
    /// What it is called, with the workspace.
    pub title: String,
    /// Its app.
    pub app: AppId,
    /// How its size may change.
    pub hints: SizeHints,
    /// States it begins with.
    pub states: States,
    /// Whether somebody just did something that led to it. If not, it may not take the keyboard.
    pub by_user: bool,
}

/// What a back end shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Show a window that is not shown.
    Show(Box<Appearance>),
    /// Show it no longer.
    Hide(WindowId),
    /// Move it: a wish to the window manager if it is managed.
    Place {
        /// Which.
        window: WindowId,
        /// Where its guest's pixels go.
        rect: Rect,
    },
    /// It is called otherwise.
    Title {
        /// Which.
        window: WindowId,
        /// With the workspace.
        title: String,
    },
    /// It belongs to another app.
    App {
        /// Which.
        window: WindowId,
        /// The app.
        app: AppId,
    },
    /// Its size may change in another way.
    Hints {
        /// Which.
        window: WindowId,
        /// How.
        hints: SizeHints,
    },
    /// Ask the window manager for states.
    States {
        /// Which.
        window: WindowId,
        /// States that shall begin.
        begin: States,
        /// States that shall end.
        end: States,
    },
    /// Stack a window beside another of the same guest.
    Stack {
        /// Which.
        window: WindowId,
        /// Beside which.
        sibling: WindowId,
        /// Above or below.
        place: Place,
    },
    /// Let the window manager move or resize it with the pointer.
    Drag {
        /// Which.
        window: WindowId,
        /// What is dragged.
        grip: Grip,
        /// evdev's number of the button that is held.
        button: u16,
    },
    /// Paint again what the canvas has there.
    Paint {
        /// Which.
        window: WindowId,
        /// What of it.
        rect: GuestRect,
    },
    /// The pointer looks like this over the guest's windows.
    Cursor(Shape),
    /// The pointer looks like this picture.
    Picture {
        /// Pixels across and down.
        size: Size,
        /// The pixel that points.
        hotspot: (u32, u32),
        /// Rows, colours multiplied with opacity.
        pixels: Vec<u8>,
    },
    /// Ring.
    Bell,
    /// Show the card that says that the workspace is locked, or show it no longer.
    Card(bool),
}

/// What a supervisor is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A window is shown on the desktop.
    Opened {
        /// Which.
        window: WindowId,
        /// Its app.
        app: AppId,
        /// The launch that led to it, or zero.
        launch: u32,
    },
    /// A window is shown no longer.
    Closed(WindowId),
    /// All that the guest had to say after a [`Resync`](medley_wire::gui::Resync) was said.
    Whole {
        /// How many windows it has.
        windows: usize,
    },
    /// The workspace is locked, or not any more.
    Locked(bool),
    /// Somebody pressed keys of the host's.
    Chord(Chord),
    /// The guest broke a rule; its windows are gone.
    Violation(Violation),
    /// The guest says farewell.
    Bye,
}
