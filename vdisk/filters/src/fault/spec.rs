//! What a fault is, and how people write it down.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use vdisk::ErrorKind;
use vdisk_frontends::stats::Op;

use crate::spec::{Ops, SpecError, item, number, size, time, unknown};

/// Which requests fail, and how.
///
/// Written as `OPS[:ITEM,ITEM…]`, where OPS is `read`, `write`, `zero`, `discard`, `flush`, `map`, several of
/// them with `+` between, or `any`. At most one item says when: `every=N`, `nth=N`, `after=N` (requests) or
/// `after=TIME`, `share=P%`; all requests fail without. The others: `range=FROM-TO` in bytes (TO may be
/// missing), `error=KIND` or `error=none` for a failure that nobody is told of, `short` or `torn` for a
/// request of which a part is done, `cut` for the end of everything, `seed=N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSpec {
    text: String,
    pub(super) ops: Ops,
    pub(super) when: When,
    /// Bytes of the disk; a request that touches them is meant.
    pub(super) range: Option<Range<u64>>,
    pub(super) part: Part,
    /// What the client is told; `None` is a lie.
    pub(super) error: Option<ErrorKind>,
    /// Whether all requests fail from the first fault on.
    pub(super) cut: bool,
    pub(super) seed: u64,
}

/// Which of the requests that are meant fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    /// Every so many, the last of each.
    Every(u64),
    /// This one alone, counted from 1.
    Nth(u64),
    /// All behind so many.
    After(u64),
    /// All from so long after the start on.
    AfterTime(Duration),
    /// A random share: those whose throw is below this.
    Share(u64),
}

/// How much of a request that fails is done all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Nothing,
    /// The first half of its sectors.
    Short,
    /// Sectors here and there.
    Torn,
}

const ERRORS: [(&str, ErrorKind); 5] = [
    ("io", ErrorKind::Io),
    ("nospace", ErrorKind::NoSpace),
    ("readonly", ErrorKind::ReadOnly),
    ("busy", ErrorKind::Busy),
    ("unsupported", ErrorKind::Unsupported),
];

impl FromStr for FaultSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (ops, items) = match text.split_once(':') {
            Some((ops, items)) => (ops, Some(items)),
            None => (text, None),
        };
        let mut spec = Self {
            text: text.to_owned(),
            ops: Ops::parse(ops)?,
            when: When::Always,
            range: None,
            part: Part::Nothing,
            error: Some(ErrorKind::Io),
            cut: false,
            seed: 0,
        };
        for part in items.into_iter().flat_map(|items| items.split(',')) {
            spec.item(part)?;
        }
        if spec.ops.is_only(Op::Flush) && (spec.range.is_some() || spec.part != Part::Nothing) {
            return Err(SpecError::new(
                "a flush has no bytes: range, short and torn mean nothing for it",
            ));
        }
        Ok(spec)
    }
}

impl FaultSpec {
    fn item(&mut self, text: &str) -> Result<(), SpecError> {
        match item(text) {
            ("every", Some(n)) => self.when(When::Every(number("every", n)?)),
            ("nth", Some(n)) => self.when(When::Nth(number("nth", n)?)),
            ("after", Some(n)) => self.when(match n.parse() {
                Ok(requests) => When::After(requests),
                Err(_) => When::AfterTime(time("after", n).map_err(|_| {
                    SpecError::new(format!(
                        "`after={n}`: neither a number of requests nor a time such as 500ms or 30s, up to 60s"
                    ))
                })?),
            }),
            ("share", Some(share)) => self.when(When::Share(parse_share(share)?)),
            ("range", Some(range)) => {
                self.range = Some(parse_range(range)?);
                Ok(())
            }
            ("error", Some(name)) => {
                self.error = match ERRORS.iter().find(|(known, _)| *known == name) {
                    Some((_, kind)) => Some(*kind),
                    None if name == "none" => None,
                    None => {
                        return Err(unknown("error", name, &ERRORS.map(|(name, _)| name), "none"));
                    }
                };
                Ok(())
            }
            ("seed", Some(seed)) => {
                self.seed = number("seed", seed)?;
                Ok(())
            }
            ("short", None) => self.part(Part::Short),
            ("torn", None) => self.part(Part::Torn),
            ("cut", None) => {
                self.cut = true;
                Ok(())
            }
            (key @ ("every" | "nth" | "after" | "share" | "range" | "error" | "seed"), None) => {
                Err(SpecError::new(format!("`{key}` needs a value, as in {}", example(key))))
            }
            (key @ ("short" | "torn" | "cut"), Some(_)) => {
                Err(SpecError::new(format!("`{key}` takes no value")))
            }
            (key, _) => Err(unknown(
                "part of a fault",
                key,
                &["every", "nth", "after", "share", "range", "error", "short", "torn", "cut"],
                "seed",
            )),
        }
    }

    fn when(&mut self, when: When) -> Result<(), SpecError> {
        if self.when != When::Always {
            return Err(SpecError::new(
                "only one of every, nth, after and share can say when; give --fault twice for two faults",
            ));
        }
        self.when = when;
        Ok(())
    }

    fn part(&mut self, part: Part) -> Result<(), SpecError> {
        if self.part != Part::Nothing {
            return Err(SpecError::new("a request is short or torn, not both"));
        }
        self.part = part;
        Ok(())
    }
}

fn example(key: &str) -> &'static str {
    match key {
        "every" => "every=100",
        "nth" => "nth=3",
        "after" => "after=1000 or after=30s",
        "share" => "share=5%",
        "range" => "range=1M-2M",
        "error" => "error=nospace",
        _ => "seed=7",
    }
}

fn parse_share(text: &str) -> Result<u64, SpecError> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => {
            // A cast saturates, so that 100 % is everything.
            Ok((percent / 100.0 * u64::MAX as f64) as u64)
        }
        _ => Err(SpecError::new(format!(
            "`share={text}`: not a share such as 5% or 0.1%"
        ))),
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, SpecError> {
    let range = text.split_once('-').and_then(|(from, to)| {
        let to = if to.is_empty() {
            Some(u64::MAX)
        } else {
            size(to)
        };
        Some(size(from)?..to?)
    });
    match range {
        Some(range) if !range.is_empty() => Ok(range),
        _ => Err(SpecError::new(format!(
            "`range={text}`: not a range of bytes such as 1M-2M, or 4096- for all from there on"
        ))),
    }
}

impl fmt::Display for FaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(text: &str) -> FaultSpec {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_part_is_understood() {
        let spec = parse("write+zero:every=100,error=nospace,range=1M-2M,torn,cut,seed=7");
        assert!(spec.ops.has(Op::Write) && spec.ops.has(Op::Zero) && !spec.ops.has(Op::Read));
        assert_eq!(
            (spec.when, spec.error),
            (When::Every(100), Some(ErrorKind::NoSpace))
        );
        assert_eq!(
            (spec.range, spec.part),
            (Some(1 << 20..2 << 20), Part::Torn)
        );
        assert_eq!((spec.cut, spec.seed), (true, 7));

        let spec = parse("any");
        assert_eq!((spec.when, spec.error), (When::Always, Some(ErrorKind::Io)));
        assert_eq!(parse("read:after=5").when, When::After(5));
        assert_eq!(
            parse("read:after=5s").when,
            When::AfterTime(Duration::from_secs(5))
        );
        assert_eq!(parse("read:share=100%").when, When::Share(u64::MAX));
        assert_eq!(parse("read:range=512-").range, Some(512..u64::MAX));
        assert_eq!(parse("flush:error=none").error, None);
        assert_eq!(parse("read:nth=2").to_string(), "read:nth=2");
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for (spec, says) in [
            ("", "`` is no operation"),
            (
                "wirte:every=2",
                "`wirte` is no operation; there are read, write",
            ),
            ("write:", "`` is no part of a fault"),
            ("write:every", "every=100"),
            ("write:every=0", "from 1 on"),
            ("write:every=2,nth=3", "only one"),
            ("write:share=5", "5%"),
            ("write:share=101%", "5%"),
            ("write:share=NaN%", "5%"),
            ("write:after=soon", "30s"),
            ("write:range=2M-1M", "1M-2M"),
            ("write:range=5", "1M-2M"),
            ("write:error=eio", "nospace"),
            ("write:short,torn", "not both"),
            ("write:torn=1", "no value"),
            ("write:tron", "`tron`"),
            ("flush:range=0-1M", "no bytes"),
            ("flush:torn", "no bytes"),
        ] {
            let error = spec.parse::<FaultSpec>().unwrap_err().to_string();
            assert!(error.contains(says), "{spec}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(read|write|any)?:?[a-z=0-9,%.+-]{0,40}") {
            let _ = text.parse::<FaultSpec>();
            let _ = text.parse::<crate::DelaySpec>();
        }
    }
}
