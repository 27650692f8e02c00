//! What the host said: counted, and remembered as far as an attack needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use medley_wire::gui::{self, FromHost};
use medley_wire::{Rect, WindowId, bulk, control};

/// Everything that was heard since the connection began.
#[derive(Debug, Default)]
pub struct Heard {
    /// Keys, down or up, and texts.
    pub keys: u32,
    /// Orders to let go of all keys.
    pub leaves: u32,
    /// Times that a window got the keyboard.
    pub focuses: u32,
    /// Buttons, wheels, motions, crossings.
    pub pointer: u32,
    /// Offers of what the host copied.
    pub offers: u32,
    /// The newest of them.
    pub offered: Option<u32>,
    /// Requests for what the guest copied: the transfers.
    pub requests: Vec<u32>,
    /// Answers that say yes.
    pub yes: u32,
    /// Bytes of the host's that came over the bulk channel.
    pub bytes: u64,
    /// The window that has the keyboard.
    pub focus: Option<WindowId>,
    /// Which snapshot was asked for.
    pub resync: Option<u32>,
    /// Where the host put windows.
    pub places: BTreeMap<WindowId, Rect>,
    /// Frames that were shown.
    pub frames: BTreeMap<WindowId, u32>,
    /// Numbers that are free again.
    pub free: BTreeSet<WindowId>,
}

impl Heard {
    /// On the gui channel; a question that is to be answered comes back.
    pub(super) fn gui(&mut self, message: &FromHost<'_>) -> Option<gui::Configure> {
        match message {
            FromHost::Key(_) | FromHost::Text(_) => self.keys += 1,
            FromHost::Motion(_)
            | FromHost::Button(_)
            | FromHost::Scroll(_)
            | FromHost::Crossing(_)
            | FromHost::Touch(_) => self.pointer += 1,
            FromHost::Focus(focus) => {
                self.focuses += 1;
                self.focus = Some(focus.window);
            }
            FromHost::Leave(_) => {
                self.leaves += 1;
                self.focus = None;
            }
            FromHost::Resync(resync) => self.resync = Some(resync.generation),
            FromHost::FrameDone(done) => {
                self.frames.insert(done.window, done.frame);
            }
            FromHost::Destroyed(destroyed) => {
                self.free.insert(destroyed.window);
            }
            FromHost::Configure(configure) => {
                self.places.insert(configure.window, configure.rect);
                return Some(configure.clone());
            }
            _ => {}
        }
        None
    }

    /// On the control channel.
    pub(super) fn control(&mut self, message: &control::FromHost<'_>) {
        match message {
            control::FromHost::ClipboardOffer(offer) => {
                self.offers += 1;
                self.offered = Some(offer.sequence);
            }
            control::FromHost::ClipboardRequest(request) => self.requests.push(request.transfer),
            control::FromHost::Answer(answer) => {
                self.yes += u32::from(answer.verdict == control::Verdict::Yes);
            }
            _ => {}
        }
    }

    /// On the bulk channel.
    pub(super) fn bulk(&mut self, message: &bulk::FromHost<'_>) {
        if let bulk::FromHost::Chunk(chunk) = message {
            self.bytes += chunk.data.0.len() as u64;
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "keys={} leaves={} focuses={} pointer={} offers={} requests={} yes={} bytes={}",
            self.keys,
            self.leaves,
            self.focuses,
            self.pointer,
            self.offers,
            self.requests.len(),
            self.yes,
            self.bytes
        )
    }
}
