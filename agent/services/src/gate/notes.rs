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

/// What is shown.
#[derive(Debug)]
pub struct Notes {
    rate: Rate,
    /// The oldest first: numbers, and how many buttons each has.
    live: VecDeque<(u32, usize)>,
}

impl Notes {
    pub const fn new() -> Self {
        Self {
            rate: Rate::new(AT_ONCE, EVERY),
            live: VecDeque::new(),
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
            out.tell(Event::NoteGone { note: oldest });
            out.say(closed(oldest));
        }
        self.live.push_back((note.id, note.buttons.len()));
        let body: Vec<_> = note.body.lines(NOTE_LINES).collect();
        let body: Vec<_> = body.iter().map(|line| line.as_str()).collect();
        let buttons = note.buttons.iter().map(|name| name.display());
        out.tell(Event::Note {
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
        });
    }

    /// The guest takes one back.
    pub fn gone(&mut self, id: u32, out: &mut Outbox) {
        if self.forget(id) {
            out.tell(Event::NoteGone { note: id });
        }
    }

    /// Somebody pressed a button, or closed it.
    pub fn answer(&mut self, id: u32, button: u8, out: &mut Outbox) {
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
        for (note, _) in self.live.drain(..) {
            out.tell(Event::NoteGone { note });
        }
    }
}
