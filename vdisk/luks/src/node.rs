//! Reading JSON with a path in hand, so that every complaint names its field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A value somewhere in the JSON area, and where.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self {
            path: String::new(),
            value,
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.path.clone(), what)
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Self { path, value }
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>> {
        self.value
            .as_object()
            .ok_or_else(|| self.corrupt("not a JSON object"))
    }

    /// The member `key`, if there.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Self>> {
        Ok(self.object()?.get(key).map(|value| self.child(key, value)))
    }

    /// The member `key`, which must be there.
    pub(crate) fn get(&self, key: &str) -> Result<Self> {
        self.find(key)?
            .ok_or_else(|| self.corrupt(format!("`{key}` is missing")))
    }

    /// All members of an object whose keys are numbers below `limit`.
    pub(crate) fn numbered(&self, limit: u32) -> Result<Vec<(u32, Self)>> {
        self.object()?
            .iter()
            .map(|(key, value)| {
                let node = self.child(key, value);
                let id = canonical_u64(key)
                    .and_then(|id| u32::try_from(id).ok())
                    .filter(|&id| id < limit);
                Ok((
                    id.ok_or_else(|| node.corrupt(format!("its name is no number below {limit}")))?,
                    node,
                ))
            })
            .collect()
    }

    pub(crate) fn str(&self) -> Result<&'a str> {
        self.value
            .as_str()
            .ok_or_else(|| self.corrupt("not a string"))
    }

    /// A plain JSON number within 32 bits.
    pub(crate) fn u32(&self) -> Result<u32> {
        let number = self.value.as_u64().and_then(|n| u32::try_from(n).ok());
        number.ok_or_else(|| self.corrupt("not a number between 0 and 4294967295"))
    }

    /// A 64-bit number, which this format writes as a string because JSON readers lose long ones.
    pub(crate) fn u64_string(&self) -> Result<u64> {
        canonical_u64(self.str()?)
            .ok_or_else(|| self.corrupt("not a decimal number of 64 bits in quotes"))
    }

    /// An array of strings.
    pub(crate) fn strings(&self) -> Result<Vec<&'a str>> {
        let array = self
            .value
            .as_array()
            .ok_or_else(|| self.corrupt("not an array"))?;
        array
            .iter()
            .map(|v| {
                v.as_str()
                    .ok_or_else(|| self.corrupt("holds something that is no string"))
            })
            .collect()
    }

    /// An array of numbers in quotes, each below `limit`.
    pub(crate) fn ids(&self, limit: u32) -> Result<Vec<u32>> {
        let id = |text: &str| {
            canonical_u64(text)
                .and_then(|id| u32::try_from(id).ok())
                .filter(|&id| id < limit)
        };
        let names = self.strings()?;
        names
            .iter()
            .map(|t| {
                id(t).ok_or_else(|| self.corrupt(format!("`{t:.20}` is no number below {limit}")))
            })
            .collect()
    }

    /// Bytes in base64.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        STANDARD
            .decode(self.str()?)
            .map_err(|e| self.corrupt(format!("not base64: {e}")))
    }
}

/// Bytes as the format writes them.
pub(crate) fn base64(bytes: &[u8]) -> Value {
    Value::String(STANDARD.encode(bytes))
}

/// Decimal digits only, no sign, no blanks, no leading zero.
fn canonical_u64(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimals_are_numbers() {
        assert_eq!(canonical_u64("0"), Some(0));
        assert_eq!(canonical_u64("18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "01",
            "0x10",
            "1e3",
            "18446744073709551616",
            "१",
        ] {
            assert_eq!(canonical_u64(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn complaints_carry_the_path() {
        let value = serde_json::json!({"a": {"7": {"b": 1}}});
        let (id, node) = Node::root(&value)
            .get("a")
            .unwrap()
            .numbered(8)
            .unwrap()
            .remove(0);
        assert_eq!(id, 7);
        assert_eq!(
            node.get("b").unwrap().u64_string().unwrap_err().field(),
            "a.7.b"
        );
        assert_eq!(node.get("c").err().unwrap().field(), "a.7");
        assert!(Node::root(&value).get("a").unwrap().numbered(7).is_err());
    }
}
