//! Tray items of the guest's apps, as the host's panel shows them.
use crate::apps::Apps;
use crate::apps::icon::Icon;
use crate::bus::{Bus, Item, MenuEntry};
use crate::control::Control;
use medley_wire::control::{self, TrayChoice, TrayClick, TrayGone};
use medley_wire::limits::TRAY_ITEMS;
use medley_wire::{AppId, List, Text, Untrusted, bulk};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
struct Shown {
    item: Item,
    app: AppId,
    menu: Vec<MenuEntry>,
}

/// All items.
#[derive(Debug, Default)]
pub struct Tray {
    items: BTreeMap<u32, Shown>,
    /// Those whose pictures have not been sent.
    icons: VecDeque<u32>,
}

impl Tray {
    /// An item is there, or is not as it was.
    pub fn item(&mut self, item: Item, apps: &Apps, say: &mut Control<'_>) {
        let id = item.id;
        if self.items.len() >= TRAY_ITEMS as usize && !self.items.contains_key(&id) {
            return;
        }
        let old = self.items.get(&id);
        let look = |item: &Item| (item.state, item.title.clone());
        let same = old.is_some_and(|old| look(&old.item) == look(&item));
        let same_icon = old.is_some_and(|old| old.item.icon == item.icon);
        let names = (item.name.clone(), item.name.clone());
        let app = old.map(|old| old.app);
        let app = app.unwrap_or_else(|| apps.index.whose(item.process, &names).0);
        if !same {
            tell(&item, app, say);
        }
        if !same_icon && item.icon.is_some() && !self.icons.contains(&id) {
            self.icons.push_back(id);
        }
        let menu = self.items.remove(&id).map(|old| old.menu);
        let menu = menu.unwrap_or_default();
        self.items.insert(id, Shown { item, app, menu });
    }

    /// An item's menu is there, or is not as it was.
    pub fn menu(&mut self, id: u32, menu: Vec<MenuEntry>, say: &mut Control<'_>) {
        if let Some(shown) = self.items.get_mut(&id)
            && shown.menu != menu
        {
            shown.menu = menu;
            tell_menu(id, &shown.menu, say);
        }
    }

    /// An item is gone.
    pub fn gone(&mut self, id: u32, say: &mut Control<'_>) {
        if self.items.remove(&id).is_some() {
            self.icons.retain(|known| *known != id);
            say.say(TrayGone { id });
        }
    }

    /// All items are gone.
    pub fn end_all(&mut self, say: &mut Control<'_>) {
        let all: Vec<u32> = self.items.keys().copied().collect();
        for id in all {
            self.gone(id, say);
        }
    }

    /// Says all items to a host that knows none.
    pub fn say_all(&mut self, say: &mut Control<'_>) {
        for (id, shown) in &self.items {
            tell(&shown.item, shown.app, say);
            if !shown.menu.is_empty() {
                tell_menu(*id, &shown.menu, say);
            }
        }
        let with_icon = self.items.iter().filter(|(_, s)| s.item.icon.is_some());
        self.icons = with_icon.map(|(id, _)| *id).collect();
    }

    /// Somebody on the host clicked.
    pub fn clicked(&self, click: &TrayClick, bus: &Bus) {
        if self.items.contains_key(&click.id) {
            bus.tray_clicked(click.id, click.click);
        }
    }

    /// Somebody on the host chose from a menu.
    pub fn chosen(&self, choice: &TrayChoice, bus: &Bus) {
        let known = self.items.get(&choice.id);
        let known = known.is_some_and(|shown| shown.menu.iter().any(|e| e.id == choice.entry));
        if known {
            bus.tray_chosen(choice.id, choice.entry);
        }
    }

    /// The next picture to send.
    pub fn next_icon(&mut self) -> Option<(bulk::Owner, &Icon)> {
        let id = self.icons.pop_front()?;
        let icon = self.items.get(&id)?.item.icon.as_ref()?;
        Some((bulk::Owner::Tray(id), icon))
    }
}

fn tell(item: &Item, app: AppId, say: &mut Control<'_>) {
    say.say(control::Tray {
        id: item.id,
        app,
        state: item.state,
        title: Untrusted::claim(Text::cut(&item.title)),
    });
}

fn tell_menu(id: u32, menu: &[MenuEntry], say: &mut Control<'_>) {
    let entries = menu.iter().map(|entry| control::TrayEntry {
        id: entry.id,
        parent: entry.parent,
        look: entry.look,
        label: Untrusted::claim(Text::cut(&entry.label)),
    });
    say.say(control::TrayMenu {
        id,
        entries: List::new(entries.collect()),
    });
}
