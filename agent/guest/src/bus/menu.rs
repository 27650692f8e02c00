//! A tray item's menu, as `com.canonical.dbusmenu` has it: a tree of entries with properties, made flat.
use super::MenuEntry;
use super::notifications::cut;
use medley_wire::control::EntryLook;
use medley_wire::limits::{NAME_BYTES, TRAY_ENTRIES};
use std::collections::HashMap;
use zbus::zvariant::{OwnedValue, Structure, Value};

/// The interface.
pub const MENU: &str = "com.canonical.dbusmenu";

/// The properties that are asked for.
pub const PROPERTIES: [&str; 7] = [
    "label",
    "enabled",
    "visible",
    "type",
    "toggle-type",
    "toggle-state",
    "children-display",
];

/// How deep menus in menus are followed: what a host shows.
const DEPTH: u32 = 8;

/// An entry of the tree: number, properties, entries below it.
pub type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

/// The numbers of entries on the wire: an app's own are larger, and a number means the same entry as long as the
/// item lives, so that a choice that comes late never hits another one.
#[derive(Debug, Default)]
pub struct Numbers {
    wire: HashMap<i32, u16>,
    own: HashMap<u16, i32>,
}

impl Numbers {
    fn of(&mut self, own: i32) -> Option<u16> {
        if let Some(number) = self.wire.get(&own) {
            return Some(*number);
        }
        // An app that has had as many entries as there are numbers gets no more.
        let number = u16::try_from(self.wire.len() + 1).ok()?;
        self.wire.insert(own, number);
        self.own.insert(number, own);
        Some(number)
    }

    /// The app's own number of an entry.
    #[must_use]
    pub fn own(&self, wire: u16) -> Option<i32> {
        self.own.get(&wire).copied()
    }
}

/// All entries that are visible, a menu before what is in it.
#[must_use]
pub fn flatten((_, _, below): &Layout, numbers: &mut Numbers) -> Vec<MenuEntry> {
    let mut entries = Vec::new();
    for child in below {
        add(child, 0, DEPTH, numbers, &mut entries);
    }
    entries
}

fn add(
    child: &Value<'_>,
    parent: u16,
    depth: u32,
    numbers: &mut Numbers,
    entries: &mut Vec<MenuEntry>,
) {
    let Some((own, properties, below)) = parts(child) else {
        return;
    };
    if truth(&properties, "visible") == Some(false) || entries.len() >= TRAY_ENTRIES {
        return;
    }
    let Some(id) = numbers.of(own) else { return };
    let mut look = EntryLook::NONE;
    if text(&properties, "type") == Some("separator") {
        look = look.with(EntryLook::SEPARATOR);
    } else if truth(&properties, "enabled") != Some(false) {
        look = look.with(EntryLook::ENABLED);
    }
    let toggles = text(&properties, "toggle-type").is_some_and(|kind| !kind.is_empty());
    let on = matches!(properties.get("toggle-state"), Some(Value::I32(1)));
    if toggles && on {
        look = look.with(EntryLook::CHECKED);
    }
    let label = text(&properties, "label").unwrap_or_default();
    entries.push(MenuEntry {
        id,
        parent,
        look,
        label: cut(without_mnemonic(label), NAME_BYTES),
    });
    if depth > 1 {
        for child in below {
            add(child, id, depth - 1, numbers, entries);
        }
    }
}

type Parts<'v> = (i32, HashMap<&'v str, &'v Value<'v>>, &'v [Value<'v>]);

/// A child is a variant with the same three parts.
fn parts<'v>(child: &'v Value<'v>) -> Option<Parts<'v>> {
    let child = plain(child);
    let Value::Structure(structure) = child else {
        return None;
    };
    let [
        Value::I32(own),
        Value::Dict(properties),
        Value::Array(below),
    ] = Structure::fields(structure)
    else {
        return None;
    };
    let properties = properties.iter().filter_map(|(name, value)| match name {
        Value::Str(name) => Some((name.as_str(), plain(value))),
        _ => None,
    });
    Some((*own, properties.collect(), below.inner()))
}

fn plain<'v>(value: &'v Value<'v>) -> &'v Value<'v> {
    match value {
        Value::Value(inner) => inner,
        other => other,
    }
}

fn truth(properties: &HashMap<&str, &Value<'_>>, name: &str) -> Option<bool> {
    match properties.get(name) {
        Some(Value::Bool(truth)) => Some(*truth),
        _ => None,
    }
}

fn text<'v>(properties: &HashMap<&str, &'v Value<'v>>, name: &str) -> Option<&'v str> {
    match properties.get(name) {
        Some(Value::Str(text)) => Some(text.as_str()),
        _ => None,
    }
}

/// A label without the lines that mark a letter for the keyboard; two of them are one.
fn without_mnemonic(label: &str) -> String {
    let mut out = String::with_capacity(label.len());
    let mut letters = label.chars();
    while let Some(letter) = letters.next() {
        if letter == '_' {
            out.extend(letters.next());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(
        own: i32,
        properties: &[(&str, Value<'static>)],
        below: Vec<OwnedValue>,
    ) -> OwnedValue {
        let properties: HashMap<String, OwnedValue> = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.try_to_owned().unwrap()))
            .collect();
        Value::from((own, properties, below)).try_into().unwrap()
    }

    #[test]
    fn a_tree_becomes_a_list_and_numbers_stay() {
        let sub = entry(70_002, &[("label", "Deep _er".into())], vec![]);
        let below = vec![
            entry(70_000, &[("label", "_Open__x".into())], vec![]),
            entry(1, &[("type", "separator".into())], vec![]),
            entry(
                2,
                &[("label", "no".into()), ("enabled", false.into())],
                vec![],
            ),
            entry(
                3,
                &[
                    ("label", "on".into()),
                    ("toggle-type", "checkmark".into()),
                    ("toggle-state", 1_i32.into()),
                ],
                vec![],
            ),
            entry(4, &[("visible", false.into())], vec![entry(5, &[], vec![])]),
            entry(6, &[("label", "more".into())], vec![sub]),
        ];
        let mut numbers = Numbers::default();
        let all = flatten(&(0, HashMap::new(), below), &mut numbers);
        let seen: Vec<_> = all
            .iter()
            .map(|e| (e.id, e.parent, e.look, e.label.as_str()))
            .collect();
        let on = EntryLook::ENABLED.with(EntryLook::CHECKED);
        assert_eq!(
            seen,
            [
                (1, 0, EntryLook::ENABLED, "Open_x"),
                (2, 0, EntryLook::SEPARATOR, ""),
                (3, 0, EntryLook::NONE, "no"),
                (4, 0, on, "on"),
                (5, 0, EntryLook::ENABLED, "more"),
                (6, 5, EntryLook::ENABLED, "Deep er"),
            ]
        );
        let fewer = vec![entry(6, &[], vec![]), entry(9, &[], vec![])];
        let later = flatten(&(0, HashMap::new(), fewer), &mut numbers);
        assert_eq!(
            (later[0].id, later[1].id),
            (5, 7),
            "no number is given twice"
        );
        assert_eq!(numbers.own(1), Some(70_000));
        assert_eq!(numbers.own(9), None);
    }

    #[test]
    fn what_is_no_menu_is_none_and_the_largest_is_cut() {
        let mut numbers = Numbers::default();
        let wrong: OwnedValue = Value::from("x").try_into().unwrap();
        let pair: OwnedValue = Value::from((1_i32, 2_i32)).try_into().unwrap();
        let many = (0..1000).map(|own| entry(own, &[], vec![]));
        let below = [wrong, pair].into_iter().chain(many).collect();
        assert_eq!(
            flatten(&(0, HashMap::new(), below), &mut numbers).len(),
            TRAY_ENTRIES
        );
        let deep = (0..40).fold(entry(0, &[], vec![]), |inner, own| {
            // Numbers that are in use already are the app's own mistake.
            entry(own + 1, &[], vec![inner])
        });
        let entries = flatten(&(0, HashMap::new(), vec![deep]), &mut numbers);
        assert_eq!(entries.len(), DEPTH as usize);
    }
}
