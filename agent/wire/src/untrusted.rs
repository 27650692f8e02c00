//! What a guest claims. A claim can be compared, copied and sent; it becomes a value that may be used only
//! through the checker of its type, which stands beside that type: rectangles are clipped, text is made
//! fit for display, names are judged, sizes are held against a limit.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::Fault;
use crate::fuzz::Dice;
use core::fmt;

/// A value as a guest gave it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Untrusted<T>(T);

impl<T> Untrusted<T> {
    /// What a guest says, for the guest to say it.
    #[must_use]
    pub const fn claim(value: T) -> Self {
        Self(value)
    }

    /// For the checkers of this crate, and for nobody else.
    pub(crate) const fn raw(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Untrusted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claimed {:?}", self.0)
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Untrusted<T> {
    const MIN: usize = T::MIN;
    const MAX: usize = T::MAX;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        T::take(reader).map(Self)
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.0.put(writer);
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        Self(T::invent(dice))
    }
}

impl Untrusted<u64> {
    /// The number, if it is at most `limit`.
    #[must_use]
    pub fn at_most(&self, limit: u64) -> Option<u64> {
        Some(self.0).filter(|number| *number <= limit)
    }
}
