//! How a document is to be printed: what travels with it from the guest's dialogue to the host's printer.
use crate::media::Medium;
use serde::{Deserialize, Serialize};

/// Copies that a job may ask for.
pub const COPIES: u16 = 99;
/// Ranges of pages that a job may name.
pub const RANGES: usize = 16;

/// A job's number, of the printer that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub i32);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The language of a document, and all that leave the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// PDF.
    Pdf,
    /// PWG raster.
    Raster,
}

impl Format {
    /// What every such document begins with.
    #[must_use]
    pub const fn magic(self) -> &'static [u8] {
        match self {
            Self::Pdf => b"%PDF-",
            Self::Raster => b"RaS2",
        }
    }

    /// Its MIME type.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Raster => "image/pwg-raster",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pdf => "a PDF document",
            Self::Raster => "PWG raster",
        }
    }
}

/// Which sides of a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sides {
    /// One.
    OneSided,
    /// Both, as a book is turned.
    TwoSidedLongEdge,
    /// Both, as a calendar is turned.
    TwoSidedShortEdge,
}

impl Sides {
    pub(crate) const ALL: [Self; 3] = [
        Self::OneSided,
        Self::TwoSidedLongEdge,
        Self::TwoSidedShortEdge,
    ];

    pub(crate) const fn keyword(self) -> &'static str {
        match self {
            Self::OneSided => "one-sided",
            Self::TwoSidedLongEdge => "two-sided-long-edge",
            Self::TwoSidedShortEdge => "two-sided-short-edge",
        }
    }

    pub(crate) fn from_keyword(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sides| sides.keyword() == word)
    }
}

/// How carefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// Fast.
    Draft,
    /// As usual.
    Normal,
    /// Slowly.
    High,
}

impl Quality {
    pub(crate) const ALL: [Self; 3] = [Self::Draft, Self::Normal, Self::High];

    pub(crate) const fn number(self) -> i32 {
        match self {
            Self::Draft => 3,
            Self::Normal => 4,
            Self::High => 5,
        }
    }

    pub(crate) fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }
}

/// How a document is to be printed. What is not said is the printer's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// How often: at least once, at most 99 times.
    pub copies: u16,
    /// On which sides.
    #[serde(default)]
    pub sides: Option<Sides>,
    /// On which paper.
    #[serde(default)]
    pub media: Option<Medium>,
    /// In colour or not.
    #[serde(default)]
    pub colour: Option<bool>,
    /// How carefully.
    #[serde(default)]
    pub quality: Option<Quality>,
    /// Only these pages, first and last of each range, counted from one and rising; all if there are none.
    #[serde(default)]
    pub ranges: Vec<(u32, u32)>,
}

impl Default for Ticket {
    fn default() -> Self {
        Self {
            copies: 1,
            sides: None,
            media: None,
            colour: None,
            quality: None,
            ranges: Vec::new(),
        }
    }
}

impl Ticket {
    /// The same within its limits, whoever wrote it.
    #[must_use]
    pub fn sane(mut self) -> Self {
        self.copies = self.copies.clamp(1, COPIES);
        if !rising(&self.ranges) {
            self.ranges.clear();
        }
        self
    }
}

/// Whether these are ranges of pages, few, in order and apart.
pub(crate) fn rising(ranges: &[(u32, u32)]) -> bool {
    let mut before = 0;
    ranges.len() <= RANGES
        && ranges.iter().all(|(first, last)| {
            let right = *first > before && first <= last && i32::try_from(*last).is_ok();
            before = *last;
            right
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_made_sane() {
        let ticket = Ticket {
            copies: 0,
            ranges: vec![(3, 2)],
            ..Ticket::default()
        };
        assert_eq!(ticket.sane(), Ticket::default());
        assert!(rising(&[(1, 1), (2, 9)]) && !rising(&[(1, 2), (2, 9)]));
        assert!(!rising(&[(0, 1)]) && !rising(&[(1, u32::MAX)]));
    }
}
