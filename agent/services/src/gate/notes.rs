//! A guest's notifications: not so many that they hide what the host has to say.
use super::{Outbox, closed};
use crate::event::{Event, Urgency};
use crate::rate::Rate;
use medley_wire::control::{self, Note, NoteAnswer};
use medley_wire::limits::NOTE_LINES;
use std::collections::VecDeque;
use std::time::Duration;

/// Notifications at once, and then one in a second.
const AT_ONCE: u32 = 10;
const EVERY: Duration = Duration::from_secs(1);

/// Notifications that are there at once.
const LIVE: usize = 32;

/// Notifications that are kept while nothing may be shown: no more than are shown at once then.
const KEPT: usize = AT_ONCE as usize;

/// What is shown.
#[derive(Debug)]
pub struct Notes {
    rate: Rate,
    /// The oldest first: numbers, and how many buttons each has.
    live: VecDeque<(u32, usize)>,
    /// While nothing of the guest's is shown: what is to be shown then, of those that are live.
    kept: Option<VecDeque<(u32, Event)>>,
}

impl Notes {
    pub const fn new() -> Self {
        Self {
            rate: Rate::new(AT_ONCE, EVERY),
            live: VecDeque::new(),
            kept: None,
        }
    }

    /// Takes back what is shown, and keeps what comes until it may be.
    pub fn lock(&mut self, out: &mut Outbox) {
        if self.kept.is_none() {
            for (id, _) in std::mem::take(&mut self.live) {
                out.tell(Event::NoteGone { note: id });
                out.say(closed(id));
            }
            self.kept = Some(VecDeque::new());
        }
    }

    /// Shows what came meanwhile.
    pub fn unlock(&mut self, out: &mut Outbox) {
        let kept = self.kept.take().unwrap_or_default();
        out.events.extend(kept.into_iter().map(|(_, event)| event));
    }

    fn tell(&mut self, id: u32, event: Event, out: &mut Outbox) {
        match &mut self.kept {
            Some(kept) => {
                kept.retain(|(note, _)| *note != id);
                if !matches!(event, Event::NoteGone { .. }) {
                    kept.push_back((id, event));
                }
                if kept.len() > KEPT
                    && let Some((oldest, _)) = kept.pop_front()
                {
                    self.live.retain(|(note, _)| *note != oldest);
                    out.say(closed(oldest));
                }
            }
            None => out.tell(event),
        }
    }

    /// One is shown, or changes.
    pub fn note(&mut self, note: &Note<'_>, now: Duration, out: &mut Outbox) {
        let known = self.live.iter().position(|(id, _)| *id == note.id);
        if !self.rate.take(now) {
            // An app that waits for somebody to see it need not wait. One that is shown stays as it was.
            if known.is_none() {
                out.say(closed(note.id));
            }
            return;
        }
        if let Some(known) = known {
            self.live.remove(known);
        } else if self.live.len() >= LIVE
            && let Some((oldest, _)) = self.live.pop_front()
        {
            self.tell(oldest, Event::NoteGone { note: oldest }, out);
            out.say(closed(oldest));
        }
        self.live.push_back((note.id, note.buttons.len()));
        let body: Vec<_> = note.body.lines(NOTE_LINES).collect();
        let body: Vec<_> = body.iter().map(|line| line.as_str()).collect();
        let buttons = note.buttons.iter().map(|name| name.display());
        let event = Event::Note {
            note: note.id,
            app: note.app.to_string(),
            urgency: match note.urgency {
                control::Urgency::Low => Urgency::Low,
                control::Urgency::Normal => Urgency::Normal,
                control::Urgency::Critical => Urgency::Critical,
            },
            summary: note.summary.display().as_str().to_owned(),
            body: body.join("\n"),
            buttons: buttons.map(|name| name.as_str().to_owned()).collect(),
        };
        self.tell(note.id, event, out);
    }

    /// The guest takes one back.
    pub fn gone(&mut self, id: u32, out: &mut Outbox) {
        if self.forget(id) {
            self.tell(id, Event::NoteGone { note: id }, out);
        }
    }

    /// Somebody pressed a button, or closed it.
    pub fn answer(&mut self, id: u32, button: u8, out: &mut Outbox) {
        if self.kept.is_some() {
            return;
        }
        let known = self.live.iter().find(|(note, _)| *note == id);
        if known.is_some_and(|(_, buttons)| usize::from(button) <= *buttons) {
            out.say(NoteAnswer { id, button });
            if button == 0 {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: u32) -> bool {
        let before = self.live.len();
        self.live.retain(|(note, _)| *note != id);
        self.live.len() < before
    }

    pub fn lost(&mut self, out: &mut Outbox) {
        for (note, _) in std::mem::take(&mut self.live) {
            self.tell(note, Event::NoteGone { note }, out);
        }
    }
}
