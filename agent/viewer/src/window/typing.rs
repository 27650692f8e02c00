//! The keyboard in the window: keys for the guest, and what the host's chords do.
use super::App;
use crate::error::Result;
use crate::keys::{Act, Chord};
use medley_rfb::Say;
use medley_rfb::picture::hold;
use winit::window::Fullscreen;

impl App<'_> {
    pub(super) fn say_keys(&self, keys: Vec<(u8, bool)>) -> Result<()> {
        let Some(screen) = &self.screen else {
            return Ok(());
        };
        if !hold(screen.link.picture()).has_keys() {
            tracing::debug!("the screen takes no keys yet");
            return Ok(());
        }
        let mut keys = keys.into_iter();
        keys.try_for_each(|(code, down)| self.say(Say::Key { down, code }))
    }

    pub(super) fn key(&mut self, key: u32, down: bool) -> Result<()> {
        match self.keyboard.press(key, down) {
            Act::Keys(keys) => self.say_keys(keys),
            Act::Chord(Chord::Attention) => {
                let keys = self.keyboard.attention();
                self.say_keys(keys)
            }
            Act::Chord(Chord::Release) => {
                self.catch(false);
                Ok(())
            }
            Act::Chord(Chord::Fullscreen) => {
                if let Some(screen) = &self.screen {
                    let window = screen.shown.window();
                    let covers = window.fullscreen().is_some();
                    window.set_fullscreen((!covers).then_some(Fullscreen::Borderless(None)));
                }
                Ok(())
            }
            Act::Chord(Chord::Original) => {
                if let Some(screen) = &mut self.screen {
                    let original = screen.shown.dress().original;
                    screen.shown.set_original(!original);
                }
                Ok(())
            }
        }
    }

    pub(super) fn unfocused(&mut self) -> Result<()> {
        let keys = self.keyboard.release();
        self.say_keys(keys)?;
        let placed = self.is_placed();
        if let Some(say) = self.pointer.release(placed) {
            self.say(say)?;
        }
        if self.pointer.is_caught() {
            self.catch(false);
        }
        Ok(())
    }
}
