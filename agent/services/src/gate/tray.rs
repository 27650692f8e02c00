//! A guest's tray items. Some blink for hours: what changes waits for its turn, and only the newest of it is told.
use super::Outbox;
use crate::event::{Entry, Event, Look};
use crate::icon;
use crate::order::Click;
use crate::rate::Rate;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use medley_wire::Size;
use medley_wire::control::{self, EntryLook, Tray, TrayChoice, TrayClick, TrayMenu, TrayState};
use medley_wire::limits::TRAY_ITEMS;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Changes of tray items that are told at once: all items with picture and menu. Then one each time.
const AT_ONCE: u32 = 3 * TRAY_ITEMS;
const EVERY: Duration = Duration::from_millis(50);

/// Menus inside of menus.
const DEPTH: usize = 8;

/// What may change about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Item,
    Icon,
    Menu,
}

#[derive(Debug, Default)]
struct Item {
    /// The supervisor knows it.
    told: bool,
    /// Entries of its menu that can be chosen.
    choices: Vec<u16>,
    /// What was told of it last: it is told again when it may be shown again.
    last: BTreeMap<Part, Event>,
}

/// All tray items of a guest.
#[derive(Debug)]
pub struct Trays {
    items: BTreeMap<u32, Item>,
    /// Pictures that came before their items did, over another channel.
    early: BTreeMap<u32, Event>,
    /// What is to be told, and in which order.
    news: BTreeMap<(u32, Part), Event>,
    turns: VecDeque<(u32, Part)>,
    rate: Rate,
    /// Nothing of the guest's is shown.
    locked: bool,
}

impl Trays {
    pub const fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            early: BTreeMap::new(),
            news: BTreeMap::new(),
            turns: VecDeque::new(),
            rate: Rate::new(AT_ONCE, EVERY),
            locked: false,
        }
    }

    /// Takes all of them back.
    pub fn lock(&mut self, out: &mut Outbox) {
        self.locked = true;
        for (id, item) in &mut self.items {
            if std::mem::take(&mut item.told) {
                out.tell(Event::TrayGone { item: *id });
            }
        }
    }

    /// Shows them again, as they are now.
    pub fn unlock(&mut self, now: Duration, out: &mut Outbox) {
        if !std::mem::take(&mut self.locked) {
            return;
        }
        for (id, mut item) in std::mem::take(&mut self.items) {
            for (part, event) in std::mem::take(&mut item.last) {
                if !self.news.contains_key(&(id, part)) {
                    self.news((id, part), event);
                }
            }
            self.items.insert(id, item);
        }
        // An item before its picture and its menu: of those that nobody knows nothing is taken.
        self.turns = self.news.keys().copied().collect();
        self.pump(now, out);
    }

    /// One is there, or changes.
    pub fn item(&mut self, tray: &Tray<'_>, now: Duration, out: &mut Outbox) {
        let is_new = !self.items.contains_key(&tray.id);
        if is_new && self.items.len() >= TRAY_ITEMS as usize {
            return;
        }
        self.items.entry(tray.id).or_default();
        let event = Event::Tray {
            item: tray.id,
            app: tray.app.to_string(),
            look: match tray.state {
                TrayState::Passive => Look::Passive,
                TrayState::Active => Look::Active,
                TrayState::Attention => Look::Attention,
            },
            title: tray.title.display().as_str().to_owned(),
        };
        self.news((tray.id, Part::Item), event);
        if is_new && let Some(icon) = self.early.remove(&tray.id) {
            self.news((tray.id, Part::Icon), icon);
        }
        self.pump(now, out);
    }

    /// Its picture.
    pub fn icon(&mut self, id: u32, size: Size, pixels: &[u8], now: Duration, out: &mut Outbox) {
        let Some((side, argb)) = icon::square(size, pixels) else {
            return;
        };
        let argb = BASE64_STANDARD.encode(argb);
        let event = Event::TrayIcon {
            item: id,
            side,
            argb,
        };
        if self.items.contains_key(&id) {
            self.news((id, Part::Icon), event);
            self.pump(now, out);
        } else if self.early.len() < TRAY_ITEMS as usize || self.early.contains_key(&id) {
            self.early.insert(id, event);
        }
    }

    /// Its menu. One that is not well made is left out, and the one before stays.
    pub fn menu(&mut self, menu: &TrayMenu<'_>, now: Duration, out: &mut Outbox) {
        let Some(item) = self.items.get_mut(&menu.id) else {
            return;
        };
        let Some(entries) = entries(menu) else { return };
        let choices = entries.iter().filter(|e| e.enabled && !e.separator);
        item.choices = choices.map(|entry| entry.id).collect();
        let event = Event::TrayMenu {
            item: menu.id,
            entries,
        };
        self.news((menu.id, Part::Menu), event);
        self.pump(now, out);
    }

    /// It is gone.
    pub fn gone(&mut self, id: u32, out: &mut Outbox) {
        self.early.remove(&id);
        self.news.retain(|(item, _), _| *item != id);
        self.turns.retain(|(item, _)| *item != id);
        if self.items.remove(&id).is_some_and(|item| item.told) {
            out.tell(Event::TrayGone { item: id });
        }
    }

    fn news(&mut self, what: (u32, Part), event: Event) {
        if self.news.insert(what, event).is_none() {
            self.turns.push_back(what);
        }
    }

    /// Tells what may be told now.
    pub fn pump(&mut self, now: Duration, out: &mut Outbox) {
        while !self.locked && !self.turns.is_empty() && self.rate.take(now) {
            let Some(what) = self.turns.pop_front() else {
                return;
            };
            if let (Some(event), Some(item)) =
                (self.news.remove(&what), self.items.get_mut(&what.0))
            {
                item.told = true;
                item.last.insert(what.1, event.clone());
                out.tell(event);
            }
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        (!self.locked && !self.turns.is_empty()).then(|| self.rate.ready())
    }

    /// Somebody clicked on one.
    pub fn click(&mut self, id: u32, click: Click, out: &mut Outbox) {
        if self.items.get(&id).is_some_and(|item| item.told) {
            let click = match click {
                Click::Main => control::Click::Main,
                Click::Middle => control::Click::Middle,
                Click::Menu => control::Click::Menu,
            };
            out.say(TrayClick { id, click });
        }
    }

    /// Somebody chose from its menu: only what is in it now, and can be chosen.
    pub fn choose(&mut self, id: u32, entry: u16, out: &mut Outbox) {
        let item = self.items.get(&id).filter(|item| item.told);
        if item.is_some_and(|item| item.choices.contains(&entry)) {
            out.say(TrayChoice { id, entry });
        }
    }

    pub fn lost(&mut self, out: &mut Outbox) {
        for id in self.items.keys().copied().collect::<Vec<_>>() {
            self.gone(id, out);
        }
        self.early.clear();
    }

    /// Bytes of pictures that wait, or may have to be told again.
    pub fn held(&self) -> usize {
        let last = self.items.values().flat_map(|item| item.last.values());
        let waiting = self.news.values().chain(self.early.values()).chain(last);
        let bytes = waiting.map(|event| match event {
            Event::TrayIcon { argb, .. } => argb.len(),
            _ => 0,
        });
        bytes.sum()
    }
}

/// A menu's entries, if every one has a number of its own and lies in a menu that came before it, not too deep.
fn entries(menu: &TrayMenu<'_>) -> Option<Vec<Entry>> {
    let mut depths = BTreeMap::from([(0, 0)]);
    let mut entries = Vec::with_capacity(menu.entries.len());
    for entry in menu.entries.iter() {
        let depth = depths.get(&entry.parent)? + 1;
        // Zero is the first menu, so that it is taken as well.
        if depth > DEPTH || depths.insert(entry.id, depth).is_some() {
            return None;
        }
        let separator = entry.look.has(EntryLook::SEPARATOR);
        let label = entry.label.display();
        entries.push(Entry {
            id: entry.id,
            parent: entry.parent,
            label: if separator {
                String::new()
            } else {
                label.as_str().to_owned()
            },
            enabled: entry.look.has(EntryLook::ENABLED),
            checked: entry.look.has(EntryLook::CHECKED),
            separator,
        });
    }
    Some(entries)
}
