//! Who may copy from whom: a state machine between the host's clipboard and the guest's. Nothing moves before
//! somebody pastes; whatever speaks of an older copy is thrown away; both directions are denied by default, pictures
//! twice.
use super::picture::remade;
use crate::screen::{Content, Form, Forms};
use medley_wire::List;
use medley_wire::control::{
    Answer, ClipboardForm, ClipboardKind, ClipboardOffer, ClipboardRequest, FromHost, Verdict,
};
use medley_wire::limits::CLIPBOARD_BYTES;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a paste waits for the other side.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pastes of host apps that wait at once; more are told that there is nothing.
const WAITING: usize = 8;

/// When a copy may cross.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Never.
    #[default]
    Denied,
    /// When somebody presses the host's chord for it.
    Chord,
    /// While one of the guest's windows has the keyboard.
    Focus,
}

/// What an administrator allows.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// From the host to the guest.
    pub inward: Way,
    /// From the guest to the host.
    pub outward: Way,
    /// Bytes of a text, either way.
    pub bytes: u64,
    /// Bytes of a picture, either way; zero: none crosses.
    pub pictures: u64,
}

impl Policy {
    /// Forms that may cross at all.
    #[must_use]
    pub const fn forms(&self) -> Forms {
        Forms {
            text: true,
            picture: self.pictures > 0,
        }
    }

    const fn most(&self, form: Form) -> u64 {
        match form {
            Form::Text => self.bytes,
            Form::Picture => self.pictures,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            inward: Way::Denied,
            outward: Way::Denied,
            bytes: 64 << 10,
            pictures: 0,
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Act {
    /// Say this to the guest.
    Say(FromHost<'static>),
    /// The guest's copy becomes the host's: own the host's clipboard, in these forms.
    Own(Forms),
    /// Own it no longer.
    Disown,
    /// A host app that pastes gets this, or hears that there is nothing.
    Give {
        /// Which paste.
        ticket: u32,
        /// What there is.
        content: Option<Content>,
    },
    /// Ask the host's owner for its copy.
    Fetch {
        /// What comes is for this one.
        transfer: u32,
        /// In which form.
        form: Form,
        /// More bytes are not taken.
        most: u64,
    },
    /// Send this to the guest.
    Send {
        /// Whose request it answers.
        transfer: u32,
        /// What there is.
        content: Content,
    },
    /// Say that a copy was refused, and why.
    Refused(&'static str),
}

#[derive(Debug)]
struct Paste {
    ticket: u32,
    sequence: u32,
    form: Form,
    until: Duration,
}

/// What the guest asked for and the host's owner has not given yet.
#[derive(Debug)]
struct Fetch {
    sequence: u32,
    form: Form,
    until: Duration,
}

/// The state between the two clipboards.
#[derive(Debug)]
pub struct Clipboard {
    policy: Policy,
    focused: bool,
    /// The guest's newest copy, and the forms of it that may cross.
    theirs: Option<(u32, Forms)>,
    /// Whether the host's clipboard is the guest's copy: which.
    owned: Option<u32>,
    /// What a host's app has to copy, as far as it may cross.
    host_has: Forms,
    /// Counts the host's copies.
    sequence: u32,
    /// The copy that the guest was offered.
    offered: Option<u32>,
    transfers: u32,
    /// Host apps that paste: by transfer.
    pastes: BTreeMap<u32, Paste>,
    /// What the guest waits for: by transfer.
    fetches: BTreeMap<u32, Fetch>,
}

impl Clipboard {
    /// Nothing was copied yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Policy {
                bytes: policy.bytes.min(CLIPBOARD_BYTES),
                pictures: policy.pictures.min(CLIPBOARD_BYTES),
                ..policy
            },
            focused: false,
            theirs: None,
            owned: None,
            host_has: Forms::NONE,
            sequence: 0,
            offered: None,
            transfers: 0,
            pastes: BTreeMap::new(),
            fetches: BTreeMap::new(),
        }
    }

    /// Bytes that a stream for this transfer may have; nothing, if nobody waits for it. The guest's yes goes
    /// another way than the bytes, and may come after them.
    #[must_use]
    pub fn expects(&self, transfer: u32) -> Option<u64> {
        let paste = self.pastes.get(&transfer)?;
        Some(self.policy.most(paste.form))
    }

    /// Whether the guest still waits for what it asked for.
    #[must_use]
    pub fn waits(&self, transfer: u32) -> bool {
        self.fetches.contains_key(&transfer)
    }

    /// When somebody has waited long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let pastes = self.pastes.values().map(|paste| paste.until);
        pastes
            .chain(self.fetches.values().map(|fetch| fetch.until))
            .min()
    }

    /// Time passed.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Act>) {
        let old: Vec<_> = self
            .pastes
            .iter()
            .filter(|(_, paste)| paste.until <= now)
            .map(|(transfer, _)| *transfer)
            .collect();
        for transfer in old {
            self.give(transfer, None, out);
        }
        let old: Vec<_> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.until <= now)
            .map(|(transfer, _)| *transfer)
            .collect();
        for transfer in old {
            self.answer(transfer, Verdict::Failed, out);
        }
    }

    /// One of the guest's windows has the keyboard, or none.
    pub fn focus(&mut self, focused: bool, out: &mut Vec<Act>) {
        if self.focused != focused {
            self.focused = focused;
            if focused && self.policy.inward == Way::Focus {
                self.offer(out);
            }
        }
    }

    /// The workspace is locked: what was copied in it is not given out, and is forgotten.
    pub fn lock(&mut self, out: &mut Vec<Act>) {
        self.theirs = None;
        self.drop_pastes(out);
        let asked: Vec<_> = self.fetches.keys().copied().collect();
        for transfer in asked {
            self.answer(transfer, Verdict::Policy, out);
        }
        if self.owned.take().is_some() {
            out.push(Act::Disown);
        }
    }

    /// Somebody pressed the host's chord to copy: the guest's copy becomes the host's.
    pub fn copy_chord(&mut self, out: &mut Vec<Act>) {
        match (self.policy.outward, self.theirs) {
            (Way::Denied, _) => out.push(Act::Refused("copying from the guest is not allowed")),
            (_, Some((sequence, forms))) if forms.any() => self.own(sequence, forms, out),
            _ => out.push(Act::Refused("the guest has copied nothing that may cross")),
        }
    }

    /// Somebody pressed the host's chord to paste: the guest may have what the host copied.
    pub fn paste_chord(&mut self, out: &mut Vec<Act>) {
        if self.policy.inward == Way::Denied {
            out.push(Act::Refused("copying to the guest is not allowed"));
        } else {
            self.offer(out);
        }
    }

    /// The guest copied something.
    pub fn guest_offers(&mut self, offer: &ClipboardOffer, out: &mut Vec<Act>) {
        let has = |kind| offer.forms.iter().any(|form| form.kind == kind);
        let forms = Forms {
            text: has(ClipboardKind::Text),
            picture: has(ClipboardKind::Picture),
        };
        let forms = forms.and(self.policy.forms());
        self.theirs = Some((offer.sequence, forms));
        // What was copied before is no longer there; the guest cannot answer for it, and must not.
        self.drop_pastes(out);
        if self.owned.take().is_some() && !forms.any() {
            out.push(Act::Disown);
        } else if forms.any() && self.policy.outward == Way::Focus && self.focused {
            self.own(offer.sequence, forms, out);
        }
    }

    fn own(&mut self, sequence: u32, forms: Forms, out: &mut Vec<Act>) {
        self.owned = Some(sequence);
        self.host_has = Forms::NONE;
        out.push(Act::Own(forms));
    }

    /// Another app copied something on the host, or nothing is there now.
    pub fn host_copied(&mut self, something: Forms, out: &mut Vec<Act>) {
        self.owned = None;
        self.drop_pastes(out);
        self.host_has = something.and(self.policy.forms());
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let fetches: Vec<_> = self.fetches.keys().copied().collect();
        for transfer in fetches {
            self.answer(transfer, Verdict::Stale, out);
        }
        if self.focused && self.policy.inward == Way::Focus {
            self.offer(out);
        }
    }

    fn offer(&mut self, out: &mut Vec<Act>) {
        if self.host_has.any() && self.offered != Some(self.sequence) {
            self.offered = Some(self.sequence);
            let form = |form| ClipboardForm {
                kind: kind_of(form),
                size: 0,
            };
            let offer = ClipboardOffer {
                sequence: self.sequence,
                forms: List::new(self.host_has.each().map(form).collect()),
            };
            out.push(Act::Say(offer.into()));
        }
    }

    /// A host's app pastes.
    pub fn host_pastes(&mut self, ticket: u32, form: Form, now: Duration, out: &mut Vec<Act>) {
        let has = |sequence: &u32| {
            self.theirs
                .is_some_and(|(newest, forms)| newest == *sequence && forms.has(form))
        };
        let owned = self.owned.filter(has);
        let Some(sequence) = owned.filter(|_| self.pastes.len() < WAITING) else {
            let content = None;
            out.push(Act::Give { ticket, content });
            return;
        };
        self.transfers = self.transfers.wrapping_add(1).max(1);
        let transfer = self.transfers;
        self.pastes.insert(
            transfer,
            Paste {
                ticket,
                sequence,
                form,
                until: now + PATIENCE,
            },
        );
        let request = ClipboardRequest {
            transfer,
            sequence,
            kind: kind_of(form),
        };
        out.push(Act::Say(request.into()));
    }

    /// The guest answers a request.
    pub fn guest_answers(&mut self, answer: &Answer, out: &mut Vec<Act>) {
        // An answer for an older copy finds nobody who waits.
        if answer.verdict != Verdict::Yes {
            self.give(answer.transfer, None, out);
        }
    }

    /// All bytes of a stream for a paste have come; nothing, if it ended early.
    pub fn guest_sent(&mut self, transfer: u32, bytes: Option<&[u8]>, out: &mut Vec<Act>) {
        let Some(form) = self.pastes.get(&transfer).map(|paste| paste.form) else {
            return;
        };
        let content = bytes.and_then(|bytes| match form {
            Form::Text => std::str::from_utf8(bytes)
                .ok()
                .map(|text| Content::Text(harmless(text))),
            Form::Picture => remade(bytes, self.policy.most(form)).map(Content::Picture),
        });
        self.give(transfer, content, out);
    }

    fn give(&mut self, transfer: u32, content: Option<Content>, out: &mut Vec<Act>) {
        if let Some(paste) = self.pastes.remove(&transfer) {
            // Only what is still the host's clipboard.
            let content = content.filter(|_| self.owned == Some(paste.sequence));
            out.push(Act::Give {
                ticket: paste.ticket,
                content,
            });
        }
    }

    fn drop_pastes(&mut self, out: &mut Vec<Act>) {
        for (_, paste) in std::mem::take(&mut self.pastes) {
            out.push(Act::Give {
                ticket: paste.ticket,
                content: None,
            });
        }
    }

    /// The guest pastes what the host offered.
    pub fn guest_pastes(&mut self, ask: &ClipboardRequest, now: Duration, out: &mut Vec<Act>) {
        let transfer = ask.transfer;
        let form = form_of(ask.kind).filter(|form| self.host_has.has(*form));
        let verdict = if self.policy.inward == Way::Denied {
            Verdict::Policy
        } else if self.offered != Some(ask.sequence) || ask.sequence != self.sequence {
            Verdict::Stale
        } else if !self.focused {
            // Nobody pastes in a window that has no keyboard.
            Verdict::Policy
        } else if self.fetches.len() >= WAITING || self.fetches.contains_key(&transfer) {
            Verdict::Failed
        } else if let Some(form) = form {
            let fetch = Fetch {
                sequence: self.sequence,
                form,
                until: now + PATIENCE,
            };
            self.fetches.insert(transfer, fetch);
            let most = self.policy.most(form);
            out.push(Act::Fetch {
                transfer,
                form,
                most,
            });
            return;
        } else {
            Verdict::Kind
        };
        out.push(say_answer(transfer, verdict));
    }

    /// The host's owner gave what it had, or nothing.
    pub fn host_gave(&mut self, transfer: u32, content: Option<Content>, out: &mut Vec<Act>) {
        let Some(fetch) = self.fetches.get(&transfer) else {
            return;
        };
        let (sequence, form) = (fetch.sequence, fetch.form);
        let most = self.policy.most(form);
        let content = content.filter(|content| content.form() == form);
        let verdict = match &content {
            _ if sequence != self.sequence => Verdict::Stale,
            None => Verdict::Failed,
            Some(content) if content.bytes().len() as u64 > most => Verdict::TooLarge,
            Some(_) => Verdict::Yes,
        };
        self.answer(transfer, verdict, out);
        if let (Verdict::Yes, Some(content)) = (verdict, content) {
            out.push(Act::Send { transfer, content });
        }
    }

    fn answer(&mut self, transfer: u32, verdict: Verdict, out: &mut Vec<Act>) {
        if self.fetches.remove(&transfer).is_some() {
            out.push(say_answer(transfer, verdict));
        }
    }
}

fn say_answer(transfer: u32, verdict: Verdict) -> Act {
    Act::Say(Answer { transfer, verdict }.into())
}

/// A form's name on the wire.
const fn kind_of(form: Form) -> ClipboardKind {
    match form {
        Form::Text => ClipboardKind::Text,
        Form::Picture => ClipboardKind::Picture,
    }
}

const fn form_of(kind: ClipboardKind) -> Option<Form> {
    match kind {
        ClipboardKind::Text => Some(Form::Text),
        ClipboardKind::Picture => Some(Form::Picture),
        _ => None,
    }
}

/// Text without what a terminal would obey: of the controls only lines and tabs stay.
fn harmless(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests;
