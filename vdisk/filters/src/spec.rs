//! What filters' specifications have in common: names of operations, numbers, times and sizes, and errors
//! that say what would have been right.

use std::fmt;
use std::time::Duration;

use vdisk_frontends::stats::Op;

/// A specification that says nothing sensible: which part, and what it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(String);

impl SpecError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

/// The operations by the names that people type.
pub const OPS: [(&str, Op); 6] = [
    ("read", Op::Read),
    ("write", Op::Write),
    ("zero", Op::Zero),
    ("discard", Op::Discard),
    ("flush", Op::Flush),
    ("map", Op::Map),
];

/// A set of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ops(u8);

impl Ops {
    /// Reads `read`, `write+zero`, `any`.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let mut ops = 0;
        for name in text.split('+') {
            ops |= match OPS.iter().find(|(known, _)| *known == name) {
                Some((_, op)) => 1 << *op as u8,
                None if name == "any" => u8::MAX,
                None => {
                    return Err(unknown(
                        "operation",
                        name,
                        &OPS.map(|(name, _)| name),
                        "any",
                    ));
                }
            };
        }
        Ok(Self(ops))
    }

    pub fn has(self, op: Op) -> bool {
        self.0 & 1 << op as u8 != 0
    }

    /// Whether it is nothing but `op`.
    pub fn is_only(self, op: Op) -> bool {
        self.0 == 1 << op as u8
    }

    pub fn all() -> impl Iterator<Item = Op> {
        OPS.into_iter().map(|(_, op)| op)
    }
}

/// An operation's name.
pub fn name(op: Op) -> &'static str {
    OPS.iter()
        .find(|(_, other)| *other == op)
        .map_or("", |(name, _)| name)
}

/// An unknown word, and those that are known.
pub fn unknown(what: &str, word: &str, known: &[&str], last: &str) -> SpecError {
    SpecError::new(format!(
        "`{word}` is no {what}; there are {} and {last}",
        known.join(", ")
    ))
}

/// A number from 1 on.
pub fn number(key: &str, text: &str) -> Result<u64, SpecError> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(SpecError::new(format!(
            "`{key}={text}`: not a number from 1 on"
        ))),
    }
}

/// Longest time that can be asked for: a server that ends waits for its requests.
const LONGEST: Duration = Duration::from_secs(60);

/// Reads `250us`, `2ms`, `1.5s`.
pub fn time(key: &str, text: &str) -> Result<Duration, SpecError> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().unwrap_or(f64::NAN) * scale;
    // NaN is in no range.
    match (0.0..=LONGEST.as_secs_f64()).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(SpecError::new(format!(
            "`{key}={text}`: not a time such as 250us, 2ms or 1.5s, up to 60s"
        ))),
    }
}

/// Reads `4096`, `64K`, `1M`, `2G`, `1T`: bytes.
pub fn size(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()? {
        b'K' | b'k' => 10,
        b'M' | b'm' => 20,
        b'G' | b'g' => 30,
        b'T' | b't' => 40,
        _ => 0,
    };
    let digits = if shift == 0 {
        text
    } else {
        &text[..text.len() - 1]
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Splits `key=value`; a bare word is a key without a value.
pub fn item(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sets_of_operations() {
        let ops = Ops::parse("read+flush").unwrap();
        assert!(ops.has(Op::Read) && ops.has(Op::Flush) && !ops.has(Op::Write));
        assert!(Ops::all().all(|op| Ops::parse("any").unwrap().has(op)));
        assert!(Ops::parse("zero").unwrap().is_only(Op::Zero));
        let error = Ops::parse("read+wirte").unwrap_err().to_string();
        assert!(error.contains("`wirte`") && error.contains("write") && error.contains("any"));
        assert!(Ops::parse("").is_err());
    }

    #[test]
    fn times_and_sizes() {
        for (text, micros) in [
            ("250us", 250),
            ("2ms", 2000),
            ("1.5s", 1_500_000),
            ("0s", 0),
        ] {
            assert_eq!(time("read", text).unwrap(), Duration::from_micros(micros));
        }
        for text in [
            "", "2", "ms", "-1ms", "nans", "infs", "1h", "61s", "1e9s", "2 ms",
        ] {
            assert!(time("read", text).is_err(), "{text}");
        }
        for (text, bytes) in [("0", 0), ("512", 512), ("64K", 64 << 10), ("1t", 1 << 40)] {
            assert_eq!(size(text), Some(bytes));
        }
        for text in ["", "K", "1.5M", "-1", "99999999999T", "1KK"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
