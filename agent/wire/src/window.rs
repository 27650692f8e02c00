//! The words of the gui channel: kinds, states, shapes and hints of windows; keys and cursors.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::Fault;
use crate::fuzz::Dice;
use crate::geometry::Size;
use crate::limits::SIDE;
use crate::untrusted::Untrusted;

choice! {
    /// What a window is for; decides how it is framed and stacked.
    pub enum Kind {
        /// A window of its own.
        Normal = 0,
        /// It asks something.
        Dialog = 1,
        /// A tool box.
        Utility = 2,
        /// Shown while an app starts.
        Splash = 3,
        /// A menu of a menu bar.
        DropdownMenu = 4,
        /// A context menu.
        PopupMenu = 5,
        /// The list of a combo box.
        Combo = 6,
        /// A tooltip.
        Tooltip = 7,
        /// What is dragged.
        Drag = 8,
        /// A note that an app shows by itself.
        Note = 9,
    }
}

bits! {
    /// States of a window.
    pub struct States: u16 {
        /// As wide as the work area.
        MAXIMISED_ACROSS = 0,
        /// As high as the work area.
        MAXIMISED_DOWN = 1,
        /// All of a monitor. Granted by policy; else the window is maximised and is told that it has it.
        FULLSCREEN = 2,
        /// Not shown but in the task bar.
        MINIMISED = 3,
        /// Wants to be looked at: all that a guest can do for focus.
        ATTENTION = 4,
        /// Its parent waits for it.
        MODAL = 5,
        /// Not in the task bar.
        NO_TASK_BAR = 6,
    }
}

/// Which states begin and which end; no state does both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    begin: States,
    end: States,
}

impl Change {
    /// States that begin and states that end, if no state is in both.
    #[must_use]
    pub fn new(begin: States, end: States) -> Option<Self> {
        (begin.bits() & end.bits() == 0).then_some(Self { begin, end })
    }

    /// The states after the change.
    #[must_use]
    pub const fn apply(self, states: States) -> States {
        states.without(self.end).with(self.begin)
    }
}

impl<'a> Wire<'a> for Change {
    const MIN: usize = 4;
    const MAX: usize = 4;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let (begin, end) = (States::take(reader)?, States::take(reader)?);
        Self::new(begin, end).ok_or(Fault::value((begin.bits() & end.bits()).into()))
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.begin.put(writer);
        self.end.put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        let (begin, end) = (States::invent(dice), States::invent(dice));
        Self {
            begin,
            end: end.without(begin),
        }
    }
}

choice! {
    /// Above or below.
    pub enum Place {
        /// Directly above the sibling, or on top.
        Above = 0,
        /// Directly below the sibling, or at the bottom.
        Below = 1,
    }
}

choice! {
    /// Which shape of a window.
    pub enum ShapeOf {
        /// What is drawn.
        Outline = 0,
        /// What takes clicks.
        Input = 1,
    }
}

choice! {
    /// What the pointer drags of a window.
    pub enum Grip {
        /// All of it: it moves.
        Move = 0,
        /// The upper edge, and so on around.
        Top = 1,
        /// Upper right corner.
        TopRight = 2,
        /// Right edge.
        Right = 3,
        /// Lower right corner.
        BottomRight = 4,
        /// Lower edge.
        Bottom = 5,
        /// Lower left corner.
        BottomLeft = 6,
        /// Left edge.
        Left = 7,
        /// Upper left corner.
        TopLeft = 8,
    }
}

choice! {
    /// Cursors that every desktop has; the host draws its own.
    pub enum Shape {
        /// None.
        Hidden = 0,
        /// The arrow.
        Arrow = 1,
        /// Text.
        Text = 2,
        /// A link.
        Hand = 3,
        /// Busy.
        Wait = 4,
        /// Busy, but go on.
        Progress = 5,
        /// A cross.
        Cross = 6,
        /// Help.
        Help = 7,
        /// Everything moves.
        Move = 8,
        /// Not here.
        Forbidden = 9,
        /// Open hand.
        Grab = 10,
        /// Closed hand.
        Grabbing = 11,
        /// Left and right.
        Horizontal = 12,
        /// Up and down.
        Vertical = 13,
        /// From upper left to lower right.
        Falling = 14,
        /// From lower left to upper right.
        Rising = 15,
        /// A column's edge.
        Column = 16,
        /// A row's edge.
        Row = 17,
        /// A copy is made.
        Copy = 18,
        /// A link is made.
        Alias = 19,
        /// Larger.
        ZoomIn = 20,
        /// Smaller.
        ZoomOut = 21,
        /// Vertical text.
        VerticalText = 22,
        /// A cell of a table.
        Cell = 23,
        /// A context menu is here.
        Menu = 24,
    }
}

choice! {
    /// How much of a window somebody can see.
    pub enum Seen {
        /// At least some of it.
        Visible = 0,
        /// Nothing, but it may come back at any time.
        Covered = 1,
        /// Nothing: minimised, locked, on another workspace of the desktop.
        Hidden = 2,
    }
}

choice! {
    /// What a finger does.
    pub enum Finger {
        /// It comes down.
        Down = 0,
        /// It moves.
        Move = 1,
        /// It goes.
        Up = 2,
        /// It was meant for somebody else.
        Cancel = 3,
    }
}

bits! {
    /// Modifiers, by their place in X11's and xkb's map.
    pub struct Modifiers: u8 {
        /// Shift.
        SHIFT = 0,
        /// Caps lock.
        LOCK = 1,
        /// Control.
        CONTROL = 2,
        /// Mostly Alt.
        MOD1 = 3,
        /// Mostly Num lock.
        MOD2 = 4,
        /// Rare.
        MOD3 = 5,
        /// Mostly Super.
        MOD4 = 6,
        /// Mostly AltGr.
        MOD5 = 7,
    }
}

bits! {
    /// Which hints an app gave.
    pub struct Given: u8 {
        /// Smallest size.
        SMALLEST = 0,
        /// Largest size.
        LARGEST = 1,
        /// Steps.
        STEP = 2,
        /// What steps are counted from.
        BASE = 3,
        /// Proportions.
        ASPECT = 4,
    }
}

record! {
    /// Hints as an app gave them.
    pub struct Hints {
        /// Those that it gave; the others are not looked at.
        pub given: Given,
        /// Smallest width and height.
        pub smallest: [u32; 2],
        /// Largest width and height.
        pub largest: [u32; 2],
        /// Steps of width and height.
        pub step: [u32; 2],
        /// Width and height that steps are counted from.
        pub base: [u32; 2],
        /// Least and greatest width for a height: two fractions.
        pub aspect: [u32; 4],
    }
}

/// Hints that make sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeHints {
    /// Not smaller than this.
    pub smallest: Option<Size>,
    /// Not larger than this, which is at least the smallest.
    pub largest: Option<Size>,
    /// In such steps.
    pub step: Option<Size>,
    /// Steps are counted from here; a side may be zero.
    pub base: Option<(u16, u16)>,
    /// Width for height, from and to, as fractions.
    pub aspect: Option<(Size, Size)>,
}

impl Untrusted<Hints> {
    /// Those hints that make sense; any other is dropped alone, as window managers do.
    #[must_use]
    pub fn sensible(&self) -> SizeHints {
        let hints = self.raw();
        let given = |bit, [width, height]: [u32; 2]| {
            Size::new(width, height).filter(|_| hints.given.has(bit))
        };
        let smallest = given(Given::SMALLEST, hints.smallest);
        let least = smallest.unwrap_or(Size::DOT);
        let largest = given(Given::LARGEST, hints.largest)
            .filter(|most| most.width() >= least.width() && most.height() >= least.height());
        let base = hints
            .base
            .map(|n| u16::try_from(n).ok().filter(|n| u32::from(*n) <= SIDE));
        let [a, b, c, d] = hints.aspect;
        let aspect = given(Given::ASPECT, [a, b]).zip(given(Given::ASPECT, [c, d]));
        SizeHints {
            smallest,
            largest,
            step: given(Given::STEP, hints.step),
            base: base[0]
                .zip(base[1])
                .filter(|_| hints.given.has(Given::BASE)),
            // a/b <= c/d; both products stay far below 2^32.
            aspect: aspect
                .filter(|(low, high)| low.width() * high.height() <= high.width() * low.height()),
        }
    }
}

/// A key by evdev's number. It is not shown in logs: they would hold what somebody typed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyCode(pub u16);

impl core::fmt::Debug for KeyCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a key")
    }
}

impl<'a> Wire<'a> for KeyCode {
    const MIN: usize = 2;
    const MAX: usize = 2;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        u16::take(reader).map(Self)
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.0.put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        Self(u16::invent(dice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mad_hints_are_dropped_alone() {
        let mad = Hints {
            given: Given::ALL,
            smallest: [100, 50],
            largest: [99, 5000],
            step: [0, 1],
            base: [0, 20],
            aspect: [16, 9, 4, 3],
        };
        let sensible = Untrusted::claim(mad.clone()).sensible();
        let only = SizeHints {
            smallest: Size::new(100, 50),
            base: Some((0, 20)),
            ..SizeHints::default()
        };
        assert_eq!(sensible, only);
        let none = Hints {
            given: Given::NONE,
            ..mad
        };
        assert_eq!(Untrusted::claim(none).sensible(), SizeHints::default());
        let huge = Hints {
            given: Given::ALL,
            smallest: [u32::MAX; 2],
            ..only_good()
        };
        let sensible = Untrusted::claim(huge).sensible();
        assert_eq!(
            (sensible.smallest, sensible.largest),
            (None, Size::new(900, 900))
        );
    }

    fn only_good() -> Hints {
        Hints {
            given: Given::ALL,
            smallest: [9, 9],
            largest: [900, 900],
            step: [1, 1],
            base: [0, 0],
            aspect: [1, 2, 2, 1],
        }
    }

    #[test]
    fn a_state_cannot_begin_and_end() {
        assert_eq!(Change::new(States::MODAL, States::ALL), None);
        let change = Change::new(States::MINIMISED, States::FULLSCREEN).unwrap();
        let after = change.apply(States::FULLSCREEN.with(States::MODAL));
        assert_eq!(after, States::MINIMISED.with(States::MODAL));
    }
}
