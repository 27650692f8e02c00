//! What comes with a notification besides its words, as far as it matters here. Read straight from the message:
//! a picture of some megabytes would become a gigabyte as a general value.
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use zbus::zvariant::{Signature, Type};

/// A picture's bytes: width, height, bytes from row to row, opacity or not, bits of a colour, colours, all rows.
pub type Raw = (i32, i32, i32, bool, i32, i32, Vec<u8>);

/// One hint.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// A text.
    Text(String),
    /// A truth.
    Truth(bool),
    /// A small number.
    Byte(u8),
    /// A picture.
    Picture(Raw),
    /// Something else.
    Other,
}

impl Type for Hint {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl<'de> Deserialize<'de> for Hint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HintVisitor)
    }
}

struct HintVisitor;

impl<'de> Visitor<'de> for HintVisitor {
    type Value = Hint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a variant")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Hint, A::Error> {
        let missing = || serde::de::Error::custom("a variant without a value");
        let signature: Signature = parts.next_element()?.ok_or_else(missing)?;
        let hint = match signature.to_string_no_parens().as_str() {
            "s" => parts.next_element()?.map(Hint::Text),
            "b" => parts.next_element()?.map(Hint::Truth),
            "y" => parts.next_element()?.map(Hint::Byte),
            "iiibiiay" => parts.next_element()?.map(Hint::Picture),
            _ => parts.next_element::<IgnoredAny>()?.map(|_| Hint::Other),
        };
        hint.ok_or_else(missing)
    }
}

/// All hints of a notification.
#[derive(Debug, Default)]
pub struct Hints(pub HashMap<String, Hint>);

impl Hints {
    /// A text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Hint::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Whether something holds.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Hint::Truth(true))
    }

    /// A small number.
    #[must_use]
    pub fn byte(&self, name: &str) -> Option<u8> {
        match self.0.get(name) {
            Some(Hint::Byte(byte)) => Some(*byte),
            _ => None,
        }
    }

    /// A picture, by any of the names that it had over the years.
    #[must_use]
    pub fn picture(&self, names: &[&str]) -> Option<&Raw> {
        names.iter().find_map(|name| match self.0.get(*name) {
            Some(Hint::Picture(raw)) => Some(raw),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::zvariant::serialized::Context;
    use zbus::zvariant::{LE, Value, to_bytes};

    #[test]
    fn what_matters_is_read_and_the_rest_is_skipped() {
        let pixels: Vec<u8> = (0..16).collect();
        let mut said: HashMap<&str, Value<'_>> = HashMap::new();
        said.insert("desktop-entry", "editor".into());
        said.insert("urgency", 2_u8.into());
        said.insert("resident", true.into());
        said.insert("image-data", (2, 2, 8, true, 8, 4, pixels.clone()).into());
        let deep = HashMap::from([("a", Value::from(vec![Value::from((1_u64, "x"))]))]);
        said.insert("x-own", deep.into());
        said.insert("value", 50_i32.into());
        let bytes = to_bytes(Context::new_dbus(LE, 0), &said).unwrap();
        let (read, _): (HashMap<String, Hint>, _) = bytes.deserialize().unwrap();
        let hints = Hints(read);
        assert_eq!(hints.text("desktop-entry"), Some("editor"));
        assert_eq!(hints.byte("urgency"), Some(2));
        assert!(hints.holds("resident") && !hints.holds("transient"));
        let raw = hints.picture(&["image_data", "image-data"]);
        assert_eq!(raw, Some(&(2, 2, 8, true, 8, 4, pixels)));
        assert_eq!(hints.0["x-own"], Hint::Other);
        assert_eq!(hints.0["value"], Hint::Other);
    }
}
