//! Text and opaque bytes of bounded length. Text of a guest reaches a person only as [`DisplayText`]: one
//! line that cannot hide, reorder or overprint anything.
use crate::codec::{Reader, Wire, Writer, count_width};
use crate::fault::Fault;
use crate::fuzz::Dice;
use crate::untrusted::Untrusted;
use alloc::string::String;
use core::fmt;

/// At most `N` bytes that nothing here looks into: pixels, pieces of files, what somebody types.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes<'a, const N: usize>(pub &'a [u8]);

/// At most `N` bytes that should be UTF-8.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Text<'a, const N: usize>(&'a [u8]);

impl<'a, const N: usize> Text<'a, N> {
    /// As much of `text` as fits, cut between two characters.
    #[must_use]
    pub fn cut(text: &'a str) -> Self {
        Self(
            text.get(..text.floor_char_boundary(N))
                .unwrap_or_default()
                .as_bytes(),
        )
    }

    /// All of `text`, if it fits.
    #[must_use]
    pub fn whole(text: &'a str) -> Option<Self> {
        (text.len() <= N).then_some(Self(text.as_bytes()))
    }

    /// The text, if it is UTF-8. Of a guest's text there is no way to this: it is [`Untrusted`].
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.0).ok()
    }
}

impl<const N: usize> fmt::Debug for Bytes<'_, N> {
    /// Only how many: keys typed and data copied have no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const N: usize> fmt::Debug for Text<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.0), f)
    }
}

macro_rules! counted {
    ($name:ident) => {
        impl<'a, const N: usize> Wire<'a> for $name<'a, N> {
            const MIN: usize = count_width(N);
            const MAX: usize = Self::MIN + N;
            fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
                let count = reader.count(N)?;
                reader.bytes(count).map(Self)
            }
            fn put(&self, writer: &mut Writer<'_>) {
                writer.count(self.0.len(), N);
                writer.bytes(self.0);
            }
            fn len(&self) -> usize {
                Self::MIN + self.0.len()
            }
            fn invent(dice: &mut Dice<'a>) -> Self {
                let count = dice.below(N.min(40) as u32 + 1);
                Self(dice.bytes(count as usize))
            }
        }
    };
}
counted!(Bytes);
counted!(Text);

/// One line of text that may be shown to a person: no controls, no line breaks, nothing that changes the
/// direction of writing, nothing invisible, no towers of accents, no run of spaces, and not longer than
/// three times the bytes it was made of. It is still a guest's text: show it where a guest may speak.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DisplayText(String);

/// Accents on one letter: Vietnamese has two, Hebrew with all its points three.
const ACCENTS: usize = 3;

enum Fit {
    Plain,
    Space,
    Accent,
    Joiner,
    Never,
}

fn fit(letter: char) -> Fit {
    match letter {
        ' '
        | '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{2800}'
        | '\u{3000}'
        | '\t'
        | '\n'
        | '\r' => Fit::Space,
        '\u{300}'..='\u{34e}'
        | '\u{350}'..='\u{36f}'
        | '\u{483}'..='\u{489}'
        | '\u{591}'..='\u{5bd}'
        | '\u{64b}'..='\u{65f}'
        | '\u{e47}'..='\u{e4e}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{3099}'..='\u{309a}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}' => Fit::Accent,
        '\u{200c}' | '\u{200d}' => Fit::Joiner,
        // Soft hyphen, joiners of graphemes, fillers, marks and overrides of direction, invisible
        // operators, specials, private use, tags and everything that Unicode calls no character.
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{10ffff}' => Fit::Never,
        other if other.is_control() || other as u32 & 0xfffe == 0xfffe => Fit::Never,
        _ => Fit::Plain,
    }
}

impl DisplayText {
    fn from_bytes(bytes: &[u8]) -> Self {
        let mut line = String::with_capacity(bytes.len());
        let (mut accents, mut last) = (0, ' ');
        for letter in bytes.utf8_chunks().flat_map(|chunk| {
            let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            chunk.valid().chars().chain(broken)
        }) {
            let shown = match fit(letter) {
                Fit::Plain => letter,
                Fit::Space if last == ' ' => continue,
                Fit::Space => ' ',
                Fit::Accent if accents == ACCENTS || last == ' ' => continue,
                Fit::Accent => letter,
                // They shape Persian words and emoji, and have nothing to do beside ASCII.
                Fit::Joiner if last.is_ascii() || matches!(fit(last), Fit::Joiner) => continue,
                Fit::Joiner => letter,
                Fit::Never => char::REPLACEMENT_CHARACTER,
            };
            accents = if matches!(fit(shown), Fit::Accent) {
                accents + 1
            } else {
                0
            };
            last = shown;
            line.push(shown);
        }
        line.truncate(line.trim_end_matches([' ', '\u{200c}', '\u{200d}']).len());
        Self(line)
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DisplayText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'a, const N: usize> Untrusted<Text<'a, N>> {
    /// The text as one line for a person.
    #[must_use]
    pub fn display(&self) -> DisplayText {
        DisplayText::from_bytes(self.raw().0)
    }

    /// The text as at most `most` lines for a person; the rest is left out.
    pub fn lines(&self, most: usize) -> impl Iterator<Item = DisplayText> + use<'a, N> {
        self.raw()
            .0
            .split(|byte| *byte == b'\n')
            .take(most)
            .map(DisplayText::from_bytes)
    }

    /// Whether the guest says exactly what is known already.
    #[must_use]
    pub fn is(&self, known: &str) -> bool {
        self.raw().0 == known.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        Untrusted::claim(Text::<4096>::cut(text)).display().0
    }

    #[test]
    fn honest_text_stays_as_it_is() {
        for text in [
            "Untitled 1 — LibreOffice Writer",
            "naïve café",
            "日本語 が ベ",
            "שלום",
            "می\u{200c}خواهم",
            "👩\u{200d}🚀",
            "Việt Nam",
            "e\u{301}\u{323}",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn tricks_are_undone() {
        for (trick, seen) in [
            ("invoice\u{202e}fdp.exe", "invoice\u{fffd}fdp.exe"),
            ("\u{2066}a\u{2069}", "\u{fffd}a\u{fffd}"),
            ("a\u{1b}[31mb\u{7}", "a\u{fffd}[31mb\u{fffd}"),
            ("one\r\n\ttwo\u{2028}three", "one two three"),
            ("  far      away   ", "far away"),
            ("pay\u{200d}pal\u{200b}", "paypal\u{fffd}"),
            ("\u{301}x", "x"),
            (
                "Z\u{301}\u{302}\u{303}\u{304}\u{305}",
                "Z\u{301}\u{302}\u{303}",
            ),
            ("a\u{e0041}\u{f8ff}\u{1fffe}", "a\u{fffd}\u{fffd}\u{fffd}"),
            ("\u{85}\u{9b}", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(shown(trick), seen, "{trick:?}");
        }
        let broken = Untrusted::claim(Text::<8>(b"a\xff\xc0b\xe2\x80"));
        assert_eq!(broken.display().as_str(), "a\u{fffd}\u{fffd}b\u{fffd}");
    }

    #[test]
    fn cutting_leaves_letters_whole() {
        assert_eq!(Text::<4>::cut("añño").as_str(), Some("añ"));
        assert_eq!(Text::<4>::whole("añño"), None);
    }

    #[test]
    fn lines_are_counted() {
        let body = Untrusted::claim(Text::<64>::cut("one\ntwo\n\nfour\nfive"));
        let lines: alloc::vec::Vec<_> = body.lines(4).map(|line| line.0).collect();
        assert_eq!(lines, ["one", "two", "", "four"]);
    }

    proptest! {
        #[test]
        fn display_is_bounded_and_settled(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let once = DisplayText::from_bytes(&bytes);
            prop_assert!(once.0.len() <= 3 * bytes.len());
            prop_assert!(!once.0.chars().any(|c| c.is_control()));
            prop_assert_eq!(DisplayText::from_bytes(once.0.as_bytes()), once);
        }

        #[test]
        fn display_of_letters_is_settled(text in "\\PC{0,60}|[a \u{200d}\u{301}\u{202e}\u{a0}é]{0,40}") {
            let once = DisplayText::from_bytes(text.as_bytes());
            prop_assert_eq!(DisplayText::from_bytes(once.0.as_bytes()), once);
        }
    }
}
