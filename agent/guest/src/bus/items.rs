//! Tray items: which there are, what they say of themselves, what is done to them. An item that says that it
//! has changed is read anew, all of it, once it has been still for a moment.
use super::menu::{self, Layout, MENU, Numbers};
use super::notifications::{cut, process_of};
use super::{Event, Item, Shared, picture, spawn, watcher};
use async_io::Timer;
use medley_wire::control::{Click, TrayState};
use medley_wire::limits::{NAME_BYTES, TRAY_ITEMS};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zbus::message::{Message, Type};
use zbus::names::OwnedUniqueName;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, fdo};

/// The interface.
pub const ITEM: &str = "org.kde.StatusNotifierItem";

/// How long to wait for more changes: apps say one after the other. Also the shortest time between two pictures
/// of one that moves.
const SETTLING: Duration = Duration::from_millis(100);

/// The largest picture that is read, in bytes: 512 by 512.
const LARGEST: usize = 1 << 20;

#[derive(Debug)]
struct Known {
    owner: OwnedUniqueName,
    path: OwnedObjectPath,
    menu: Option<OwnedObjectPath>,
    numbers: Numbers,
    /// Somebody reads it already.
    reading: bool,
    /// It, or its menu, has changed since it was read.
    changed: bool,
    menu_changed: bool,
}

impl Known {
    fn name(&self) -> String {
        format!("{}{}", self.owner.as_str(), self.path.as_str())
    }
}

/// All items, by the number that they have on the wire.
#[derive(Debug, Default)]
pub struct Items {
    known: BTreeMap<u32, Known>,
    last: u32,
}

impl Items {
    /// What they are called on the bus.
    pub fn names(&self) -> Vec<String> {
        self.known.values().map(Known::name).collect()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.known).into_keys().collect()
    }

    fn find(&self, owner: &str, path: &str) -> Option<u32> {
        let at = |k: &&Known| k.owner.as_str() == owner && k.path.as_str() == path;
        let mut all = self.known.iter();
        all.find(|(_, known)| at(known)).map(|(id, _)| *id)
    }
}

/// An app has an item; tells what it is called from now on.
pub fn register(
    shared: &Arc<Shared>,
    connection: &Connection,
    owner: OwnedUniqueName,
    path: OwnedObjectPath,
) -> fdo::Result<String> {
    let (id, name) = {
        let mut items = shared.items();
        let id = match items.find(owner.as_str(), path.as_str()) {
            Some(id) => id,
            None if items.known.len() >= TRAY_ITEMS as usize => {
                return Err(fdo::Error::LimitsExceeded(
                    "there are too many tray items".into(),
                ));
            }
            None => {
                items.last = items.last.wrapping_add(1);
                items.last
            }
        };
        let known = items.known.entry(id).or_insert_with(|| Known {
            owner,
            path,
            menu: None,
            numbers: Numbers::default(),
            reading: false,
            changed: false,
            menu_changed: false,
        });
        (id, known.name())
    };
    touch(shared, connection, id, true, true);
    Ok(name)
}

/// Looks at a message of the bus: whether an item has changed, or an app is gone.
pub fn heard(shared: &Arc<Shared>, connection: &Connection, message: &Message) {
    if message.message_type() != Type::Signal {
        return;
    }
    let header = message.header();
    let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
    let interface = text(header.interface().map(|name| name.as_str()));
    let member = text(header.member().map(|name| name.as_str()));
    let sender = text(header.sender().map(|name| name.as_str()));
    let path = text(header.path().map(|path| path.as_str()));
    match (interface.as_str(), member.as_str()) {
        ("org.freedesktop.DBus", "NameOwnerChanged") => {
            let body = message.body();
            if let Ok((name, _, new)) = body.deserialize::<(&str, &str, &str)>()
                && new.is_empty()
            {
                gone(shared, connection, name);
            }
        }
        (ITEM, _) => {
            let id = shared.items().find(&sender, &path);
            if let Some(id) = id {
                touch(shared, connection, id, true, member == "NewMenu");
            }
        }
        (MENU, "LayoutUpdated" | "ItemsPropertiesUpdated") => {
            let has = |k: &Known| {
                let menu = k.menu.as_ref().is_some_and(|menu| menu.as_str() == path);
                menu && k.owner.as_str() == sender
            };
            let found: Vec<u32> = {
                let items = shared.items();
                let found = items.known.iter().filter(|(_, known)| has(known));
                found.map(|(id, _)| *id).collect()
            };
            for id in found {
                touch(shared, connection, id, false, true);
            }
        }
        _ => {}
    }
}

/// An app is gone, and its items with it.
fn gone(shared: &Arc<Shared>, connection: &Connection, owner: &str) {
    let gone: Vec<(u32, String)> = {
        let mut items = shared.items();
        let theirs = items
            .known
            .iter()
            .filter(|(_, k)| k.owner.as_str() == owner);
        let theirs: Vec<_> = theirs.map(|(id, known)| (*id, known.name())).collect();
        for (id, _) in &theirs {
            items.known.remove(id);
        }
        theirs
    };
    for (id, name) in gone {
        shared.tell(Event::ItemGone(id));
        let tells = watcher::unregistered(connection.clone(), name);
        spawn(connection, "tray item gone", tells);
    }
}

/// Has an item read anew.
fn touch(shared: &Arc<Shared>, connection: &Connection, id: u32, item: bool, menu: bool) {
    let begins = {
        let mut items = shared.items();
        let Some(known) = items.known.get_mut(&id) else {
            return;
        };
        known.changed |= item;
        known.menu_changed |= menu;
        !std::mem::replace(&mut known.reading, true)
    };
    if begins {
        let reads = read_until_still(Arc::clone(shared), connection.clone(), id);
        spawn(connection, "tray item", reads);
    }
}

async fn read_until_still(
    shared: Arc<Shared>,
    connection: Connection,
    id: u32,
) -> zbus::Result<()> {
    loop {
        let (changed, menu_changed, owner, path) = {
            let mut items = shared.items();
            let Some(known) = items.known.get_mut(&id) else {
                return Ok(());
            };
            let changed = std::mem::take(&mut known.changed);
            let menu_changed = std::mem::take(&mut known.menu_changed);
            if !changed && !menu_changed {
                known.reading = false;
                return Ok(());
            }
            (
                changed,
                menu_changed,
                known.owner.clone(),
                known.path.clone(),
            )
        };
        if changed && let Err(error) = read_item(&shared, &connection, id, &owner, &path).await {
            tracing::debug!("a tray item says nothing of itself: {error}");
        }
        if menu_changed && let Err(error) = read_menu(&shared, &connection, id, &owner).await {
            tracing::debug!("a tray item's menu cannot be read: {error}");
        }
        Timer::after(SETTLING).await;
    }
}

async fn read_item(
    shared: &Arc<Shared>,
    connection: &Connection,
    id: u32,
    owner: &OwnedUniqueName,
    path: &OwnedObjectPath,
) -> zbus::Result<()> {
    let properties = "org.freedesktop.DBus.Properties";
    let reply = connection
        .call_method(Some(owner), path, Some(properties), "GetAll", &(ITEM,))
        .await?;
    let said: Said = reply.body().deserialize()?;
    let menu = match said.0.get("Menu").map(|value| &**value) {
        Some(Value::ObjectPath(path))
            if path.as_str() != "/" && path.as_str() != "/NO_DBUSMENU" =>
        {
            Some(OwnedObjectPath::from(path.to_owned()))
        }
        _ => None,
    };
    {
        let mut items = shared.items();
        let Some(known) = items.known.get_mut(&id) else {
            return Ok(());
        };
        known.menu_changed |= known.menu != menu;
        known.menu = menu;
    }
    let process = process_of(connection, owner.inner().clone().into()).await;
    let item = said.item(id, process, shared);
    shared.tell(Event::Item(Box::new(item)));
    Ok(())
}

/// What an item says of itself.
#[derive(Debug, serde::Deserialize, zbus::zvariant::Type)]
struct Said(HashMap<String, OwnedValue>);

impl Said {
    fn text(&self, name: &str) -> &str {
        match self.0.get(name).map(|value| &**value) {
            Some(Value::Str(text)) => text.as_str(),
            _ => "",
        }
    }

    fn item(&self, id: u32, process: Option<u32>, shared: &Shared) -> Item {
        let state = match self.text("Status") {
            "Passive" => TrayState::Passive,
            "NeedsAttention" => TrayState::Attention,
            _ => TrayState::Active,
        };
        let tip = match self.0.get("ToolTip").map(|value| &**value) {
            Some(Value::Structure(parts)) => match parts.fields() {
                [_, _, Value::Str(title), ..] => title.as_str(),
                _ => "",
            },
            _ => "",
        };
        let titles = [self.text("Title"), tip, self.text("Id")];
        let title = titles.into_iter().find(|title| !title.trim().is_empty());
        let calls = state == TrayState::Attention;
        let icon = calls.then(|| self.icon("Attention", shared)).flatten();
        Item {
            id,
            name: cut(self.text("Id").to_owned(), NAME_BYTES),
            title: cut(title.unwrap_or_default().to_owned(), NAME_BYTES),
            state,
            process,
            icon: icon.or_else(|| self.icon("", shared)),
        }
    }

    /// The picture: by its bytes, which are surely the app's own, or by name.
    fn icon(&self, kind: &str, shared: &Shared) -> Option<crate::apps::icon::Icon> {
        let maps = self.0.get(&format!("{kind}IconPixmap"));
        let maps = maps.map(|value| pixmaps(value)).unwrap_or_default();
        let name = self.text(&format!("{kind}IconName"));
        let own = Some(self.text("IconThemePath"));
        picture::of_pixmaps(&maps).or_else(|| picture::of_name(name, own, &shared.folders))
    }
}

/// Pictures among an item's properties; one that is too large is left out.
fn pixmaps(value: &Value<'_>) -> Vec<(i32, i32, Vec<u8>)> {
    let Value::Array(maps) = value else {
        return Vec::new();
    };
    let map = |map: &Value<'_>| {
        let Value::Structure(parts) = map else {
            return None;
        };
        let [Value::I32(width), Value::I32(height), Value::Array(bytes)] = parts.fields() else {
            return None;
        };
        if bytes.len() > LARGEST {
            return None;
        }
        let bytes = bytes.iter().map(|byte| match byte {
            Value::U8(byte) => *byte,
            _ => 0,
        });
        Some((*width, *height, bytes.collect()))
    };
    maps.iter().filter_map(map).collect()
}

async fn read_menu(
    shared: &Arc<Shared>,
    connection: &Connection,
    id: u32,
    owner: &OwnedUniqueName,
) -> zbus::Result<()> {
    let menu = {
        let items = shared.items();
        items.known.get(&id).map(|known| known.menu.clone())
    };
    let Some(menu) = menu else { return Ok(()) };
    let Some(menu) = menu else {
        shared.tell(Event::Menu(id, Vec::new()));
        return Ok(());
    };
    // Some apps make their menu only when they are told that it will be shown; others do not know this.
    let about = connection
        .call_method(Some(owner), &menu, Some(MENU), "AboutToShow", &(0_i32,))
        .await;
    if let Err(error) = about {
        tracing::debug!("a tray item's menu is not prepared: {error}");
    }
    let asked = (0_i32, -1_i32, menu::PROPERTIES.as_slice());
    let reply = connection
        .call_method(Some(owner), &menu, Some(MENU), "GetLayout", &asked)
        .await?;
    let (_, layout): (u32, Layout) = reply.body().deserialize()?;
    let entries = {
        let mut items = shared.items();
        let Some(known) = items.known.get_mut(&id) else {
            return Ok(());
        };
        menu::flatten(&layout, &mut known.numbers)
    };
    shared.tell(Event::Menu(id, entries));
    Ok(())
}

/// Somebody clicked on an item. Where the pointer is means nothing here.
pub async fn clicked(
    shared: Arc<Shared>,
    connection: Connection,
    id: u32,
    click: Click,
) -> zbus::Result<()> {
    let (owner, path, has_menu) = {
        let items = shared.items();
        let Some(known) = items.known.get(&id) else {
            return Ok(());
        };
        (
            known.owner.clone(),
            known.path.clone(),
            known.menu.is_some(),
        )
    };
    let member = match click {
        Click::Main => "Activate",
        Click::Middle => "SecondaryActivate",
        // The host shows the menu by itself; it gets the newest.
        Click::Menu if has_menu => {
            touch(&shared, &connection, id, false, true);
            return Ok(());
        }
        Click::Menu => "ContextMenu",
    };
    connection
        .call_method(Some(&owner), &path, Some(ITEM), member, &(0_i32, 0_i32))
        .await
        .map(|_| ())
}

/// Somebody chose from an item's menu.
pub async fn chosen(
    shared: Arc<Shared>,
    connection: Connection,
    id: u32,
    entry: u16,
) -> zbus::Result<()> {
    let found = {
        let items = shared.items();
        items.known.get(&id).and_then(|known| {
            let own = known.numbers.own(entry)?;
            Some((known.owner.clone(), known.menu.clone()?, own))
        })
    };
    let Some((owner, menu, own)) = found else {
        return Ok(());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // As X counts: milliseconds that begin anew after 49 days.
    let now = now.unwrap_or_default().as_millis() as u32;
    let event = (own, "clicked", Value::from(0_i32), now);
    connection
        .call_method(Some(&owner), &menu, Some(MENU), "Event", &event)
        .await
        .map(|_| ())
}
