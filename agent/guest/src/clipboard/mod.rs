//! The clipboard, both ways and lazily: what is copied is only announced, and its bytes move when somebody
//! pastes. `copied` is what the guest's apps copy and the host pastes; `pasted` the other way.
mod copied;
mod pasted;

use crate::channel::Say;
use crate::display::{Atoms, Display};
use crate::transfers::{Sink, Transfers};
use anyhow::Result;
use copied::Copied;
use medley_wire::control::{Allowed, Answer, ClipboardKind, ClipboardOffer, FromGuest, FromHost};
use pasted::Pasted;
use std::time::Instant;
use x11rb::protocol::Event;
use x11rb::protocol::xfixes::{self, SelectionEventMask};

/// What is said on the control channel.
type Control<'o> = Say<'o, FromGuest<'static>>;

/// How long an app or the host may take for a paste.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Forms by their names on X11, the best first.
fn targets(a: &Atoms) -> [(u32, ClipboardKind); 7] {
    [
        (a.TEXT_UTF8, ClipboardKind::Text),
        (a.UTF8_STRING, ClipboardKind::Text),
        (a.TEXT_PLAIN, ClipboardKind::Text),
        (
            u32::from(x11rb::protocol::xproto::AtomEnum::STRING),
            ClipboardKind::Text,
        ),
        (a.IMAGE_PNG, ClipboardKind::Picture),
        (a.TEXT_HTML, ClipboardKind::Html),
        (a.TEXT_RTF, ClipboardKind::Rtf),
    ]
}

/// The clipboard.
#[derive(Debug)]
pub struct Clipboard {
    copied: Copied,
    pasted: Pasted,
    allowed: Allowed,
}

impl Clipboard {
    /// Begins to hear of copies.
    ///
    /// # Errors
    /// The display is gone.
    pub fn new(display: &Display) -> Result<Self> {
        xfixes::select_selection_input(
            &display.x,
            display.own,
            display.atoms.CLIPBOARD,
            SelectionEventMask::SET_SELECTION_OWNER
                | SelectionEventMask::SELECTION_WINDOW_DESTROY
                | SelectionEventMask::SELECTION_CLIENT_CLOSE,
        )?;
        Ok(Self {
            copied: Copied::default(),
            pasted: Pasted::default(),
            allowed: Allowed::ALL,
        })
    }

    /// What a policy allows.
    pub const fn set_allowed(&mut self, allowed: Allowed) {
        self.allowed = allowed;
    }

    /// When to look whether somebody takes too long.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.copied.deadline(), self.pasted.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The host listens: tells it what is copied already.
    ///
    /// # Errors
    /// The display is gone.
    pub fn opened(&mut self, display: &mut Display) -> Result<()> {
        self.copied.look(display)
    }

    /// The host is gone, and what it had copied with it.
    ///
    /// # Errors
    /// The display is gone.
    pub fn lost(&mut self, display: &mut Display) -> Result<()> {
        self.copied.forget();
        self.pasted.lost(display)
    }

    /// Looks at an event of the display; nobody else needs those that it takes.
    ///
    /// # Errors
    /// The display is gone.
    pub fn event(
        &mut self,
        event: &Event,
        display: &mut Display,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) -> Result<()> {
        match event {
            Event::XfixesSelectionNotify(e) if e.selection == display.atoms.CLIPBOARD => {
                self.copied.owner_changed(e.owner, display, say)
            }
            Event::SelectionNotify(e) => {
                let may = self.allowed.has(Allowed::CLIPBOARD_OUT);
                self.copied.converted(e, may, display, transfers, say)
            }
            Event::SelectionRequest(e) => self.pasted.requested(e, display, transfers, say),
            Event::PropertyNotify(e) => {
                self.copied.property(e, display, transfers, say)?;
                self.pasted.property(e, display)
            }
            _ => Ok(()),
        }
    }

    /// Does what the host says about the clipboard; other messages come back.
    ///
    /// # Errors
    /// The display is gone.
    pub fn host_says<'m>(
        &mut self,
        message: FromHost<'m>,
        display: &mut Display,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) -> Result<Option<FromHost<'m>>> {
        match message {
            FromHost::ClipboardOffer(ClipboardOffer { sequence, forms }) => {
                let kinds = forms.iter().map(|form| form.kind).collect();
                self.pasted.offered(sequence, kinds, display)?;
            }
            FromHost::ClipboardRequest(request) => {
                self.copied.requested(request, display, say)?;
            }
            FromHost::Answer(Answer { transfer, verdict })
                if self
                    .pasted
                    .answered(transfer, verdict, display, transfers)? => {}
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// A stream of the host's ended.
    ///
    /// # Errors
    /// The display is gone.
    pub fn finished(&mut self, transfer: u32, sink: Option<Sink>, display: &Display) -> Result<()> {
        self.pasted.finished(transfer, sink, display)
    }

    /// Gives up on whoever takes too long.
    ///
    /// # Errors
    /// The display is gone.
    pub fn expire(&mut self, display: &Display, say: &mut Control<'_>) -> Result<()> {
        let now = Instant::now();
        self.copied.expire(now, display, say)?;
        self.pasted.expire(now, display)
    }
}
