//! What an app of the guest has copied: announced to the host in its forms, fetched from the app when the host
//! asks. One fetch at a time: apps answer at once or not at all.
use super::{Control, PATIENCE, targets};
use crate::display::{Display, gone};
use crate::transfers::{Source, Transfers};
use anyhow::Result;
use medley_wire::List;
use medley_wire::bulk::Carries;
use medley_wire::control::{
    Answer, ClipboardForm, ClipboardKind, ClipboardOffer, ClipboardRequest, Verdict,
};
use medley_wire::limits::CLIPBOARD_BYTES;
use std::collections::VecDeque;
use std::time::Instant;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt, Property, PropertyNotifyEvent, SelectionNotifyEvent, Window,
};
use x11rb::{CURRENT_TIME, NONE};

/// A fetch that is under way.
#[derive(Debug)]
struct Fetch {
    transfer: u32,
    until: Instant,
    /// What came so far, of an app that sends in pieces.
    pieces: Option<Vec<u8>>,
}

/// What is copied in the guest.
#[derive(Debug, Default)]
pub struct Copied {
    /// Counts copies.
    sequence: u32,
    forms: Vec<(ClipboardKind, Atom)>,
    fetch: Option<Fetch>,
    waiting: VecDeque<(u32, Atom)>,
}

impl Copied {
    pub fn deadline(&self) -> Option<Instant> {
        self.fetch.as_ref().map(|fetch| fetch.until)
    }

    pub fn forget(&mut self) {
        self.fetch = None;
        self.waiting.clear();
    }

    /// Asks whoever has copied something in which forms it can be had.
    pub fn look(&mut self, display: &mut Display) -> Result<()> {
        let clipboard = display.atoms.CLIPBOARD;
        let owner = display.x.get_selection_owner(clipboard)?.reply()?.owner;
        if owner != NONE && owner != display.own {
            self.ask_forms(display)?;
        }
        Ok(())
    }

    fn ask_forms(&self, display: &mut Display) -> Result<()> {
        let time = display.now()?;
        let a = &display.atoms;
        display
            .x
            .convert_selection(display.own, a.CLIPBOARD, a.TARGETS, a.TARGETS, time)?;
        Ok(())
    }

    pub fn owner_changed(
        &mut self,
        owner: Window,
        display: &mut Display,
        say: &mut Control<'_>,
    ) -> Result<()> {
        if owner == display.own {
            self.forms.clear();
            return Ok(());
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.forms.clear();
        if owner != NONE {
            return self.ask_forms(display);
        }
        say.say(ClipboardOffer {
            sequence: self.sequence,
            forms: List::default(),
        });
        Ok(())
    }

    /// The host pastes.
    pub fn requested(
        &mut self,
        request: ClipboardRequest,
        display: &Display,
        say: &mut Control<'_>,
    ) -> Result<()> {
        let form = self.forms.iter().find(|(kind, _)| *kind == request.kind);
        let verdict = match form {
            _ if request.sequence != self.sequence => Verdict::Stale,
            None => Verdict::Kind,
            Some((_, target)) => {
                self.waiting.push_back((request.transfer, *target));
                return self.next(display);
            }
        };
        answer(request.transfer, verdict, say);
        Ok(())
    }

    fn next(&mut self, display: &Display) -> Result<()> {
        if self.fetch.is_some() {
            return Ok(());
        }
        let Some((transfer, target)) = self.waiting.pop_front() else {
            return Ok(());
        };
        let a = &display.atoms;
        display
            .x
            .delete_property(display.own, a._MEDLEY_CLIPBOARD)?;
        display.x.convert_selection(
            display.own,
            a.CLIPBOARD,
            target,
            a._MEDLEY_CLIPBOARD,
            CURRENT_TIME,
        )?;
        self.fetch = Some(Fetch {
            transfer,
            until: Instant::now() + PATIENCE,
            pieces: None,
        });
        Ok(())
    }

    /// An app answers: with its forms, with bytes, with the word that they come in pieces, or with nothing.
    pub fn converted(
        &mut self,
        event: &SelectionNotifyEvent,
        may_tell: bool,
        display: &Display,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) -> Result<()> {
        let a = &display.atoms;
        if event.requestor != display.own || event.selection != a.CLIPBOARD {
            return Ok(());
        }
        if event.target == a.TARGETS {
            let names = if event.property == NONE {
                Vec::new()
            } else {
                display.read_words(display.own, a.TARGETS, AtomEnum::ATOM)?
            };
            self.tell_forms(&names, may_tell, display, say);
            return Ok(());
        }
        if self.fetch.is_none() {
            return Ok(());
        }
        if event.property == NONE {
            return self.end(None, display, transfers, say);
        }
        let (kind, bytes) = take(display)?;
        if kind == a.INCR {
            // Taking the property has asked for the first piece.
            if let Some(fetch) = &mut self.fetch {
                fetch.pieces = Some(Vec::new());
            }
            return Ok(());
        }
        let text = text_of(kind, bytes);
        self.end(Some(text), display, transfers, say)
    }

    fn tell_forms(
        &mut self,
        names: &[Atom],
        may_tell: bool,
        display: &Display,
        say: &mut Control<'_>,
    ) {
        self.forms.clear();
        for (name, kind) in targets(&display.atoms) {
            if names.contains(&name) && !self.forms.iter().any(|(known, _)| *known == kind) {
                self.forms.push((kind, name));
            }
        }
        if may_tell {
            let form = |(kind, _): &(ClipboardKind, Atom)| ClipboardForm {
                kind: *kind,
                size: 0,
            };
            say.say(ClipboardOffer {
                sequence: self.sequence,
                forms: List::new(self.forms.iter().map(form).collect()),
            });
        }
    }

    /// A piece is there.
    pub fn property(
        &mut self,
        event: &PropertyNotifyEvent,
        display: &Display,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) -> Result<()> {
        let ours = event.window == display.own
            && event.atom == display.atoms._MEDLEY_CLIPBOARD
            && event.state == Property::NEW_VALUE;
        let in_pieces = self.fetch.as_ref().is_some_and(|f| f.pieces.is_some());
        if !ours || !in_pieces {
            return Ok(());
        }
        let (kind, piece) = take(display)?;
        let Some(Fetch {
            pieces: Some(pieces),
            until,
            ..
        }) = &mut self.fetch
        else {
            return Ok(());
        };
        if piece.is_empty() {
            let whole = text_of(kind, std::mem::take(pieces));
            return self.end(Some(whole), display, transfers, say);
        }
        *until = Instant::now() + PATIENCE;
        pieces.extend_from_slice(&piece);
        if pieces.len() as u64 > CLIPBOARD_BYTES {
            let all = std::mem::take(pieces);
            return self.end(Some(all), display, transfers, say);
        }
        Ok(())
    }

    fn end(
        &mut self,
        data: Option<Vec<u8>>,
        display: &Display,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) -> Result<()> {
        if let Some(Fetch { transfer, .. }) = self.fetch.take() {
            match data {
                None => answer(transfer, Verdict::Failed, say),
                Some(data) if data.len() as u64 > CLIPBOARD_BYTES => {
                    answer(transfer, Verdict::TooLarge, say);
                }
                Some(data) => {
                    answer(transfer, Verdict::Yes, say);
                    transfers.send(transfer, Carries::Clipboard, Source::Bytes(data));
                }
            }
        }
        self.next(display)
    }

    pub fn expire(&mut self, now: Instant, display: &Display, say: &mut Control<'_>) -> Result<()> {
        if self.fetch.as_ref().is_some_and(|fetch| fetch.until <= now)
            && let Some(fetch) = self.fetch.take()
        {
            answer(fetch.transfer, Verdict::Failed, say);
            self.next(display)?;
        }
        Ok(())
    }
}

fn answer(transfer: u32, verdict: Verdict, say: &mut Control<'_>) {
    say.say(Answer { transfer, verdict });
}

/// Takes the property away, which tells its app that it was read: its kind and bytes.
fn take(display: &Display) -> Result<(Atom, Vec<u8>)> {
    let property = display.atoms._MEDLEY_CLIPBOARD;
    let most = (CLIPBOARD_BYTES / 4) as u32 + 1;
    let reply = display
        .x
        .get_property(true, display.own, property, AtomEnum::ANY, 0, most)?
        .reply();
    Ok(gone(reply)?.map_or((NONE, Vec::new()), |reply| (reply.type_, reply.value)))
}

/// Text of an app that knows only Latin-1, as UTF-8; all else as it is.
fn text_of(kind: Atom, bytes: Vec<u8>) -> Vec<u8> {
    if kind == u32::from(AtomEnum::STRING) && std::str::from_utf8(&bytes).is_err() {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        return text.into_bytes();
    }
    bytes
}
