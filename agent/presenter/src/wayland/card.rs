//! The card that stands for all windows of a workspace while it is locked. Only the host draws on it.
use super::letters::Letters;
use super::window::Beginning;
use super::{Name, State};
use crate::canvas::Canvas;
use crate::frame::nearest;
use medley_wire::Rect;

/// Its size.
const WIDTH: usize = 420;
const HEIGHT: usize = 120;

/// What the card shows: pixels as those of a guest, but the host's.
pub(super) struct Card {
    canvas: Canvas,
}

impl Card {
    fn new(lines: [&str; 2], ink: u32, paper: u32) -> Self {
        let mut pixels = vec![paper; WIDTH * HEIGHT];
        for (n, line) in lines.into_iter().enumerate() {
            let letters = Letters::of(line);
            let (left, top) = (24, 32 + n * 32);
            for (row, bits) in letters.bits.chunks_exact(letters.width).enumerate() {
                let start = (top + row) * WIDTH + left;
                let room = letters.width.min(WIDTH - 2 * left);
                for (pixel, bit) in pixels[start..start + room].iter_mut().zip(bits) {
                    *pixel = if *bit { ink } else { paper };
                }
            }
        }
        let bytes = pixels.into_iter().flat_map(u32::to_le_bytes).collect();
        Self {
            canvas: Canvas::filled(nearest(WIDTH as u32, HEIGHT as u32), bytes),
        }
    }

    pub const fn canvas(&self) -> &Canvas {
        &self.canvas
    }
}

impl State {
    pub(super) fn lock_card(&mut self, shown: bool) {
        self.remove(Name::Card);
        self.card = None;
        if !shown {
            return;
        }
        let colour = self.dress.look.colour();
        let ink = if colour.is_light() { 0 } else { 0x00ff_ffff };
        let title = format!("[{}] locked", self.dress.workspace);
        let lines = [&*title, "Press a key or click to unlock"];
        let card = Card::new(lines, ink, colour.pixel());
        let size = card.canvas.size();
        self.card = Some(card);
        let toplevel = self.toplevel(
            Name::Card,
            Beginning {
                rect: Rect::whole(size),
                title: &title,
                app_id: "medley-card",
                look: None,
            },
        );
        let (width, height) = self.dress.frame.outer(size);
        toplevel.set_min_size(width.into(), height.into());
        toplevel.set_max_size(width.into(), height.into());
        if let Some(host) = self.hosts.get(&Name::Card) {
            host.surface.commit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_on_the_card() {
        let card = Card::new([&"W".repeat(300), "b"], 0x00ff_ffff, 0x0000_0080);
        let pixels = card.canvas.bytes().as_chunks::<4>().0;
        assert_eq!(pixels.len(), WIDTH * HEIGHT);
        let margin = pixels
            .iter()
            .enumerate()
            .filter(|(n, _)| n % WIDTH < 24 || n % WIDTH >= WIDTH - 24);
        assert!(
            margin
                .map(|(_, pixel)| pixel)
                .all(|pixel| *pixel == [0x80, 0, 0, 0])
        );
        assert!(pixels.contains(&[0xff, 0xff, 0xff, 0]));
    }
}
