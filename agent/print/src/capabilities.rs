//! What a printer can do, as the guest's printer tells it: the host's real printer's, if its owner mirrors it.
use crate::media::Medium;
use crate::ticket::Sides;
use serde::{Deserialize, Serialize};

/// Sizes of paper that are told; dialogues show them all in one list.
const MEDIA: usize = 64;
/// A name that fits IPP's `text(127)` in any script.
const MODEL: usize = 100;
/// Resolutions that are told.
const RESOLUTIONS: usize = 8;

/// What a printer can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Who made it, and what it is called.
    pub make_and_model: String,
    /// The paper it takes; the first is what it usually has.
    pub media: Vec<Medium>,
    /// How it uses sheets; one-sided is always possible.
    pub sides: Vec<Sides>,
    /// It prints in colour.
    pub colour: bool,
    /// Dots per inch, both ways.
    pub resolutions: Vec<u16>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            make_and_model: "Medley Printer".into(),
            media: vec![Medium::a4(), Medium::letter()],
            sides: Sides::ALL.to_vec(),
            colour: true,
            resolutions: vec![300, 600],
        }
    }
}

impl Capabilities {
    /// The same within limits, nothing empty, nothing twice: whatever a printer says of itself.
    #[must_use]
    pub fn sane(mut self) -> Self {
        let usual = Self::default();
        let model: String = (self.make_and_model.chars())
            .filter(|letter| !letter.is_control() && !";:".contains(*letter))
            .collect();
        let end = model.floor_char_boundary(MODEL);
        self.make_and_model = model[..end].trim().to_owned();
        if self.make_and_model.is_empty() {
            self.make_and_model = usual.make_and_model;
        }
        self.media = distinct(self.media, MEDIA);
        if self.media.is_empty() {
            self.media = usual.media;
        }
        self.sides.insert(0, Sides::OneSided);
        self.sides = distinct(self.sides, Sides::ALL.len());
        self.resolutions.retain(|dpi| (72..=4800).contains(dpi));
        self.resolutions.sort_unstable();
        self.resolutions = distinct(self.resolutions, RESOLUTIONS);
        if self.resolutions.is_empty() {
            self.resolutions = usual.resolutions;
        }
        self
    }

    /// The paper of this size in hundredths of a millimetre.
    pub(crate) fn medium_of(&self, width: u32, height: u32) -> Option<&Medium> {
        self.media.iter().find(|medium| medium.is(width, height))
    }
}

fn distinct<T: PartialEq>(list: Vec<T>, most: usize) -> Vec<T> {
    let mut kept = Vec::new();
    for one in list {
        if kept.len() < most && !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printer_that_says_nothing_is_an_ordinary_one() {
        let nothing = Capabilities {
            make_and_model: "\n;".into(),
            media: Vec::new(),
            sides: Vec::new(),
            colour: true,
            resolutions: vec![1],
        };
        let ordinary = Capabilities {
            sides: vec![Sides::OneSided],
            ..Capabilities::default()
        };
        assert_eq!(nothing.sane(), ordinary);
        assert_eq!(Capabilities::default().sane(), Capabilities::default());
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let much = Capabilities {
            make_and_model: "ä".repeat(1000),
            media: vec![Medium::a4(); 1000],
            resolutions: vec![600, 300, 600],
            ..Capabilities::default()
        };
        let sane = much.sane();
        assert_eq!(sane.make_and_model.len(), 100);
        assert_eq!(sane.media, [Medium::a4()]);
        assert_eq!(sane.resolutions, [300, 600]);
    }
}
