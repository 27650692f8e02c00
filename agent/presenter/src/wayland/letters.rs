//! The host's own words: on captions, on the lock card, as a watermark. The font is the one that X servers call
//! `9x15bold`, compiled in, so that no file of fonts is ever parsed here. Latin letters only; others become `?`.
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_9X15_BOLD;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Baseline, Text};
use std::convert::Infallible;

/// Pixels of a letter.
const LETTER: (usize, usize) = (9, 15);
/// Letters of one piece of text, at most.
const LETTERS: usize = 200;

/// Which pixels a line of text covers.
#[derive(Debug)]
pub(super) struct Letters {
    pub width: usize,
    pub height: usize,
    pub bits: Vec<bool>,
}

/// Letters that fit into so many pixels.
pub(super) const fn fit(pixels: usize) -> usize {
    pixels / LETTER.0
}

impl Letters {
    pub fn of(text: &str) -> Self {
        let text: String = text
            .chars()
            .take(LETTERS)
            .map(|letter| {
                if matches!(letter, ' '..='~' | '\u{a0}'..='\u{ff}') {
                    letter
                } else {
                    '?'
                }
            })
            .collect();
        let width = text.chars().count().max(1) * LETTER.0;
        let mut letters = Self {
            width,
            height: LETTER.1,
            bits: vec![false; width * LETTER.1],
        };
        let style = MonoTextStyle::new(&FONT_9X15_BOLD, BinaryColor::On);
        let line = Text::with_baseline(&text, Point::zero(), style, Baseline::Top);
        let Ok(_) = line.draw(&mut letters);
        letters
    }

    /// The rows as pixels, in one colour on another.
    pub fn rows(&self, ink: u32, paper: u32) -> impl Iterator<Item = Vec<u8>> {
        let (ink, paper) = (ink.to_le_bytes(), paper.to_le_bytes());
        self.bits.chunks_exact(self.width).map(move |row| {
            let pixels = row.iter().map(|bit| if *bit { ink } else { paper });
            pixels.flatten().collect()
        })
    }
}

impl OriginDimensions for Letters {
    fn size(&self) -> Size {
        let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Size::new(side(self.width), side(self.height))
    }
}

impl DrawTarget for Letters {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<BinaryColor>>,
    {
        for Pixel(at, colour) in pixels {
            let at = usize::try_from(at.x).ok().zip(usize::try_from(at.y).ok());
            if let Some((x, y)) = at.filter(|(x, y)| *x < self.width && *y < self.height) {
                self.bits[y * self.width + x] = colour.is_on();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_drawn_and_strange_letters_are_not() {
        let word = Letters::of("Il");
        assert_eq!((word.width, word.height), (18, 15));
        assert!(word.bits.iter().filter(|bit| **bit).count() > 30);
        assert_eq!(Letters::of("\u{4e00}\u{7}").bits, Letters::of("??").bits);
        assert_ne!(Letters::of("\u{e4}").bits, Letters::of("?").bits);
        assert_eq!(Letters::of(&"a".repeat(5000)).width, LETTERS * 9);
        assert_eq!(word.rows(1, 2).count(), 15);
    }
}
