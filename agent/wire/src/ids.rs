//! Names that stand for something of the guest's, and mean nothing outside of its own connection.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::Fault;
use crate::fuzz::Dice;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::num::NonZeroU32;

/// A window of the guest: a number that the guest chose. Look it up in that guest's own table, and never
/// give it to the host's display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowId(NonZeroU32);

impl WindowId {
    /// A window's number; zero is none.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl<'a> Wire<'a> for WindowId {
    const MIN: usize = 4;
    const MAX: usize = 4;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        u32::take(reader).map(Self::new)?.ok_or(Fault::value(0))
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.get().put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        // Few numbers, so that a fuzzer's messages speak of each other's windows.
        Self(NonZeroU32::MIN.saturating_add(dice.below(8)))
    }
}

/// Zero is no window.
impl<'a> Wire<'a> for Option<WindowId> {
    const MIN: usize = 4;
    const MAX: usize = 4;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        u32::take(reader).map(WindowId::new)
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.map_or(0, WindowId::get).put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        WindowId::new(dice.below(8))
    }
}

/// An app of the guest: a digest of its desktop entry's name, so that it stays the same when the app is
/// updated, renamed for people or moved in the menu. Sixteen bytes and never text: shown, they are 32
/// hexadecimal digits that can stand in a file's name and on a command line. All zeros is no app.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId([u8; 16]);

impl AppId {
    /// No app: what a window says that belongs to none that is listed.
    pub const NONE: Self = Self([0; 16]);

    /// An app by its digest.
    #[must_use]
    pub const fn new(digest: [u8; 16]) -> Self {
        Self(digest)
    }

    /// The class of the app's windows on the host, by which a desktop finds them for a menu's entry.
    #[must_use]
    pub fn class(self, workspace: &str) -> String {
        let safe = |letter: char| {
            if letter.is_ascii_alphanumeric() || letter == '-' || letter == '_' {
                letter
            } else {
                '_'
            }
        };
        let workspace: String = workspace.chars().map(safe).collect();
        format!("medley-{workspace}.{self}")
    }

    /// The app that [`fmt::Display`] has written so.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let lower = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(digits, 16).ok()?;
        (lower && digits.len() == 32).then_some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> Wire<'a> for AppId {
    const MIN: usize = 16;
    const MAX: usize = 16;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        Wire::take(reader).map(Self)
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.0.put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        Self(dice.array())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn apps_are_digits() {
        let id = AppId::new(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233343536373839616263646566");
        assert_eq!(AppId::parse(&id.to_string()), Some(id));
        for bad in [
            "",
            "3",
            "+0313233343536373839616263646566",
            "3031323334353637383961626364656G",
            "../",
        ] {
            assert_eq!(AppId::parse(bad), None, "{bad}");
        }
        assert_eq!(AppId::parse("ABCDEF00000000000000000000000000"), None);
    }
}
