//! Who made a machine: written into it, so that a machine whose maker is gone is told from one
//! that somebody steers.

use crate::domain::NAMESPACE;
use crate::xml::{Element, element};

/// A process, told from a later one of the same number by its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    process: u32,
    /// In clock ticks since the host's start.
    started: u64,
}

impl Maker {
    /// This process.
    pub fn ourselves() -> Maker {
        let process = std::process::id();
        let started = started(process).unwrap_or(0);
        Maker { process, started }
    }

    /// Whether it is still there.
    pub fn lives(&self) -> bool {
        started(self.process) == Some(self.started)
    }

    /// What is written into a machine of this name.
    pub fn element(&self, name: &str) -> Element {
        element("medley:machine")
            .with("xmlns:medley", NAMESPACE)
            .with("name", name)
            .with("maker", self.process)
            .with("started", self.started)
    }

    /// The name and the maker that were written so; `None` if this is not of ours.
    pub fn read(metadata: &str) -> Option<(String, Maker)> {
        let attribute = |name: &str| {
            let (_, rest) = metadata.split_once(&format!(" {name}="))?;
            let quote = rest.chars().next().filter(|c| "'\"".contains(*c))?;
            Some(rest[1..].split_once(quote)?.0.to_owned())
        };
        let process = attribute("maker")?.parse().ok()?;
        let started = attribute("started")?.parse().ok()?;
        Some((attribute("name")?, Maker { process, started }))
    }
}

/// When a process started; `None` if there is none of this number that runs.
fn started(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// The process whose command line holds this word.
pub(crate) fn process_with(word: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    entries.flatten().find_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let found = words
            .split(|byte| *byte == 0)
            .any(|it| it == word.as_bytes());
        found.then_some(process)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maker_is_read_as_it_was_written() {
        let maker = Maker::ourselves();
        assert!(maker.lives());
        let written = maker.element("office 1").to_string();
        assert_eq!(Maker::read(&written), Some(("office 1".into(), maker)));
        let quoted = written.replace('"', "'");
        assert_eq!(Maker::read(&quoted), Some(("office 1".into(), maker)));
        assert_eq!(Maker::read("<other name='x'/>"), None);
    }

    #[test]
    fn a_number_that_was_given_again_is_another_process() {
        let maker = Maker::ourselves();
        let before = Maker {
            started: maker.started - 1,
            ..maker
        };
        assert!(!before.lives());
    }

    #[test]
    fn a_process_is_found_by_a_word() {
        let word = std::env::args().next().unwrap();
        assert!(process_with(&word).is_some());
        assert_eq!(process_with("no process has this word"), None);
    }
}
