//! The messages of the gui channel: windows, pixels, input. A guest reports what its windows are and asks;
//! the host answers with what is so.
use crate::codec::List;
use crate::geometry::{Rect, Size};
use crate::hello::{Bye, Hello};
use crate::ids::{AppId, WindowId};
use crate::limits::{
    CLASS_BYTES, CURSOR_SIDE, DAMAGE_RECTS, INPUT_TEXT_BYTES, SHAPE_RECTS, TITLE_BYTES,
};
use crate::pixels::{Buffer, Patch, Picture};
use crate::text::{Bytes, Text};
use crate::untrusted::Untrusted;
use crate::window::{
    Change, Finger, Grip, Hints, KeyCode, Kind, Modifiers, Place, Seen, Shape, ShapeOf,
};

messages! {
    /// What a guest says on the gui channel.
    pub enum FromGuest on Gui {
        1 Hello(Hello), 2 Bye(Bye<'a>),
        10 Create(Create), 11 Destroy(Destroy), 12 Map(Map), 13 Unmap(Unmap), 14 Configure(Ask),
        15 Stack(Stack), 16 Title(Title<'a>), 17 Class(Class<'a>), 18 Hints(WindowHints),
        19 State(State), 20 Shape(WindowShape), 21 Drag(Drag),
        30 Attach(Attach), 31 Damage(Damage), 32 Pixels(Pixels<'a>),
        33 Cursor(Cursor), 34 CursorPicture(CursorPicture<'a>), 35 Bell(Bell),
        36 Snapshot(Snapshot), 37 SnapshotEnd(SnapshotEnd),
    }
}

messages! {
    /// What a host says on the gui channel.
    pub enum FromHost on Gui {
        1 Hello(Hello), 2 Bye(Bye<'a>),
        50 Limits(Limits), 51 Resync(Resync), 52 Configure(Configure), 53 State(State), 54 Stack(Stack),
        55 Focus(Focus), 56 Leave(Leave), 57 Close(Close), 58 Destroyed(Destroyed),
        59 FrameDone(FrameDone), 60 Visibility(Visibility),
        70 Key(Key), 71 Text(InputText<'a>), 72 Motion(Motion), 73 Button(Button), 74 Scroll(Scroll),
        75 Crossing(Crossing), 76 Touch(Touch),
    }
}

record! {
    /// A window exists; it is not shown yet.
    pub struct Create {
        /// Its number: free until now, or freed by [`Destroyed`].
        pub window: WindowId,
        /// Where it asks to be, on the guest's screen.
        pub rect: Untrusted<Rect>,
        /// The app that it belongs to, if that is known.
        pub app: AppId,
        /// The [`Launch`](crate::control::Launch) that led to it, or zero.
        pub launch: u32,
    }
}
record! {
    /// A window is gone. Its number stays taken until [`Destroyed`].
    pub struct Destroy {
        /// Which.
        pub window: WindowId,
    }
}
record! {
    /// A window is shown. What is said here cannot change while it is: there is no other message for it.
    pub struct Map {
        /// Which.
        pub window: WindowId,
        /// The window that it stands before.
        pub parent: Option<WindowId>,
        /// What it is for.
        pub kind: Kind,
        /// Its app places it, and no window manager: menus, tooltips.
        pub unmanaged: bool,
    }
}
record! {
    /// A window is no longer shown.
    pub struct Unmap {
        /// Which.
        pub window: WindowId,
    }
}
record! {
    /// Where a window is in the guest: an answer to the host, or a wish.
    pub struct Ask {
        /// Which.
        pub window: WindowId,
        /// Where.
        pub rect: Untrusted<Rect>,
        /// The host's [`Configure::serial`] that is answered; zero is a wish, which the host answers.
        pub answers: u32,
    }
}
record! {
    /// A window's place among those of the same guest.
    pub struct Stack {
        /// Which.
        pub window: WindowId,
        /// Beside which; without one, all of the guest's.
        pub sibling: Option<WindowId>,
        /// Above or below.
        pub place: Place,
    }
}
record! {
    /// A window's title.
    pub struct Title<'a> {
        /// Which.
        pub window: WindowId,
        /// What it is called.
        pub title: Untrusted<Text<'a, TITLE_BYTES>>,
    }
}
record! {
    /// A window's class, for rules; the host makes the class of its own window from the workspace and app.
    pub struct Class<'a> {
        /// Which.
        pub window: WindowId,
        /// The app that it belongs to, now that it is known.
        pub app: AppId,
        /// The first half of X11's class.
        pub instance: Untrusted<Text<'a, CLASS_BYTES>>,
        /// The second.
        pub class: Untrusted<Text<'a, CLASS_BYTES>>,
    }
}
record! {
    /// How a window's size may change.
    pub struct WindowHints {
        /// Which.
        pub window: WindowId,
        /// What its app says.
        pub hints: Untrusted<Hints>,
    }
}
record! {
    /// States that begin and end: of a guest a wish, of a host a fact.
    pub struct State {
        /// Which.
        pub window: WindowId,
        /// What begins and ends.
        pub change: Change,
    }
}
record! {
    /// A window is not a rectangle. Without rectangles it is one again. The frame is not cut.
    pub struct WindowShape {
        /// Which.
        pub window: WindowId,
        /// What the shape is of.
        pub of: ShapeOf,
        /// What belongs to it, seen from the window's corner.
        pub rects: List<Untrusted<Rect>, SHAPE_RECTS>,
    }
}
record! {
    /// The app began to drag its window: honoured only while somebody holds a button down in it.
    pub struct Drag {
        /// Which.
        pub window: WindowId,
        /// What is dragged.
        pub grip: Grip,
    }
}
record! {
    /// The window's pixels lie in shared memory from now on.
    pub struct Attach {
        /// Which.
        pub window: WindowId,
        /// Where.
        pub buffer: Untrusted<Buffer>,
    }
}
record! {
    /// A frame in shared memory: these parts of the attached buffer changed.
    pub struct Damage {
        /// Which.
        pub window: WindowId,
        /// The frame's number, counted per window.
        pub frame: u32,
        /// Microseconds from the change to its capture, and from there to this message. Durations: the
        /// clocks of host and guest differ.
        pub took: [u32; 2],
        /// What changed.
        pub rects: List<Untrusted<Rect>, DAMAGE_RECTS>,
    }
}
record! {
    /// A patch of a frame in the stream.
    pub struct Pixels<'a> {
        /// Which.
        pub window: WindowId,
        /// The frame's number, counted per window.
        pub frame: u32,
        /// Microseconds, as in [`Damage`].
        pub took: [u32; 2],
        /// Whether the frame is whole with this patch: then it is shown and acknowledged.
        pub last: bool,
        /// The patch.
        pub patch: Untrusted<Patch<'a>>,
    }
}
record! {
    /// The pointer looks like this over the guest's windows.
    pub struct Cursor {
        /// How.
        pub shape: Shape,
    }
}
record! {
    /// The pointer looks like no cursor that has a name.
    pub struct CursorPicture<'a> {
        /// The column that points.
        pub x: u16,
        /// The row that points; a point outside of the picture is taken as its nearest pixel.
        pub y: u16,
        /// How.
        pub picture: Picture<'a, { CURSOR_SIDE as usize }>,
    }
}
record! {
    /// The bell rings.
    pub struct Bell {
        /// For which window, if for one.
        pub window: Option<WindowId>,
    }
}
record! {
    /// The guest begins to say its whole state again, as [`Resync`] asked.
    pub struct Snapshot {
        /// The number that [`Resync`] gave.
        pub generation: u32,
        /// How many windows will follow.
        pub windows: u16,
    }
}
record! {
    /// All was said: a window that was not said again is gone.
    pub struct SnapshotEnd {
        /// The number that [`Resync`] gave.
        pub generation: u32,
    }
}

record! {
    /// What the host will take, never more than `limits.rs` says. Follows its hello.
    pub struct Limits {
        /// Windows at once.
        pub windows: u16,
        /// The largest window.
        pub size: Size,
        /// Bytes of pixels of all windows together.
        pub pixels: u64,
        /// Frames of a window in a second.
        pub frames: u16,
    }
}
record! {
    /// Say everything again: after a new connection, after sleep, after the presenter was gone.
    pub struct Resync {
        /// Comes back in [`Snapshot`].
        pub generation: u32,
    }
}
record! {
    /// Where a window is. One is unanswered at most for each window.
    pub struct Configure {
        /// Which.
        pub window: WindowId,
        /// Where, on the guest's screen.
        pub rect: Rect,
        /// Comes back in [`Ask::answers`]; never zero.
        pub serial: u32,
    }
}
record! {
    /// A window has the keyboard.
    pub struct Focus {
        /// Which.
        pub window: WindowId,
        /// Modifiers that are held as it begins.
        pub held: Modifiers,
        /// Locks that are on as it begins.
        pub locked: Modifiers,
    }
}
record! {
    /// No window of the guest has the keyboard: the guest releases every key that it believes is down.
    pub struct Leave {
        /// The window that had it.
        pub window: WindowId,
    }
}
record! {
    /// Somebody closes a window. Its app may ask, and may refuse.
    pub struct Close {
        /// Which.
        pub window: WindowId,
    }
}
record! {
    /// The host has forgotten the window; its number is free.
    pub struct Destroyed {
        /// Which.
        pub window: WindowId,
    }
}
record! {
    /// A frame was shown or overtaken: the guest may send one more.
    pub struct FrameDone {
        /// Which.
        pub window: WindowId,
        /// The frame's number.
        pub frame: u32,
        /// Microseconds from its arrival until it was unpacked, and from there until it was shown.
        pub took: [u32; 2],
    }
}
record! {
    /// How much of a window can be seen. The guest captures nothing of one that cannot.
    pub struct Visibility {
        /// Which.
        pub window: WindowId,
        /// How much.
        pub seen: Seen,
        /// Frames in a second that are worth sending.
        pub frames: u16,
    }
}
record! {
    /// A key. Held keys repeat on the host, which sends each; the guest repeats none.
    pub struct Key {
        /// The window that has the keyboard.
        pub window: WindowId,
        /// Which key.
        pub code: KeyCode,
        /// Down or up.
        pub down: bool,
        /// Which of the keymap's layouts.
        pub group: u8,
        /// Modifiers that are held, this key not counted.
        pub held: Modifiers,
        /// Locks that are on.
        pub locked: Modifiers,
    }
}
record! {
    /// Text that no key gives: of an input method, a compose sequence, a keyboard on the screen.
    pub struct InputText<'a> {
        /// The window that has the keyboard.
        pub window: WindowId,
        /// UTF-8. Bytes, so that no log shows it.
        pub text: Bytes<'a, INPUT_TEXT_BYTES>,
    }
}
record! {
    /// The pointer moved; at most one for each frame of the host's display.
    pub struct Motion {
        /// The window under it, or that holds it.
        pub window: WindowId,
        /// Pixels from the window's corner.
        pub x: i32,
        /// Pixels from the window's corner.
        pub y: i32,
        /// What the mouse moved, in 256ths of a pixel, for apps that turn a view.
        pub dx: i32,
        /// The same, down.
        pub dy: i32,
    }
}
record! {
    /// A button of the mouse.
    pub struct Button {
        /// The window under the pointer, or that holds it.
        pub window: WindowId,
        /// Pixels from the window's corner.
        pub x: i32,
        /// Pixels from the window's corner.
        pub y: i32,
        /// evdev's number.
        pub code: u16,
        /// Down or up.
        pub down: bool,
        /// Modifiers that are held.
        pub held: Modifiers,
    }
}
record! {
    /// The wheel turned, or two fingers moved.
    pub struct Scroll {
        /// The window under the pointer.
        pub window: WindowId,
        /// To the right, in 120ths of a notch.
        pub across: i32,
        /// Down, in 120ths of a notch.
        pub down: i32,
        /// Modifiers that are held.
        pub held: Modifiers,
    }
}
record! {
    /// The pointer came into a window, or left it.
    pub struct Crossing {
        /// Which.
        pub window: WindowId,
        /// It came.
        pub inside: bool,
        /// Pixels from the window's corner.
        pub x: i32,
        /// Pixels from the window's corner.
        pub y: i32,
    }
}
record! {
    /// A finger on the screen.
    pub struct Touch {
        /// The window it came down in.
        pub window: WindowId,
        /// Which finger.
        pub finger: u8,
        /// What it does.
        pub does: Finger,
        /// Pixels from the window's corner.
        pub x: i32,
        /// Pixels from the window's corner.
        pub y: i32,
    }
}

impl CursorPicture<'_> {
    /// The pixel that points: always one of the picture's.
    #[must_use]
    pub fn hotspot(&self) -> (u32, u32) {
        let size = self.picture.size();
        (
            u32::from(self.x).min(size.width() - 1),
            u32::from(self.y).min(size.height() - 1),
        )
    }
}
