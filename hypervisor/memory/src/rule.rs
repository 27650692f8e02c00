//! One figure of the host becomes one figure for the guest: a fixed one, a share, or a row of a
//! table.

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// More rows than anybody writes.
const MOST_ROWS: usize = 1024;

/// How a figure of the host becomes one for the guest. In a policy's file it is one of
///
/// ```toml
/// guest = 2048                                              # always
/// guest = { percent = 25, min = 512, max = 8192 }           # of the host's; bounds may be left out
/// guest = { table = [[4096, 1024], [8192, 1536]] }          # [host, guest], both ascending
/// ```
///
/// A host between two rows of a table counts as the lower one; one below the first counts as that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Rule {
    /// The same on every host.
    Fixed(u64),
    /// A part of what the host has.
    Share {
        /// Of a hundred; from 1 to 100.
        percent: u64,
        /// At least this.
        min: u64,
        /// At most this.
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<u64>,
    },
    /// Rows of what a host has and what its guest gets, both ascending.
    Table {
        /// The rows: `(host, guest)`.
        table: Vec<(u64, u64)>,
    },
}

/// What a rule said, and by which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub value: u64,
    /// The row of a table that the host counts as, unless it is below all of them.
    pub row: Option<u64>,
}

impl Rule {
    /// What is wrong with it, if anything is; otherwise [`Rule::apply`] has an answer.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Rule::Fixed(0) => Err("0 is too little".into()),
            Rule::Fixed(_) => Ok(()),
            Rule::Share { percent, min, max } => match (percent, max) {
                (1..=100, Some(max)) if min > max => {
                    Err(format!("min, {min}, is more than max, {max}"))
                }
                (1..=100, _) => Ok(()),
                _ => Err(format!("percent is {percent}, and not from 1 to 100")),
            },
            Rule::Table { table } if table.is_empty() => Err("the table has no rows".into()),
            Rule::Table { table } if table.len() > MOST_ROWS => {
                Err(format!("the table has more than {MOST_ROWS} rows"))
            }
            Rule::Table { table } => {
                let disorder =
                    |rows: &[(u64, u64)]| rows[0].0 >= rows[1].0 || rows[0].1 > rows[1].1;
                if let Some(at) = table.windows(2).position(disorder) {
                    let (row, next) = (table[at], table[at + 1]);
                    return Err(format!(
                        "the table is not in ascending order: [{}, {}] is before [{}, {}]",
                        row.0, row.1, next.0, next.1
                    ));
                }
                match table[0] {
                    (0, _) | (_, 0) => Err("0 is too little, in the table's first row".into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Applies it to a host's `figure`, of which one part in `kept` may be missing for a row of a
    /// table to be reached; 0 for none. The rule has been checked.
    pub(crate) fn apply(&self, figure: u64, kept: u64) -> Said {
        let (value, row) = match self {
            Rule::Fixed(value) => (*value, None),
            Rule::Share { percent, min, max } => {
                let share = u128::from(figure) * u128::from(*percent) / 100;
                let share = u64::try_from(share).unwrap_or(u64::MAX);
                (share.min(max.unwrap_or(u64::MAX)).max(*min), None)
            }
            Rule::Table { table } => {
                let reaches = |entry: u64| match entry.checked_div(kept) {
                    None => figure >= entry,
                    Some(missing) => figure >= entry || figure > entry - missing,
                };
                match table.iter().rfind(|(entry, _)| reaches(*entry)) {
                    Some((entry, value)) => (*value, Some(*entry)),
                    None => (table.first().map_or(0, |row| row.1), None),
                }
            }
        };
        Said { value, row }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Fixed(value) => write!(f, "{value}"),
            Rule::Share { percent, min, max } => {
                write!(f, "{percent} %")?;
                if *min > 0 {
                    write!(f, ", at least {min}")?;
                }
                max.map_or(Ok(()), |max| write!(f, ", at most {max}"))
            }
            Rule::Table { table } => write!(f, "a table of {} rows", table.len()),
        }
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        deserializer.deserialize_any(RuleVisitor)
    }
}

/// The forms of a rule, before it is known which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    table: Option<Vec<(u64, u64)>>,
    percent: Option<u64>,
    min: Option<u64>,
    max: Option<u64>,
}

/// An untagged enum would say only that nothing matched.
struct RuleVisitor;

impl<'de> Visitor<'de> for RuleVisitor {
    type Value = Rule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a number, `{ percent = …, min = …, max = … }` or `{ table = [[host, guest], …] }`",
        )
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Rule, E> {
        checked(Rule::Fixed(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Rule, E> {
        let value = u64::try_from(value).map_err(|_| E::custom(format!("{value} is negative")))?;
        checked(Rule::Fixed(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
        let form = Form::deserialize(MapAccessDeserializer::new(map))?;
        checked(match form {
            Form {
                table: Some(table),
                percent: None,
                min: None,
                max: None,
            } => Rule::Table { table },
            Form {
                table: None,
                percent: Some(percent),
                min,
                max,
            } => Rule::Share {
                percent,
                min: min.unwrap_or(0),
                max,
            },
            _ => {
                return Err(de::Error::custom(
                    "either `table` alone, or `percent` with `min` and `max`",
                ));
            }
        })
    }
}

fn checked<E: de::Error>(rule: Rule) -> Result<Rule, E> {
    rule.check().map_err(E::custom)?;
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Rule, String> {
        #[derive(Deserialize)]
        struct File {
            guest: Rule,
        }
        let file: Result<File, _> = toml::from_str(&format!("guest = {text}"));
        file.map(|file| file.guest)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!(parse("2048"), Ok(Rule::Fixed(2048)));
        assert_eq!(
            parse("{ percent = 25, min = 512, max = 8192 }"),
            Ok(Rule::Share {
                percent: 25,
                min: 512,
                max: Some(8192)
            })
        );
        assert_eq!(
            parse("{ percent = 25 }"),
            Ok(Rule::Share {
                percent: 25,
                min: 0,
                max: None
            })
        );
        let table = vec![(4096, 1024), (8192, 1536)];
        assert_eq!(
            parse("{ table = [[4096, 1024], [8192, 1536]] }"),
            Ok(Rule::Table { table })
        );
    }

    #[test]
    fn what_is_no_rule_says_what_is_wrong() {
        for (text, words) in [
            ("0", "too little"),
            ("-5", "negative"),
            ("\"lots\"", "a number, `{ percent"),
            ("{}", "either `table` alone"),
            ("{ min = 4 }", "either `table` alone"),
            ("{ table = [[1, 1]], max = 4 }", "either `table` alone"),
            ("{ precent = 4 }", "precent"),
            ("{ percent = 0 }", "from 1 to 100"),
            ("{ percent = 101 }", "from 1 to 100"),
            ("{ percent = 5, min = 3, max = 2 }", "more than max"),
            ("{ table = [] }", "no rows"),
            ("{ table = [[2048, 512], [1024, 378]] }", "ascending"),
            ("{ table = [[1024, 512], [1024, 512]] }", "ascending"),
            ("{ table = [[1024, 512], [2048, 378]] }", "[2048, 378]"),
            ("{ table = [[1024, 0]] }", "too little"),
            ("{ table = [[1024]] }", "2"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            rule: Rule,
        }
        for rule in [
            Rule::Fixed(7),
            Rule::Share {
                percent: 5,
                min: 1,
                max: Some(2),
            },
            Rule::Table {
                table: vec![(1, 2), (3, 4)],
            },
        ] {
            let file = File { rule };
            let text = serde_json::to_string(&file).unwrap();
            assert_eq!(serde_json::from_str::<File>(&text).unwrap(), file, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_table_is_monotonous_and_says_only_what_stands_in_it(
            steps in prop::collection::vec((1u64..5000, 0u64..5000), 1..20),
            figure in 0u64..100_000,
            more in 0u64..100_000,
            kept in prop_oneof![Just(0u64), 2..32u64],
        ) {
            let mut row = (0, 1);
            let table: Vec<_> = steps.iter().map(|(host, guest)| {
                row = (row.0 + host, row.1 + guest);
                row
            }).collect();
            let rule = Rule::Table { table: table.clone() };
            prop_assert!(rule.check().is_ok());
            let said = rule.apply(figure, kept);
            prop_assert!(table.iter().any(|row| row.1 == said.value));
            prop_assert!(said.value <= rule.apply(figure.saturating_add(more), kept).value);
            // Without tolerance it is the last row that is not above the figure.
            let below = table.iter().rfind(|row| row.0 <= figure);
            let exact = rule.apply(figure, 0);
            prop_assert_eq!(exact.row, below.map(|row| row.0));
            prop_assert_eq!(exact.value, below.unwrap_or(&table[0]).1);
        }
    }
}
