//! What the host has copied, for the guest's apps to paste. The agent owns the guest's clipboard meanwhile; an
//! app that asks waits until the host has said yes and its bytes are here.
use super::{Control, PATIENCE, targets};
use crate::display::Display;
use crate::transfers::{Sink, Transfers};
use anyhow::Result;
use medley_wire::bulk::Carries;
use medley_wire::control::{ClipboardKind, ClipboardRequest, Verdict};
use medley_wire::limits::CLIPBOARD_BYTES;
use std::time::Instant;
use x11rb::NONE;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt, EventMask, PropMode, Property,
    PropertyNotifyEvent, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, SelectionRequestEvent,
    Window,
};
use x11rb::wrapper::ConnectionExt as _;

/// Bytes that go into a property at once; more goes in pieces of this size.
const PIECE: usize = 128 << 10;

/// An app that waits for the host.
#[derive(Debug)]
struct Waiting {
    request: SelectionRequestEvent,
    transfer: u32,
    until: Instant,
}

/// An app that takes its bytes in pieces.
#[derive(Debug)]
struct Giving {
    window: Window,
    property: Atom,
    target: Atom,
    data: Vec<u8>,
    given: usize,
    until: Instant,
}

/// What is copied on the host.
#[derive(Debug, Default)]
pub struct Pasted {
    /// The host's number, and forms; nothing while the agent does not own the clipboard.
    offer: Option<(u32, Vec<ClipboardKind>)>,
    since: u32,
    waiting: Vec<Waiting>,
    giving: Vec<Giving>,
}

impl Pasted {
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|w| w.until);
        waiting.chain(self.giving.iter().map(|g| g.until)).min()
    }

    /// Something was copied on the host; with no form, nothing is there.
    pub fn offered(
        &mut self,
        sequence: u32,
        kinds: Vec<ClipboardKind>,
        display: &mut Display,
    ) -> Result<()> {
        let now = display.now()?;
        let clipboard = display.atoms.CLIPBOARD;
        if !kinds.is_empty() {
            self.offer = Some((sequence, kinds));
            self.since = now;
            display.x.set_selection_owner(display.own, clipboard, now)?;
        } else if self.offer.take().is_some() {
            self.disown(display)?;
        }
        Ok(())
    }

    fn disown(&self, display: &mut Display) -> Result<()> {
        let clipboard = display.atoms.CLIPBOARD;
        let owner = display.x.get_selection_owner(clipboard)?.reply()?.owner;
        if owner == display.own {
            let now = display.now()?;
            display.x.set_selection_owner(NONE, clipboard, now)?;
        }
        Ok(())
    }

    pub fn lost(&mut self, display: &mut Display) -> Result<()> {
        for waiting in std::mem::take(&mut self.waiting) {
            refuse(&waiting.request, display)?;
        }
        if self.offer.take().is_some() {
            self.disown(display)?;
        }
        Ok(())
    }

    /// An app pastes.
    pub fn requested(
        &mut self,
        event: &SelectionRequestEvent,
        display: &Display,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) -> Result<()> {
        let a = &display.atoms;
        if event.selection != a.CLIPBOARD || event.owner != display.own {
            return Ok(());
        }
        let mut event = *event;
        if event.property == NONE {
            // As very old apps do.
            event.property = event.target;
        }
        let Some((sequence, kinds)) = &self.offer else {
            return refuse(&event, display);
        };
        if event.target == a.TARGETS {
            let forms = targets(a);
            let names: Vec<Atom> = [a.TARGETS, a.TIMESTAMP]
                .into_iter()
                .chain(
                    forms
                        .iter()
                        .filter(|(_, k)| kinds.contains(k))
                        .map(|(n, _)| *n),
                )
                .collect();
            display.words(event.requestor, event.property, AtomEnum::ATOM, &names)?;
            return notify(&event, event.property, display);
        }
        if event.target == a.TIMESTAMP {
            let since = [self.since];
            display.words(event.requestor, event.property, AtomEnum::INTEGER, &since)?;
            return notify(&event, event.property, display);
        }
        let kind = targets(a)
            .iter()
            .find(|(name, kind)| *name == event.target && kinds.contains(kind))
            .map(|(_, kind)| *kind);
        let Some(kind) = kind.filter(|_| say.is_open()) else {
            return refuse(&event, display);
        };
        let transfer = transfers.number();
        say.say(ClipboardRequest {
            transfer,
            sequence: *sequence,
            kind,
        });
        // Expected from now on, for its bytes come over another channel than the host's yes.
        let sink = Sink::Memory(Vec::new());
        transfers.expect(Carries::Clipboard, transfer, CLIPBOARD_BYTES, sink);
        self.waiting.push(Waiting {
            request: event,
            transfer,
            until: Instant::now() + PATIENCE,
        });
        Ok(())
    }

    /// The host lets it happen, or does not. False, if it answers something else.
    pub fn answered(
        &mut self,
        transfer: u32,
        verdict: Verdict,
        display: &Display,
        transfers: &mut Transfers,
    ) -> Result<bool> {
        let waits = self.waiting.iter().position(|w| w.transfer == transfer);
        if let Some(at) = waits.filter(|_| verdict != Verdict::Yes) {
            transfers.unexpect(Carries::Clipboard, transfer);
            refuse(&self.waiting.swap_remove(at).request, display)?;
        }
        Ok(waits.is_some())
    }

    /// The host's bytes are here, or will never be.
    pub fn finished(&mut self, transfer: u32, sink: Option<Sink>, display: &Display) -> Result<()> {
        let waits = self.waiting.iter().position(|w| w.transfer == transfer);
        let Some(at) = waits else {
            return Ok(());
        };
        let Waiting { request, .. } = self.waiting.swap_remove(at);
        let Some(Sink::Memory(data)) = sink else {
            return refuse(&request, display);
        };
        let data = if request.target == u32::from(AtomEnum::STRING) {
            latin(&data)
        } else {
            data
        };
        let (window, property) = (request.requestor, request.property);
        if data.len() <= PIECE {
            let (replace, target) = (PropMode::REPLACE, request.target);
            display
                .x
                .change_property8(replace, window, property, target, &data)?;
        } else {
            let events = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
            display.x.change_window_attributes(window, &events)?;
            let size = [u32::try_from(data.len()).unwrap_or(u32::MAX)];
            display.words(window, property, display.atoms.INCR, &size)?;
            self.giving.push(Giving {
                window,
                property,
                target: request.target,
                data,
                given: 0,
                until: Instant::now() + PATIENCE,
            });
        }
        notify(&request, property, display)
    }

    /// An app has taken a piece, and wants the next.
    pub fn property(&mut self, event: &PropertyNotifyEvent, display: &Display) -> Result<()> {
        if event.state != Property::DELETE {
            return Ok(());
        }
        let takes = self
            .giving
            .iter()
            .position(|g| g.window == event.window && g.property == event.atom);
        let Some(at) = takes else {
            return Ok(());
        };
        let giving = &mut self.giving[at];
        let end = giving.data.len().min(giving.given + PIECE);
        let piece = &giving.data[giving.given..end];
        display.x.change_property8(
            PropMode::REPLACE,
            giving.window,
            giving.property,
            giving.target,
            piece,
        )?;
        giving.given = end;
        giving.until = Instant::now() + PATIENCE;
        if piece.is_empty() {
            // An empty piece is the end.
            self.giving.swap_remove(at);
        }
        Ok(())
    }

    pub fn expire(&mut self, now: Instant, display: &Display) -> Result<()> {
        self.giving.retain(|giving| giving.until > now);
        while let Some(at) = self.waiting.iter().position(|w| w.until <= now) {
            refuse(&self.waiting.swap_remove(at).request, display)?;
        }
        Ok(())
    }
}

/// UTF-8 for an app that knows only Latin-1.
fn latin(data: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(data)
        .chars()
        .map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?'))
        .collect()
}

fn refuse(request: &SelectionRequestEvent, display: &Display) -> Result<()> {
    notify(request, NONE, display)
}

fn notify(request: &SelectionRequestEvent, property: Atom, display: &Display) -> Result<()> {
    let event = SelectionNotifyEvent {
        response_type: SELECTION_NOTIFY_EVENT,
        sequence: 0,
        time: request.time,
        requestor: request.requestor,
        selection: request.selection,
        target: request.target,
        property,
    };
    display
        .x
        .send_event(false, request.requestor, EventMask::NO_EVENT, event)?;
    Ok(())
}
