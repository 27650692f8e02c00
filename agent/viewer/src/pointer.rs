//! The pointer: where it is or how far it moved, its buttons, and a wheel that turns in notches.

use medley_rfb::Say;

/// Bits of buttons.
pub mod button {
    /// The left one.
    pub const LEFT: u8 = 1;
    /// The middle one.
    pub const MIDDLE: u8 = 2;
    /// The right one.
    pub const RIGHT: u8 = 4;
    /// A notch of the wheel, away.
    pub const UP: u8 = 8;
    /// A notch of the wheel, nearer.
    pub const DOWN: u8 = 16;
}

/// Most notches of one turn: a wheel that spins freely is no reason to scroll for a minute.
const NOTCHES_MOST: f64 = 8.0;
/// What stands for no move, where moves are told.
const STILL: u16 = 0x7fff;

/// How a caught pointer tells its moves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Caught {
    /// It is not caught.
    #[default]
    No,
    /// The display tells them, and it stands still.
    Locked,
    /// By the places that it comes to, inside of the window: X tells moves twice to whoever has caught the pointer.
    Confined {
        /// Where it was.
        last: (f64, f64),
        /// Where we have put it, if that was not heard of yet.
        put: Option<(f64, f64)>,
    },
}

/// How far from the middle of its window a confined pointer may go before it is put back.
const AWAY: f64 = 100.0;

impl Caught {
    /// A confined pointer came to a place: how far it moved, and whether it must be put into the middle.
    pub fn came(&mut self, at: (f64, f64), middle: (f64, f64)) -> ((f64, f64), bool) {
        let Self::Confined { last, put } = self else {
            return ((0.0, 0.0), false);
        };
        // It may have moved before it was put there.
        let moved = match put.take_if(|put| *put == at) {
            Some(_) => (0.0, 0.0),
            None => (at.0 - last.0, at.1 - last.1),
        };
        *last = at;
        let away = (at.0 - middle.0).abs().max((at.1 - middle.1).abs()) > AWAY;
        let back = away && put.is_none();
        if back {
            *put = Some(middle);
        }
        (moved, back)
    }
}

/// The pointer as the guest was told of it.
#[derive(Debug, Default)]
pub struct Pointer {
    buttons: u8,
    at: (u16, u16),
    /// Parts of pixels and notches that were not told yet.
    rest: (f64, f64),
    turned: f64,
    caught: Caught,
}

impl Pointer {
    /// Whether it is caught: it moves in the guest and nowhere else.
    #[must_use]
    pub const fn is_caught(&self) -> bool {
        !matches!(self.caught, Caught::No)
    }

    /// How it is caught.
    pub const fn caught(&mut self) -> &mut Caught {
        &mut self.caught
    }

    /// It is caught, or given back.
    pub const fn catch(&mut self, caught: Caught) {
        self.caught = caught;
        self.rest = (0.0, 0.0);
    }

    /// Where it is on the guest's screen.
    #[must_use]
    pub const fn place(&self) -> (u16, u16) {
        self.at
    }

    /// It came to a place.
    pub const fn come(&mut self, at: (u16, u16)) -> Say {
        self.at = at;
        self.say(true)
    }

    /// It moved, so far that it is worth telling.
    pub fn moved(&mut self, by: (f64, f64)) -> Option<Say> {
        let whole = |rest: &mut f64, by: f64| {
            let sum = (*rest + by).clamp(-1000.0, 1000.0);
            *rest = sum.fract();
            sum.trunc() as i32
        };
        let steps = (whole(&mut self.rest.0, by.0), whole(&mut self.rest.1, by.1));
        let told = |step: i32| u16::try_from(i32::from(STILL) + step).unwrap_or(STILL);
        (steps != (0, 0)).then(|| Say::Pointer {
            buttons: self.buttons,
            x: told(steps.0),
            y: told(steps.1),
        })
    }

    /// A button went down or up.
    pub const fn press(&mut self, button: u8, down: bool, placed: bool) -> Say {
        match down {
            true => self.buttons |= button,
            false => self.buttons &= !button,
        }
        self.say(placed)
    }

    /// The wheel turned by parts of notches, away if more than none.
    pub fn turn(&mut self, notches: f64, placed: bool) -> Vec<Say> {
        self.turned = (self.turned + notches).clamp(-NOTCHES_MOST, NOTCHES_MOST);
        let (bit, whole) = match self.turned.trunc() {
            whole if whole > 0.0 => (button::UP, whole),
            whole => (button::DOWN, -whole),
        };
        self.turned = self.turned.fract();
        let mut said = Vec::new();
        for _ in 0..whole as u32 {
            said.push(self.press(bit, true, placed));
            said.push(self.press(bit, false, placed));
        }
        said
    }

    /// All buttons up, if one is down.
    pub const fn release(&mut self, placed: bool) -> Option<Say> {
        if self.buttons == 0 {
            return None;
        }
        self.buttons = 0;
        Some(self.say(placed))
    }

    const fn say(&self, placed: bool) -> Say {
        let (x, y) = if placed { self.at } else { (STILL, STILL) };
        Say::Pointer {
            buttons: self.buttons,
            x,
            y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(buttons: u8, x: u16, y: u16) -> Say {
        Say::Pointer { buttons, x, y }
    }

    #[test]
    fn places_and_moves_are_told_as_they_are() {
        let mut pointer = Pointer::default();
        assert_eq!(pointer.come((5, 6)), said(0, 5, 6));
        assert_eq!(pointer.press(button::LEFT, true, true), said(1, 5, 6));
        assert_eq!(pointer.moved((0.5, -0.25)), None);
        assert_eq!(pointer.moved((0.6, -1.0)), Some(said(1, 0x8000, 0x7ffe)));
        let far = pointer.moved((1e9, f64::NEG_INFINITY));
        assert_eq!(far, Some(said(1, 0x7fff + 1000, 0x7fff - 1000)));
        assert_eq!(pointer.release(false), Some(said(0, 0x7fff, 0x7fff)));
        assert_eq!(pointer.release(true), None);
    }

    #[test]
    fn a_confined_pointer_is_put_back_and_that_is_no_move() {
        let mut caught = Caught::Confined {
            last: (10.0, 10.0),
            put: None,
        };
        let middle = (200.0, 100.0);
        assert_eq!(caught.came((13.0, 9.0), middle), ((3.0, -1.0), true));
        // It was under way when it was put back.
        assert_eq!(caught.came((12.0, 9.0), middle), ((-1.0, 0.0), false));
        assert_eq!(caught.came(middle, middle), ((0.0, 0.0), false));
        assert_eq!(caught.came((299.0, 101.0), middle), ((99.0, 1.0), false));
        assert_eq!(caught.came((301.0, 101.0), middle), ((2.0, 0.0), true));
        assert_eq!(Caught::Locked.came((1.0, 1.0), middle), ((0.0, 0.0), false));
    }

    #[test]
    fn a_wheel_turns_in_notches() {
        let mut pointer = Pointer::default();
        assert!(pointer.turn(0.6, true).is_empty());
        assert_eq!(pointer.turn(0.6, true), [said(8, 0, 0), said(0, 0, 0)]);
        assert_eq!(pointer.turn(-2.5, true).len(), 4);
        assert_eq!(pointer.turn(1e9, true).len(), 16);
    }
}
