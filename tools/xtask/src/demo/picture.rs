//! What the demo printed, as a picture for a README.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

const LINE: usize = 20;
const CHAR: f64 = 8.43;
const MARGIN: usize = 20;
const COLUMNS: usize = 110;

/// Writes the lines as an SVG that looks like a terminal.
pub fn write(path: &Path, lines: &[String]) -> Result<()> {
    let lines: Vec<String> = lines.iter().flat_map(|line| wrap(line)).collect();
    let (width, height) = (
        (COLUMNS as f64 * CHAR) as usize + 2 * MARGIN,
        lines.len() * LINE + 2 * MARGIN,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#16181d\"/>\n\
         <g font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\" xml:space=\"preserve\">\n"
    );
    for (i, line) in lines.iter().enumerate() {
        let colour = match line.trim_start().chars().next() {
            Some('●') => "#8ab4f8",
            Some('$') => "#c3e88d",
            Some('│') => "#ffcb6b",
            _ => "#d5d8de",
        };
        let y = MARGIN + (i + 1) * LINE - 5;
        writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{colour}\">{}</text>",
            escape(line)
        )?;
    }
    svg.push_str("</g>\n</svg>\n");
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

/// Cuts a line that is too long, and indents what follows.
fn wrap(line: &str) -> Vec<String> {
    let chars: Vec<char> = line.chars().collect();
    let mut rest = &chars[..];
    let mut out = Vec::new();
    loop {
        let (indent, room) = if out.is_empty() {
            ("", COLUMNS)
        } else {
            ("      ", COLUMNS - 6)
        };
        if rest.len() <= room {
            out.push(format!("{indent}{}", rest.iter().collect::<String>()));
            return out;
        }
        let cut = rest[..room]
            .iter()
            .rposition(|c| *c == ' ')
            .filter(|at| *at > room / 2)
            .unwrap_or(room);
        out.push(format!(
            "{indent}{}",
            rest[..cut].iter().collect::<String>()
        ));
        rest = &rest[cut..];
        while rest.first() == Some(&' ') {
            rest = &rest[1..];
        }
    }
}

fn escape(line: &str) -> String {
    line.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_nothing_is_lost() {
        let line = "word ".repeat(60);
        let words: usize = wrap(&line)
            .iter()
            .map(|l| l.split_whitespace().count())
            .sum();
        assert_eq!(words, 60);
        assert!(
            wrap(&"x".repeat(500))
                .iter()
                .all(|l| l.chars().count() <= COLUMNS)
        );
    }
}
