//! Notifications of the guest's apps, as the host shows them. An app hears what became of its own: pressed, closed
//! by somebody, or gone by itself.
use crate::apps::Apps;
use crate::apps::icon::Icon;
use crate::bus::{Bus, Closed, Posted, Timeout};
use crate::control::Control;
use medley_wire::control::{self, NoteAnswer, NoteGone};
use medley_wire::limits::NOTE_BUTTONS;
use medley_wire::{AppId, List, Text, Untrusted, bulk};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Notifications that are shown at once; the oldest gives way.
const SHOWN: usize = 32;

#[derive(Debug)]
struct Note {
    posted: Posted,
    app: AppId,
    until: Option<Instant>,
}

/// All that is shown.
#[derive(Debug, Default)]
pub struct Notes {
    shown: BTreeMap<u32, Note>,
    /// Their numbers, the oldest first.
    order: VecDeque<u32>,
    /// Those whose pictures have not been sent.
    icons: VecDeque<u32>,
}

impl Notes {
    /// An app says something, or says it anew.
    pub fn posted(&mut self, posted: Posted, apps: &Apps, bus: &Bus, say: &mut Control<'_>) {
        let id = posted.id;
        let until = match posted.timeout {
            Timeout::After(time) => Instant::now().checked_add(time),
            Timeout::Never | Timeout::Servers => None,
        };
        let note = Note {
            app: whose(&posted, apps),
            posted,
            until,
        };
        tell(id, &note, say);
        if note.posted.icon.is_some() {
            self.icons.push_back(id);
        }
        self.shown.insert(id, note);
        self.order.retain(|known| *known != id);
        self.order.push_back(id);
        if self.order.len() > SHOWN
            && let Some(oldest) = self.order.front().copied()
        {
            self.close(oldest, Closed::Otherwise, bus, say);
        }
    }

    /// An app takes its own back.
    pub fn taken_back(&mut self, id: u32, bus: &Bus, say: &mut Control<'_>) {
        self.close(id, Closed::TakenBack, bus, say);
    }

    /// Somebody on the host pressed a button, or closed it.
    pub fn answered(&mut self, answer: &NoteAnswer, bus: &Bus) {
        let Some(note) = self.shown.get(&answer.id) else {
            return;
        };
        if let Some(button) = usize::from(answer.button).checked_sub(1) {
            let Some((key, _)) = note.posted.actions.get(button) else {
                return;
            };
            bus.note_pressed(answer.id, key.clone());
            if note.posted.resident {
                return;
            }
        }
        // The host has closed it already.
        self.forget(answer.id);
        bus.note_closed(answer.id, Closed::Dismissed);
    }

    fn close(&mut self, id: u32, why: Closed, bus: &Bus, say: &mut Control<'_>) {
        if self.forget(id) {
            say.say(NoteGone { id });
        }
        bus.note_closed(id, why);
    }

    fn forget(&mut self, id: u32) -> bool {
        self.order.retain(|known| *known != id);
        self.icons.retain(|known| *known != id);
        self.shown.remove(&id).is_some()
    }

    /// Says all of them to a host that knows none.
    pub fn say_all(&mut self, say: &mut Control<'_>) {
        self.icons.clear();
        for id in &self.order {
            let Some(note) = self.shown.get(id) else {
                continue;
            };
            tell(*id, note, say);
            if note.posted.icon.is_some() {
                self.icons.push_back(*id);
            }
        }
    }

    /// They are not allowed any more: each ends.
    pub fn end_all(&mut self, bus: &Bus, say: &mut Control<'_>) {
        for id in self.order.clone() {
            self.close(id, Closed::Otherwise, bus, say);
        }
    }

    /// The next picture to send.
    pub fn next_icon(&mut self) -> Option<(bulk::Owner, &Icon)> {
        let id = self.icons.pop_front()?;
        let note = self.shown.get(&id)?;
        Some((bulk::Owner::Note(id), note.posted.icon.as_ref()?))
    }

    /// When the next one goes by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.shown.values().filter_map(|note| note.until).min()
    }

    /// Takes back what has been shown for long enough.
    pub fn expire(&mut self, now: Instant, bus: &Bus, say: &mut Control<'_>) {
        let over = |note: &Note| note.until.is_some_and(|until| until <= now);
        let over: Vec<u32> = self
            .shown
            .iter()
            .filter(|(_, note)| over(note))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.close(id, Closed::Expired, bus, say);
        }
    }
}

/// The app that posted it: by the entry that it names, or by what its process was launched with.
fn whose(posted: &Posted, apps: &Apps) -> AppId {
    let entry = posted.entry.clone().unwrap_or_default();
    let named = crate::apps::id_of(&format!("{entry}.desktop"));
    if apps.all.contains_key(&named) {
        return named;
    }
    let names = (posted.app_name.clone(), entry);
    apps.index.whose(posted.process, &names).0
}

fn tell(id: u32, note: &Note, say: &mut Control<'_>) {
    let buttons = note.posted.actions.iter().take(NOTE_BUTTONS);
    say.say(control::Note {
        id,
        app: note.app,
        urgency: note.posted.urgency,
        summary: Untrusted::claim(Text::cut(&note.posted.summary)),
        body: Untrusted::claim(Text::cut(&note.posted.body)),
        buttons: List::new(
            buttons
                .map(|(_, label)| Untrusted::claim(Text::cut(label)))
                .collect(),
        ),
    });
}
