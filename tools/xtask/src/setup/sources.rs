//! Where this machine gets Debian from: read from apt itself, so that no mirror is named here.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::StaleLists;
use crate::run;

/// The machine's Debian archives, without third parties.
pub struct DebianSources {
    entries: Vec<Entry>,
}

#[derive(Debug, PartialEq)]
struct Entry {
    uri: String,
    suite: String,
    codename: String,
    label: String,
    /// The value of `Signed-By`, continuation lines included.
    signed_by: Option<String>,
}

/// This machine's release, such as `bookworm`.
pub fn release_codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release has no VERSION_CODENAME: is this a released Debian?")
}

impl DebianSources {
    /// Reads apt's own view of its sources. Needs package lists (`apt-get update`), because only
    /// they tell Debian from a third party's archive.
    pub fn read() -> Result<Self> {
        let format = "$(ORIGIN)\t$(LABEL)\t$(CODENAME)\t$(RELEASE)\t$(REPO_URI)\t$(COMPONENT)\t$(SOURCESENTRY)";
        let output = run::capture(&mut run::command(
            "apt-get",
            ["indextargets", "--format", format, "Created-By: Packages"],
        ))?;
        let mut entries = parse_targets(&output);
        for (entry, place) in &mut entries {
            let (file, number) = place.rsplit_once(':').unwrap_or((place, "1"));
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
            entry.signed_by = signed_by(&text, Path::new(file), number.parse().unwrap_or(1));
        }
        let entries: Vec<_> = entries.into_iter().map(|(entry, _)| entry).collect();
        if entries.is_empty() {
            return Err(anyhow!("apt knows no Debian archive").context(StaleLists));
        }
        Ok(Self { entries })
    }

    /// A source for the backports of this release, from the archive that the release comes from.
    pub fn backports_entry(&self, suite: &str) -> String {
        let release = self.entries.iter().find(|entry| entry.label == "Debian");
        let base = release.unwrap_or(&self.entries[0]);
        stanza(&base.uri, suite, base.signed_by.as_deref())
    }

    /// Sources for a new system of release `codename`: the release, its updates and its security.
    pub fn for_release(&self, codename: &str) -> Result<String> {
        let wanted = ["", "-updates", "-security"].map(|kind| format!("{codename}{kind}"));
        let stanzas: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| wanted.contains(&entry.codename))
            .map(|entry| stanza(&entry.uri, &entry.suite, entry.signed_by.as_deref()))
            .collect();
        if stanzas.is_empty() {
            bail!("no Debian archive of {codename} is among apt's sources");
        }
        Ok(stanzas.join("\n"))
    }
}

fn stanza(uri: &str, suite: &str, signed_by: Option<&str>) -> String {
    let mut text = format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n");
    if let Some(key) = signed_by {
        text += &format!(
            "Signed-By:{}{key}\n",
            if key.starts_with('\n') { "" } else { " " }
        );
    }
    text
}

/// Each Debian archive's entry, with the place (`file:number`) of its line or stanza.
fn parse_targets(output: &str) -> Vec<(Entry, String)> {
    let rows = output
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter_map(|row| match row[..] {
        ["Debian", label, codename, suite, uri, "main", place] => {
            let entry = Entry {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                codename: codename.to_owned(),
                label: label.to_owned(),
                signed_by: None,
            };
            Some((entry, place.to_owned()))
        }
        _ => None,
    })
    .collect()
}

/// `Signed-By` of entry `number` (from one) of a sources file: a stanza of a `.sources` file, a
/// line of a `.list` file.
fn signed_by(text: &str, file: &Path, number: usize) -> Option<String> {
    let index = number.checked_sub(1)?;
    if file.extension().is_some_and(|ending| ending == "sources") {
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let stanza = lines
            .split(|line| line.trim().is_empty())
            .filter(|stanza| !stanza.is_empty())
            .nth(index)?;
        let at = stanza.iter().position(|line| {
            line.get(..10)
                .is_some_and(|field| field.eq_ignore_ascii_case("signed-by:"))
        })?;
        let mut value = stanza[at][10..].trim().to_owned();
        for more in stanza[at + 1..]
            .iter()
            .take_while(|line| line.starts_with([' ', '\t']))
        {
            value += "\n";
            value += more;
        }
        return Some(value);
    }
    let options = text
        .lines()
        .nth(index)?
        .split_once('[')?
        .1
        .split_once(']')?
        .0;
    options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn third_parties_are_not_debian() {
        let output = "\
Debian\tDebian\tbookworm\tbookworm\thttp://mirror.test/debian/\tmain\t/a.sources:1
Docker\tDocker CE\tbookworm\tbookworm\thttps://other.test/\tstable\t/b.list:3
Debian\tDebian-Security\tbookworm-security\tbookworm-security\thttp://mirror.test/sec/\tmain\t/a.sources:2
";
        let sources = DebianSources {
            entries: parse_targets(output).into_iter().map(|(e, _)| e).collect(),
        };
        let text = sources.for_release("bookworm").unwrap();
        assert!(text.contains("http://mirror.test/debian/") && text.contains("bookworm-security"));
        assert!(!text.contains("other.test"), "{text}");
        assert!(sources.for_release("trixie").is_err());
        assert_eq!(
            sources.backports_entry("bookworm-backports"),
            "Types: deb\nURIs: http://mirror.test/debian/\nSuites: bookworm-backports\nComponents: main\n"
        );
    }

    #[test]
    fn keys_are_found_in_both_formats() {
        let list =
            "# comment\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.test/ bookworm main\n";
        assert_eq!(signed_by(list, Path::new("a.list"), 2).unwrap(), "/k.gpg");
        assert_eq!(signed_by(list, Path::new("a.list"), 1), None);
        let stanzas = "Types: deb\n# remark\nSuites: a\n\nTypes: deb\nSigned-By: /k.gpg\n";
        assert_eq!(
            signed_by(stanzas, Path::new("a.sources"), 2).unwrap(),
            "/k.gpg"
        );
        assert_eq!(signed_by(stanzas, Path::new("a.sources"), 1), None);
        assert_eq!(signed_by(stanzas, Path::new("a.sources"), 0), None);
    }

    #[test]
    fn a_key_inside_the_source_keeps_its_lines() {
        let text = "Suites: a\nSigned-By:\n -----BEGIN-----\n .\n abc\nTypes: deb\n";
        let key = signed_by(text, Path::new("a.sources"), 1).unwrap();
        assert_eq!(key, "\n -----BEGIN-----\n .\n abc");
        assert!(stanza("u", "s", Some(&key)).ends_with("Signed-By:\n -----BEGIN-----\n .\n abc\n"));
    }
}
