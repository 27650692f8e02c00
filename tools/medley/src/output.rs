//! What the user sees: results on standard output, for people or as one JSON document; notes and
//! errors on standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::json;

use crate::exit::{Failure, Result};

/// A result that people and programs can read.
pub trait Report: Serialize {
    /// For people: lines, each ended.
    fn human(&self) -> String;
}

/// How the user wants to be spoken to.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// One JSON document instead of text.
    pub json: bool,
    /// Nothing but results and errors.
    pub quiet: bool,
}

impl Ui {
    /// Shows what was asked for. Nobody who closed the pipe wants to know; other errors are told.
    pub fn show(&self, report: &impl Report) -> Result<()> {
        let fail = Failure::io("cannot write the result to standard output");
        let text = match self.json {
            true => serde_json::to_string_pretty(report).map(|text| text + "\n"),
            false => Ok(report.human()),
        };
        match text.map_err(io::Error::from).and_then(|text| print(&text)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(fail(error)),
            _ => Ok(()),
        }
    }

    /// Says what was done: something that quiet people know already.
    pub fn done(&self, report: &impl Report) -> Result<()> {
        match self.json || !self.quiet {
            true => self.show(report),
            false => Ok(()),
        }
    }

    /// A remark beside the result. Programs find it in the result.
    pub fn note(&self, text: impl std::fmt::Display) {
        if self.notes() {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Whether remarks are wanted.
    pub fn notes(&self) -> bool {
        !self.quiet && !self.json
    }

    /// Whether to draw progress.
    pub fn draws(&self) -> bool {
        self.notes() && io::stderr().is_terminal()
    }

    /// The error that ends the command.
    pub fn error(&self, failure: &Failure) {
        let _ = if self.json {
            writeln!(
                io::stderr(),
                "{}",
                error_json(failure.kind().name(), &failure.to_string())
            )
        } else {
            writeln!(io::stderr(), "medley: {failure}")
        };
    }

    /// The error once more, in place of the result that programs wait for.
    pub fn error_as_result(&self, failure: &Failure) {
        if self.json {
            let document = error_json(failure.kind().name(), &failure.to_string());
            let _ = print(&format!("{document}\n"));
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// An error as programs read it.
pub fn error_json(kind: &str, message: &str) -> String {
    json!({"error": {"kind": kind, "message": message}}).to_string()
}

/// Rows of a name and a value, the values aligned.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Adds a row.
    pub fn row(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Adds a row below an earlier one, without a name.
    pub fn more(&mut self, value: impl Into<String>) {
        self.row("", value);
    }
}

impl std::fmt::Display for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self
            .0
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        self.0
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "{name:width$}  {value}"))
    }
}

/// A table with a head; columns whose head begins with `>` are aligned to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let names: Vec<&str> = head
        .iter()
        .map(|name| name.trim_start_matches('>'))
        .collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([names[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).zip(head).map(|((cell, &width), head)| {
            match head.starts_with('>') {
                true => format!("{cell:>width$}"),
                false => format!("{cell:width$}"),
            }
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(&mut names.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["long".into(), "12345".into()],
        ];
        assert_eq!(
            table(&["name", ">n"], &rows),
            "name      n\na         1\nlong  12345\n"
        );
        let mut fields = Fields::default();
        fields.row("size", "1");
        fields.row("created", "now");
        assert_eq!(fields.to_string(), "size     1\ncreated  now\n");
    }
}
