//! Paper, by the self-describing names of PWG 5101.1: `iso_a4_210x297mm`.
use serde::{Deserialize, Serialize};

/// Bytes of a name; longer ones are not paper.
pub const NAME: usize = 64;
/// The largest side, in hundredths of a millimetre: ten metres, as rolls have.
const SIDE: u32 = 1_000_000;

/// A size of paper. Its name is safe to be passed on, whoever said it: a few letters, digits, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Medium {
    name: String,
    width: u32,
    height: u32,
}

impl Medium {
    /// Reads a self-describing name; nothing if it is none, or of a roll.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.len() > NAME || !name.bytes().all(plain) {
            return None;
        }
        let mut parts = name.split('_');
        let (class, what, size) = (parts.next()?, parts.next()?, parts.next_back()?);
        // `custom_min_…` and `custom_max_…` are bounds, no sizes.
        let bound = class == "custom" && (what.starts_with("min") || what.starts_with("max"));
        if class.is_empty() || what.is_empty() || class == "roll" || bound {
            return None;
        }
        let (size, unit) = if let Some(size) = size.strip_suffix("mm") {
            (size, 100)
        } else {
            (size.strip_suffix("in")?, 2540)
        };
        let (width, height) = size.split_once('x')?;
        let medium = Self {
            name: name.to_owned(),
            width: hundredths(width, unit)?,
            height: hundredths(height, unit)?,
        };
        (medium.width > 0 && medium.height > 0).then_some(medium)
    }

    /// A4.
    #[must_use]
    pub fn a4() -> Self {
        Self {
            name: "iso_a4_210x297mm".into(),
            width: 21000,
            height: 29700,
        }
    }

    /// US Letter.
    #[must_use]
    pub fn letter() -> Self {
        Self {
            name: "na_letter_8.5x11in".into(),
            width: 21590,
            height: 27940,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Across, in hundredths of a millimetre.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Down, in hundredths of a millimetre.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// Whether a size in hundredths of a millimetre is this one, as those who calculate in points mean it.
    #[must_use]
    pub const fn is(&self, width: u32, height: u32) -> bool {
        // A point is 35 of them.
        self.width.abs_diff(width) <= 40 && self.height.abs_diff(height) <= 40
    }
}

impl TryFrom<String> for Medium {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or("not a size of paper like iso_a4_210x297mm")
    }
}

impl From<Medium> for String {
    fn from(medium: Medium) -> Self {
        medium.name
    }
}

/// A decimal number in a unit of so many hundredths of a millimetre.
fn hundredths(text: &str, unit: u64) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| {
        let right = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        right.then(|| text.parse::<u64>().ok()).flatten()
    };
    let scale = 10_u64.pow(u32::try_from(part.len()).ok().filter(|len| *len <= 6)?);
    let value = digits(whole, 6)? * unit + (digits(part, 6)? * unit + scale / 2) / scale;
    u32::try_from(value).ok().filter(|value| *value <= SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_sizes() {
        let sizes = [
            ("iso_a4_210x297mm", 21000, 29700),
            ("na_letter_8.5x11in", 21590, 27940),
            ("na_index-4x6_4x6in", 10160, 15240),
            ("na_number-10_4.125x9.5in", 10478, 24130),
            ("custom_my_paper_100x200.5mm", 10000, 20050),
        ];
        for (name, width, height) in sizes {
            let medium = Medium::new(name).unwrap();
            assert_eq!((medium.width(), medium.height()), (width, height), "{name}");
        }
        assert_eq!(Medium::new("iso_a4_210x297mm").unwrap(), Medium::a4());
        assert_eq!(Medium::new("na_letter_8.5x11in").unwrap(), Medium::letter());
    }

    #[test]
    fn what_is_no_paper_has_no_name() {
        let long = format!("iso_{}_1x1mm", "a".repeat(60));
        for name in [
            "",
            "a4",
            "iso_a4",
            "iso_a4_210mm",
            "iso_a4_0x0mm",
            "iso_a4_-1x2mm",
            "iso_a4_210x297",
            "iso_a4_99999999999x1mm",
            "iso_a4_1.0000000001x1mm",
            "iso_a4_1x1mm\n",
            "iso_a4;rm_1x1mm",
            "roll_max_914x9999mm",
            "custom_min_10x10mm",
            "custom_max-3_10x10mm",
            &long,
        ] {
            assert_eq!(Medium::new(name), None, "{name}");
        }
    }

    #[test]
    fn points_are_close_enough() {
        assert!(Medium::a4().is(20990, 29704) && !Medium::a4().is(21590, 27940));
    }
}
