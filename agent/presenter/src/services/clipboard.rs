//! Who may copy from whom: a state machine between the host's clipboard and the guest's. Nothing moves before
//! somebody pastes; whatever speaks of an older copy is thrown away; both directions are denied by default.
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
    /// Bytes of a copy, either way.
    pub bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            inward: Way::Denied,
            outward: Way::Denied,
            bytes: 64 << 10,
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Act {
    /// Say this to the guest.
    Say(FromHost<'static>),
    /// The guest's copy becomes the host's: own the host's clipboard.
    Own,
    /// Own it no longer.
    Disown,
    /// A host app that pastes gets this, or hears that there is nothing.
    Give {
        /// Which paste.
        ticket: u32,
        /// The text.
        text: Option<String>,
    },
    /// Ask the host's owner for its text; what comes is for this transfer.
    Fetch(u32),
    /// Send this to the guest.
    Send {
        /// Whose request it answers.
        transfer: u32,
        /// The text.
        text: String,
    },
    /// Say that a copy was refused, and why.
    Refused(&'static str),
}

#[derive(Debug)]
struct Paste {
    ticket: u32,
    sequence: u32,
    until: Duration,
}

/// The state between the two clipboards.
#[derive(Debug)]
pub struct Clipboard {
    policy: Policy,
    focused: bool,
    /// The guest's newest copy, and whether there is text in it.
    theirs: Option<(u32, bool)>,
    /// Whether the host's clipboard is the guest's copy: which.
    owned: Option<u32>,
    /// Whether a host's app has something to copy.
    host_has: bool,
    /// Counts the host's copies.
    sequence: u32,
    /// The copy that the guest was offered.
    offered: Option<u32>,
    transfers: u32,
    /// Host apps that paste: by transfer.
    pastes: BTreeMap<u32, Paste>,
    /// What the guest asked for and the host's owner has not given yet: which copy.
    fetches: BTreeMap<u32, (u32, Duration)>,
}

impl Clipboard {
    /// Nothing was copied yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Policy {
                bytes: policy.bytes.min(CLIPBOARD_BYTES),
                ..policy
            },
            focused: false,
            theirs: None,
            owned: None,
            host_has: false,
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
        self.pastes.get(&transfer).map(|_| self.policy.bytes)
    }

    /// When somebody has waited long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let pastes = self.pastes.values().map(|paste| paste.until);
        pastes
            .chain(self.fetches.values().map(|(_, until)| *until))
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
            .filter(|(_, (_, until))| *until <= now)
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
        if self.owned.take().is_some() {
            out.push(Act::Disown);
        }
    }

    /// Somebody pressed the host's chord to copy: the guest's copy becomes the host's.
    pub fn copy_chord(&mut self, out: &mut Vec<Act>) {
        match (self.policy.outward, self.theirs) {
            (Way::Denied, _) => out.push(Act::Refused("copying from the guest is not allowed")),
            (_, Some((sequence, true))) => self.own(sequence, out),
            _ => out.push(Act::Refused("the guest has copied no text")),
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
        let text = offer
            .forms
            .iter()
            .any(|form| form.kind == ClipboardKind::Text);
        self.theirs = Some((offer.sequence, text));
        // What was copied before is no longer there; the guest cannot answer for it, and must not.
        self.drop_pastes(out);
        if self.owned.take().is_some() && !text {
            out.push(Act::Disown);
        } else if text && self.policy.outward == Way::Focus && self.focused {
            self.own(offer.sequence, out);
        }
    }

    fn own(&mut self, sequence: u32, out: &mut Vec<Act>) {
        self.owned = Some(sequence);
        self.host_has = false;
        out.push(Act::Own);
    }

    /// Another app copied something on the host, or nothing is there now.
    pub fn host_copied(&mut self, something: bool, out: &mut Vec<Act>) {
        self.owned = None;
        self.drop_pastes(out);
        self.host_has = something;
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
        if self.host_has && self.offered != Some(self.sequence) {
            self.offered = Some(self.sequence);
            let form = ClipboardForm {
                kind: ClipboardKind::Text,
                size: 0,
            };
            let offer = ClipboardOffer {
                sequence: self.sequence,
                forms: List::new(vec![form]),
            };
            out.push(Act::Say(offer.into()));
        }
    }

    /// A host's app pastes.
    pub fn host_pastes(&mut self, ticket: u32, now: Duration, out: &mut Vec<Act>) {
        let Some(sequence) = self.owned.filter(|_| self.pastes.len() < WAITING) else {
            out.push(Act::Give { ticket, text: None });
            return;
        };
        self.transfers = self.transfers.wrapping_add(1).max(1);
        let transfer = self.transfers;
        self.pastes.insert(
            transfer,
            Paste {
                ticket,
                sequence,
                until: now + PATIENCE,
            },
        );
        let request = ClipboardRequest {
            transfer,
            sequence,
            kind: ClipboardKind::Text,
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
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        self.give(transfer, text.map(harmless), out);
    }

    fn give(&mut self, transfer: u32, text: Option<String>, out: &mut Vec<Act>) {
        if let Some(paste) = self.pastes.remove(&transfer) {
            // Only what is still the host's clipboard.
            let text = text.filter(|_| self.owned == Some(paste.sequence));
            out.push(Act::Give {
                ticket: paste.ticket,
                text,
            });
        }
    }

    fn drop_pastes(&mut self, out: &mut Vec<Act>) {
        for (_, paste) in std::mem::take(&mut self.pastes) {
            out.push(Act::Give {
                ticket: paste.ticket,
                text: None,
            });
        }
    }

    /// The guest pastes what the host offered.
    pub fn guest_pastes(&mut self, ask: &ClipboardRequest, now: Duration, out: &mut Vec<Act>) {
        let transfer = ask.transfer;
        let verdict = if self.policy.inward == Way::Denied {
            Verdict::Policy
        } else if self.offered != Some(ask.sequence) || ask.sequence != self.sequence {
            Verdict::Stale
        } else if ask.kind != ClipboardKind::Text {
            Verdict::Kind
        } else if !self.focused {
            // Nobody pastes in a window that has no keyboard.
            Verdict::Policy
        } else if self.fetches.len() >= WAITING || self.fetches.contains_key(&transfer) {
            Verdict::Failed
        } else {
            self.fetches
                .insert(transfer, (self.sequence, now + PATIENCE));
            out.push(Act::Fetch(transfer));
            return;
        };
        out.push(say_answer(transfer, verdict));
    }

    /// The host's owner gave its text, or nothing.
    pub fn host_gave(&mut self, transfer: u32, text: Option<String>, out: &mut Vec<Act>) {
        let Some((sequence, _)) = self.fetches.get(&transfer).copied() else {
            return;
        };
        let verdict = match &text {
            _ if sequence != self.sequence => Verdict::Stale,
            None => Verdict::Failed,
            Some(text) if text.len() as u64 > self.policy.bytes => Verdict::TooLarge,
            Some(_) => Verdict::Yes,
        };
        self.answer(transfer, verdict, out);
        if let (Verdict::Yes, Some(text)) = (verdict, text) {
            out.push(Act::Send { transfer, text });
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

/// Text without what a terminal would obey: of the controls only lines and tabs stay.
fn harmless(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::ZERO;

    fn clipboard(inward: Way, outward: Way) -> Clipboard {
        Clipboard::new(Policy {
            inward,
            outward,
            bytes: 16,
        })
    }

    fn offer(sequence: u32) -> ClipboardOffer {
        ClipboardOffer {
            sequence,
            forms: List::new(vec![ClipboardForm {
                kind: ClipboardKind::Text,
                size: 4,
            }]),
        }
    }

    fn granted(clipboard: &mut Clipboard, transfer: u32) {
        let verdict = Verdict::Yes;
        clipboard.guest_answers(&Answer { transfer, verdict }, &mut Vec::new());
    }

    fn give(ticket: u32, text: Option<&str>) -> Act {
        let text = text.map(ToOwned::to_owned);
        Act::Give { ticket, text }
    }

    #[test]
    fn both_directions_are_denied_by_default() {
        let (mut clipboard, mut out) = (Clipboard::new(Policy::default()), Vec::new());
        clipboard.focus(true, &mut out);
        clipboard.guest_offers(&offer(1), &mut out);
        clipboard.host_copied(true, &mut out);
        assert!(out.is_empty(), "{out:?}");
        clipboard.copy_chord(&mut out);
        clipboard.paste_chord(&mut out);
        assert!(matches!(out[..], [Act::Refused(_), Act::Refused(_)]));
        let ask = ClipboardRequest {
            transfer: 1,
            sequence: 1,
            kind: ClipboardKind::Text,
        };
        clipboard.guest_pastes(&ask, NOW, &mut out);
        assert_eq!(out.pop(), Some(say_answer(1, Verdict::Policy)));
    }

    #[test]
    fn a_guests_copy_reaches_the_host_when_somebody_pastes() {
        let (mut clipboard, mut out) = (clipboard(Way::Denied, Way::Chord), Vec::new());
        clipboard.guest_offers(&offer(7), &mut out);
        assert!(out.is_empty(), "no data and no ownership without the chord");
        clipboard.copy_chord(&mut out);
        assert_eq!(out.pop(), Some(Act::Own));
        clipboard.host_pastes(5, NOW, &mut out);
        assert!(matches!(
            out.pop(),
            Some(Act::Say(FromHost::ClipboardRequest(_)))
        ));
        assert_eq!(
            (clipboard.expects(1), clipboard.expects(2)),
            (Some(16), None)
        );
        granted(&mut clipboard, 1);
        clipboard.guest_sent(1, Some(b"a\x1b[31m\nb\t"), &mut out);
        assert_eq!(out, [give(5, Some("a[31m\nb\t"))]);
    }

    /// Qubes bulletin 13: an answer that comes late overwrote what had been copied since.
    #[test]
    fn qsb_013_a_late_answer_cannot_overwrite_a_newer_copy() {
        let (mut clipboard, mut out) = (clipboard(Way::Denied, Way::Chord), Vec::new());
        clipboard.guest_offers(&offer(1), &mut out);
        clipboard.copy_chord(&mut out);
        clipboard.host_pastes(5, NOW, &mut out);
        granted(&mut clipboard, 1);
        out.clear();
        // Somebody copies on the host before the guest's bytes come.
        clipboard.host_copied(true, &mut out);
        assert_eq!(out, [give(5, None)]);
        out.clear();
        clipboard.guest_sent(1, Some(b"late"), &mut out);
        granted(&mut clipboard, 1);
        assert!(out.is_empty(), "{out:?}");
        assert_eq!(clipboard.expects(1), None);
        clipboard.host_pastes(6, NOW, &mut out);
        assert_eq!(out, [give(6, None)], "the host's clipboard is the host's");
    }

    /// Qubes bulletin 11: the tail of an older, longer copy came along with a shorter one.
    #[test]
    fn qsb_011_no_tail_of_an_older_copy() {
        let (mut clipboard, mut out) = (clipboard(Way::Denied, Way::Chord), Vec::new());
        for (sequence, text) in [(1, "a long secret"), (2, "short"), (3, "")] {
            clipboard.guest_offers(&offer(sequence), &mut out);
            clipboard.copy_chord(&mut out);
            clipboard.host_pastes(sequence, NOW, &mut out);
            granted(&mut clipboard, sequence);
            out.clear();
            clipboard.guest_sent(sequence, Some(text.as_bytes()), &mut out);
            assert_eq!(out, [give(sequence, Some(text))]);
        }
    }

    #[test]
    fn a_guest_pastes_only_what_was_offered_to_it_while_it_has_the_keyboard() {
        let (mut clipboard, mut out) = (clipboard(Way::Chord, Way::Denied), Vec::new());
        let ask = |transfer, sequence| ClipboardRequest {
            transfer,
            sequence,
            kind: ClipboardKind::Text,
        };
        clipboard.focus(true, &mut out);
        clipboard.host_copied(true, &mut out);
        assert!(out.is_empty());
        clipboard.guest_pastes(&ask(1, 1), NOW, &mut out);
        assert_eq!(out.pop(), Some(say_answer(1, Verdict::Stale)), "guessed");
        clipboard.paste_chord(&mut out);
        assert!(matches!(
            out.pop(),
            Some(Act::Say(FromHost::ClipboardOffer(_)))
        ));
        clipboard.guest_pastes(&ask(2, 1), NOW, &mut out);
        assert_eq!(out.pop(), Some(Act::Fetch(2)));
        clipboard.host_gave(2, Some("x".repeat(17)), &mut out);
        assert_eq!(out.pop(), Some(say_answer(2, Verdict::TooLarge)));
        clipboard.guest_pastes(&ask(3, 1), NOW, &mut out);
        clipboard.host_gave(3, Some("fits".to_owned()), &mut out);
        let text = "fits".to_owned();
        assert_eq!(out.pop(), Some(Act::Send { transfer: 3, text }));
        clipboard.focus(false, &mut out);
        clipboard.guest_pastes(&ask(4, 1), NOW, &mut out);
        assert_eq!(out.pop(), Some(say_answer(4, Verdict::Policy)));
    }

    #[test]
    fn a_locked_workspace_gives_nothing_out() {
        let (mut clipboard, mut out) = (clipboard(Way::Chord, Way::Chord), Vec::new());
        clipboard.guest_offers(&offer(1), &mut out);
        clipboard.copy_chord(&mut out);
        clipboard.host_pastes(5, NOW, &mut out);
        out.clear();
        clipboard.lock(&mut out);
        assert_eq!(out, [give(5, None), Act::Disown]);
        out.clear();
        clipboard.lock(&mut out);
        clipboard.host_pastes(6, NOW, &mut out);
        assert_eq!(out, [give(6, None)]);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (mut clipboard, mut out) = (clipboard(Way::Chord, Way::Chord), Vec::new());
        clipboard.guest_offers(&offer(1), &mut out);
        clipboard.copy_chord(&mut out);
        clipboard.host_pastes(5, NOW, &mut out);
        assert_eq!(clipboard.deadline(), Some(PATIENCE));
        out.clear();
        clipboard.tick(PATIENCE, &mut out);
        assert_eq!(out, [give(5, None)]);
        assert_eq!(clipboard.deadline(), None);
    }

    proptest! {
        /// Whatever a guest says: nothing is sent to it that it was not offered, every paste gets one
        /// answer, and a paste gets text only while the host's clipboard is the guest's.
        #[test]
        fn every_paste_gets_one_answer(steps in prop::collection::vec((0..10_u8, 0..4_u32), 0..60)) {
            let mut clipboard = clipboard(Way::Focus, Way::Focus);
            let (mut asked, mut answered) = (0_u32, Vec::new());
            let mut owned = false;
            for (what, n) in steps {
                let mut out = Vec::new();
                let verdict = if n == 0 { Verdict::Policy } else { Verdict::Yes };
                match what {
                    0 => clipboard.focus(n % 2 == 0, &mut out),
                    1 => clipboard.guest_offers(&offer(n), &mut out),
                    2 => clipboard.host_copied(n > 0, &mut out),
                    3 => { asked += 1; clipboard.host_pastes(asked, NOW, &mut out); }
                    4 => clipboard.guest_answers(&Answer { transfer: n, verdict }, &mut out),
                    5 => clipboard.guest_sent(n, Some(b"text"), &mut out),
                    6 => {
                        let kind = ClipboardKind::Text;
                        clipboard.guest_pastes(&ClipboardRequest { transfer: n, sequence: n, kind }, NOW, &mut out);
                    }
                    7 => clipboard.host_gave(n, Some("host".to_owned()), &mut out),
                    8 => clipboard.copy_chord(&mut out),
                    _ => clipboard.tick(Duration::from_secs(n.into()), &mut out),
                }
                if what == 2 {
                    owned = false;
                }
                for act in out {
                    match act {
                        Act::Own => owned = true,
                        Act::Disown => owned = false,
                        Act::Give { ticket, text } => {
                            prop_assert!(!answered.contains(&ticket));
                            prop_assert!(text.is_none() || owned);
                            answered.push(ticket);
                        }
                        Act::Send { text, .. } => prop_assert_eq!(text, "host"),
                        _ => {}
                    }
                }
            }
            let mut out = Vec::new();
            clipboard.tick(Duration::MAX, &mut out);
            prop_assert_eq!(answered.len() + out.iter().filter(|act| matches!(act, Act::Give { .. })).count(), asked as usize);
        }
    }
}
